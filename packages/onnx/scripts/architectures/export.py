"""
Exports the architectures of `models.py` with random weights through three exporters. Each export has FourierFT adapters that PEFT saves, and
the outputs of PyTorch and PEFT. `compare.js` in this folder opens the exports in ONNX Runtime and writes the table in architectures.md.

    pip install "torch==2.13.0" "peft==0.21.0" "transformers==5.23.0" onnx onnxscript onnxruntime timm
    python packages/onnx/scripts/architectures/export.py --exporters torchscript dynamo

    pip install "torch==2.13.0" "peft==0.21.0" "transformers<4.58" optimum-onnx      # in another environment: optimum needs transformers 4
    python packages/onnx/scripts/architectures/export.py --exporters optimum

The exports are written to .cache/architectures (`--out`). Existing exports are skipped, unless `--again` is set. `--only NAME …` selects some
architectures. Nothing is downloaded.

Tolerances use the rounding model of `../end-to-end-vectors.py`: each input and output of a leaf module has an error of about u·√k·m in either
direction, u = 2⁻²⁴, m the root of the sum of the squares of its k terms. That script derives the deviation of the output from derivatives.
This script samples it, because the models have few parts in common: the model runs SAMPLES times in float64 with random errors of that size.
A tolerance is six standard deviations of the difference of two such computations, the largest over the outputs.
"""
import argparse
import base64
import copy
import functools
import importlib.metadata
import inspect
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import time
import unittest.mock
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
if os.environ.get("PYTHONHASHSEED") != "0":
    # PEFT keeps module names in sets; a fixed hash seed gives the order in which it writes them.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from models import ARCHITECTURES, BATCH
from peft import FourierFTConfig, get_peft_model
from peft.tuners.fourierft.layer import FourierFTLayer

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

UNIT = 2.0**-24
DEVIATIONS = 6
SAMPLES = 32
#: An exporter that takes longer than this for two layers has failed.
SECONDS = 240
PACKAGES = ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime", "timm", "optimum-onnx")
ADAPTER = dict(n_frequency=48, scaling=15.0, init_weights=False)


def pack(tensor):
    array = np.ascontiguousarray(tensor.detach().numpy())
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def is_linear(module):
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def shape_of(layer):
    """[out, in]"""
    weight = layer.get_base_layer().weight
    return list(weight.T.shape if type(layer.get_base_layer()).__name__ == "Conv1D" else weight.shape)


def with_weights(model):
    """Sets weights that keep the size of activations, so that each layer matters, and random biases and scales, as trained models have."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.numel() == 0:
                continue
            if parameter.dim() >= 2:
                parameter.normal_(std=(parameter.numel() / parameter.shape[0]) ** -0.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
            else:
                parameter.normal_(1.0, 0.1)
    return model.eval()


def first(output):
    """Returns the logits, or the last hidden state."""
    return output if isinstance(output, torch.Tensor) else output[0] if isinstance(output, tuple) else next(iter(output.values()))


# ---------------------------------------------------------------------------------------------------------------- tolerances


def root_mean_square(x):
    """Returns the root mean square of each token."""
    return x.pow(2).mean(-1, keepdim=True).sqrt()


class Rounding:
    """Adds errors of the size of float32's roundings to every input and output of the leaf modules of a float64 model."""

    def __init__(self, model, adapter):
        self.adapter, self.handles = adapter, []
        layers = [m for m in model.modules() if isinstance(m, FourierFTLayer)]
        inside = {id(child) for layer in layers for child in layer.modules() if child is not layer}
        for module in model.modules():
            is_leaf = isinstance(module, FourierFTLayer) or not list(module.children())
            if is_leaf and id(module) not in inside and not isinstance(module, (torch.nn.ParameterDict, torch.nn.Identity)):
                self.handles.append(module.register_forward_pre_hook(self.before))
                self.handles.append(module.register_forward_hook(self.after))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    @staticmethod
    def perturbed(value, scale):
        return value + torch.randn_like(value) * UNIT * scale

    def before(self, module, args):
        if not args or not isinstance(args[0], torch.Tensor) or not args[0].is_floating_point():
            return None
        x, *rest = args
        # Values that are computed between modules: residual sums, and attention, which sums over a head's features or over tokens.
        return (self.perturbed(x, x.shape[-1] ** 0.5 * root_mean_square(x)), *rest)

    def after(self, module, args, y):
        if not isinstance(y, torch.Tensor) or not y.is_floating_point():
            return None
        if isinstance(module, torch.nn.Embedding) or not args:
            return self.perturbed(y, y.abs())
        base = module.get_base_layer() if isinstance(module, FourierFTLayer) else module
        if is_linear(base):
            x = args[0]
            weight = base.weight.T if type(base).__name__ == "Conv1D" else base.weight
            k, squares = sum(weight.shape), x**2 @ weight.T**2
            if isinstance(module, FourierFTLayer) and not module.disable_adapters and self.adapter in module.fourierft_spectrum:
                c = module.fourierft_spectrum[self.adapter]
                k += len(c)
                scale = module.fourierft_scaling[self.adapter] / weight.numel()
                squares = squares + scale**2 * (c**2).sum() * (x**2).sum(-1, keepdim=True)
            return self.perturbed(y, (k * squares + y**2) ** 0.5)
        # The sums of convolutions and normalisations; 16 allows activations a few units in the last place.
        weight = getattr(base, "weight", None)
        if weight is not None and weight.dim() > 2:
            k = weight[0].numel()
        else:
            k = y[0].numel() if "Norm" in type(module).__name__ else 16
        return self.perturbed(y, k**0.5 * root_mean_square(y))


def tolerance_of(model, call, adapter):
    exact = copy.deepcopy(model).double()
    torch.manual_seed(1)
    # transformers 4 creates causal masks in the default type, and fills them with the least number of the model's type, here float64: an overflow.
    in_double = unittest.mock.patch.object(torch, "full", functools.partial(torch.full, dtype=torch.float64))
    with torch.no_grad(), Rounding(exact, adapter), in_double:
        outputs = torch.stack([call(exact) for _ in range(SAMPLES)])
    return DEVIATIONS * 2**0.5 * outputs.std(0).max().item()


# ---------------------------------------------------------------------------------------------------------------- PEFT's outputs


class Part:
    """One file of an export: the function that computes its first output in PyTorch, and the inputs by their names in the file."""

    def __init__(self, name, compute, inputs):
        self.name, self.compute, self.inputs = name, compute, inputs

    def call(self, model):
        """Returns the output, computed in the type of the model's weights."""
        dtype = next(model.parameters()).dtype
        inputs = {key: x.to(dtype) if x.is_floating_point() else x for key, x in self.inputs.items()}
        return first(self.compute(model, inputs))


def called_linears(model, part):
    """Returns the names of the linear layers that the output depends on. Leaves out a head that shares the embedding's weight, as PEFT does."""
    called, handles = set(), []
    for name, module in model.named_modules():
        if is_linear(module):
            handles.append(module.register_forward_hook(lambda *_, name=name: called.add(name)))
    with torch.no_grad():
        part.call(model)
    for handle in handles:
        handle.remove()
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return sorted(name for name in called if model.get_submodule(name) is not head and changes_output(model, part, name))


def changes_output(model, part, name):
    """Returns whether the output depends on the layer. For example, hidden states do not depend on a pooler."""
    weight = model.get_submodule(name).weight
    with torch.no_grad():
        output, kept = part.call(model), weight.clone()
        weight.zero_()
        changed = part.call(model)
        weight.copy_(kept)
    return not torch.equal(output, changed)


def adapter_outputs(model, part, modules, folder):
    """Saves an adapter for `modules` with PEFT. Returns the outputs of the model without it and with it."""
    is_conv1d = type(model.get_submodule(modules[0])).__name__ == "Conv1D"
    config = FourierFTConfig(target_modules=list(modules), fan_in_fan_out=is_conv1d, **ADAPTER)
    torch.manual_seed(2)
    adapted = get_peft_model(copy.deepcopy(model), config).eval()
    layers = {n.removeprefix("base_model.model."): m for n, m in adapted.named_modules() if isinstance(m, FourierFTLayer)}
    if sorted(layers) != sorted(modules):
        raise AssertionError(f"PEFT adapts {sorted(layers)} for {sorted(modules)}")
    adapted.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    inner = adapted.base_model.model
    with torch.no_grad():
        with adapted.disable_adapter():
            base = part.call(inner)
            base_tolerance = tolerance_of(inner, part.call, "default")
        output = part.call(inner)
        tolerance = tolerance_of(inner, part.call, "default")
        # The contribution of each module: without the module, the output is wrong by this much.
        effects = {}
        for name, layer in layers.items():
            spectrum = layer.fourierft_spectrum["default"].data
            kept = spectrum.clone()
            spectrum.zero_()
            effects[name] = (part.call(inner) - output).abs().max().item() / tolerance
            spectrum.copy_(kept)
    return {
        "adapter": folder.name,
        "modules": {name: shape_of(layer) for name, layer in sorted(layers.items())},
        "base": {"output": pack(base), "tolerance": base_tolerance},
        "adapted": {"output": pack(output), "tolerance": tolerance},
        #: The smallest contribution of a module, in tolerances.
        "effect": min(effects.values()),
        "unseen": sorted(name for name, effect in effects.items() if effect < 10),
    }


# ---------------------------------------------------------------------------------------------------------------- exporters


def forward(model, inputs):
    return model(**inputs)


class SingleOutput(torch.nn.Module):
    """The model with only its first output, for exporters that accept neither caches nor dictionaries."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *args):
        return first(self.model(**dict(zip(self.names, args, strict=True))))


def export_with_torch(architecture, model, path, dynamo):
    """
    Exports the model itself or, if that fails, a wrapper with one output; for any size of batch and text or, if that fails, for the sizes of
    the example; as a last resort with eager attention.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(getattr(module, "config", None), "use_cache"):
            module.config.use_cache = False
    # The exporters identify the inputs by their positions in `forward`.
    parameters = list(inspect.signature(model.forward).parameters)
    inputs = dict(sorted(architecture.inputs.items(), key=lambda item: parameters.index(item[0])))
    axes = {name: {0: "batch", 1: "sequence"} if x.dtype == torch.int64 else {0: "batch"} for name, x in inputs.items()}
    if "decoder_input_ids" in axes:
        axes["decoder_input_ids"][1] = "target"
    attempts = [("itself", axes, None), ("wrapped", axes, None), ("wrapped", None, None)]
    if hasattr(model, "set_attn_implementation"):
        attempts += [("wrapped", axes, "eager"), ("wrapped", None, "eager")]
    last_error = None
    for way, shapes, attention in attempts:
        exported = copy.deepcopy(model)
        if attention:
            exported.set_attn_implementation(attention)
        exported = exported if way == "itself" else SingleOutput(exported, list(inputs)).eval()
        args, kwargs = ((), inputs) if way == "itself" else (tuple(inputs.values()), None)
        options = {"input_names": list(inputs), "kwargs": kwargs, "dynamo": dynamo}
        if dynamo:
            dims = {name: dict.fromkeys(input_axes, torch.export.Dim.DYNAMIC) for name, input_axes in (shapes or {}).items()}
            options["dynamic_shapes"] = (dims if way == "itself" else {"args": tuple(dims.values())}) if dims else None
            options |= {"external_data": False, "verbose": False}
        else:
            options |= {"output_names": ["y"], "opset_version": 18, "dynamic_axes": {**shapes, "y": {0: "batch"}} if shapes else None}
        try:
            torch.onnx.export(exported, args, str(path), **options)
            # Numeric arguments (`logits_to_keep`) become inputs that the model does not read.
            if any(value.name not in inputs for value in onnx.load(path).graph.input):
                raise ValueError("the export has unexpected inputs")
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            names = {value.name for value in session.get_inputs()}
            session.run(None, {name: x.numpy() for name, x in inputs.items() if name in names})
            return {"way": way, "sizes": "any" if shapes else "those of the example", **({"attention": attention} if attention else {})}
        except TookTooLong:
            raise
        except Exception as error:
            path.unlink(missing_ok=True)
            last_error = error
    raise last_error


def torch_parts(architecture):
    yield Part("model", forward, architecture.inputs)


def export_with_optimum(architecture, model, folder):
    from optimum.exporters.onnx import onnx_export_from_model

    model = copy.deepcopy(model)
    if model.config.model_type == "dinov2":
        # Optimum reads the size of the images from the model's folder.
        size = model.config.image_size
        transformers.ViTImageProcessor(size={"height": size, "width": size}).save_pretrained(folder)
        model.config._name_or_path = str(folder)
    onnx_export_from_model(model, folder, task=architecture.task, do_validation=False)
    return {"way": "itself", "sizes": "any"}


def encode(model, inputs):
    return model.get_encoder()(**inputs)


def decode(model, inputs):
    inputs = dict(inputs)
    hidden, mask = inputs.pop("encoder_hidden_states"), inputs.pop("encoder_attention_mask", None)
    masked = {"attention_mask": mask} if mask is not None else {}
    return model(decoder_input_ids=inputs["input_ids"], encoder_outputs=(hidden,), use_cache=False, **masked)


def optimum_parts(architecture, model):
    """Yields the files of an export. Encoder and decoder are separate files; that of the decoder contains the first step and the later steps."""
    inputs = dict(architecture.inputs)
    if "decoder_input_ids" not in inputs:
        yield Part("model", forward, inputs)
        return
    tokens = inputs.pop("decoder_input_ids")
    yield Part("encoder_model", encode, inputs)
    with torch.no_grad():
        hidden = first(encode(model, inputs))
    decoder_inputs = {"input_ids": tokens, "encoder_hidden_states": hidden}
    if "attention_mask" in inputs and inputs["attention_mask"].shape[1] == hidden.shape[1]:
        decoder_inputs["encoder_attention_mask"] = inputs["attention_mask"]
    yield Part("decoder_model_merged", decode, decoder_inputs)


def feeds_of(path, inputs):
    """Returns the values of the file's inputs: those of the example, and an empty cache."""
    feeds = {}
    for value in onnx.load(path, load_external_data=False).graph.input:
        shape = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in value.type.tensor_type.shape.dim]
        if value.name in inputs:
            feeds[value.name] = inputs[value.name]
        elif value.name == "use_cache_branch":
            feeds[value.name] = torch.tensor([False])
        elif value.name == "position_ids":
            feeds[value.name] = torch.arange(inputs["input_ids"].shape[1]).expand(inputs["input_ids"].shape).contiguous()
        elif value.name.startswith("past_key_values"):
            sizes = [size if isinstance(size, int) else BATCH if size.startswith("batch") else 0 for size in shape]
            feeds[value.name] = torch.zeros(sizes)
        elif value.name in ("token_type_ids", "global_attention_mask"):
            feeds[value.name] = torch.zeros_like(inputs["input_ids"])
        elif value.name == "encoder_attention_mask":
            feeds[value.name] = torch.ones(inputs["encoder_hidden_states"].shape[:2], dtype=torch.int64)
        elif value.name == "attention_mask":
            feeds[value.name] = torch.ones(next(iter(inputs.values())).shape[:2], dtype=torch.int64)
        else:
            raise ValueError(f"the export has the input {value.name} {shape}, which the script does not know")
    return feeds


# ---------------------------------------------------------------------------------------------------------------- one export


class TookTooLong(Exception):
    pass


def stop(*_):
    raise TookTooLong(f"no export after {SECONDS} s")


def export(architecture, exporter, folder):
    """Returns the vectors of one architecture and exporter, or an `error` if the export fails."""
    try:
        model = with_weights(architecture.build())
        parts = list(optimum_parts(architecture, model) if exporter == "optimum" else torch_parts(architecture))
    except ModuleNotFoundError:
        raise
    except Exception as error:
        return {"missing": message_of(error)}
    start = time.time()
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        if exporter == "optimum":
            how = export_with_optimum(architecture, model, folder)
        else:
            how = export_with_torch(architecture, model, folder / "model.onnx", exporter == "dynamo")
    except Exception as error:
        return {"error": message_of(error)}
    finally:
        signal.alarm(0)
    seconds = time.time() - start
    described_parts = []
    for part in parts:
        path = folder / f"{part.name}.onnx"
        linears = called_linears(model, part)
        typical = [name for name in linears if re.fullmatch(architecture.targets, name)]
        if not typical:
            raise AssertionError(f"{part.name} calls no module that {architecture.targets} matches")
        sets = {"typical": typical, "all-linear": linears}
        described_parts.append({
            "file": path.name,
            "feeds": {name: pack(x) for name, x in feeds_of(path, part.inputs).items()},
            "checks": {
                kind: adapter_outputs(model, part, modules, folder / f"{part.name}-{kind}") for kind, modules in sets.items() if modules
            },
        })  # fmt: skip
    return {"seconds": round(seconds, 1), **how, "parts": described_parts}


def message_of(error):
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
    # The rest contains paths of this machine.
    text = text.split(" Original traceback")[0]
    return f"{type(error).__name__}: {text}"[:400]


def slug(name):
    return re.sub(r"\W+", "-", name.lower()).strip("-")


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(".cache/architectures"))
    parser.add_argument("--exporters", nargs="+", default=["torchscript", "dynamo", "optimum"])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--again", action="store_true", help="repeat existing exports")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [{"name": a.name, "group": a.group, "folder": slug(a.name), "rows": not a.mixes_rows} for a in ARCHITECTURES]
    (options.out / "architectures.json").write_text(json.dumps(rows, indent=1) + "\n")
    failed = []
    for architecture in ARCHITECTURES:
        if options.only and architecture.name not in options.only:
            continue
        for exporter in options.exporters:
            folder = options.out / slug(architecture.name) / exporter
            vectors = folder / "vectors.json"
            if vectors.exists() and not options.again:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            start = time.time()
            if exporter == "optimum" and architecture.task is None:
                result = {"missing": "optimum has no task for it"}
            else:
                try:
                    result = export(architecture, exporter, folder)
                except Exception as error:
                    failed.append(f"{architecture.name}, {exporter}: {message_of(error)}")
                    print(failed[-1], flush=True)
                    continue
            vectors.write_text(json.dumps({"versions": versions(), **result}) + "\n")
            summary = result.get("error") or result.get("missing")
            if not summary:
                checks = [check for part in result["parts"] for check in part["checks"].values()]
                summary = f"{result['way']} {result.get('attention', '')}, sizes {result['sizes']}, effect {min(c['effect'] for c in checks):.0f}, tolerance {max(c['adapted']['tolerance'] for c in checks):.1e}"
                unseen = sorted({name for check in checks for name in check["unseen"]})
                summary += f", UNSEEN {unseen}" if unseen else ""
            print(f"{architecture.name}, {exporter}, {time.time() - start:.1f} s: {summary[:400]}", flush=True)
    if failed:
        sys.exit(f"{len(failed)} exports could not be described; extend this script for them")


if __name__ == "__main__":
    main()
