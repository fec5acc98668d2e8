"""The two ceilings of this GPU, measured: bytes per second of a large copy (read and written), and operations per second of large matrix products."""

import torch

import clock
from clock import Contender, measure


def allow_tf32(is_allowed):
    torch.backends.cuda.matmul.allow_tf32 = is_allowed


def copy_bandwidth(timer, device, bytes_):
    # Three pairs, so that no copy finds its source in the cache.
    pairs = [(torch.randn(bytes_ // 4, device=device), torch.empty(bytes_ // 4, device=device)) for _ in range(3)]
    calls = [lambda source=source, target=target: target.copy_(source) for source, target in pairs]
    return 2 * bytes_ / measure(timer, [Contender("copy", calls, in_graph=False)], 9)["copy"]["eager"]["median"]


def product_rate(timer, device, size, dtype, tf32=False):
    # Random data: products of zeros can run faster than real ones.
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    allow_tf32(tf32)
    found = measure(timer, [Contender("product", [lambda: a @ b], in_graph=False)], 7)["product"]["eager"]["median"]
    allow_tf32(False)
    return 2 * size**3 / found


def measure_ceilings(device):
    timer = clock.Clock(device)
    bytes_, size = (2**30, 8192) if timer.is_cuda else (2**22, 128)
    return {
        "copy": copy_bandwidth(timer, device, bytes_),
        "copied bytes": bytes_,
        "size of the products": size,
        "float32": product_rate(timer, device, size, torch.float32),
        "TF32": product_rate(timer, device, size, torch.float32, tf32=True),
        "bfloat16": product_rate(timer, device, size, torch.bfloat16),
    }
