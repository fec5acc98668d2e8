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

// The library of this path, UTF-8; null where it is not loaded.
inline Library loaded_library(const char* path) {
#ifdef _WIN32
  wchar_t wide[4096];
  return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, sizeof wide / sizeof *wide) > 0 ? GetModuleHandleW(wide)
                                                                                                             : nullptr;
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

}  // namespace fourierft
