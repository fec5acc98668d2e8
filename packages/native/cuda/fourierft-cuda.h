/* The FourierFT branch of a linear layer on a CUDA device: y += dW x and its gradient, queued on the caller's stream. The
 * functions correspond to those of fourierft.h for a CPU, which also has one for dW.
 *
 * Tensors are row-major, contiguous, in device memory: x [tokens, d2], y and grad_y [tokens, d1], coefficients [adapters, n], scalings
 * [adapters], or null if the coefficients include alpha. forward and backward only queue kernels on a stream of the current device: they
 * neither allocate nor wait, and can be captured into a CUDA graph. Results are the same on every call, bit for bit. NaN and infinity in
 * activations spread through the token that contains them and no other.
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

/* The values of fourierft_status, and two more. */
typedef enum {
  FOURIERFT_CUDA_OK = 0,
  FOURIERFT_CUDA_INVALID_SHAPE = 1,
  FOURIERFT_CUDA_INVALID_ENTRY = 2,
  FOURIERFT_CUDA_OUT_OF_MEMORY = 3,
  FOURIERFT_CUDA_INVALID_ARGUMENT = 4,
  FOURIERFT_CUDA_SHARED_MEMORY = 5, /* one row of this shape does not fit a block's shared memory on this device */
  FOURIERFT_CUDA_FAILED = 6         /* a CUDA call failed: fourierft_cuda_problem() */
} fourierft_cuda_status;

/* Increased whenever this file changes. A program that opens the library at run time compares its own value with that of the library. */
#define FOURIERFT_CUDA_ABI_VERSION 1
FOURIERFT_CUDA_API int fourierft_cuda_abi_version(void);

/* The memory of the tensors: "cuda", or "cpu" in the library that is compiled from the same source with host-shim/. */
FOURIERFT_CUDA_API const char* fourierft_cuda_memory_kind(void);

/* The message of the last CUDA call that failed in this thread; "" if none failed. */
FOURIERFT_CUDA_API const char* fourierft_cuda_problem(void);

/* The number of devices, and the current device. Without a driver or a device the number is 0 or the call fails. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_device_count(int* count);
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_device(int* device);

/* A plan on the current device; the arguments are those of fourierft_plan_create. Creation and destruction may wait for the device. */
typedef struct fourierft_cuda_plan fourierft_cuda_plan;
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_plan_create(uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows,
                                                                    const uint32_t* columns, fourierft_cuda_plan** plan);
FOURIERFT_CUDA_API void fourierft_cuda_plan_destroy(fourierft_cuda_plan* plan);

/* Queue a copy within the device's memory, or zeros. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_copy(void* to, const void* from, size_t bytes, fourierft_cuda_stream stream);
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_zero(void* to, size_t bytes, fourierft_cuda_stream stream);

/* The adapters of the tokens: adapter_of_row[r] in 0 ... adapters-1, or -1 for none, applies to the r-th of `rows` equal parts of the tokens
 * (`rows` divides their number). Null: the changes of all adapters are summed. The indices are in device memory and cannot be rejected: a row
 * with an index out of range becomes NaN and is left out of the gradients. */

/* y += dW x. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_forward(const fourierft_cuda_plan* plan, const float* coefficients,
                                                                int32_t adapters, const float* scalings, fourierft_dtype dtype,
                                                                const void* x, int64_t tokens, const int64_t* adapter_of_row,
                                                                int64_t rows, void* y, fourierft_cuda_stream stream);

/* The bytes of device memory that `backward` needs as its workspace; at most 4 KiB n. */
FOURIERFT_CUDA_API size_t fourierft_cuda_workspace(const fourierft_cuda_plan* plan, int64_t tokens);

/* Writes grad_coefficients [adapters, n] and adds to grad_x [tokens, d2], which can be null. With a null workspace the library uses a workspace
 * of its own, which it keeps for the stream until the last plan is destroyed. A call that needs a larger one allocates it, and may wait for the
 * device. */
FOURIERFT_CUDA_API fourierft_cuda_status fourierft_cuda_backward(const fourierft_cuda_plan* plan, const float* coefficients,
                                                                 int32_t adapters, const float* scalings, fourierft_dtype dtype,
                                                                 const void* x, const void* grad_y, int64_t tokens,
                                                                 const int64_t* adapter_of_row, int64_t rows, float* grad_coefficients,
                                                                 void* grad_x, void* workspace, fourierft_cuda_stream stream);

#ifdef __cplusplus
}
#endif
#endif
