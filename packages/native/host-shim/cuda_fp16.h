// float16 of <cuda_fp16.h>, for a host compiler.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

struct __half {
  uint16_t bits;
};

inline float __half2float(__half half) {
  const int exponent = half.bits >> 10 & 31, mantissa = half.bits & 1023;
  if (exponent == 31) return mantissa != 0 ? NAN : half.bits & 0x8000 ? -INFINITY : INFINITY;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                        : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return half.bits & 0x8000 ? -magnitude : magnitude;
}

// To nearest, ties to even: `nearbyint` of the number in units of its last place.
inline __half __float2half_rn(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return {0x7fff};
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.f) return {static_cast<uint16_t>(sign | 0x7c00)};
  int exponent = 0;
  std::frexp(magnitude, &exponent);  // magnitude < 2^exponent
  const int unit = exponent - 11 < -24 ? -24 : exponent - 11;
  const int units = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -unit)));
  // Normal numbers have 1024 ... 2047 units; 2048 carries into the exponent automatically.
  return {static_cast<uint16_t>(sign | (units < 1024 ? units : (unit + 24) * 1024 + units))};
}
