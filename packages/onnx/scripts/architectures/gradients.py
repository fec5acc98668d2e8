"""
Writes, for each export of `export.py`, gradients.json: the gradient of a loss with respect to the coefficients of the adapter of the usual target
modules, by PyTorch and PEFT in eval(), on the weights and the batch of the export. `gradients.js` in this folder compares training graphs with it.

    python packages/onnx/scripts/architectures/gradients.py --exporters torchscript dynamo      # in the environment of these exports
    python packages/onnx/scripts/architectures/gradients.py --exporters optimum                 # in that of optimum

The loss is the sum of (output − label)² over the first output; the labels are random. Gradients are computed in float64, from the weights and
coefficients in float32. All errors are relative: |g − g₆₄| / |g₆₄|, in the Euclidean norm over all layers.

For the architectures of DTYPES, this script also converts the exports with the tools of onnxruntime, and gives each conversion a gradient:

- q4 (MatMulNBits, blocks of 16): the model has the dequantised weights of the file. The arithmetic is that of float32, and so is the tolerance.
- q8 (quantize_dynamic): the model has the dequantised weights of the file, and the inputs of quantised products are rounded as the file rounds
  them; the gradient passes straight through. Another order of summation can move an activation across a rounding boundary. The tolerance is the
  largest error of 32 runs whose activations are perturbed by 2⁻¹⁶, 256 roundings of float32, before they are rounded.
- float16: the model has the weights of the file, in float64. The tolerance is 4 times the error of PyTorch in float16; runtimes keep other
  intermediate values in float32, or round values that PyTorch does not.
"""
import argparse
import base64
import contextlib
import copy
import functools
import json
import logging
import pathlib
import sys
import unittest.mock

import numpy as np
import onnx
import torch
from export import optimum_parts, pack, slug, torch_parts, versions, with_weights
from models import ARCHITECTURES
from onnx import numpy_helper
from peft import PeftModel
from peft.tuners.fourierft.layer import FourierFTLayer
from torch import nn

DTYPES = ("BERT", "LLaMA", "GPT-2", "ViT")
RUNS, BLOCK = 32, 16
# The converters report every node.
logging.disable(logging.WARNING)


# ---------------------------------------------------------------------------------------------------------------- gradients


def layers_of(adapted):
    prefix = "base_model.model."
    return {name.removeprefix(prefix): m for name, m in adapted.named_modules() if isinstance(m, FourierFTLayer)}


def delta_weight(self, adapter):
    """PEFT's get_delta_weight, which computes in float32, in the type of the coefficients."""
    spectrum, (rows, columns) = self.fourierft_spectrum[adapter], self.indices[adapter]
    dense = torch.zeros(self.out_features, self.in_features, dtype=spectrum.dtype)
    dense[rows, columns] = spectrum
    return torch.fft.ifft2(dense).real * self.fourierft_scaling[adapter]


def in_double(adapted):
    adapted = copy.deepcopy(adapted).double()
    for layer in layers_of(adapted).values():
        layer.get_delta_weight = delta_weight.__get__(layer)
    return adapted


def gradient_of(adapted, part, labels):
    """Returns the loss, and dL/dc by module."""
    layers = layers_of(adapted)
    # transformers 4 creates causal masks in the default type, and fills them with the least number of the model's type.
    dtype = next(adapted.parameters()).dtype
    full = unittest.mock.patch.object(torch, "full", functools.partial(torch.full, dtype=dtype))
    with full if dtype == torch.float64 else contextlib.nullcontext():
        output = part.call(adapted.base_model.model)
    loss = ((output.to(labels.dtype) - labels) ** 2).sum()
    gradients = torch.autograd.grad(loss, [layer.fourierft_spectrum["default"] for layer in layers.values()])
    return loss.item(), {name: g.double() for name, g in zip(layers, gradients, strict=True)}


def relative(gradients, expected):
    whole, of = torch.cat(list(gradients.values())), torch.cat(list(expected.values()))
    return ((whole - of).norm() / of.norm()).item()


def adapter_of(model, folder):
    return PeftModel.from_pretrained(copy.deepcopy(model), folder, is_trainable=True).eval()


def described(loss, gradients, **rest):
    return {**rest, "loss": loss, "gradients": {name: pack(g) for name, g in gradients.items()}}


# ---------------------------------------------------------------------------------------------------------------- other types


def convert(source, kind, target):
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.transformers.float16 import convert_float_to_float16

    if kind == "q8":
        quantize_dynamic(source, target)
    elif kind == "q4":
        quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=BLOCK, is_symmetric=False)
        quantizer.process()
        onnx.save(quantizer.model.model, target)
    else:
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=False), target)


def nibbles(packed):
    """Returns two numbers for each byte of the last axis, the lower bits first."""
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


def module_with(model, weight, step, kinds):
    """Returns the module whose weight differs from `weight` by less than a step of quantisation, and the weight in the module's layout."""
    for module in model.modules():
        if type(module).__name__ not in kinds:
            continue
        own = module.weight.detach().numpy()
        for candidate in (weight, weight.T) if weight.ndim == 2 else (weight,):
            if candidate.shape == own.shape and np.abs(candidate - own).max() <= step:
                return module, candidate
    raise AssertionError(f"no module has a weight of the shape {weight.shape} like that of the file")


def with_weights_of(model, path):
    """Returns a copy with the dequantised weights of the file, and the modules whose inputs are rounded."""
    original, model = model, copy.deepcopy(model)
    graph = onnx.load(path).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    names = {id(module): name for name, module in original.named_modules()}
    rounded = []
    products = ("Linear", "Conv1D", "Conv2d")

    def replace(weight, step, kinds):
        module, laid_out = module_with(original, weight, step, kinds)
        model.get_submodule(names[id(module)]).weight = nn.Parameter(torch.tensor(np.ascontiguousarray(laid_out), dtype=torch.float32))
        return names[id(module)]

    for node in graph.node:
        if node.op_type == "MatMulNBits":
            packed, scales, zeros = (tensors[name] for name in node.input[1:4])
            rows, blocks, _ = packed.shape
            zeros = nibbles(zeros.reshape(rows, -1))[:, :blocks, None].astype("f4")
            weight = (nibbles(packed).astype("f4") - zeros) * scales.reshape(rows, blocks, 1).astype("f4")
            columns = next(a.i for a in node.attribute if a.name == "K")
            replace(weight.reshape(rows, -1)[:, :columns], scales.max(), products)
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            rounded.append(replace(*dequantised(tensors, node.input[1]), products))
        if node.op_type == "Gather" and node.input[0].endswith("_quantized"):
            replace(*dequantised(tensors, node.input[0]), ("Embedding",))
    return model, rounded


def dequantised(tensors, name):
    stem = name.removesuffix("_quantized")
    zero, scale = tensors[f"{stem}_zero_point"].astype("f4"), tensors[f"{stem}_scale"]
    return (tensors[name].astype("f4") - zero) * scale, scale.max()


def round_dynamically(x):
    """DynamicQuantizeLinear and DequantizeLinear; the gradient passes straight through."""
    value = x.detach()
    low, high = value.min().clamp(max=0), value.max().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round()
    return x + (((value / scale).round() + zero).clamp(0, 255) - zero) * scale - value


def noise(x):
    return x * (1 + 2.0**-16 * (2 * torch.rand(x.shape, dtype=x.dtype) - 1))


def with_changed_inputs(adapted, names, change):
    """Returns a copy in float64 in which the inputs of the named frozen layers pass through `change`."""
    exact = in_double(adapted)
    for name in names:
        module = exact.base_model.model.get_submodule(name)
        frozen = module.get_base_layer() if isinstance(module, FourierFTLayer) else module
        frozen.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    return exact


def in_half(model):
    """Returns a copy whose weights are rounded to float16."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model


def conversions(model, part, labels, source, adapter):
    """Yields the gradients of the conversions of a file."""
    torch.manual_seed(4)
    for kind in ("float16", "q8", "q4"):
        target = source.with_name(f"{source.stem}-{kind}.onnx")
        convert(source, kind, target)
        if kind == "float16":
            adapted = adapter_of(in_half(model), adapter)
            loss, expected = gradient_of(in_double(adapted), part, labels.double())
            half = copy.deepcopy(adapted).half()
            for layer in layers_of(half).values():
                layer.fourierft_spectrum.float()
            tolerance = 4 * relative(gradient_of(half, part, labels)[1], expected)
            yield kind, described(loss, expected, file=target.name, tolerance=tolerance)
            continue
        quantised, rounded = with_weights_of(model, target)
        adapted = adapter_of(quantised, adapter)
        loss, expected = gradient_of(with_changed_inputs(adapted, rounded, round_dynamically), part, labels.double())
        if kind == "q4":
            yield kind, described(loss, expected, file=target.name)
            continue
        noisy = with_changed_inputs(adapted, rounded, lambda x: round_dynamically(noise(x)))
        tolerance = max(relative(gradient_of(noisy, part, labels.double())[1], expected) for _ in range(RUNS))
        yield kind, described(loss, expected, file=target.name, tolerance=tolerance)


# ---------------------------------------------------------------------------------------------------------------- one export


def unpack(packed):
    values = np.frombuffer(base64.b64decode(packed["data"]), packed["dtype"])
    return torch.tensor(values.reshape(packed["shape"]))


def gradients(architecture, exporter, folder, vectors):
    model = with_weights(architecture.build())
    described_parts = []
    parts = optimum_parts(architecture, model) if exporter == "optimum" else torch_parts(architecture)
    for part, recorded in zip(parts, vectors["parts"], strict=True):
        check = recorded["checks"]["typical"]
        adapter = folder / check["adapter"]
        adapted = adapter_of(model, adapter)
        with torch.no_grad():
            output = part.call(adapted.base_model.model)
        error = (output - unpack(check["adapted"]["output"])).abs().max().item()
        if error > check["adapted"]["tolerance"]:
            raise AssertionError(f"{part.name} is another model than that of the export: its output differs by {error}")
        torch.manual_seed(3)
        # These numbers are exact in float16.
        labels = torch.randint(-64, 65, output.shape) / 64
        loss, expected = gradient_of(in_double(adapted), part, labels.double())
        single = relative(gradient_of(adapted, part, labels)[1], expected)
        result = {"labels": pack(labels), "types": {"float32": described(loss, expected, file=recorded["file"], float32Error=single)}}
        if architecture.name in DTYPES:
            result["types"] |= dict(conversions(model, part, labels, folder / recorded["file"], adapter))
        described_parts.append(result)
    return {"versions": versions(), "parts": described_parts}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--exports", type=pathlib.Path, default=pathlib.Path(".cache/architectures"))
    parser.add_argument("--exporters", nargs="+", default=["torchscript", "dynamo", "optimum"])
    parser.add_argument("--only", nargs="+", default=[])
    options = parser.parse_args()
    failed = []
    for architecture in ARCHITECTURES:
        if options.only and architecture.name not in options.only:
            continue
        for exporter in options.exporters:
            folder = options.exports / slug(architecture.name) / exporter
            path = folder / "vectors.json"
            if not path.exists() or "parts" not in (vectors := json.loads(path.read_text())):
                continue
            try:
                result = gradients(architecture, exporter, folder, vectors)
            except Exception as error:
                failed.append(f"{architecture.name}, {exporter}: {type(error).__name__}: {error}"[:300])
                print(failed[-1], flush=True)
                continue
            (folder / "gradients.json").write_text(json.dumps(result) + "\n")
            shown = [
                f"{kind} {one.get('tolerance', one.get('float32Error')):.1e}" if one.get("tolerance") or one.get("float32Error") else kind
                for part in result["parts"] for kind, one in part["types"].items()
            ]  # fmt: skip
            print(f"{architecture.name}, {exporter}: {', '.join(shown)}", flush=True)
    if failed:
        sys.exit(f"{len(failed)} exports have no gradient")


if __name__ == "__main__":
    main()
