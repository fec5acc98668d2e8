"""What is measured for one size: the branch with each kernel, the frozen layer, PEFT's LoRA and FourierFT, and cuFFT. Each contender has several sets of
inputs (weights among them), together larger than the GPU's cache unless 16 of them are smaller, and uses them in turn."""

import torch
import torch.nn.functional as F

import peft_layer
from branch import branch, name_of
from ceilings import allow_tf32
from clock import Contender


def layer_calls(size, layers, dtype, mode):
    """Calls of layers of PyTorch, each with its own inputs. Training computes the gradients of x and of the trained parameters."""
    def call(layer, x, g):
        if mode == "forward":
            def run():
                with torch.no_grad():
                    layer(x)
        else:
            def run():
                leaf = x.detach().requires_grad_()
                torch.autograd.grad(layer(leaf), [leaf, *weights_of(layer)], g)
        return run

    def weights_of(layer):
        return peft_layer.trained(layer) if isinstance(layer, torch.nn.Module) else []

    return [call(layer, size.activations(dtype), size.activations(dtype)) for layer in layers]


def frozen(size, dtype, mode, tf32=False):
    element = torch.empty(0, dtype=dtype).element_size()
    count = size.sets(element * (size.d**2 + 2 * size.tokens * size.d))
    weights = [torch.randn(size.d, size.d, device=size.device).to(dtype) for _ in range(count)]
    calls = layer_calls(size, [lambda x, w=w: F.linear(x, w) for w in weights], dtype, mode)
    if not tf32:
        return Contender(f"frozen {name_of(dtype)}", calls)

    def with_tf32(call):
        def run():
            allow_tf32(True)
            call()
            allow_tf32(False)
        return run

    return Contender("frozen TF32", [with_tf32(call) for call in calls])


def lora(size, layers, mode):
    count = size.sets(2 * (size.d**2 + 2 * size.tokens * size.d))
    return Contender("LoRA bfloat16", layer_calls(size, layers.lora(count), torch.bfloat16, mode))


def peft_fourierft(size, layers, mode):
    """PEFT copies indices to the GPU in every call, which a graph cannot hold."""
    return Contender("PEFT FourierFT bfloat16", layer_calls(size, layers.fourierft(2), torch.bfloat16, mode), in_graph=False, max_samples=5)


def fft(size, mode):
    """A real transform of each row and the inverse one, in float32: cuFFT on a GPU. Training needs them twice."""
    inputs = [size.activations(torch.float32) for _ in range(size.sets(4 * 3 * size.tokens * size.d))]

    def call(x):
        def run():
            for _ in range(2 if mode == "training" else 1):
                torch.fft.irfft(torch.fft.rfft(x), n=size.d)
        return run

    return Contender("two FFTs float32", [call(x) for x in inputs])


def for_mode(size, plans, layers, mode):
    """All contenders; `layers` are PEFT's of this size. The backward call alone is measured only for the branch."""
    kinds = [contender for dtype in (torch.bfloat16, torch.float32) for contender in branch(size, plans, dtype, mode)]
    if mode == "backward":
        return kinds
    return [*kinds, frozen(size, torch.bfloat16, mode), frozen(size, torch.float32, mode), frozen(size, torch.float32, mode, tf32=True),
            lora(size, layers, mode), peft_fourierft(size, layers, mode), fft(size, mode)]
