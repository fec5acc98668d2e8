// A plan (src/plan.h) as a kernel reads it: plain structures of pointers into one block of device memory, passed as kernel arguments.
#pragma once

#include <cuda_runtime.h>

namespace fourierft::cuda {

// 2^24 has 8 factors of 8; no length up to it has more than 15 of the radices that a plan uses, largest first.
constexpr int kMostStages = 16;

struct DeviceStage {
  int radix, length;
  const float2* twiddles;  // of sub-transform element i and output k = 1 ... radix-1 at [(k-1) * length/radix + i]
  const float2* roots;     // e(m/radix), for odd radices
};

// A frequency split off the half-length spectrum, or a point of the packed spectrum: two places and e(k/d).
struct Pair {
  int a, b;
  float cos, sin;
};

struct DeviceSide {
  int d;
  int halved;          // even d: two real numbers in one complex one
  int n;               // complex numbers of a row: d/2 or d
  int length;          // of the transform that `stages` makes up: n, or Bluestein's convolution
  int stage_count;
  int used;            // frequencies that some entry uses, `used` is also the slot of a zero
  int zero, nyquist;   // the slots of frequencies 0 and d/2, or -1
  DeviceStage stages[kMostStages];
  const float2 *chirp, *chirp_spectrum;  // Bluestein's, else null
  const Pair* splits;  // [used]
  const Pair* packs;   // [n], in the order in which the backward transform reads them
};

// What a slot of one side is made of: slots of the other; a negative one, ~slot, stands for its conjugate.
struct DeviceTerm {
  int slot, entry;
};

struct DeviceTerms {
  const DeviceTerm* terms;
  const int* start;  // [slots + 1]
};

struct DeviceEntry {
  int in, out;  // slots; `in` is negative, ~slot, where the imaginary part changes its sign
};

struct DevicePlan {
  int n;
  DeviceSide in, out;
  DeviceTerms by_row, by_column;
  const DeviceEntry* entries;  // [n]
};

}  // namespace fourierft::cuda
