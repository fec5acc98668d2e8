"""Measures the times of the branch, the frozen layer, PEFT's layers and cuFFT, and the ceilings of this GPU.

    python times.py LIBRARY RESULT.json [--seconds N] [--samples N]

A call of each kernel that was timed is compared with PEFT's layer. The most important sizes come first; the JSON file names those that did not fit into the
time. With the library that the CPU runs the sizes are tiny, and the times mean nothing.
"""

import argparse
import time

STARTED = time.monotonic()  # before the imports, which take seconds

import torch

import branch
import ceilings
import contenders
from branch import Size
from clock import Clock, measure
from error_line import error_line
from findings import Findings
from grid import GPU_BRANCHES, GPU_SIZES, HOST_BRANCHES, HOST_SIZES, MODES, title
from json_file import write_json
from kernel import Library
from layers import Layers
from verification import verify

KERNELS = ["token", "tile_1", "tile_2", "tile"]


class Measuring:
    """What all sizes have in common, and the result."""

    def __init__(self, library, samples, until):
        self.library, self.samples, self.until = library, samples, until
        self.timer = Clock(library.device)
        self.cache = 2**12 if library.memory == "cpu" else getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 2**26)
        self.result = {"memory": library.memory, "cache": self.cache, "ceilings": None, "sizes": [], "branches": [], "not measured": [], "notes": [],
                       "checks": 0, "wrong": []}
        self._findings = Findings()
        self._layers = {}

    def layers(self, size):
        """PEFT's layers of this d, which are made once."""
        return self._layers.setdefault(size.d, Layers(size.device, size.d, size.n))

    def size(self, d, tokens):
        """All contenders in all modes. Then the kernels that were timed are compared with PEFT's layer."""
        if self.until():
            self.result["not measured"] += [title(d, tokens, mode) for mode in MODES]
            return
        size = Size(self.library.device, d, tokens, self.cache)
        problem = self.layers(size).problem()
        plans, notes = branch.open_plans(self.library, size, KERNELS, (problem.rows, problem.columns))
        self.result["notes"] += [note for note in notes if note not in self.result["notes"]]
        for mode in MODES:
            self._case("sizes", d, tokens, mode, lambda mode=mode: contenders.for_mode(size, plans, self.layers(size), mode))
        try:
            verify(self._findings, problem, plans, tokens, title(d, tokens))
        except RuntimeError as error:
            self.result["not measured"].append(f"{title(d, tokens)}: comparison with PEFT ({error_line(error)})")
        self.result.update(checks=self._findings.checks, wrong=self._findings.failures)
        close(plans)

    def branches(self, d, tokens):
        """Three branches in one launch and in three."""
        size = Size(self.library.device, d, tokens, self.cache)
        plans, _ = branch.open_plans(self.library, size, ["token", "tile"], branch.random_entries(size))
        for mode in ("forward", "backward"):
            self._case("branches", d, tokens, mode,
                       lambda mode=mode: [c for in_one in (True, False) for c in branch.branch(size, plans, torch.bfloat16, mode, 3, in_one)])
        close(plans)

    def _case(self, kind, d, tokens, mode, contenders_of):
        """Measures one mode, or names it as not measured."""
        name = f"{title(d, tokens, mode)}{', 3 branches' if kind == 'branches' else ''}"
        if self.until():
            self.result["not measured"].append(name)
            return
        try:
            found = contenders_of()
            self.result[kind].append({"d": d, "tokens": tokens, "mode": mode, "sets": {c.name: len(c.calls) for c in found},
                                      "times": measure(self.timer, found, self.samples, self.until)})
        except RuntimeError as error:
            self.result["not measured"].append(f"{name} ({error_line(error)})")


def close(plans):
    for plan in plans.values():
        plan.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("library")
    arguments.add_argument("result")
    arguments.add_argument("--seconds", type=float, default=3600)
    arguments.add_argument("--samples", type=int, default=11)
    options = arguments.parse_args()
    library = Library(options.library)
    is_host = library.memory == "cpu"
    measuring = Measuring(library, options.samples, lambda: time.monotonic() - STARTED > options.seconds)
    result = measuring.result

    result["ceilings"], problems = ceilings.measure_ceilings(library.device)
    result["not measured"] += problems
    write_json(options.result, result)
    sizes = [(measuring.size, *size) for size in (HOST_SIZES if is_host else GPU_SIZES)]
    of_branches = [(measuring.branches, *size) for size in (HOST_BRANCHES if is_host else GPU_BRANCHES)]
    for measure_, d, tokens in sizes[:4] + of_branches[:2] + sizes[4:] + of_branches[2:]:
        started = time.monotonic()
        try:
            measure_(d, tokens)
        except RuntimeError as error:
            result["not measured"].append(f"{title(d, tokens)} ({error_line(error)})")
        # After every size, so that nothing is lost if this program is stopped.
        write_json(options.result, result)
        print(f"{title(d, tokens)}: {time.monotonic() - started:.1f} s", flush=True)
        if not is_host:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
