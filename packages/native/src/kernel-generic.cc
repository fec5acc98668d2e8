// The kernel for the compiler's baseline instructions (SSE2, NEON, …).
#include <type_traits>
#define FOURIERFT_ISA isa_generic
#define FOURIERFT_LANES 8
#include "kernel-body.h"

namespace fourierft {
extern const Kernel kernel_generic = {
#if defined(__aarch64__)
    "neon",
#else
    "generic",
#endif
    isa_generic::scratch_size, isa_generic::forward, isa_generic::backward, isa_generic::delta,
};
}  // namespace fourierft
