// Libraries of the process: the host's own, which is loaded already and never a second copy, and one of ours.
#pragma once

#include <string>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace fourierft {

using Library = void*;

// The library of this path, UTF-8; null where it is not loaded. It stays loaded from now on, whoever else lets it go: Node unloads addons, and
// with them their libraries, when the last environment that has them ends.
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

// Loads the library of this path, UTF-8, for itself alone; null, and `wrong` says why, where that fails.
inline Library open_library(const char* path, std::string& wrong) {
#ifdef _WIN32
  wrong = std::string(path) + ": not on Windows";
  return nullptr;
#else
  const Library library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) wrong = dlerror();
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

// Keeps the library that this code is in loaded, too, as long as the process.
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
