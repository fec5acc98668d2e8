"""Writes adapters with Hugging Face PEFT, for the tests of reading and writing.

Run with torch, transformers, peft and safetensors installed: python make-peft-adapters.py
The versions that made the committed files are in versions.json. The numbers come from torch.manual_seed.
"""

import json
import shutil
from pathlib import Path

import peft
import safetensors
import torch
from peft import FourierFTConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

HERE = Path(__file__).parent


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(12, 16)
        self.value = nn.Linear(12, 8)


class Model(nn.Module):
    def __init__(self, linear=nn.Linear):
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])
        self.dense = Conv1D(10, 6) if linear is Conv1D else nn.Linear(6, 10)
        self.classifier = nn.Linear(8, 3)
        self.config = {"model_type": "custom"}

    def forward(self, x):
        return x


CASES = {
    "plain": (dict(n_frequency=20, random_loc_seed=2024, target_modules=["query", "value"]), torch.float32, nn.Linear),
    "zeros": (dict(n_frequency=7, init_weights=True, scaling=300, target_modules=["query"]), torch.float32, nn.Linear),
    "regex": (
        dict(n_frequency=9, target_modules=r".*layers\.[01]\.(query|value)", exclude_modules=["layers.1.value"]),
        torch.float32,
        nn.Linear,
    ),
    "whole-modules": (
        dict(
            n_frequency=11,
            n_frequency_pattern={"layers.1.value": 5},
            target_modules=["query", "value"],
            modules_to_save=["classifier"],
            bias="all",
            scaling=0.5,
        ),
        torch.float32,
        nn.Linear,
    ),
    "conv1d": (dict(n_frequency=13, target_modules=["dense"], fan_in_fan_out=True), torch.float32, Conv1D),
    "bfloat16": (dict(n_frequency=20, target_modules=["query"]), torch.bfloat16, nn.Linear),
    "float16": (dict(n_frequency=20, target_modules=["query"], random_loc_seed=-5), torch.float16, nn.Linear),
    "all-linear-layer-0": (
        dict(n_frequency=8, target_modules=["query"], layers_to_transform=[0], layers_pattern="layers"),
        torch.float32,
        nn.Linear,
    ),
}


def main():
    root = HERE / "peft"
    shutil.rmtree(root, ignore_errors=True)
    for seed, (name, (options, dtype, linear)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = get_peft_model(Model(linear).to(dtype), FourierFTConfig(**options), autocast_adapter_dtype=False)
        directory = root / name
        model.save_pretrained(directory)
        (directory / "README.md").unlink()
        expected = {}
        for module_name, module in model.named_modules():
            if not hasattr(module, "fourierft_spectrum") or "default" not in module.fourierft_spectrum:
                continue
            expected[module_name.removeprefix("base_model.model.")] = {
                "shape": [module.out_features, module.in_features],
                "rows": module.indices["default"][0].tolist(),
                "columns": module.indices["default"][1].tolist(),
                "coefficients": module.fourierft_spectrum["default"].double().tolist(),
                "scaling": module.fourierft_scaling["default"],
            }
        (directory / "expected.json").write_text(json.dumps(expected) + "\n")
    versions = {"torch": torch.__version__.split("+")[0], "peft": peft.__version__, "safetensors": safetensors.__version__}
    (HERE / "versions.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()
