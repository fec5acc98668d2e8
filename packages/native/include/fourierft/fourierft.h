/* The FourierFT branch of a linear layer on a CPU: y += dW x, its gradient, and dW itself.
 *
 *   dW[p,q] = alpha / (d1 d2) * sum_l c_l cos(2 pi (p j_l / d1 + q k_l / d2))
 *
 * Tensors are row-major and contiguous: x [tokens, d2], y and gradY [tokens, d1], coefficients [adapters, n], dW [d1, d2].
 * Every function may be called from any thread. A thread allocates memory in its first call with a plan and reuses it in later calls. NaN and
 * infinity in activations spread through the token that contains them and no other.
 */
#ifndef FOURIERFT_H
#define FOURIERFT_H

#include <stddef.h>
#include <stdint.h>

#ifdef FOURIERFT_SHARED
#define FOURIERFT_API __attribute__((visibility("default")))
#else
#define FOURIERFT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { FOURIERFT_FLOAT32 = 0, FOURIERFT_FLOAT16 = 1, FOURIERFT_BFLOAT16 = 2 } fourierft_dtype;

typedef enum {
  FOURIERFT_OK = 0,
  FOURIERFT_INVALID_SHAPE = 1,   /* d1 or d2 is 0 or over 2^24, or n is 0 or over d1 d2 */
  FOURIERFT_INVALID_ENTRY = 2,   /* an entry is outside [0,d1) x [0,d2) */
  FOURIERFT_OUT_OF_MEMORY = 3,
  FOURIERFT_INVALID_ARGUMENT = 4 /* a null pointer, a negative count, an adapter index out of range */
} fourierft_status;

/* A plan: everything that depends only on the shape and the entries. Plans are immutable, and threads can share them. */
typedef struct fourierft_plan fourierft_plan;

/* Checks the arguments of fourierft_plan_create without computing its tables, which takes seconds for the largest prime sizes. */
FOURIERFT_API fourierft_status fourierft_plan_check(uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows, const uint32_t* columns);
FOURIERFT_API fourierft_status fourierft_plan_create(uint32_t d1, uint32_t d2, uint32_t n, const uint32_t* rows, const uint32_t* columns,
                                       fourierft_plan** plan);
FOURIERFT_API void fourierft_plan_destroy(fourierft_plan* plan);

/* The instructions in use: "avx512", "avx2", "neon" or "generic". */
FOURIERFT_API const char* fourierft_instructions(void);

/* The caller's thread pool: runs body(argument, i) for i = 0 ... count-1, in any order, and returns when all are done. The
 * results do not depend on it, bit for bit. With a null runner the calling thread does all the work. */
typedef struct {
  void (*parallel_for)(void* pool, int count, void (*body)(void* argument, int index), void* argument);
  void* pool;
} fourierft_runner;

/* y += dW x. adapter_of_row: for each token its adapter in 0 ... adapters-1, or -1 for none; null: the changes of all adapters are summed. */
FOURIERFT_API fourierft_status fourierft_forward(const fourierft_plan* plan, const float* coefficients, int32_t adapters, const float* scalings,
                                   fourierft_dtype dtype, const void* x, int64_t tokens, const int32_t* adapter_of_row, void* y,
                                   const fourierft_runner* runner);

/* Writes grad_coefficients [adapters, n] (the order of its sums does not depend on threads) and adds to grad_x [tokens, d2], which can be null. */
FOURIERFT_API fourierft_status fourierft_backward(const fourierft_plan* plan, const float* coefficients, int32_t adapters, const float* scalings,
                                    fourierft_dtype dtype, const void* x, const void* grad_y, int64_t tokens,
                                    const int32_t* adapter_of_row, float* grad_coefficients, void* grad_x,
                                    const fourierft_runner* runner);

/* Writes dW of the sum of all adapters, [d1, d2]. */
FOURIERFT_API fourierft_status fourierft_delta(const fourierft_plan* plan, const float* coefficients, int32_t adapters, const float* scalings,
                                 float* delta, const fourierft_runner* runner);

#ifdef __cplusplus
}
#endif
#endif
