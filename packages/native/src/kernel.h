// The functions of a kernel. kernel-body.h is compiled once for each instruction set, and branch.cc picks one of the kernels at run time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fourierft/fourierft.h"
#include "plan.h"

struct fourierft_plan {
  fourierft::Plan plan;
};

namespace fourierft {

// The tokens of a call. Without `adapter_of_row`, the coefficients of the call are [n] and already include alpha/(d1 d2). With it, they are
// [adapters, n] as trained, and `factors` [adapters] is alpha/(d1 d2) of each adapter.
struct Tokens {
  fourierft_dtype dtype;
  int64_t count;
  const int32_t* adapter_of_row;
  const float* factors;
};

struct Kernel {
  const char* instructions;
  // The number of floats of scratch that a call needs, 64-byte aligned.
  size_t (*scratch_size)(const Plan&);
  void (*forward)(const Plan&, const float* coefficients, Tokens, const void* x, void* y, float* scratch);
  // products [n] or [adapters, n] += Re(G[j_l] X[k_l]) over the tokens, without alpha/(d1 d2); grad_x may be null.
  void (*backward)(const Plan&, const float* coefficients, Tokens, const void* x, const void* grad_y, float* products, void* grad_x,
                   float* scratch);
  // Writes rows p = first ... last-1 of dW, p at most d1/2, and their mirror images, the rows d1 - p.
  void (*delta)(const Plan&, const float* coefficients, int first, int last, float* delta, float* scratch);
};

extern const Kernel kernel_generic;
#if defined(__x86_64__)
extern const Kernel kernel_avx2;
extern const Kernel kernel_avx512;
#endif

}  // namespace fourierft
