"""
Writes test/__fixtures__/minilm/gradients.json: for MiniLM with 8-bit weights and in float16, as test/minilm-types.ts converts it, the gradient of the
adapter in test/__fixtures__/minilm/adapter by PyTorch and PEFT in eval(), for the first batch of minilm-trajectory.py and its cosine similarity loss.

    python packages/onnxruntime/scripts/minilm-types.py MODEL.onnx

MODEL.onnx      as for train-minilm.py, whose files this program reads

Gradients are computed in float64, from weights and coefficients in float32. All errors are |g − g₆₄| / |g₆₄|, in the Euclidean norm over all layers.

- q8: the model has the dequantised weights, and the inputs of products are rounded as DynamicQuantizeLinear does; the gradient passes straight
  through. Another order of summation can move an activation across a rounding boundary. The tolerance is the largest error of RUNS runs whose
  activations are perturbed by 2⁻¹⁶, 256 roundings of float32, before they are rounded.
- float16: the model has the rounded weights. The tolerance is 4 times the error of PyTorch in float16; runtimes keep other intermediate values in
  float32, or round values that PyTorch does not.

The file was made with torch 2.13.0, transformers 5.23.0 and peft 0.21.0.
"""
import base64
import copy
import importlib
import json
import pathlib
import sys

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.fourierft.layer import FourierFTLayer

sys.path.insert(0, str(pathlib.Path(__file__).parent))
trajectory = importlib.import_module("minilm-trajectory")
train_minilm = trajectory.train_minilm

RUNS = 16


def layers_of(adapted):
    prefix = "base_model.model."
    return {name.removeprefix(prefix): m for name, m in adapted.named_modules() if isinstance(m, FourierFTLayer)}


def delta_weight(self, adapter):
    """PEFT's get_delta_weight, which computes in float32, in the type of the coefficients."""
    spectrum, (rows, columns) = self.fourierft_spectrum[adapter], self.indices[adapter]
    dense = torch.zeros(self.out_features, self.in_features, dtype=spectrum.dtype)
    dense[rows, columns] = spectrum
    return torch.fft.ifft2(dense).real * self.fourierft_scaling[adapter]


def adapted(model, to=torch.float64):
    """Returns the model with the adapter, in another type; the coefficients are at least float32."""
    result = PeftModel.from_pretrained(copy.deepcopy(model), train_minilm.FOLDER / "adapter", is_trainable=True).eval().to(to)
    for layer in layers_of(result).values():
        if to == torch.float64:
            layer.get_delta_weight = delta_weight.__get__(layer)
        else:
            layer.fourierft_spectrum.float()
    return result


def gradient_of(model, ids):
    loss = trajectory.cosine_similarity(*trajectory.embeddings(model, ids))
    layers = layers_of(model)
    gradients = torch.autograd.grad(loss, [layer.fourierft_spectrum["default"] for layer in layers.values()])
    return loss.item(), {name: g.double() for name, g in zip(layers, gradients, strict=True)}


def relative(gradients, expected):
    whole, of = torch.cat(list(gradients.values())), torch.cat(list(expected.values()))
    return ((whole - of).norm() / of.norm()).item()


def round_dynamically(x):
    """DynamicQuantizeLinear and DequantizeLinear; the gradient passes straight through."""
    value = x.detach()
    low, high = value.min().clamp(max=0), value.max().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round()
    return x + (((value / scale).round() + zero).clamp(0, 255) - zero) * scale - value


def noise(x):
    return x * (1 + 2.0**-16 * (2 * torch.rand(x.shape, dtype=x.dtype) - 1))


def with_rounded_inputs(model, change):
    result = adapted(model)
    for layer in layers_of(result).values():
        layer.get_base_layer().register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    # The only product without an adapter.
    for name, module in result.named_modules():
        if name.endswith("attention.output.dense") and not isinstance(module, FourierFTLayer):
            module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    return result


def in_eight_bits(model):
    """Rounds the weights of all products as test/minilm-types.ts does: 255 steps for each weight, with zero in the middle."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                scale = module.weight.abs().max() / 127
                module.weight.copy_((module.weight / scale).round() * scale)
    return model


def in_half(model):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model


def described(loss, gradients, tolerance):
    data = np.concatenate([g.numpy() for g in gradients.values()]).astype("<f4")
    packed = {"dtype": "float32", "shape": [len(data)], "data": base64.b64encode(data.tobytes()).decode()}
    return {"loss": loss, "tolerance": float(f"{tolerance:.2g}"), "modules": list(gradients), "gradient": packed}


def main():
    vectors = json.loads((train_minilm.FOLDER / "vectors.json").read_text())
    ham, spam = (trajectory.decode(vectors["mails"]["known"][name]) for name in ("ham", "spam"))
    ids = trajectory.make_batch(ham, spam, 0)
    model = train_minilm.load_encoder(sys.argv[1])
    torch.manual_seed(0)
    quantised = in_eight_bits(model)
    loss, expected = gradient_of(with_rounded_inputs(quantised, round_dynamically), ids)
    noisy = with_rounded_inputs(quantised, lambda x: round_dynamically(noise(x)))
    tolerance = max(relative(gradient_of(noisy, ids)[1], expected) for _ in range(RUNS))
    result = {"q8": described(loss, expected, tolerance)}
    half = in_half(model)
    loss, expected = gradient_of(adapted(half), ids)
    error = relative(gradient_of(adapted(half, torch.float16), ids)[1], expected)
    result["float16"] = described(loss, expected, 4 * error)
    print({kind: (one["loss"], one["tolerance"], len(one["modules"])) for kind, one in result.items()})
    text = json.dumps(result, separators=(",", ":")).replace('"gradient"', '\n"gradient"')
    (train_minilm.FOLDER / "gradients.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
