// Shared libraries: libraries that the process has already loaded, and libraries of this package.
#pragma once

#include <string>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace fourierft {

using Library = void*;

// Returns the library at this UTF-8 path, or null if it is not loaded. Never loads a second copy. Keeps the library loaded: Node unloads addons,
// and with them their libraries, when the last environment that uses them ends.
inline Library loaded_library(const char* path) {
#ifdef _WIN32
  wchar_t wide[4096];
  HMODULE library = nullptr;
  const bool is_loaded = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, sizeof wide / sizeof *wide) > 0 &&
                         GetModuleHandleExW(0, wide, &library) != 0;
  return is_loaded ? library : nullptr;
#else
  return dlopen(path, RTLD_NOW | RTLD_NOLOAD);
#endif
}

// Loads the library at this UTF-8 path with local symbols. Returns null, with the reason in `problem`, if that fails.
inline Library open_library(const char* path, std::string& problem) {
#ifdef _WIN32
  problem = std::string(path) + ": expected Linux or macOS; received Windows";
  return nullptr;
#else
  const Library library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) problem = dlerror();
  return library;
#endif
}

inline void* library_function(Library library, const char* name) {
#ifdef _WIN32
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
#else
  return dlsym(library, name);
#endif
}

// Keeps the library that contains this code loaded until the process ends.
inline void keep_this_library() {
#ifdef _WIN32
  HMODULE library = nullptr;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                     reinterpret_cast<const wchar_t*>(&keep_this_library), &library);
#else
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&keep_this_library), &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
#endif
}

}  // namespace fourierft
