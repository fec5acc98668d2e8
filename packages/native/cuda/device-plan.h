// A plan (src/plan.h) as the kernels read it: plain structures with pointers into one block of device memory, passed as kernel arguments.
#pragma once

#include <cuda_runtime.h>

namespace fourierft::cuda {

// 2^24 has 8 factors of 8. No length up to 2^24 has more than 15 factors when the plan's radices are tried largest first.
constexpr int kMaxStages = 16;

// The largest number of branches of one launch.
constexpr int kMaxBranches = 4;

struct DeviceStage {
  int radix, length;
  const float2* twiddles;  // index (k-1) * length/radix + i for element i of a sub-transform and output k = 1 ... radix-1
  const float2* roots;     // e(m/radix), for odd radices
};

// How two used frequencies k and N - k are computed from the half-length transform (a plan's `Split`), or one from a transform of full length.
struct DeviceSplit {
  int a, b;            // positions of Z[k] and Z[N-k]
  float cos, sin;      // of 2 pi k/d
  int slot_a, slot_b;  // of k and N - k; -1: not used
};

struct DeviceSide {
  int d;
  int is_half_length;  // even d: two real numbers in each complex one
  int n;               // complex numbers of a row: d/2 or d
  int length;          // of the transform of `stages`: n, or Bluestein's convolution
  int stage_count;
  int used;            // the number of used frequencies, which are the slots
  int split_count;
  int fuses_rows;      // of a fused kernel: whether the outermost stage reads and writes rows in global memory
  DeviceStage stages[kMaxStages];
  const float2 *chirp, *chirp_spectrum;  // for Bluestein's algorithm, else null
  const DeviceSplit* splits;             // [split_count]
};

// A term of a slot's sum. `slot` is a slot of the other side, or ~slot for its conjugate.
struct DeviceTerm {
  int slot, entry;
};

// The sparse step for two points j and N - j of the packed half-length spectrum, or for one point of a spectrum of full length.
struct alignas(16) DeviceJoin {
  int a, b;                // positions of the points; b is -1 if there is one point
  float cos, sin;          // of 2 pi j/d
  int first, middle, end;  // S[j] is the sum of terms first ... middle-1, S[N-j] that of middle ... end-1
};

struct DeviceTerms {
  const DeviceTerm* terms;  // in the order of the joins
  const DeviceJoin* joins;  // those with the most terms first, so that neighbouring threads have equal work
  int join_count;           // they cover all points
  int active_count;         // the number of joins with terms
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
