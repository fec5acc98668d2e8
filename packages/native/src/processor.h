// The instructions of an x86-64 processor, read from the processor: `__builtin_cpu_supports` needs tables that not every compiler's runtime
// fills (zig's fills none).
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>

namespace fourierft {

struct Processor {
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F and VL, besides everything in `avx2`
};

// Intel's manual, volume 1, 14.3: instructions can be used if CPUID names them and the operating system saves their registers (XCR0).
inline Processor processor() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  const auto has = [](uint32_t word, int bit) { return (word >> bit & 1u) != 0; };
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !has(c, 27)) return {};  // OSXSAVE
  const bool avx = has(c, 28) && has(c, 12) && has(c, 29);            // AVX, FMA, F16C
  uint32_t saved = 0, high = 0;
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!avx || (saved & 0x6u) != 0x6u || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || !has(b, 5)) return {};  // AVX2
  return {true, (saved & 0xe6u) == 0xe6u && has(b, 16) && has(b, 31)};                                           // AVX-512 F and VL
}

}  // namespace fourierft
#endif
