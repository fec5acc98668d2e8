// The CUDA kernels for the CPU with a deliberate fault: forward adds 1.001 ΔW x. The check has to find it.
#define fourierft_cuda_forward right_forward
#include "fourierft-cuda.cc"
#undef fourierft_cuda_forward

#include <vector>

extern "C" FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_forward(const fourierft_cuda_plan* plan, const fourierft_cuda_branch* branches,
                                                                           int32_t branch_count, int32_t adapters, fourierft_dtype dtype, const void* x,
                                                                           int64_t tokens, const fourierft_cuda_rows* rows,
                                                                           fourierft_cuda_stream stream) {
  std::vector<fourierft_cuda_branch> changed(branches, branches + branch_count);
  std::vector<std::vector<float>> scalings;
  for (fourierft_cuda_branch& branch : changed) {
    if (branch.scalings == nullptr) continue;
    scalings.emplace_back(branch.scalings, branch.scalings + adapters);
    for (float& scaling : scalings.back()) scaling *= 1.001f;
    branch.scalings = scalings.back().data();
  }
  return right_forward(plan, changed.data(), branch_count, adapters, dtype, x, tokens, rows, stream);
}
