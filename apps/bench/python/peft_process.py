"""A process that measures PEFT on PyTorch, and pocketfft through NumPy. It reads requests as lines of JSON, runs the case `repeats` times, and
answers with the seconds of one run.

    python peft_process.py [--threads 1] [--clock wall | processor]

    {"case": "frozen" | "LoRA" | "FourierFT" | "pocketfft", "d": 768, "tokens": 32, "layers": 12, "pass": "forward" | "training",
     "repeats": 3}
"""

import argparse
import json
import sys
import time
from functools import lru_cache

import numpy as np
import peft
import torch
from torch import nn

CONFIGS = {
    "frozen": lambda names: None,
    "LoRA": lambda names: peft.LoraConfig(r=8, target_modules=names),
    "FourierFT": lambda names: peft.FourierFTConfig(n_frequency=1000, target_modules=names),
}
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


@lru_cache(maxsize=3)  # for the cases of one size
def chain(case, d, layers):
    """Returns a chain of layers, each with an adapter unless `case` is "frozen"."""
    names = [f"linear{i}" for i in range(layers)]
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Linear(d, d))
    model.requires_grad_(False)
    config = CONFIGS[case](names)
    return peft.get_peft_model(model, config).base_model.model if config else model


def run(request, clock):
    d, tokens, layers, repeats = (request[key] for key in ("d", "tokens", "layers", "repeats"))
    if request["case"] == "pocketfft":
        rows = np.random.randn(tokens, d).astype(np.float32)
        return layers * repeated(lambda: np.fft.irfft(np.fft.rfft(rows, axis=1), n=d, axis=1), layers * repeats, clock)
    model = chain(request["case"], d, layers)
    x = torch.randn(tokens, d)
    if request["pass"] == "forward":
        with torch.no_grad():
            return repeated(lambda: model(x), repeats, clock)
    gradient = torch.randn_like(x)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step():
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(model(leaf), [leaf, *parameters], gradient)

    return repeated(step, repeats, clock)


def repeated(call, repeats, clock):
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


arguments = argparse.ArgumentParser()
arguments.add_argument("--threads", type=int)
arguments.add_argument("--clock", choices=CLOCKS, default="wall")
options = arguments.parse_args()
if options.threads:
    torch.set_num_threads(options.threads)
versions = {"torch": torch.__version__, "peft": peft.__version__, "numpy": np.__version__}
print(json.dumps({**versions, "threads": torch.get_num_threads()}), flush=True)
for line in sys.stdin:
    print(json.dumps({"seconds": run(json.loads(line), CLOCKS[options.clock])}), flush=True)
