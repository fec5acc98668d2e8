// The CUDA kernels and their launches as a host compiler sees them: with this folder's <cuda_runtime.h>.
#include "../cuda/fourierft-cuda.cu"
