// The kernel for avx512, compiled with its flags and called only if the processor has it.
#include <type_traits>
#define FOURIERFT_ISA isa_avx512
#define FOURIERFT_LANES 16
#include "kernel-body.h"

namespace fourierft {
extern const Kernel kernel_avx512 = {
    "avx512",
    isa_avx512::scratch_size, isa_avx512::forward, isa_avx512::backward, isa_avx512::delta,
};
}  // namespace fourierft
