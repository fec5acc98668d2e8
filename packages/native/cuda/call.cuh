// What all kernels read of a call: its tensors, the adapters of its tokens, numbers of three types, and shared memory. The code uses a subset of
// CUDA that a host compiler runs through host-shim/.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "device-plan.h"
#include "fourierft/fourierft.h"

namespace fourierft::cuda {

#ifdef __CUDACC__
extern __shared__ __align__(16) float2 fourierft_shared[];
__device__ __forceinline__ float2* shared_memory() { return fourierft_shared; }
#else
inline float2* shared_memory() { return static_cast<float2*>(host_shim::shared_memory()); }
#endif

// ---- Adapters ----------------------------------------------------------------------------------------------------------------------

// The largest number of rows that a launch takes as an argument, from the host's memory.
constexpr int kMaxInlineRows = 512;

struct Adapters {
  int count;
  float inverse_area;             // 1/(d1 d2)
  unsigned tokens_per_row;
  const int64_t* adapter_of_row;  // in device memory, or null
  int inline_count;               // the number of inline rows; if that is 0 as well, all adapters are summed
  int first_inline_row;
  int32_t inline_rows[kMaxInlineRows];
};

// Results of `adapter_of` that are not the index of an adapter.
constexpr int kAllAdapters = -1, kNoAdapter = -2, kInvalidAdapter = -3;

__device__ __forceinline__ int adapter_of(const Adapters& adapters, int64_t token) {
  if (adapters.adapter_of_row == nullptr && adapters.inline_count == 0) return kAllAdapters;
  const int row = static_cast<int>(static_cast<unsigned>(token) / adapters.tokens_per_row);
  const int64_t adapter = adapters.inline_count > 0 ? adapters.inline_rows[row - adapters.first_inline_row] : adapters.adapter_of_row[row];
  if (adapter == -1) return kNoAdapter;
  return adapter < -1 || adapter >= adapters.count ? kInvalidAdapter : static_cast<int>(adapter);
}

// One layer of a call.
struct Branch {
  const float* coefficients;  // [adapters, n]
  const float* scalings;      // [adapters], or null: all 1
  const void* grad_y;         // of a backward call
  void* y;                    // of a forward call
  float* products;            // of a backward call: [tokens of a chunk, n]
  float* grad_coefficients;   // of a backward call: [adapters, n]
};

// alpha/(d1 d2) of one adapter.
__device__ __forceinline__ float factor_of(const Adapters& adapters, const Branch& branch, int adapter) {
  return branch.scalings == nullptr ? adapters.inverse_area : branch.scalings[adapter] * adapters.inverse_area;
}

// alpha/(d1 d2) c_l of one adapter, or the sum over all adapters; 0 without an adapter.
__device__ __forceinline__ float coefficient_of(const Adapters& adapters, const Branch& branch, int adapter, int n, int entry) {
  if (adapter >= 0) return factor_of(adapters, branch, adapter) * branch.coefficients[static_cast<int64_t>(adapter) * n + entry];
  float sum = 0;
  for (int a = 0; adapter == kAllAdapters && a < adapters.count; a++)
    sum += factor_of(adapters, branch, a) * branch.coefficients[static_cast<int64_t>(a) * n + entry];
  return sum;
}

// ---- Numbers -----------------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float to_float(float number) { return number; }
__device__ __forceinline__ float to_float(__half number) { return __half2float(number); }
__device__ __forceinline__ float to_float(__nv_bfloat16 number) { return __bfloat162float(number); }

template <class Number>
__device__ __forceinline__ Number from_float(float value);
template <>
__device__ __forceinline__ float from_float(float value) { return value; }
template <>
__device__ __forceinline__ __half from_float(float value) { return __float2half_rn(value); }
template <>
__device__ __forceinline__ __nv_bfloat16 from_float(float value) { return __float2bfloat16_rn(value); }

__device__ __forceinline__ float load(fourierft_dtype dtype, const void* numbers, int64_t index) {
  if (dtype == FOURIERFT_FLOAT32) return static_cast<const float*>(numbers)[index];
  if (dtype == FOURIERFT_FLOAT16) return to_float(static_cast<const __half*>(numbers)[index]);
  return to_float(static_cast<const __nv_bfloat16*>(numbers)[index]);
}

__device__ __forceinline__ void store(fourierft_dtype dtype, float value, void* numbers, int64_t index) {
  if (dtype == FOURIERFT_FLOAT32)
    static_cast<float*>(numbers)[index] = value;
  else if (dtype == FOURIERFT_FLOAT16)
    static_cast<__half*>(numbers)[index] = from_float<__half>(value);
  else
    static_cast<__nv_bfloat16*>(numbers)[index] = from_float<__nv_bfloat16>(value);
}

__device__ __forceinline__ void add_to(fourierft_dtype dtype, float value, void* numbers, int64_t index) {
  store(dtype, load(dtype, numbers, index) + value, numbers, index);
}

// Two neighbouring numbers of a row, which are read and written at once: one complex number of a transform of half the length.
template <class Number>
struct alignas(2 * sizeof(Number)) Couple {
  Number even, odd;
};

}  // namespace fourierft::cuda
