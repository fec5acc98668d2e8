// Libraries that the process has loaded already: the host's own, never a second copy.
#pragma once

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

inline void* library_function(Library library, const char* name) {
#ifdef _WIN32
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
#else
  return dlsym(library, name);
#endif
}

}  // namespace fourierft
