"""Launches the four most important kernels once for a profiler: forward and backward of `token` and of `tile`, d = 4096, T = 512, bfloat16.

    ncu --profile-from-start off python launch.py LIBRARY
"""

import sys

import torch

from branch import Size, branch, open_plans, random_entries
from counters import CALLS
from kernel import Library

library = Library(sys.argv[1])
size = Size(library.device, *((4096, 512) if library.memory == "cuda" else (64, 2)), cache_bytes=0)
plans, _ = open_plans(library, size, ["token", "tile"], random_entries(size))
contenders = [(kernel, mode, contender) for mode in ("forward", "backward") for kernel, contender in zip(plans, branch(size, plans, torch.bfloat16, mode))]
calls = [contender.calls[0] for _, _, contender in contenders]
for call in calls:
    call()
if library.memory == "cuda":
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
for call in calls:
    call()
if library.memory == "cuda":
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
print(CALLS + ", ".join(f"{kernel} {mode}" for kernel, mode, _ in contenders))
