// The kernel for avx2, compiled with its flags and called only if the processor has it.
#include <type_traits>
#define FOURIERFT_ISA isa_avx2
#define FOURIERFT_LANES 8
#include "kernel-body.h"

namespace fourierft {
extern const Kernel kernel_avx2 = {
    "avx2",
    isa_avx2::scratch_size, isa_avx2::forward, isa_avx2::backward, isa_avx2::delta,
};
}  // namespace fourierft
