// The last step of a gradient: sums the products of all tokens for each coefficient.
#pragma once

#include "call.cuh"

namespace fourierft::cuda {

constexpr int kEntriesPerBlock = 32, kTokenLanes = 16;

struct Reduce {
  Adapters adapters;
  int n, tokens;
  int tokens_per_block;  // of the backward kernel: if all tokens of a block have one adapter, their sum is in the row of the first
  int64_t first_token;
  Branch branches[kMaxBranches];
};

// Block (i, a, b) computes the gradient of entries 32 i ... 32 i + 31 of adapter a of branch b. For each entry, each of 16 threads adds every
// 16th token in order; then the 16 sums are added in a tree.
__global__ void __launch_bounds__(kEntriesPerBlock* kTokenLanes) reduce_kernel(const __grid_constant__ Reduce call) {
  float* sums = reinterpret_cast<float*>(shared_memory());
  const Branch& branch = call.branches[blockIdx.z];
  const int lane = threadIdx.x / kEntriesPerBlock, l = blockIdx.x * kEntriesPerBlock + threadIdx.x % kEntriesPerBlock;
  const int target_adapter = static_cast<int>(blockIdx.y);
  float sum = 0;
  if (l < call.n) {
    for (int t = lane; t < call.tokens; t += kTokenLanes) {
      const int adapter = adapter_of(call.adapters, call.first_token + t);
      if (adapter != kAllAdapters && adapter != target_adapter) continue;
      if (t % call.tokens_per_block != 0 && adapter_of(call.adapters, call.first_token + t - 1) == adapter) continue;
      sum += branch.products[static_cast<int64_t>(t) * call.n + l];
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kTokenLanes / 2; half > 0; half /= 2) {
    if (lane < half) sums[threadIdx.x] += sums[threadIdx.x + half * kEntriesPerBlock];
    __syncthreads();
  }
  if (lane > 0 || l >= call.n) return;
  float* to = branch.grad_coefficients + static_cast<int64_t>(target_adapter) * call.n + l;
  const float value = factor_of(call.adapters, branch, target_adapter) * sums[threadIdx.x];
  *to = call.first_token == 0 ? value : *to + value;
}

}  // namespace fourierft::cuda
