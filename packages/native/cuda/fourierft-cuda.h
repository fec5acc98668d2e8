/* The FourierFT branch of linear layers on a CUDA device: y += dW x and its gradient, queued on the caller's stream. The
 * functions correspond to those of fourierft.h for a CPU, which also has one for dW.
 *
 * Tensors are row-major, contiguous, in device memory: x [tokens, d2], y and grad_y [tokens, d1], coefficients [adapters, n], scalings
 * [adapters], or null if the coefficients include alpha. forward and backward only queue kernels on a stream of the current device: they
 * neither allocate nor wait, and can be captured into a CUDA graph, which must not outlive the plan. Results are the same on every call of the
 * same kernel, size and alignment, bit for bit. NaN and infinity in activations spread through the token that contains them and no other. A
 * stream may be destroyed when its work has ended.
 */
#ifndef FOURIERFT_CUDA_H
#define FOURIERFT_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include "fourierft/fourierft.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FOURIERFT_CUDA_API __attribute__((visibility("default")))

typedef struct CUstream_st* fourierft_cuda_stream; /* cudaStream_t */

/* The values of fourierft_status, and three more. */
typedef enum {
  FOURIERFT_CUDA_OK = 0,
  FOURIERFT_CUDA_INVALID_SHAPE = 1,
  FOURIERFT_CUDA_INVALID_ENTRY = 2,
  FOURIERFT_CUDA_OUT_OF_MEMORY = 3,
  FOURIERFT_CUDA_INVALID_ARGUMENT = 4,
  FOURIERFT_CUDA_SHARED_MEMORY = 5, /* one row of this shape does not fit a block's shared memory on this device */
  FOURIERFT_CUDA_FAILED = 6,        /* a CUDA call failed: fourierft_cuda_problem() */
  FOURIERFT_CUDA_INVALID_ROW = 7    /* rows in the host's memory contain an index that is not -1 ... adapters-1; nothing was queued */
} fourierft_cuda_status;

/* Increased whenever this file changes. A program that opens the library at run time compares its own value with that of the library. */
#define FOURIERFT_CUDA_ABI_VERSION 2
FOURIERFT_CUDA_API int fourierft_cuda_abi_version(void);

/* The memory of the tensors: "cuda", or "cpu" in the library that is compiled from the same source with host-shim/. */
FOURIERFT_CUDA_API const char* fourierft_cuda_memory_kind(void);

/* The message of the last CUDA call that failed in this thread; "" if none failed. */
FOURIERFT_CUDA_API const char* fourierft_cuda_problem(void);

/* The number of devices, and the current device. Without a driver or a device the number is 0 or the call fails. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_device_count(int* count);
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_device(int* device);

/* The kernels that compute a plan's calls. Their results differ by rounding. */
typedef enum {
  FOURIERFT_CUDA_KERNEL_DEFAULT = 0, /* the environment variable FOURIERFT_CUDA_KERNEL: token or tile; token if it is not set */
  FOURIERFT_CUDA_KERNEL_TOKEN = 1,   /* one token in each block of threads */
  FOURIERFT_CUDA_KERNEL_TILE = 2,    /* one or two tokens, by the number of tokens and the size of shared memory */
  FOURIERFT_CUDA_KERNEL_TILE_1 = 3,  /* one token */
  FOURIERFT_CUDA_KERNEL_TILE_2 = 4   /* two tokens */
} fourierft_cuda_kernel;

/* A plan on the current device; the other arguments are those of fourierft_plan_create. Creation and destruction may wait for the device. */
typedef struct fourierft_cuda_plan fourierft_cuda_plan;
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_plan_create(uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows,
                                                                    const uint32_t* columns, fourierft_cuda_kernel kernel,
                                                                    fourierft_cuda_plan** plan);
FOURIERFT_CUDA_API void fourierft_cuda_plan_destroy(fourierft_cuda_plan* plan);

/* Queue a copy within the device's memory, or zeros. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_copy(void* to, const void* from, size_t bytes, fourierft_cuda_stream stream);
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_zero(void* to, size_t bytes, fourierft_cuda_stream stream);

/* Copies from the memory of this device to the host's memory, and waits for it. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_read(void* to, const void* from, size_t bytes, int device);

/* The adapters of the tokens: adapters[r] in 0 ... adapters-1, or -1 for none, applies to the r-th of `count` equal parts of the tokens (`count`
 * divides their number). In device memory an index cannot be rejected: its tokens become NaN and are left out of the gradients. In the host's
 * memory it is rejected before anything is queued. Such rows become arguments of the launches, 512 rows of each, so a CUDA graph keeps them. */
typedef struct {
  const int64_t* adapters;
  int64_t count;
  int32_t is_on_host;
} fourierft_cuda_rows;

/* One layer of a call. Layers of one call have the plan, x and the rows in common: query, key and value with the same entries. */
typedef struct {
  const float* coefficients; /* [adapters, n] */
  const float* scalings;     /* [adapters], or null */
  void* y;                   /* [tokens, d1], added to */
} fourierft_cuda_branch;

typedef struct {
  const float* coefficients;
  const float* scalings;
  const void* grad_y;       /* [tokens, d1] */
  float* grad_coefficients; /* [adapters, n], written */
} fourierft_cuda_gradient;

/* y += dW x for each branch. Null rows: the changes of all adapters are summed. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_forward(const fourierft_cuda_plan* plan, const fourierft_cuda_branch* branches,
                                                                int32_t branch_count, int32_t adapters, fourierft_dtype dtype,
                                                                const void* x, int64_t tokens, const fourierft_cuda_rows* rows,
                                                                fourierft_cuda_stream stream);

/* The bytes of device memory that `backward` needs as its workspace; at most 8 KiB n for each of four branches. */
FOURIERFT_CUDA_API size_t fourierft_cuda_workspace(const fourierft_cuda_plan* plan, int64_t tokens, int32_t branch_count);

/* Writes the gradients of the coefficients and adds those of all branches to grad_x [tokens, d2], which can be null. With a null workspace the
 * library uses a workspace of its own, which it keeps for the stream until the last plan is destroyed. A call that needs a larger one allocates
 * it, and may wait for the device; a call that is captured into a graph needs a workspace of the caller. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_backward(const fourierft_cuda_plan* plan, const fourierft_cuda_gradient* branches,
                                                                 int32_t branch_count, int32_t adapters, fourierft_dtype dtype,
                                                                 const void* x, int64_t tokens, const fourierft_cuda_rows* rows,
                                                                 void* grad_x, void* workspace, fourierft_cuda_stream stream);

#ifdef __cplusplus
}
#endif
#endif
