// The kernels. A block of threads computes the whole branch for one token in shared memory.
//
//   analyse      a row of one side -> its used frequencies
//   combine      the sparse step: each slot of one side sums coefficients times slots of the other
//   synthesise   used frequencies of one side -> added to a row
//
// One thread computes each sum, so there are no atomics and the order of additions is fixed. The code uses a subset of CUDA that a host
// compiler runs through host-shim/.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "fourierft/fourierft.h"
#include "transform.cuh"

namespace fourierft::cuda {

#ifdef __CUDACC__
extern __shared__ float2 fourierft_shared[];
__device__ inline float2* shared_memory() { return fourierft_shared; }
#else
inline float2* shared_memory() { return static_cast<float2*>(host_shim::shared_memory()); }
#endif

// The largest number of threads of a block, and the number of such blocks for which a multiprocessor has enough registers (64 for each thread).
constexpr int kMaxThreads = 512, kMinBlocks = 2;

// The offsets of a token's arrays in shared memory, in complex numbers.
struct SharedLayout {
  int in_slots, out_slots, total;
};

inline SharedLayout shared_layout(const DeviceSide& in, const DeviceSide& out) {
  const auto larger = [](int a, int b) { return a > b ? a : b; };
  SharedLayout shared;
  shared.in_slots = padded(larger(larger(in.n, in.length), larger(out.n, out.length)));
  shared.out_slots = shared.in_slots + in.used + 1;
  shared.total = shared.out_slots + out.used + 1;
  return shared;
}

struct Adapters {
  const float* coefficients;  // [count, n]
  const float* scalings;      // [count], or null: all 1
  float inverse_area;         // 1/(d1 d2)
  int count;
  const int64_t* adapter_of_row;  // null: all adapters are summed
  int64_t tokens_per_row;
};

// Results of `adapter_of` that are not the index of an adapter.
constexpr int kAllAdapters = -1, kNoAdapter = -2, kInvalidAdapter = -3;

__device__ inline int adapter_of(const Adapters& adapters, int64_t token) {
  if (adapters.adapter_of_row == nullptr) return kAllAdapters;
  const int64_t adapter = adapters.adapter_of_row[token / adapters.tokens_per_row];
  if (adapter == -1) return kNoAdapter;
  return adapter < -1 || adapter >= adapters.count ? kInvalidAdapter : static_cast<int>(adapter);
}

// alpha/(d1 d2) of one adapter.
__device__ inline float factor_of(const Adapters& adapters, int adapter) {
  return adapters.scalings == nullptr ? adapters.inverse_area : adapters.scalings[adapter] * adapters.inverse_area;
}

// alpha/(d1 d2) c_l of one adapter, or the sum over all adapters.
__device__ inline float coefficient_of(const Adapters& adapters, int adapter, int n, int entry) {
  if (adapter >= 0) return factor_of(adapters, adapter) * adapters.coefficients[static_cast<int64_t>(adapter) * n + entry];
  float sum = 0;
  for (int a = 0; a < adapters.count; a++)
    sum += factor_of(adapters, a) * adapters.coefficients[static_cast<int64_t>(a) * n + entry];
  return sum;
}

__device__ inline float load(fourierft_dtype dtype, const void* numbers, int64_t index) {
  if (dtype == FOURIERFT_FLOAT32) return static_cast<const float*>(numbers)[index];
  if (dtype == FOURIERFT_FLOAT16) return __half2float(static_cast<const __half*>(numbers)[index]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(numbers)[index]);
}

__device__ inline void store(fourierft_dtype dtype, float value, void* numbers, int64_t index) {
  if (dtype == FOURIERFT_FLOAT32)
    static_cast<float*>(numbers)[index] = value;
  else if (dtype == FOURIERFT_FLOAT16)
    static_cast<__half*>(numbers)[index] = __float2half_rn(value);
  else
    static_cast<__nv_bfloat16*>(numbers)[index] = __float2bfloat16_rn(value);
}

__device__ inline void add_to(fourierft_dtype dtype, float value, void* numbers, int64_t index) {
  store(dtype, load(dtype, numbers, index) + value, numbers, index);
}

__device__ inline void analyse(const DeviceSide& side, fourierft_dtype dtype, const void* x, int64_t token, float2* buffer, float2* slots) {
  const int64_t row = token * side.d;
  for (int e = threadIdx.x; e < side.n; e += blockDim.x)
    buffer[padded(e)] = side.is_half_length ? make_float2(load(dtype, x, row + 2 * e), load(dtype, x, row + 2 * e + 1))
                                    : make_float2(load(dtype, x, row + e), 0);
  __syncthreads();
  run_transform(side, true, buffer);
  // E = (Z[k] + conj Z[N-k])/2 and O = (Z[k] - conj Z[N-k])/2i are the transforms of even and odd elements; X[k] = E + e(k/d) O.
  for (int s = threadIdx.x; s < side.used; s += blockDim.x) {
    const Pair split = side.splits[s];
    const float2 z = buffer[padded(split.a)];
    if (side.is_half_length) {
      const float2 w = buffer[padded(split.b)];
      const float2 even = make_float2((z.x + w.x) * 0.5f, (z.y - w.y) * 0.5f), odd = make_float2((z.y + w.y) * 0.5f, (w.x - z.x) * 0.5f);
      slots[s] = add(even, multiply(odd, make_float2(split.cos, split.sin)));
    } else {
      slots[s] = z;
    }
  }
  __syncthreads();
}

// Sums the terms of each slot. For even d the slots become the spectrum of the real part: half of each frequency (and half its conjugate at
// d - j, which is not stored). Frequencies 0 and d/2 have no conjugate partner and are real.
__device__ inline void combine(const DeviceSide& into, const DeviceTerms& terms, const Adapters& adapters, int adapter, int n,
                               const float2* from, float2* to) {
  for (int s = threadIdx.x; s < into.used; s += blockDim.x) {
    float2 sum = make_float2(0, 0);
    for (int t = terms.start[s]; t < terms.start[s + 1]; t++) {
      const DeviceTerm term = terms.terms[t];
      const float c = coefficient_of(adapters, adapter, n, term.entry);
      const float2 z = from[term.slot < 0 ? ~term.slot : term.slot];
      sum.x += c * z.x;
      sum.y += term.slot < 0 ? -c * z.y : c * z.y;
    }
    if (into.is_half_length) sum = s == into.zero || s == into.nyquist ? make_float2(sum.x, 0) : scale(sum, 0.5f);
    to[s] = sum;
  }
  if (threadIdx.x == 0) to[into.used] = make_float2(0, 0);
  __syncthreads();
}

__device__ inline void synthesise(const DeviceSide& side, const float2* slots, float2* buffer, fourierft_dtype dtype, void* y,
                                  int64_t token) {
  // y[2m] + i y[2m+1] = sum over j < N of ((S[j] + conj S[N-j]) + i e(j/d) (S[j] - conj S[N-j])) e(mj/N)
  for (int e = threadIdx.x; e < side.n; e += blockDim.x) {
    const Pair pack = side.packs[e];
    const float2 s = slots[pack.a];
    if (side.is_half_length) {
      const float2 w = slots[pack.b], sum = make_float2(s.x + w.x, s.y - w.y), difference = make_float2(s.x - w.x, s.y + w.y);
      buffer[padded(e)] = add(sum, times_i(multiply(difference, make_float2(pack.cos, pack.sin))));
    } else {
      buffer[padded(e)] = s;
    }
  }
  __syncthreads();
  run_transform(side, false, buffer);
  const int64_t row = token * side.d;
  for (int e = threadIdx.x; e < side.n; e += blockDim.x) {
    const float2 z = buffer[padded(e)];
    if (side.is_half_length) {
      add_to(dtype, z.x, y, row + 2 * e);
      add_to(dtype, z.y, y, row + 2 * e + 1);
    } else {
      add_to(dtype, z.x, y, row + e);
    }
  }
}

__device__ inline void fill_with_nan(const DeviceSide& side, fourierft_dtype dtype, void* y, int64_t token) {
  for (int e = threadIdx.x; e < side.d; e += blockDim.x) store(dtype, nanf(""), y, token * side.d + e);
}

struct Forward {
  DevicePlan plan;
  Adapters adapters;
  SharedLayout shared;
  fourierft_dtype dtype;
  const void* x;
  void* y;
};

// Block t computes token t.
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks) forward_kernel(const __grid_constant__ Forward call) {
  const int64_t token = blockIdx.x;
  const int adapter = adapter_of(call.adapters, token);
  if (adapter == kNoAdapter) return;
  if (adapter == kInvalidAdapter) return fill_with_nan(call.plan.out, call.dtype, call.y, token);
  float2 *buffer = shared_memory(), *in = buffer + call.shared.in_slots, *out = buffer + call.shared.out_slots;
  analyse(call.plan.in, call.dtype, call.x, token, buffer, in);
  combine(call.plan.out, call.plan.by_row, call.adapters, adapter, call.plan.n, in, out);
  synthesise(call.plan.out, out, buffer, call.dtype, call.y, token);
}

struct Backward {
  DevicePlan plan;
  Adapters adapters;
  SharedLayout shared;
  fourierft_dtype dtype;
  int64_t first_token;
  const void *x, *grad_y;
  float* products;  // [blocks, n]
  void* grad_x;     // or null
};

// Block b computes token first_token + b and writes Re(G[j_l] X[k_l]) to row b of the products.
__global__ void __launch_bounds__(kMaxThreads, kMinBlocks) backward_kernel(const __grid_constant__ Backward call) {
  const int64_t token = call.first_token + blockIdx.x;
  const int adapter = adapter_of(call.adapters, token);
  if (adapter == kNoAdapter) return;
  if (adapter == kInvalidAdapter) {
    if (call.grad_x != nullptr) fill_with_nan(call.plan.in, call.dtype, call.grad_x, token);
    return;
  }
  float2 *buffer = shared_memory(), *in = buffer + call.shared.in_slots, *out = buffer + call.shared.out_slots;
  analyse(call.plan.in, call.dtype, call.x, token, buffer, in);
  analyse(call.plan.out, call.dtype, call.grad_y, token, buffer, out);
  const int n = call.plan.n;
  for (int l = threadIdx.x; l < n; l += blockDim.x) {
    const DeviceEntry entry = call.plan.entries[l];
    const float2 x = in[entry.in < 0 ? ~entry.in : entry.in], g = out[entry.out];
    call.products[static_cast<int64_t>(blockIdx.x) * n + l] = entry.in < 0 ? g.x * x.x + g.y * x.y : g.x * x.x - g.y * x.y;
  }
  if (call.grad_x == nullptr) return;
  __syncthreads();
  combine(call.plan.in, call.plan.by_column, call.adapters, adapter, n, out, in);
  synthesise(call.plan.in, in, buffer, call.dtype, call.grad_x, token);
}

constexpr int kEntriesPerBlock = 32, kTokenLanes = 16;

struct Reduce {
  Adapters adapters;
  int n, tokens;
  int64_t first_token;
  const float* products;  // [tokens, n]
  float* grad_coefficients;
};

// Block (b, a) computes the gradient of entries 32 b ... 32 b + 31 of adapter a. For each entry, each of 16 threads adds every 16th token in order;
// then the 16 sums are added in a tree.
__global__ void __launch_bounds__(kEntriesPerBlock* kTokenLanes) reduce_kernel(const __grid_constant__ Reduce call) {
  float* sums = reinterpret_cast<float*>(shared_memory());
  const int lane = threadIdx.x / kEntriesPerBlock, l = blockIdx.x * kEntriesPerBlock + threadIdx.x % kEntriesPerBlock;
  const int target_adapter = static_cast<int>(blockIdx.y);
  float sum = 0;
  if (l < call.n) {
    for (int t = lane; t < call.tokens; t += kTokenLanes) {
      const int adapter = adapter_of(call.adapters, call.first_token + t);
      if (adapter == kAllAdapters || adapter == target_adapter) sum += call.products[static_cast<int64_t>(t) * call.n + l];
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kTokenLanes / 2; half > 0; half /= 2) {
    if (lane < half) sums[threadIdx.x] += sums[threadIdx.x + half * kEntriesPerBlock];
    __syncthreads();
  }
  if (lane > 0 || l >= call.n) return;
  float* to = call.grad_coefficients + static_cast<int64_t>(target_adapter) * call.n + l;
  const float value = factor_of(call.adapters, target_adapter) * sums[threadIdx.x];
  *to = call.first_token == 0 ? value : *to + value;
}

}  // namespace fourierft::cuda
