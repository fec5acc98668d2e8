"""Measures the forward and the backward pass of the native kernel by itself, on one thread, through its C functions. Prints one line of JSON: the
processor time of one branch, in milliseconds.

    python kernel_steps.py libfourierft.so --width 768 --tokens 32 --branches 48 --repeats 20
"""

import argparse
import ctypes
import json
import time

import numpy as np

N = 1000


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("library")
    for name in ("width", "tokens", "branches", "repeats"):
        arguments.add_argument(f"--{name}", type=int, required=True)
    options = arguments.parse_args()
    library, d = ctypes.CDLL(options.library), options.width
    rng = np.random.default_rng(0)

    def floats(*shape):
        return rng.standard_normal(shape, np.float32)

    def call(function, *values):
        pointers = [ctypes.c_void_p(value.ctypes.data) if isinstance(value, np.ndarray) else value for value in values]
        assert function(*pointers) == 0

    positions = rng.choice(d * d, N, replace=False)
    plan, size = ctypes.c_void_p(), ctypes.c_uint32(d)
    call(library.fourierft_plan_create, size, size, ctypes.c_uint32(N), (positions // d).astype(np.uint32), (positions % d).astype(np.uint32),
         ctypes.byref(plan))
    c, grad_c, scalings = floats(1, N), floats(1, N), np.full(1, 150, np.float32)
    tokens = ctypes.c_int64(options.tokens)
    x, y, grad_x, grad_y = (floats(options.tokens, d) for _ in range(4))
    common = (plan, c, ctypes.c_int32(1), scalings, ctypes.c_int(0), x)

    def step():
        for _ in range(options.branches):
            call(library.fourierft_forward, *common, tokens, None, y, None)
        for _ in range(options.branches):
            call(library.fourierft_backward, *common, grad_y, tokens, None, grad_c, grad_x, None)

    step()
    start = time.process_time()
    for _ in range(options.repeats):
        step()
    seconds = (time.process_time() - start) / options.repeats / options.branches
    print(json.dumps({"milliseconds": seconds * 1000}))


main()
