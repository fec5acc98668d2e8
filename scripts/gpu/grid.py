"""What is measured: sizes (d, T), the most important first, and modes. Needs no PyTorch."""

MODES = ["forward", "backward", "training"]  # training: forward and backward
GPU_SIZES = [(4096, 512), (1024, 512), (4096, 1), (1024, 1), (4096, 32), (4096, 4096), (1024, 32), (1024, 4096), (8192, 512), (768, 512), (768, 1),
             (768, 32), (768, 4096), (8192, 1), (8192, 32), (8192, 4096)]
GPU_BRANCHES = [(1024, 512), (4096, 512), (1024, 1), (4096, 1), (768, 512), (768, 32)]
HOST_SIZES, HOST_BRANCHES = [(64, 1), (64, 3)], [(64, 2)]


def title(d, tokens, mode=None):
    return f"d = {d}, T = {tokens}{f', {mode}' if mode else ''}"
