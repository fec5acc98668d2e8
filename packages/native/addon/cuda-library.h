// The library of the CUDA kernels (cuda/fourierft-cuda.h). It is opened on request: the addon itself does not depend on CUDA.
#pragma once

#include <string>
#include <string_view>

#include "../cuda/fourierft-cuda.h"

namespace fourierft {

// name in the library, name in `CudaLibrary`
#define FOURIERFT_CUDA_FUNCTIONS(F)             \
  F(fourierft_cuda_memory_kind, memory_kind)    \
  F(fourierft_cuda_problem, problem)            \
  F(fourierft_cuda_device_count, device_count)  \
  F(fourierft_cuda_device, device)              \
  F(fourierft_cuda_plan_create, plan_create)    \
  F(fourierft_cuda_plan_destroy, plan_destroy)  \
  F(fourierft_cuda_copy, copy)                  \
  F(fourierft_cuda_zero, zero)                  \
  F(fourierft_cuda_read, read)                  \
  F(fourierft_cuda_forward, forward)            \
  F(fourierft_cuda_backward, backward)

struct CudaLibrary {
#define FOURIERFT_CUDA_FUNCTION(function, name) decltype(&function) name = nullptr;
  FOURIERFT_CUDA_FUNCTIONS(FOURIERFT_CUDA_FUNCTION)
#undef FOURIERFT_CUDA_FUNCTION
  int devices = 0;

  // Whether tensors are in the memory of a CUDA device. False for the library that is compiled with host-shim/.
  bool is_on_device() const { return std::string_view(memory_kind()) == "cuda"; }
  std::string text_of(fourierft_cuda_status status) const;
};

// Opens the library at this path, once for the process. Throws UNSUPPORTED if it is missing, does not load or has another version, or if there
// is no device.
const CudaLibrary& open_cuda_library(const std::string& path);

}  // namespace fourierft
