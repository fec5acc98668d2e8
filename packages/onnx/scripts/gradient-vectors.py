"""
Writes src/differentiate/__fixtures__/whole-model/: for the models of src/__fixtures__/, the gradient of a loss with respect to the coefficients
of every adapted layer, by PyTorch's autograd and PEFT in eval(), with the weights of the fixture. The loss is Σ seed·output.

    python packages/onnx/scripts/gradient-vectors.py

Made with torch 2.13.0, transformers 5.23.0, diffusers 0.42.1, peft 0.21.0, onnx 1.19.1 and onnxruntime 1.32.0 (CPU, one thread); each
file also contains the versions. onnxruntime is only imported.

The gradients are computed in float64, from coefficients and weights in float32. All errors are relative: |g − g₆₄| / |g₆₄|, in the Euclidean
norm over all layers. `float32Error` is the error of the same computation in float32, and `float32LayerError` the largest error of one layer,
relative to the gradient of that layer.

- 4-bit weights: the model has the dequantised weights of the fixture.
- 8-bit weights (dynamic quantisation): the same, and the inputs of products are rounded as `DynamicQuantizeLinear` does; the gradient passes
  straight through. Another order of summation can move an activation across a rounding boundary. The tolerance is the largest error of 32 runs
  whose activations are perturbed by 2⁻¹⁶, which is 256 roundings of float32, before they are rounded.
- Static quantisation (QDQ) rounds almost every value: PyTorch runs the graph of the fixture node by node, with the layers of PEFT added where
  `attachBranches` adds them. The gradient passes straight through rounding, but not through saturation. The tolerance is found in the same way.
- float16: the model has the weights of the fixture. The tolerance is 4 times the error of PyTorch in float16; runtimes keep other
  intermediate values in float32, or round values that PyTorch does not.
"""
import copy
import importlib.util
import json
import os
import pathlib
import sys

if os.environ.get("PYTHONHASHSEED") != "0":
    # PEFT keeps module names in sets; a fixed hash seed makes the order of the layers reproducible.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})

import diffusers
import numpy as np
import onnx
import peft
import torch
import transformers
from onnx import numpy_helper
from peft import FourierFTConfig, get_peft_model
from peft.tuners.fourierft.layer import FourierFTLayer
from torch import nn

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent / "src" / "__fixtures__"
FOLDER = HERE.parent / "src" / "differentiate" / "__fixtures__" / "whole-model"
N, SCALING, RUNS = 16, 16.0, 32


def script(name):
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


end_to_end, fused_fixtures = script("end-to-end-vectors"), script("fused-fixtures")
pack, HIDDEN = end_to_end.pack, fused_fixtures.HIDDEN
torch.set_num_threads(1)


# ---------------------------------------------------------------------------------------------------------------- models


def t5_encoder():
    return next(model for name, model, _, _ in end_to_end.export_fixtures.models() if name == "t5-encoder")


def with_weights(model):
    """Returns the model with the weights of fused-fixtures.py."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def linear(weight, bias):
    """Returns a layer with a weight of the shape `[in, out]`."""
    layer = nn.Linear(*weight.shape)
    layer.weight, layer.bias = nn.Parameter(weight.T.detach().clone()), nn.Parameter(bias.detach().clone())
    return layer


class SplitAttention(nn.Module):
    """The attention of fused-fixtures.py with a module each for q, k and v."""

    def __init__(self, attention):
        super().__init__()
        for i, part in enumerate("qkv"):
            features = slice(i * HIDDEN, (i + 1) * HIDDEN)
            setattr(self, part, linear(attention.c_attn.weight[:, features], attention.c_attn.bias[features]))
        self.attention = [attention]  # in a list, so that its modules are not those of this module
        self.c_proj = linear(attention.c_proj.weight, attention.c_proj.bias)

    def forward(self, x):
        attention = self.attention[0]
        q, k, v = attention.heads(self.q(x)), attention.heads(self.k(x), is_key=True), attention.heads(self.v(x))
        w = torch.matmul(q, k) / (q.size(-1) ** 0.5)
        w = torch.where(attention.bias[:, :, : x.size(1), : x.size(1)].bool(), w, attention.masked_bias.to(w.dtype))
        y = torch.matmul(nn.functional.softmax(w, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        return self.c_proj(y.view(*y.size()[:-2], HIDDEN))


def split(decoder):
    for block in decoder.h:
        block.attn = SplitAttention(block.attn)
    return decoder


def any_batch(model):
    wrapped = end_to_end.export_fixtures.ForAnyBatch(model).eval()
    return lambda *inputs: wrapped(*inputs)


def oracles():
    """Yields name, model, its call, inputs by name, target modules, and the fixtures with the number of rows and the kind of their arithmetic."""
    for name, model, inputs, quantised in end_to_end.models():
        targets = end_to_end.ATTENTION[name] + end_to_end.MLP[name]
        fixtures = [([f"{name}-batch"], 3, "float")]
        if name != "unet-attention":
            fixtures += [([f"{name}-torchscript", f"{name}-dynamo"], 1, "float")]
        fixtures += [([f"{name}-{kind}"], 1, kind) for kind in quantised]
        fixtures += {"bert": [(["bert-qdq"], 1, "qdq")], "llama": [(["llama-q4f16"], 1, "q4f16")]}.get(name, [])
        yield name, model, any_batch, inputs, targets, fixtures
    tokens = torch.tensor([[3, 7, 1, 19, 12, 5, 30, 8], [0, 2, 39, 4, 4, 18, 11, 6]])
    t5 = end_to_end.export_fixtures.with_weights(t5_encoder())
    call = lambda model: lambda x: model(x, attention_mask=torch.ones_like(x))[0]
    yield "t5-encoder", t5, call, {"x": tokens[:1]}, ["q", "k", "v", "o", "wi", "wo"], [(["t5-encoder-torchscript"], 1, "float")]
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    fixtures = [(["bert-plain", "bert-fused"], 2, "float"), (["bert-half", "bert-half-fused"], 2, "half")]
    encoder = with_weights(fused_fixtures.Encoder())
    call = lambda model: lambda x, mask: model(x, attention_mask=mask)[0]
    targets = end_to_end.ATTENTION["bert"] + end_to_end.MLP["bert"]
    yield "bert-masked", encoder.model, call, {"x": tokens, "mask": mask}, targets, fixtures
    call = lambda model: model
    yield "gpt2-plain", with_weights(fused_fixtures.Decoder()), call, {"x": tokens}, ["c_attn", "c_proj"], [(["gpt2-plain"], 2, "float")]
    decoder = split(with_weights(fused_fixtures.Decoder()))
    yield "gpt2-fused", decoder, call, {"x": tokens}, ["q", "k", "v", "c_proj"], [(["gpt2-fused"], 2, "float")]


# ---------------------------------------------------------------------------------------------------------------- quantised weights


def module_name(node):
    """Returns the module of a product: its node is named `/model/<modules>/<operator>`."""
    return ".".join(node.name.split("/")[2:-1])


def set_weight(module, weight):
    """Sets a weight of the shape `[in, out]`, as ONNX multiplies by it."""
    is_linear = isinstance(module, nn.Linear)
    original = module.weight.T if is_linear else module.weight
    step = np.abs(original.detach().numpy() - weight).max()
    assert step < 0.1, f"{step}: not the weight of this module"
    weight = torch.tensor(np.ascontiguousarray(weight.T if is_linear else weight), dtype=torch.float32)
    module.weight = nn.Parameter(weight)


def nibbles(packed):
    """Returns two numbers for each byte of the last axis, the lower bits first."""
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


def with_quantised_weights(model, fixture):
    """Returns a copy with the dequantised weights of the fixture, and the names of the modules whose inputs are rounded."""
    model = copy.deepcopy(model)
    graph = onnx.load(FIXTURES / f"{fixture}.onnx").graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    rounded = []
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            packed, scales, zeros = (tensors[name] for name in node.input[1:4])
            rows, blocks, _ = packed.shape
            zeros = nibbles(zeros.reshape(rows, -1))[:, :blocks, None].astype("f4")
            weight = (nibbles(packed).astype("f4") - zeros) * scales.reshape(rows, blocks, 1).astype("f4")
            set_weight(model.get_submodule(module_name(node)), weight.reshape(rows, -1).T)
        if node.op_type == "MatMulInteger":
            weight, zero = tensors[node.input[1]].astype("f4"), tensors[node.input[3]].astype("f4")
            scale = tensors[node.input[1].removesuffix("_quantized") + "_scale"]
            set_weight(model.get_submodule(module_name(node)), (weight - zero) * scale)
            rounded.append(module_name(node))
    for name, module in model.named_modules():
        weight = f"model.{name}.weight"
        if isinstance(module, nn.Embedding) and f"{weight}_quantized" in tensors:
            numbers, zero = (tensors[f"{weight}_{part}"].astype("f4") for part in ("quantized", "zero_point"))
            set_weight(module, (numbers - zero) * tensors[f"{weight}_scale"])
    return model, rounded


def in_half(model):
    """Returns a copy whose weights are rounded to float16."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model


def round_dynamically(x):
    """DynamicQuantizeLinear and DequantizeLinear; the gradient passes straight through."""
    value = x.detach()
    low, high = value.min().clamp(max=0), value.max().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round()
    return x + (((value / scale).round() + zero).clamp(0, 255) - zero) * scale - value


class QuantisedGraph:
    """The graph of a QDQ fixture in PyTorch, in float64."""

    def __init__(self, fixture, layers):
        self.layers = layers
        self.graph = onnx.load(FIXTURES / f"{fixture}.onnx").graph
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.constants = {name: torch.tensor(array) for name, array in arrays.items()}
        self.producers = {output: node for node in self.graph.node for output in node.output}
        # The name of a layer's output, with its bias and after the pair that quantises it → the input of the product, and the layer.
        self.outputs = {}
        for node in self.graph.node:
            name = module_name(node)
            if node.op_type == "MatMul" and name in layers:
                output = self.after_pair(self.reader(self.after_pair(node)))
                self.outputs[output.output[0]] = (node.input[0], layers[name])
        assert len(self.outputs) == len(layers)

    def reader(self, node):
        (only,) = [other for other in self.graph.node if node.output[0] in other.input]
        return only

    def after_pair(self, node):
        """Returns the DequantizeLinear after a node."""
        pair = self.reader(self.reader(node))
        assert pair.op_type == "DequantizeLinear"
        return pair

    def is_quantised(self, node):
        """Runtimes compute these nodes with integers. They read a layer's new output rounded as the original one was."""
        if any(self.producers.get(name) is None or self.producers[name].op_type != "DequantizeLinear" for name in node.input):
            return False
        readers = [other for other in self.graph.node if node.output[0] in other.input]
        return node.op_type in ("MatMul", "Gemm") or [reader.op_type for reader in readers] == ["QuantizeLinear"]

    def __call__(self, inputs, perturb=lambda x: x):
        values, rounded = {**self.constants, **inputs}, {}

        def quantise(x, scale, zero):
            limits = torch.iinfo(zero.dtype)
            real = (perturb(x) / scale + zero).clamp(limits.min - 0.5, limits.max + 0.5)
            return real + (real.detach().round().clamp(limits.min, limits.max) - real.detach())

        for node in self.graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            read = rounded if self.is_quantised(node) else {}
            args = [read.get(name, values.get(name)) for name in node.input]
            args = [x.double() if x.dtype == torch.float32 else x for x in args]
            y = self.compute(node.op_type, args, attributes, quantise)
            (output,) = node.output
            if output in self.outputs:
                name, layer = self.outputs[output]
                y = y + values[name] @ delta_weight(layer, "default").T
                pair = args[1:]
                rounded[output] = (quantise(y, *pair) - pair[1]) * pair[0]
            values[output] = y
        return values[self.graph.output[0].name]

    @staticmethod
    def compute(operator, args, attributes, quantise):
        x = args[0] if args else None
        match operator:
            case "Constant":
                return torch.tensor(numpy_helper.to_array(attributes["value"]))
            case "QuantizeLinear":
                return quantise(*args)
            case "DequantizeLinear":
                return (x - args[2].double()) * args[1]
            case "ConstantOfShape":
                return torch.full(x.tolist(), numpy_helper.to_array(attributes["value"])[0].item())
            case "Gather":
                indices, axis = args[1], attributes.get("axis", 0)
                return x.index_select(axis, indices.reshape(-1)).reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])
            case "GatherElements":
                return torch.gather(x, attributes["axis"], args[1])
            case "Expand":
                return x.expand(torch.broadcast_shapes(x.shape, args[1].tolist()))
            case "Reshape":
                return x.reshape(args[1].tolist())
            case "Transpose":
                return x.permute(attributes["perm"])
            case "Softmax":
                return x.softmax(attributes["axis"])
            case "LayerNormalization":
                return nn.functional.layer_norm(x, x.shape[-1:], *args[1:], attributes["epsilon"])
            case "Gemm":
                return x @ args[1].T + args[2]
        functions = {
            "Add": torch.add, "Mul": torch.mul, "Div": torch.div, "MatMul": torch.matmul, "Equal": torch.eq, "Where": torch.where,
            "Erf": torch.erf, "Tanh": torch.tanh,
        }
        return functions[operator](*args)


# ---------------------------------------------------------------------------------------------------------------- gradients


def delta_weight(self, adapter):
    """PEFT's get_delta_weight, which computes in float32, in the type of the coefficients."""
    spectrum, (rows, columns) = self.fourierft_spectrum[adapter], self.indices[adapter]
    dense = torch.zeros(self.out_features, self.in_features, dtype=spectrum.dtype)
    dense[rows, columns] = spectrum
    return torch.fft.ifft2(dense).real * self.fourierft_scaling[adapter]


def layers_of(adapted):
    prefix = "base_model.model."
    return {name.removeprefix(prefix): m for name, m in adapted.named_modules() if isinstance(m, FourierFTLayer)}


def gradient_of(adapted, call, inputs, seed):
    """Returns the loss, and dL/dc of all layers, one after the other."""
    return gradient_of_loss((call(adapted.base_model.model)(*inputs) * seed).sum(), layers_of(adapted))


def gradient_of_loss(loss, layers):
    gradients = torch.autograd.grad(loss, [layer.fourierft_spectrum["default"] for layer in layers.values()])
    return loss.item(), torch.cat([g.double() for g in gradients])


def in_double(adapted):
    adapted = copy.deepcopy(adapted).double()
    for layer in layers_of(adapted).values():
        layer.get_delta_weight = delta_weight.__get__(layer)
    return adapted


def relative(gradient, expected):
    return ((gradient - expected).norm() / expected.norm()).item()


def with_changed_inputs(adapted, names, change):
    """Returns a copy in float64 in which the inputs of the named frozen layers pass through `change`."""
    exact = in_double(adapted)
    for name in names:
        module = exact.base_model.model.get_submodule(name)
        frozen = module.get_base_layer() if isinstance(module, FourierFTLayer) else module
        frozen.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    return exact


def with_adapters(model, name, targets):
    config = FourierFTConfig(
        n_frequency=N, scaling=SCALING, target_modules=targets, init_weights=False, fan_in_fan_out=name in ("gpt2", "gpt2-plain")
    )
    torch.manual_seed(1)
    return get_peft_model(copy.deepcopy(model), config).eval()


def case(model, name, call, targets, rows, seed, fixtures, kind):
    """Returns the gradient of fixtures with the same weights, and its tolerance relative to the norm."""
    as_double = [x.double() if x.is_floating_point() else x for x in rows]
    rounded = []
    if kind in ("q4", "q8", "q4f16"):
        model, rounded = with_quantised_weights(model, fixtures[0])
    if kind in ("half", "q4f16"):
        model = in_half(model)
    adapted = with_adapters(model, name, targets)
    exact = with_changed_inputs(adapted, rounded, round_dynamically)
    loss, expected = gradient_of(exact, call, as_double, seed.double())

    def error(other, inputs=as_double, seed=seed.double()):
        return relative(gradient_of(other, call, inputs, seed)[1], expected)

    def noise(x):
        return x * (1 + 2.0**-16 * (2 * torch.rand(x.shape, dtype=x.dtype) - 1))

    torch.manual_seed(2)
    result = {"fixtures": fixtures, "rows": len(rows[0])}
    if kind in ("float", "q4"):
        _, single = gradient_of(adapted, call, rows, seed)
        result["float32Error"] = relative(single, expected)
        result["float32LayerError"] = max(relative(a, b) for a, b in zip(single.split(N), expected.split(N)))
    elif kind == "q8":
        noisy = with_changed_inputs(adapted, rounded, lambda x: round_dynamically(noise(x)))
        result["tolerance"] = max(error(noisy) for _ in range(RUNS))
    elif kind == "qdq":
        layers = layers_of(exact)
        graph = QuantisedGraph(fixtures[0], layers)

        def gradient(perturb):
            return gradient_of_loss((graph({"x": rows[0]}, perturb) * seed.double()).sum(), layers)

        loss, expected = gradient(lambda x: x)
        result["tolerance"] = max(relative(gradient(noise)[1], expected) for _ in range(RUNS))
    else:
        half = copy.deepcopy(adapted).half()
        for layer in layers_of(half).values():
            layer.fourierft_spectrum.float()
        result["tolerance"] = 4 * error(half, rows, seed.half())
    return {**result, "loss": loss, "gradient": pack(expected)}


def main():
    FOLDER.mkdir(exist_ok=True, parents=True)
    versions = {p.__name__: p.__version__ for p in (torch, transformers, diffusers, peft, onnx)}
    print(versions)
    for name, model, call, inputs, targets, fixtures in oracles():
        adapted = with_adapters(model, name, targets)
        rows = list(inputs.values())
        output = call(model)(*rows)
        torch.manual_seed(3)
        # These numbers are exact in float16.
        seed = torch.randint(-64, 65, output.shape) / 64
        modules = {
            module: {"shape": [layer.out_features, layer.in_features], "rows": indices[0].tolist(), "columns": indices[1].tolist()}
            for module, layer in layers_of(adapted).items()
            for indices in [layer.indices["default"]]
        }
        cases = [
            case(model, name, call, targets, [x[:count] for x in rows], seed[:count], names, kind)
            for names, count, kind in fixtures
        ]
        vectors = {
            "versions": versions,
            "inputs": {key: pack(x) for key, x in inputs.items()},
            "seed": pack(seed),
            "scaling": SCALING,
            "coefficients": pack(torch.cat([layer.fourierft_spectrum["default"] for layer in layers_of(adapted).values()])),
            "modules": modules,
            "cases": cases,
        }
        text = json.dumps(vectors, separators=(",", ":")).replace('},"', '},\n"').replace('},{', '},\n{')
        (FOLDER / f"{name}.json").write_text(text + "\n")
        for one in cases:
            print({key: value for key, value in one.items() if key != "gradient"})


if __name__ == "__main__":
    main()
