"""Measures the times of the branch, the frozen layer, PEFT's layers and cuFFT, and the ceilings of this GPU.

    python times.py LIBRARY RESULT.json [--seconds N] [--samples N]

The most important sizes come first; the JSON file names those that did not fit into the time. With the library that the CPU runs the sizes are tiny, and the
times mean nothing.
"""

import argparse
import json
import time

import torch

import branch
import ceilings
import contenders
from branch import Size
from clock import Clock, measure
from contenders import MODES
from kernel import Library

KERNELS = ["token", "tile_1", "tile_2", "tile"]
GPU_SIZES = [(4096, 512), (1024, 512), (4096, 1), (1024, 1), (4096, 32), (4096, 4096), (1024, 32), (1024, 4096), (8192, 512), (768, 512), (768, 1),
             (768, 32), (768, 4096), (8192, 1), (8192, 32), (8192, 4096)]
GPU_BRANCHES = [(1024, 512), (4096, 512), (1024, 1), (4096, 1), (768, 512), (768, 32)]
HOST_SIZES, HOST_BRANCHES = [(64, 1), (64, 3)], [(64, 2)]


def measure_size(timer, library, d, tokens, cache_bytes, samples, until):
    size = Size(library.device, d, tokens, cache_bytes)
    plans, notes = branch.open_plans(library, size, KERNELS)
    cases = []
    for mode in MODES:
        if until():
            break
        found = contenders.for_mode(size, plans, mode)
        cases.append({"d": d, "tokens": tokens, "mode": mode, "sets": {c.name: len(c.calls) for c in found},
                      "times": measure(timer, found, samples, until)})
    for plan in plans.values():
        plan.close()
    return cases, notes


def measure_branches(timer, library, d, tokens, cache_bytes, samples, until):
    """Three branches in one launch and in three."""
    size = Size(library.device, d, tokens, cache_bytes)
    plans, _ = branch.open_plans(library, size, ["token", "tile"])
    cases = []
    for mode in ("forward", "backward"):
        found = [c for in_one in (True, False) for c in branch.branch(size, plans, torch.bfloat16, mode, 3, in_one)]
        cases.append({"d": d, "tokens": tokens, "mode": mode, "times": measure(timer, found, samples, until)})
    for plan in plans.values():
        plan.close()
    return cases


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("library")
    arguments.add_argument("result")
    arguments.add_argument("--seconds", type=float, default=3600)
    arguments.add_argument("--samples", type=int, default=11)
    options = arguments.parse_args()
    end = time.monotonic() + options.seconds
    library = Library(options.library)
    is_host = library.memory == "cpu"
    timer = Clock(library.device)
    cache_bytes = 2**12 if is_host else getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 2**26)

    result = {"memory": library.memory, "cache": cache_bytes, "ceilings": None, "sizes": [], "branches": [], "not measured": [], "notes": []}

    def is_over():
        return time.monotonic() > end

    def save():
        # After every size, so that nothing is lost if this program is stopped.
        with open(options.result, "w", encoding="utf-8") as file:
            json.dump(result, file)

    result["ceilings"] = ceilings.measure_ceilings(library.device)
    save()
    sizes = [("sizes", *size) for size in (HOST_SIZES if is_host else GPU_SIZES)]
    of_branches = [("branches", *size) for size in (HOST_BRANCHES if is_host else GPU_BRANCHES)]
    order = sizes[:4] + of_branches[:2] + sizes[4:] + of_branches[2:]
    for kind, d, tokens in order:
        name = f"d = {d}, T = {tokens}{', 3 branches' if kind == 'branches' else ''}"
        if is_over():
            result["not measured"].append(name)
            continue
        started = time.monotonic()
        try:
            if kind == "sizes":
                cases, notes = measure_size(timer, library, d, tokens, cache_bytes, options.samples, is_over)
                result["notes"] += notes
            else:
                cases = measure_branches(timer, library, d, tokens, cache_bytes, options.samples, is_over)
            result[kind] += cases
        except (RuntimeError, torch.OutOfMemoryError) as error:
            result["not measured"].append(f"{name} ({str(error).splitlines()[0]})")
        print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
        save()
        if not is_host:
            torch.cuda.empty_cache()
    save()


if __name__ == "__main__":
    main()
