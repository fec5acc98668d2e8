"""The two ceilings of this GPU, measured: bytes per second of a large copy (read and written), and operations per second of large matrix products."""

import torch

import clock
from clock import Contender, measure
from error_line import error_line

PAIRS = 3  # so that no copy finds its source in the cache


def allow_tf32(is_allowed):
    torch.backends.cuda.matmul.allow_tf32 = is_allowed


def sizes(free):
    """The bytes of a copy and the size of a matrix, both as large as 1 GiB and 8192 if half of the free memory holds all tensors."""
    bytes_ = min(2**30, free // (2 * 2 * PAIRS) // 2**20 * 2**20)
    size = 8192
    while size > 1024 and 2 * 3 * 4 * size**2 > free:
        size //= 2
    return max(bytes_, 2**20), size


def copy_bandwidth(timer, device, bytes_):
    pairs = [(torch.randn(bytes_ // 4, device=device), torch.empty(bytes_ // 4, device=device)) for _ in range(PAIRS)]
    calls = [lambda source=source, target=target: target.copy_(source) for source, target in pairs]
    return 2 * bytes_ / measure(timer, [Contender("copy", calls, in_graph=False)], 9)["copy"]["eager"]["median"]


def product_rate(timer, device, size, dtype, tf32=False):
    # Random data: products of zeros can run faster than real ones.
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    allow_tf32(tf32)
    try:
        found = measure(timer, [Contender("product", [lambda: a @ b], in_graph=False)], 7)["product"]["eager"]["median"]
    finally:
        allow_tf32(False)
    return 2 * size**3 / found


def measure_ceilings(device):
    """The ceilings, and the reasons why some were not measured."""
    timer = clock.Clock(device)
    bytes_, size = sizes(torch.cuda.mem_get_info()[0]) if timer.is_cuda else (2**22, 128)
    kinds = {
        "copy": lambda: copy_bandwidth(timer, device, bytes_),
        "float32": lambda: product_rate(timer, device, size, torch.float32),
        "TF32": lambda: product_rate(timer, device, size, torch.float32, tf32=True),
        "bfloat16": lambda: product_rate(timer, device, size, torch.bfloat16),
    }
    found, problems = {"copied bytes": bytes_, "size of the products": size}, []
    for name, rate in kinds.items():
        try:
            found[name] = rate()
        except RuntimeError as error:
            problems.append(f"ceiling of {name} ({error_line(error)})")
        if timer.is_cuda:
            torch.cuda.empty_cache()
    return found, problems
