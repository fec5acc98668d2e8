"""Measures the native kernel, the frozen layer, PEFT's LoRA and PEFT's FourierFT on PyTorch, and pocketfft (NumPy's FFT) on the same rows, in one
process on one thread. Each round runs every case. Ratios are computed within a round and printed as medians with quartiles.

    python native_comparison.py libfourierft.so [--quick]
"""

import argparse
import ctypes
import os
import time

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import peft
import torch
from torch import nn

torch.set_num_threads(1)
N = 1000
ROUND_SECONDS = 0.02


class Kernel:
    """One layer of `d` by `d` with N entries, through the C functions. Each method returns a function whose arguments are already converted, so that
    the conversions of ctypes are not measured; they would dominate for a single token."""

    def __init__(self, library, d, seed=777):
        self.library = library
        positions = torch.randperm(d * d, generator=torch.Generator().manual_seed(seed))[:N].numpy()
        rows, columns = (positions // d).astype(np.uint32), (positions % d).astype(np.uint32)
        self.plan = ctypes.c_void_p()
        self.call(library.fourierft_plan_create, ctypes.c_uint32(d), ctypes.c_uint32(d), ctypes.c_uint32(N), rows, columns,
                  ctypes.byref(self.plan))()

    def call(self, function, *arguments):
        converted = [ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in arguments]

        def run(_alive=arguments):
            assert function(*converted) == 0

        return run

    def forward(self, c, x, y, adapter_of_row=None):
        scalings = np.full(len(c), 150, np.float32)
        return self.call(self.library.fourierft_forward, self.plan, c, ctypes.c_int32(len(c)), scalings, ctypes.c_int(0), x,
                         ctypes.c_int64(len(x)), adapter_of_row, y, None)

    def backward(self, c, x, grad_y, grad_c, grad_x):
        return self.call(self.library.fourierft_backward, self.plan, c, ctypes.c_int32(len(c)), np.full(len(c), 150, np.float32),
                         ctypes.c_int(0), x, grad_y, ctypes.c_int64(len(x)), None, grad_c, grad_x, None)

    def delta(self, c, out):
        return self.call(self.library.fourierft_delta, self.plan, c, ctypes.c_int32(len(c)), np.full(len(c), 150, np.float32), out, None)


def seconds(run, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def compare(title, cases, rounds):
    """Prints each case as a multiple of the first."""
    names = list(cases)
    repeats = {}
    for name in names:
        seconds(cases[name], 1)
        repeats[name] = max(1, round(ROUND_SECONDS / max(seconds(cases[name], 1), 1e-6)))
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(seconds(cases[name], repeats[name]))
    base = np.array(times[names[0]])
    columns = []
    for name in names[1:]:
        low, median, high = np.percentile(np.array(times[name]) / base, [25, 50, 75])
        columns.append(f"{name} {median:.3g} [{low:.3g}–{high:.3g}]")
    print(f"  {title:<24}{'   '.join(columns)}", flush=True)


def adapted(d, config):
    model = nn.Sequential()
    model.add_module("linear", nn.Linear(d, d))
    model.requires_grad_(False)
    return peft.get_peft_model(model, config).base_model.model.linear if config else model.linear


def training_step(layer, x, g):
    parameters = [p for p in layer.parameters() if p.requires_grad]

    def run():
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(layer(leaf), [leaf, *parameters], g)

    return run


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("library")
    arguments.add_argument("--quick", action="store_true")
    options = arguments.parse_args()
    library = ctypes.CDLL(options.library)
    library.fourierft_instructions.restype = ctypes.c_char_p
    sizes = [(256, 8)] if options.quick else [(d, t) for d in (768, 1024, 4096) for t in (1, 32, 512)]
    rounds = 5 if options.quick else 15
    print(f"instructions {library.fourierft_instructions().decode()}, PyTorch {torch.__version__}, PEFT {peft.__version__}, "
          f"NumPy {np.__version__}, one thread, n = {N}")

    print("\nForward + backward, as multiples of the frozen layer in PyTorch; 'kernel' is only the branch")
    for d, tokens in sizes:
        kernel = Kernel(library, d)
        x, g = torch.randn(tokens, d), torch.randn(tokens, d)
        c, y, gx = np.random.randn(1, N).astype(np.float32), np.zeros((tokens, d), np.float32), np.zeros((tokens, d), np.float32)
        gc = np.zeros((1, N), np.float32)

        forward, backward = kernel.forward(c, x.numpy(), y), kernel.backward(c, x.numpy(), g.numpy(), gc, gx)

        def branch():
            forward()
            backward()

        cases = {
            "frozen": training_step(adapted(d, None), x, g),
            "kernel": branch,
            "PEFT LoRA": training_step(adapted(d, peft.LoraConfig(r=8, target_modules=["linear"])), x, g),
        }
        fourier = peft.FourierFTConfig(n_frequency=N, target_modules=["linear"])
        if d < 4096 or tokens <= 32:
            cases["PEFT FourierFT"] = training_step(adapted(d, fourier), x, g)
        compare(f"{d}×{d}, T = {tokens}", cases, rounds if d < 4096 else 5)

    print("\nForward of only the branch, as a multiple of pocketfft's rfft and irfft of the same rows")
    for d, tokens in sizes:
        kernel = Kernel(library, d)
        x = np.random.randn(tokens, d).astype(np.float32)
        c, y = np.random.randn(1, N).astype(np.float32), np.zeros((tokens, d), np.float32)
        compare(f"{d}×{d}, T = {tokens}", {
            "pocketfft": lambda: np.fft.irfft(np.fft.rfft(x, axis=1), n=d, axis=1),
            "kernel": kernel.forward(c, x, y),
        }, rounds)

    print("\n64 rows with 64 adapters, as a multiple of 64 rows with one adapter")
    for d in sorted({d for d, _ in sizes}):
        kernel = Kernel(library, d)
        x, y = np.random.randn(64, d).astype(np.float32), np.zeros((64, d), np.float32)
        c = np.random.randn(64, N).astype(np.float32)
        adapter_of_row = np.arange(64, dtype=np.int32)
        compare(f"{d}×{d}", {"one": kernel.forward(c[:1], x, y), "64 adapters": kernel.forward(c, x, y, adapter_of_row)}, rounds)

    print("\nΔW, as a multiple of writing as many bytes")
    for d in sorted({d for d, _ in sizes}):
        kernel = Kernel(library, d)
        c, out = np.random.randn(1, N).astype(np.float32), np.zeros((d, d), np.float32)
        compare(f"{d}×{d}", {"write": lambda: out.fill(1), "ΔW": kernel.delta(c, out)}, rounds)


main()
