// The transforms of a plan, computed by the threads of one block on the rows of G tokens in shared memory: Z[k] = sum_m z[m] e(mk/n), with
// decimation in frequency forwards and in time backwards as in src/kernel-body.h, so nothing has to be reordered. All threads of the block must
// call `run_stage` and the functions after it, each of which ends with a barrier.
#pragma once

#include "device-plan.h"

namespace fourierft::cuda {

// The position of number e of a row in shared memory. Every 17th position is unused, so that the strides of radices 2, 4, 8 and 16 access different
// banks.
__host__ __device__ __forceinline__ int padded(int e) { return e + (e >> 4); }

// The rows of a block's tokens in shared memory: the row of token g begins at first + g stride.
struct Rows {
  float2* first;
  int stride;
  __device__ __forceinline__ float2* operator[](int g) const { return first + g * stride; }
};

__device__ __forceinline__ float2 add(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
__device__ __forceinline__ float2 subtract(float2 a, float2 b) { return make_float2(a.x - b.x, a.y - b.y); }
__device__ __forceinline__ float2 scale(float2 a, float factor) { return make_float2(a.x * factor, a.y * factor); }
__device__ __forceinline__ float2 multiply(float2 a, float2 b) { return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
__device__ __forceinline__ float2 times_i(float2 a) { return make_float2(-a.y, a.x); }
__device__ __forceinline__ float2 conjugate(float2 a) { return make_float2(a.x, -a.y); }
__device__ __forceinline__ float2 swapped(float2 a) { return make_float2(a.y, a.x); }

// ---- butterflies: z[k] becomes sum over q of z[q] e(qk/R) ---------------------------------------------------------------------------

template <int R>
struct Butterfly;

template <>
struct Butterfly<2> {
  static __device__ __forceinline__ void run(float2* z, const float2*) {
    const float2 difference = subtract(z[0], z[1]);
    z[0] = add(z[0], z[1]);
    z[1] = difference;
  }
};

template <>
struct Butterfly<3> {
  static __device__ __forceinline__ void run(float2* z, const float2*) {
    const float2 sum = add(z[1], z[2]), rotated = times_i(scale(subtract(z[1], z[2]), 0.86602540378443865f));
    const float2 centre = subtract(z[0], scale(sum, 0.5f));
    z[0] = add(z[0], sum);
    z[1] = add(centre, rotated);
    z[2] = subtract(centre, rotated);
  }
};

template <>
struct Butterfly<4> {
  static __device__ __forceinline__ void run(float2* z, const float2*) {
    const float2 a = add(z[0], z[2]), b = subtract(z[0], z[2]), c = add(z[1], z[3]), d = times_i(subtract(z[1], z[3]));
    z[0] = add(a, c);
    z[1] = add(b, d);
    z[2] = subtract(a, c);
    z[3] = subtract(b, d);
  }
};

// R = 2H from two transforms of length H: `rotate` multiplies the odd ones by e(k/R).
template <int H, class Rotate>
__device__ __forceinline__ void run_even(float2* z, Rotate rotate) {
  float2 even[H], odd[H];
#pragma unroll
  for (int k = 0; k < H; k++) {
    even[k] = z[2 * k];
    odd[k] = z[2 * k + 1];
  }
  Butterfly<H>::run(even, nullptr);
  Butterfly<H>::run(odd, nullptr);
  rotate(odd);
#pragma unroll
  for (int k = 0; k < H; k++) {
    z[k] = add(even[k], odd[k]);
    z[k + H] = subtract(even[k], odd[k]);
  }
}

template <>
struct Butterfly<6> {
  static __device__ __forceinline__ void run(float2* z, const float2*) {
    run_even<3>(z, [](float2* odd) {
      const float h = 0.86602540378443865f;
      odd[1] = multiply(odd[1], make_float2(0.5f, h));
      odd[2] = multiply(odd[2], make_float2(-0.5f, h));
    });
  }
};

template <>
struct Butterfly<8> {
  static __device__ __forceinline__ void run(float2* z, const float2*) {
    run_even<4>(z, [](float2* odd) {
      const float h = 0.70710678118654752f;
      odd[1] = scale(add(odd[1], times_i(odd[1])), h);
      odd[2] = times_i(odd[2]);
      odd[3] = scale(subtract(times_i(odd[3]), odd[3]), h);
    });
  }
};

template <>
struct Butterfly<16> {
  static __device__ __forceinline__ void run(float2* z, const float2*) {
    run_even<8>(z, [](float2* odd) {
      const float c = 0.92387953251128676f, s = 0.38268343236508977f, h = 0.70710678118654752f;
      odd[1] = multiply(odd[1], make_float2(c, s));
      odd[2] = scale(add(odd[2], times_i(odd[2])), h);
      odd[3] = multiply(odd[3], make_float2(s, c));
      odd[4] = times_i(odd[4]);
      odd[5] = multiply(odd[5], make_float2(-s, c));
      odd[6] = scale(subtract(times_i(odd[6]), odd[6]), h);
      odd[7] = multiply(odd[7], make_float2(-c, s));
    });
  }
};

// Odd R: outputs j and R-j are A + iB and A - iB with A = z[0] + sum (z[k] + z[R-k]) cos(2 pi jk/R), B = sum (z[k] - z[R-k]) sin(2 pi jk/R).
template <int R>
struct Butterfly {
  static __device__ __forceinline__ void run(float2* z, const float2* roots) {
    constexpr int h = (R - 1) / 2;
    float2 p[h], q[h], sum = z[0];
#pragma unroll
    for (int k = 1; k <= h; k++) {
      p[k - 1] = add(z[k], z[R - k]);
      q[k - 1] = subtract(z[k], z[R - k]);
      sum = add(sum, p[k - 1]);
    }
#pragma unroll
    for (int j = 1; j <= h; j++) {
      float2 a = z[0], b = make_float2(0, 0);
#pragma unroll
      for (int k = 1; k <= h; k++) {
        const float2 root = roots[j * k % R];
        a = add(a, scale(p[k - 1], root.x));
        b = add(b, scale(q[k - 1], root.y));
      }
      z[j] = add(a, times_i(b));
      z[R - j] = subtract(a, times_i(b));
    }
    z[0] = sum;
  }
};

// ---- stages ------------------------------------------------------------------------------------------------------------------------

// Each thread computes one butterfly of all tokens at a time, so that the twiddles are read once. Forwards: butterfly, then twiddles; backwards, as
// the transposed stage: twiddles, then butterfly. `load(g, first, quotient, z)` reads elements first + k quotient, k = 0 ... R-1, of token g;
// `store` has the same arguments. Without a barrier.
template <int R, int G, class Load, class Store>
__device__ __forceinline__ void run_butterflies(const DeviceStage& stage, int n, bool forward, const Load& load, const Store& store) {
  const int quotient = stage.length / R;
  for (int u = threadIdx.x; u < n / R; u += blockDim.x) {
    const int part = u / quotient, i = u - part * quotient, first = part * stage.length + i;
    // All twiddles of a stage with quotient 1 are 1.
    const auto rotate = [&](float2(&z)[G][R]) {
      if (quotient == 1) return;
#pragma unroll
      for (int k = 1; k < R; k++) {
        const float2 twiddle = stage.twiddles[(k - 1) * quotient + i];
#pragma unroll
        for (int g = 0; g < G; g++) z[g][k] = multiply(z[g][k], twiddle);
      }
    };
    float2 z[G][R];
#pragma unroll
    for (int g = 0; g < G; g++) load(g, first, quotient, z[g]);
    if (!forward) rotate(z);
#pragma unroll
    for (int g = 0; g < G; g++) Butterfly<R>::run(z[g], stage.roots);
    if (forward) rotate(z);
#pragma unroll
    for (int g = 0; g < G; g++) store(g, first, quotient, z[g]);
  }
}

// `load` and `store` of shared memory.
struct LoadShared {
  Rows buffer;
  template <int R>
  __device__ __forceinline__ void operator()(int g, int first, int quotient, float2 (&z)[R]) const {
#pragma unroll
    for (int k = 0; k < R; k++) z[k] = buffer[g][padded(first + k * quotient)];
  }
};

struct StoreShared {
  Rows buffer;
  template <int R>
  __device__ __forceinline__ void operator()(int g, int first, int quotient, const float2 (&z)[R]) const {
#pragma unroll
    for (int k = 0; k < R; k++) buffer[g][padded(first + k * quotient)] = z[k];
  }
};

// Runs a stage of a radix up to 8, or 16. Returns false for another radix. Without a barrier.
template <int G, bool kHasRadix16, class Load, class Store>
__device__ __forceinline__ bool run_small_stage(const DeviceStage& stage, int n, bool forward, const Load& load, const Store& store) {
  switch (stage.radix) {
    case 2: run_butterflies<2, G>(stage, n, forward, load, store); return true;
    case 3: run_butterflies<3, G>(stage, n, forward, load, store); return true;
    case 4: run_butterflies<4, G>(stage, n, forward, load, store); return true;
    case 5: run_butterflies<5, G>(stage, n, forward, load, store); return true;
    case 6: run_butterflies<6, G>(stage, n, forward, load, store); return true;
    case 7: run_butterflies<7, G>(stage, n, forward, load, store); return true;
    case 8: run_butterflies<8, G>(stage, n, forward, load, store); return true;
    case 16:
      if constexpr (kHasRadix16) run_butterflies<16, G>(stage, n, forward, load, store);
      return true;
  }
  return false;
}

// For a radix that is too large for a thread's registers: each thread computes output 0, or outputs j and radix-j, of a butterfly. The block
// computes as many whole butterflies at once as it has threads for. All threads read before any thread writes.
template <int G>
__device__ __forceinline__ void run_stage_large(const DeviceStage& stage, int n, bool forward, const Rows& buffer) {
  const int radix = stage.radix, quotient = stage.length / radix, h = (radix - 1) / 2;
  const int butterflies_at_once = blockDim.x / (h + 1), index = threadIdx.x / (h + 1), j = threadIdx.x - index * (h + 1);
  for (int done = 0; done < n / radix; done += butterflies_at_once) {
    const int u = done + index, part = u / quotient, i = u - part * quotient, first = part * stage.length + i;
    const bool is_active = index < butterflies_at_once && u < n / radix;
    float2 a[G], b[G];
    if (is_active) {
#pragma unroll
      for (int g = 0; g < G; g++) {
        const auto number = [&](int k) {
          const float2 z = buffer[g][padded(first + k * quotient)];
          return forward || k == 0 ? z : multiply(z, stage.twiddles[(k - 1) * quotient + i]);
        };
        a[g] = number(0);
        b[g] = make_float2(0, 0);
        for (int k = 1, at = j; k <= h; k++) {
          const float2 z = number(k), mirror = number(radix - k), root = stage.roots[at];
          a[g] = add(a[g], scale(add(z, mirror), root.x));
          b[g] = add(b[g], scale(subtract(z, mirror), root.y));
          at += j;
          if (at >= radix) at -= radix;
        }
      }
    }
    __syncthreads();
    if (is_active) {
#pragma unroll
      for (int g = 0; g < G; g++) {
        const auto put = [&](int k, float2 z) {
          buffer[g][padded(first + k * quotient)] = forward && k > 0 ? multiply(z, stage.twiddles[(k - 1) * quotient + i]) : z;
        };
        put(j, add(a[g], times_i(b[g])));
        if (j > 0) put(radix - j, subtract(a[g], times_i(b[g])));
      }
    }
  }
  __syncthreads();
}

// Runs stages first ... end-1, counted in the order in which they run.
template <int G, bool kHasRadix16>
__device__ __forceinline__ void run_stages(const DeviceSide& side, bool forward, const Rows& buffer, int first, int end) {
  for (int s = first; s < end; s++) {
    const DeviceStage& stage = side.stages[forward ? s : side.stage_count - 1 - s];
    if (run_small_stage<G, kHasRadix16>(stage, side.length, forward, LoadShared{buffer}, StoreShared{buffer}))
      __syncthreads();
    else
      run_stage_large<G>(stage, side.length, forward, buffer);
  }
}

// Bluestein's algorithm has natural order on both sides and no direction: with w_m = e(m^2/2n), Z[k] = w_k sum_m (z_m w_m) conj(w_{k-m}),
// a convolution. Swapping real and imaginary parts between its two passes makes the same transform run backwards.
template <int G, bool kHasRadix16>
__device__ __forceinline__ void run_bluestein(const DeviceSide& side, const Rows& buffer) {
  for (int e = threadIdx.x; e < side.length; e += blockDim.x)
#pragma unroll
    for (int g = 0; g < G; g++) {
      float2& z = buffer[g][padded(e)];
      z = e < side.n ? multiply(z, side.chirp[e]) : make_float2(0, 0);
    }
  __syncthreads();
  for (int pass = 0; pass < 2; pass++) {
    run_stages<G, kHasRadix16>(side, pass == 0, buffer, 0, side.stage_count);
    const float2* factors = pass == 0 ? side.chirp_spectrum : side.chirp;
    for (int e = threadIdx.x; e < (pass == 0 ? side.length : side.n); e += blockDim.x)
#pragma unroll
      for (int g = 0; g < G; g++) {
        float2& z = buffer[g][padded(e)];
        z = pass == 0 ? swapped(multiply(z, factors[e])) : multiply(swapped(z), factors[e]);
      }
    __syncthreads();
  }
}

}  // namespace fourierft::cuda
