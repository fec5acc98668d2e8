// The CUDA kernels and their launches for a host compiler, with this folder's <cuda_runtime.h>.
#include "../cuda/fourierft-cuda.cu"
