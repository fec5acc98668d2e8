// A plan (src/plan.h) as the kernels read it: plain structures with pointers into one block of device memory, passed as kernel arguments.
#pragma once

#include <cuda_runtime.h>

namespace fourierft::cuda {

// 2^24 has 8 factors of 8. No length up to 2^24 has more than 15 factors when the plan's radices are tried largest first.
constexpr int kMaxStages = 16;

struct DeviceStage {
  int radix, length;
  const float2* twiddles;  // index (k-1) * length/radix + i for element i of a sub-transform and output k = 1 ... radix-1
  const float2* roots;     // e(m/radix), for odd radices
};

// A `Split` or a `Pack` of the plan: two positions or slots, and e(k/d).
struct Pair {
  int a, b;
  float cos, sin;
};

struct DeviceSide {
  int d;
  int is_half_length;  // even d: two real numbers in each complex one
  int n;               // complex numbers of a row: d/2 or d
  int length;          // of the transform of `stages`: n, or Bluestein's convolution
  int stage_count;
  int used;            // the number of used frequencies; the slot with this index holds a zero
  int zero, nyquist;   // the slots of frequencies 0 and d/2, or -1
  DeviceStage stages[kMaxStages];
  const float2 *chirp, *chirp_spectrum;  // for Bluestein's algorithm, else null
  const Pair* splits;  // [used]
  const Pair* packs;   // [n], in the order in which the backward transform reads them
};

// A term of a slot's sum. `slot` is a slot of the other side, or ~slot for its conjugate.
struct DeviceTerm {
  int slot, entry;
};

struct DeviceTerms {
  const DeviceTerm* terms;
  const int* start;  // [slots + 1]
};

struct DeviceEntry {
  int in, out;  // slots; `in` is ~slot for the conjugate of the slot
};

struct DevicePlan {
  int n;
  DeviceSide in, out;
  DeviceTerms by_row, by_column;
  const DeviceEntry* entries;  // [n]
};

}  // namespace fourierft::cuda
