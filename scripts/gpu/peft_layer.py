"""PEFT's own layers: a linear layer inside a model of one module, wrapped by `get_peft_model`."""

import warnings

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft


class _Float64(TorchFunctionMode):
    """PEFT's FourierFT converts its coefficients by `.float()`. In this mode they become float64, so that its own code computes in float64."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        return function(*arguments, **(keywords or {}))


class in_float64:
    """A context in which PEFT's FourierFT computes in float64. Numbers are exactly those of the layer."""

    def __enter__(self):
        self._default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        self._mode = _Float64()
        self._mode.__enter__()

    def __exit__(self, *problem):
        self._mode.__exit__(*problem)
        torch.set_default_dtype(self._default)


def linear(shape, device, dtype):
    """A frozen layer of shape (d1, d2) without bias, in a model."""
    model = nn.Sequential()
    model.add_module("linear", nn.Linear(shape[1], shape[0], bias=False, device=device, dtype=dtype))
    return model.requires_grad_(False)


def fourierft(shape, device, n, scaling, seed=777, adapters=1, dtype=torch.float32):
    """PEFT's FourierFT layer with random coefficients. All adapters have the same entries, and the names "0", "1" …"""
    model = linear(shape, device, dtype)
    config = peft.FourierFTConfig(n_frequency=n, scaling=scaling, target_modules=["linear"], random_loc_seed=seed, init_weights=False)
    model = peft.get_peft_model(model, config, adapter_name="0", autocast_adapter_dtype=False)
    for name in range(1, adapters):
        model.add_adapter(str(name), config)
    return model.base_model.model.linear


def lora(shape, device, dtype, rank=8):
    """PEFT's LoRA layer, its weights in the format of the frozen weight."""
    config = peft.LoraConfig(r=rank, target_modules=["linear"], init_lora_weights=False)
    model = peft.get_peft_model(linear(shape, device, dtype), config, autocast_adapter_dtype=False)
    return model.base_model.model.linear


def trained(layer):
    """The parameters that a training step computes gradients of."""
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]
