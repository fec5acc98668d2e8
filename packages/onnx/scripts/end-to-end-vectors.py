"""
Writes packages/onnxruntime/test/__fixtures__/end-to-end/: the outputs of PyTorch and PEFT with the weights of the .onnx fixtures, for the
base model, two adapters, their sum, and one adapter for each row of a batch; and the adapters, saved by PEFT.

    python packages/onnx/scripts/end-to-end-vectors.py

Made with torch 2.13.0, transformers 5.23.0, diffusers 0.42.1 and peft 0.21.0 (CPU, one thread); each file also contains the versions.

This script also derives the tolerances, because autograd gives the derivatives. Two correct float32 computations of a model differ
only by rounding. Roundings are modelled as independent and of either sign (Higham & Mary, 2019): the error of a sum of k terms is about u·√k·m,
u = 2⁻²⁴, m the root of the sum of the terms' squares. Every input and output h of a leaf module has such an error, and to first order the
variance of the output is Σ (∂y/∂h)²·(u·√k·m)², with derivatives in float64. A tolerance is six standard deviations of the difference of two
such computations, the largest over the outputs. For quantised base models the errors are those of rounding to the steps of quantisation.
"""
import base64
import copy
import importlib.util
import json
import os
import pathlib
import shutil
import sys

if os.environ.get("PYTHONHASHSEED") != "0":
    # PEFT keeps module names in sets; a fixed hash seed makes the order in which it writes them reproducible.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})

import diffusers
import numpy as np
import peft
import torch
import transformers
from peft import FourierFTConfig, PeftModel, get_peft_model
from peft.tuners.fourierft.layer import FourierFTLayer

HERE = pathlib.Path(__file__).parent
FOLDER = HERE.parent.parent / "onnxruntime" / "test" / "__fixtures__" / "end-to-end"
UNIT = 2.0**-24
DEVIATIONS = 6

spec = importlib.util.spec_from_file_location("export_fixtures", HERE / "export-fixtures.py")
export_fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(export_fixtures)
torch.set_num_threads(1)

# The modules of adapter a are ATTENTION and MLP; those of adapter b, which has other entries, are only ATTENTION.
ATTENTION = {
    "bert": ["query", "key", "value", "attention.output.dense"],
    "gpt2": ["c_attn", "attn.c_proj"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "vit": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "unet-attention": ["to_q", "to_k", "to_v", "to_out.0"],
}
MLP = {
    "bert": ["intermediate.dense", "output.dense"],
    "gpt2": ["c_fc", "mlp.c_proj"],
    "llama": ["gate_proj", "up_proj", "down_proj"],
    "vit": ["fc1", "fc2"],
    "unet-attention": ["ff.net.0.proj", "ff.net.2"],
}


def pack(tensor):
    array = np.ascontiguousarray(tensor.detach().numpy())
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def with_adapters(name, model, folder):
    """Returns the model in PEFT with the adapters a and b, which are saved and loaded again."""
    config = {"init_weights": False, "fan_in_fan_out": name == "gpt2"}
    configs = {
        "a": FourierFTConfig(n_frequency=24, scaling=16.0, target_modules=ATTENTION[name] + MLP[name], **config),
        "b": FourierFTConfig(n_frequency=40, scaling=12.0, random_loc_seed=5, target_modules=ATTENTION[name], **config),
    }
    for seed, (adapter, config) in enumerate(configs.items(), 1):
        torch.manual_seed(seed)
        get_peft_model(copy.deepcopy(model), config).save_pretrained(folder / adapter)
        (folder / adapter / "README.md").unlink()
    adapted = PeftModel.from_pretrained(model, folder / "a", adapter_name="a")
    adapted.load_adapter(folder / "b", adapter_name="b")
    return adapted.eval()


def output_of(adapted, adapters, inputs):
    model = export_fixtures.ForAnyBatch(adapted.base_model.model).eval()
    if not adapters:
        with adapted.disable_adapter():
            return model(*inputs)
    adapted.base_model.set_adapter(list(adapters))
    return model(*inputs)


# ---------------------------------------------------------------------------------------------------------------- tolerances


def root_mean_square(x):
    """Returns the root mean square of each token."""
    return x.detach().pow(2).mean(-1, keepdim=True).sqrt()


class Sensitivity:
    """Variance of the output under errors of known size in every input and output of a leaf module."""

    def __init__(self, adapted, adapters, inputs):
        self.errors, handles = [], []
        exact = copy.deepcopy(adapted).double()
        inputs = [x.double() if x.is_floating_point() else x for x in inputs]
        layers = [m for m in exact.modules() if isinstance(m, FourierFTLayer)]
        inside = {id(child) for layer in layers for child in layer.modules() if child is not layer}
        self.base_layers = [layer.get_base_layer() for layer in layers]
        for module in exact.modules():
            is_leaf = isinstance(module, FourierFTLayer) or not list(module.children())
            if is_leaf and id(module) not in inside and not isinstance(module, (torch.nn.ParameterDict, torch.nn.Identity)):
                handles.append(module.register_forward_pre_hook(self.before))
                handles.append(module.register_forward_hook(self.after(adapters)))
        for base in self.base_layers:
            base.weight.requires_grad_(True)
        self.linears = [m for m in exact.modules() if isinstance(m, torch.nn.Linear) and id(m) not in inside]
        for linear in self.linears:
            linear.weight.requires_grad_(True)
        self.embeddings = [m for m in exact.modules() if isinstance(m, torch.nn.Embedding)]
        self.output = output_of(exact, adapters, inputs).reshape(-1)

    def perturbed(self, value, scale):
        error = torch.zeros_like(value, requires_grad=True)
        self.errors.append((error, scale, value.detach()))
        return value + error

    def before(self, module, args):
        x, *rest = args
        if not x.is_floating_point():
            return None
        # Values that are computed between modules: residual sums, and attention, which sums over a head's features or over tokens.
        k = x.shape[-1]
        return (self.perturbed(x, UNIT * k**0.5 * root_mean_square(x)), *rest)

    def after(self, adapters):
        def hook(module, args, y):
            if not isinstance(y, torch.Tensor):  # the sines of a rotary embedding: one rounding, like that of q and k after the rotation
                return None
            x = args[0].detach()
            if isinstance(module, torch.nn.Embedding):
                return self.perturbed(y, UNIT * y.detach().abs())
            base = module.get_base_layer() if isinstance(module, FourierFTLayer) else module
            if isinstance(base, torch.nn.Linear) or type(base).__name__ == "Conv1D":
                weight = (base.weight.T if type(base).__name__ == "Conv1D" else base.weight).detach()
                k, squares = sum(weight.shape), x**2 @ weight.T**2
                for adapter in adapters if isinstance(module, FourierFTLayer) else []:
                    if adapter in module.fourierft_spectrum:
                        c = module.fourierft_spectrum[adapter].detach()
                        k += len(c)
                        scale = module.fourierft_scaling[adapter] / weight.numel()
                        squares = squares + scale**2 * (c**2).sum() * (x**2).sum(-1, keepdim=True)
                return self.perturbed(y, UNIT * (k * squares + y.detach() ** 2) ** 0.5)
            # The sums of a normalisation; 16 allows activations a few units in the last place.
            k = y[0].numel() if "Norm" in type(module).__name__ or isinstance(module, torch.nn.Conv2d) else 16
            return self.perturbed(y, UNIT * k**0.5 * root_mean_square(y))

        return hook

    def deviation(self, leaves_and_steps):
        """Returns the largest standard deviation of an output. The step of a leaf is its deviation (a number or a tensor of its shape)."""
        leaves = [leaf for leaf, _ in leaves_and_steps]
        largest = 0.0
        for y in self.output:
            gradients = torch.autograd.grad(y, leaves, retain_graph=True, allow_unused=True)
            variance = sum(
                ((g * step) ** 2).sum().item() for g, (_, step) in zip(gradients, leaves_and_steps) if g is not None
            )
            largest = max(largest, variance**0.5)
        return largest

    def rounding(self):
        """Returns the tolerance of rounding; √2 because two computations are compared."""
        return DEVIATIONS * 2**0.5 * self.deviation([(error, scale) for error, scale, _ in self.errors])

    def quantisation(self, kind):
        """
        Returns the tolerance of quantisation: rounding to the nearest step has a deviation of step/√12. q8 has one step for a tensor, q4 one
        for 16 weights of a row.
        """
        leaves = []
        for base in [*self.base_layers, *self.linears]:
            weight = base.weight if isinstance(base, torch.nn.Linear) else base.weight.T
            if kind == "q8":
                step = torch.full_like(weight, (2 * weight.abs().max() / 254).item())
            else:
                blocks = weight.detach().reshape(weight.shape[0], -1, 16)
                high, low = blocks.amax(-1, keepdim=True).clamp(min=0), blocks.amin(-1, keepdim=True).clamp(max=0)
                step = ((high - low) / 15).expand_as(blocks).reshape(weight.shape)
            leaves.append((base.weight, (step if isinstance(base, torch.nn.Linear) else step.T) / 12**0.5))
        if kind == "q8":
            # The inputs of each layer are rounded to 255 steps of their range; q8 also rounds embeddings to 8 bits.
            for error, _, value in self.errors:
                leaves.append((error, ((value.max() - value.min()) / 255 / 12**0.5).item()))
        return DEVIATIONS * self.deviation(leaves)


# ---------------------------------------------------------------------------------------------------------------- vectors


def cases(adapted, rows_of, quantised):
    """Yields the cases. `rows_of[i]` are the inputs of row i. The last case has an adapter for each row; PEFT computes the rows one by one."""
    first = rows_of[0]
    for name, adapters in (("base", []), ("a", ["a"]), ("b", ["b"]), ("a+b", ["a", "b"])):
        sensitivity = Sensitivity(adapted, adapters, first)
        yield {
            "name": name, "adapters": adapters, "output": pack(output_of(adapted, adapters, first)),
            "tolerance": sensitivity.rounding(),
            **{kind: sensitivity.quantisation(kind) for kind in quantised},
        }
    chosen = ["b", None, "a"]
    outputs = [output_of(adapted, [name] if name else [], row) for name, row in zip(chosen, rows_of)]
    tolerances = [Sensitivity(adapted, [name] if name else [], row).rounding() for name, row in zip(chosen, rows_of)]
    yield {"name": "rows", "rows": chosen, "output": pack(torch.cat(outputs)), "tolerance": max(tolerances)}


def models():
    tokens = torch.tensor([[3, 7, 1, 19, 12, 5, 30, 8], [0, 2, 39, 4, 4, 18, 11, 6], [21, 9, 33, 5, 1, 0, 14, 17]])
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(3, 3, 8, 8, generator=generator)
    for name, model, _, _ in export_fixtures.models():
        if name in ATTENTION:
            x = pixels if name == "vit" else tokens
            yield name, export_fixtures.with_weights(model), {"x": x}, ("q8", "q4") if name in ("bert", "gpt2", "llama") else ()
    features, words = torch.randn(3, 16, 4, 4, generator=generator), torch.randn(3, 3, 12, generator=generator)
    yield "unet-attention", export_fixtures.diffusion_attention(), {"x": features, "context": words}, ()


def main():
    versions = {p.__name__: p.__version__ for p in (torch, transformers, diffusers, peft)}
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, model, inputs, quantised in models():
        folder = FOLDER / name
        adapted = with_adapters(name, model, folder)
        rows_of = [[x[row : row + 1] for x in inputs.values()] for row in range(3)]
        vectors = {
            "versions": versions,
            "inputs": {key: pack(x) for key, x in inputs.items()},
            "cases": list(cases(adapted, rows_of, quantised)),
        }
        (folder / "vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")
        base = vectors["cases"][0]
        for case in vectors["cases"]:
            y, y0 = (np.frombuffer(base64.b64decode(c["output"]["data"]), "<f4") for c in (case, base))
            effect = np.abs(y[: len(y0)] - y0).max()
            print(name, case["name"], "largest", np.abs(y).max(), "effect", effect, {k: case[k] for k in ("tolerance", "q8", "q4") if k in case})


if __name__ == "__main__":
    main()
