"""The calls of the branch for one size, with each kernel. Needs no PEFT, so that a profiler starts it quickly."""

import math

import torch

from clock import Contender
from kernel import Branch, Gradient, KernelError, Plan

N, SCALING = 1000, 150.0
MAX_SETS = 16


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


class Size:
    """A square layer of size d and a number of tokens."""

    def __init__(self, device, d, tokens, cache_bytes):
        self.device, self.d, self.tokens, self.cache_bytes = device, d, tokens, cache_bytes
        self.n = min(N, d * d // 2)

    def sets(self, bytes_):
        return max(2, min(MAX_SETS, math.ceil(2 * self.cache_bytes / bytes_)))

    def activations(self, dtype):
        return torch.randn(self.tokens, self.d, device=self.device).to(dtype)


def random_entries(size, seed=777):
    """Rows and columns of n different entries."""
    generator = torch.Generator().manual_seed(seed)
    # Not a permutation of all d² positions, which takes seconds. These are at least n different ones, because n is at most half of d².
    positions = torch.randint(size.d * size.d, (4 * size.n,), generator=generator).unique()
    positions = positions[torch.randperm(len(positions), generator=generator)[:size.n]]
    return positions // size.d, positions % size.d


def open_plans(library, size, kernels, entries):
    """A plan for each kernel that has one for this shape, and the reasons for the others."""
    plans, notes = {}, []
    for kernel in kernels:
        try:
            plans[kernel] = Plan(library, *entries, (size.d, size.d), kernel)
        except KernelError as error:
            notes.append(f"{kernel}, d = {size.d}: {error}")
    return plans, notes


def branch(size, plans, dtype, mode, branches=1, in_one_launch=True):
    """The branch alone, with each plan, on the same inputs. With several branches: x is the same, as for query, key and value."""
    element = torch.empty(0, dtype=dtype).element_size()
    numbers = size.tokens * size.d
    count = size.sets(numbers * element * (2 + 2 * branches))
    scalings = torch.full((1,), SCALING, device=size.device)
    sets = []
    for _ in range(count):
        sets.append({
            "x": size.activations(dtype), "grad_x": size.activations(dtype),
            "branches": [(torch.randn(1, size.n, device=size.device), size.activations(dtype), size.activations(dtype),
                          torch.empty(1, size.n, device=size.device)) for _ in range(branches)],
        })

    def calls(plan):
        workspace = torch.empty(max(1, plan.workspace(size.tokens, branches)), dtype=torch.uint8, device=size.device)
        result = []
        for inputs in sets:
            groups = [inputs["branches"]] if in_one_launch else [[one] for one in inputs["branches"]]
            parts = []
            for group in groups:
                forward = plan.forward(inputs["x"], [Branch(c, scalings, y) for c, y, _, _ in group])
                backward = plan.backward(inputs["x"], [Gradient(c, scalings, g, gc) for c, _, g, gc in group], None, inputs["grad_x"], workspace)
                parts += {"forward": [forward], "backward": [backward], "training": [forward, backward]}[mode]
            result.append(parts[0] if len(parts) == 1 else lambda parts=parts: [part() for part in parts])
        return result

    suffix = "" if branches == 1 else f", {branches} branches in {'one launch' if in_one_launch else f'{branches} launches'}"
    return [Contender(f"{kernel} {name_of(dtype)}{suffix}", calls(plan)) for kernel, plan in plans.items()]
