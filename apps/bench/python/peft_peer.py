"""PEFT on PyTorch as a peer in a process of its own: it reads one line of JSON for each request, runs the case that it names as often as
it says, and answers with the seconds of one run.

    {"case": "frozen" | "LoRA" | "FourierFT", "d": 768, "tokens": 32, "pass": "forward" | "training", "repeats": 3}
"""

import json
import sys
import time
from functools import lru_cache

import peft
import torch
from torch import nn

CONFIGS = {
    "frozen": lambda: None,
    "LoRA": lambda: peft.LoraConfig(r=8, target_modules=["linear"]),
    "FourierFT": lambda: peft.FourierFTConfig(n_frequency=1000, target_modules=["linear"]),
}


@lru_cache(maxsize=3)  # the cases of one size
def layer(case, d):
    model = nn.Sequential()
    model.add_module("linear", nn.Linear(d, d))
    model.requires_grad_(False)
    config = CONFIGS[case]()
    return peft.get_peft_model(model, config).base_model.model.linear if config else model.linear


def run(request):
    module = layer(request["case"], request["d"])
    x = torch.randn(request["tokens"], request["d"])
    if request["pass"] == "forward":
        with torch.no_grad():
            return repeated(lambda: module(x), request["repeats"])
    gradient = torch.randn_like(x)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def step():
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(module(leaf), [leaf, *parameters], gradient)

    return repeated(step, request["repeats"])


def repeated(call, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


print(json.dumps({"torch": torch.__version__, "peft": peft.__version__, "threads": torch.get_num_threads()}), flush=True)
for line in sys.stdin:
    print(json.dumps({"seconds": run(json.loads(line))}), flush=True)
