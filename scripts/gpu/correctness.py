"""Compares the kernels with PEFT's FourierFT layer in float64, on fresh random inputs, through the library's C interface.

    python correctness.py LIBRARY RESULT.json [--seed N] [--seconds N]

On a GPU the tensors are PyTorch's on the GPU. With the library that the CPU runs they are on the CPU, and the shapes are smaller. Exits with 1 if a number
is wrong, and with 3 if the time was too short for all cases; the JSON file names them.
"""

import argparse
import math
import os
import sys
import time
import zlib

STARTED = time.monotonic()  # before the imports, which take seconds

import torch

import promises
from branch import name_of
from comparison import compare_outputs
from error_line import error_line
from findings import Findings
from json_file import write_json
from kernel import SHARED_MEMORY, KernelError, Library
from problem import Problem

KERNELS = ["token", "tile_1", "tile_2"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
N, SCALING = 1000, 300.0

# Shapes (d1, d2) and numbers of tokens, the most important first. Many tokens are compared in the format that the goals are about.
MANY, DTYPES_OF_MANY = 4096, [torch.bfloat16]
GPU_CASES = [((4096, 4096), (512, 1, 7, 32, 513, 4096)), ((1024, 1024), (1, 7, 32, 513, 4096)), ((768, 768), (1, 7, 32, 513)), ((97, 101), (1, 7, 32, 513)),
             ((1024, 4096), (1, 7, 32, 513)), ((4096, 1024), (1, 7, 32, 513)), ((3072, 4099), (1, 7)), ((8192, 8192), (1, 33)),
             ((4096, 11008), (1, 33)), ((96, 80), (1, 7, 2500))]
HOST_CASES = [((97, 101), (1, 7)), ((96, 80), (1, 7, 32)), ((1, 64), (3,)), ((768, 768), (1, 3))]


def delta_from_definition(problem):
    """ΔW from its definition, without a Fourier transform: alpha / (d1 d2) sum_l c_l cos(2 pi (p j_l / d1 + q k_l / d2))."""
    d1, d2 = problem.shape
    angles = [2 * math.pi / d * torch.outer(torch.arange(d, device=problem.device), entries.to(problem.device)).remainder(d).double()
              for d, entries in ((d1, problem.rows), (d2, problem.columns))]
    c = problem.coefficients[0].double() * problem.scalings[0].double() / (d1 * d2)
    return (angles[0].cos() * c) @ angles[1].cos().T - (angles[0].sin() * c) @ angles[1].sin().T


def check_reference(findings, problem, name):
    """PEFT's ΔW in float64 is that of the definition: the reference itself is right."""
    unit = torch.eye(min(problem.shape[1], 64), problem.shape[1], dtype=torch.float64, device=problem.device)
    found = problem.reference(unit, torch.zeros(len(unit), problem.shape[0], dtype=torch.float64, device=problem.device)).y
    expected = delta_from_definition(problem)[:, :len(unit)].T
    findings.within(float((found - expected).norm()), 1e-12 * float(expected.norm()), f"{name}: PEFT's ΔW in float64 against the definition",
                    "PEFT in float64")


def open_plans(findings, library, problem, name):
    """A plan for each kernel. A shape of which two tokens do not fit a block's shared memory has none for tile_2."""
    plans = {}
    for kernel in KERNELS:
        try:
            plans[kernel] = problem.plan(library, kernel)
        except KernelError as error:
            findings.check(kernel == "tile_2" and error.status == SHARED_MEMORY, f"{name}, {kernel}", str(error))
    return plans


def compare_shape(findings, library, shape, tokens, seed_for):
    """All kernels, formats and numbers of tokens for one shape."""
    name = f"{shape[0]}x{shape[1]}"
    seed_for(name)
    problem = Problem(library.device, shape, N, scaling=SCALING, seed=int(torch.randint(2**31, ())))
    check_reference(findings, problem, name)
    plans = open_plans(findings, library, problem, name)
    for count in tokens:
        for dtype in DTYPES if count < MANY else DTYPES_OF_MANY:
            seed_for(f"{name} {count} {dtype}")
            x, grad_y = problem.inputs(count, dtype)
            bases = problem.bases(count, dtype)
            reference = problem.reference(x, grad_y)
            for kernel, plan in plans.items():
                case = f"{name}, T = {count}, {name_of(dtype)}, {kernel}"
                found = problem.run(plan, x, grad_y, bases)
                compare_outputs(findings, problem, found, reference, bases, x, grad_y, case, f"{kernel} {name_of(dtype)}")
    for plan in plans.values():
        plan.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("library")
    arguments.add_argument("result")
    arguments.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    arguments.add_argument("--seconds", type=float, default=3600)
    options = arguments.parse_args()
    library = Library(options.library)
    is_host = library.memory == "cpu"
    print(f"seed {options.seed}, tensors of {library.memory}", flush=True)

    def seed_for(name):
        # Each case has its own numbers, whichever cases ran before.
        torch.manual_seed(options.seed + zlib.crc32(name.encode()))

    findings = Findings()
    cases = [(f"{shape[0]}x{shape[1]}", lambda shape=shape, tokens=tokens: compare_shape(findings, library, shape, tokens, seed_for))
             for shape, tokens in (HOST_CASES if is_host else GPU_CASES)]
    # What the interface promises is checked after the first shapes.
    cases[2:2] = [(name, lambda name=name, run=run: (seed_for(name), run(findings, library))) for name, run in promises.all_for(library)]
    not_checked = [name for name, _ in cases]

    def save():
        # After every case, so that nothing is lost if this program is stopped.
        write_json(options.result, {"memory": library.memory, "seed": options.seed, "seconds": time.monotonic() - STARTED,
                                    "cases": [name for name, _ in cases], "not checked": not_checked, "left out": promises.left_out(library),
                                    **findings.as_json()})

    save()
    for name, run in cases:
        if time.monotonic() - STARTED > options.seconds:
            break
        try:
            run()
        except RuntimeError as error:
            findings.check(False, name, f"{type(error).__name__}: {error_line(error)}")
            if "CUDA error" in str(error):
                # After such an error no call of this process succeeds.
                not_checked.remove(name)
                save()
                break
        not_checked.remove(name)
        save()
    unfinished = f"; not checked: {', '.join(not_checked)}" if not_checked else ""
    print(f"{findings.checks} checks, {findings.failed} failed{unfinished}")
    sys.exit(1 if findings.failed else 3 if not_checked else 0)


if __name__ == "__main__":
    main()
