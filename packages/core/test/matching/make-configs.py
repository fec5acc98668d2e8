"""Writes __fixtures__/peft-configs.json: adapter_config.json texts exactly as PEFT saves them.

Run with the versions that the fixture records: PYTHONHASHSEED=0 python make-configs.py
"""

import json
import platform
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from peft import FourierFTConfig, PeftConfig, PeftModel, get_peft_model

LONG_NAMES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(6) for p in "qkvo"]

CONFIGS = {
    "defaults": {},
    "bert": dict(target_modules=["query", "value"], n_frequency=2000, scaling=110.0, task_type="SEQ_CLS", random_loc_seed=2024),
    "regular expression": dict(target_modules=r".*layers\.(\d|1[0-5])\.self_attn\.(q|v)_proj$", exclude_modules=r".*vision.*"),
    "all-linear": dict(target_modules="all-linear", exclude_modules=["lm_head"]),
    "layers": dict(target_modules=["q_proj"], layers_to_transform=[0, 2, 31], layers_pattern=["layers", "h"]),
    "one layer": dict(target_modules=["q_proj"], layers_to_transform=3, layers_pattern="layers"),
    "no layers": dict(target_modules=["q_proj"], layers_to_transform=[], layers_pattern=[]),
    "pattern": dict(target_modules=["q_proj", "v_proj"], n_frequency_pattern={"v_proj": 500, "7": 3, "10": 4, "é\u2028\U0001f600\"\\\n\x7f": 5}),
    "integer scaling": dict(scaling=300),
    "tiny scaling": dict(scaling=1e-05),
    "large scaling": dict(scaling=1.5e300),
    "16 digits": dict(scaling=1e16),
    "15 digits": dict(scaling=123456789012345.6),
    "tenth": dict(scaling=0.1 + 0.2),
    "negative zero": dict(scaling=-0.0),
    "subnormal": dict(scaling=5e-324),
    "seed 64 bits": dict(random_loc_seed=2**64 - 1),
    "seed beyond 2^53": dict(random_loc_seed=2**53 + 1),
    "negative seed": dict(random_loc_seed=-(2**63)),
    "null pattern": dict(target_modules=["q_proj"], n_frequency_pattern=None),
    "modules to save": dict(target_modules=["dense"], modules_to_save=["classifier", "score"], bias="fourierft_only", init_weights=True, fan_in_fan_out=True),
    "prototype names": dict(target_modules=["constructor", "toString"], n_frequency_pattern={"constructor": 9, "hasOwnProperty": 8, "prototype": 7}),
    "base model": dict(base_model_name_or_path="éclair/модель-😀", revision="main", inference_mode=True, bias="all"),
    "auto mapping": dict(auto_mapping={"base_model_class": "LlamaModel", "parent_library": "transformers"}),
    "many targets": dict(target_modules=LONG_NAMES),
}


def saved(config: PeftConfig) -> str:
    with tempfile.TemporaryDirectory() as directory:
        config.save_pretrained(directory)
        return (Path(directory) / "adapter_config.json").read_text()


def saved_model() -> str:
    """The file of PeftModel.save_pretrained after injection, with all values that PEFT resolves."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    adapted = get_peft_model(model, FourierFTConfig(target_modules="all-linear", n_frequency=4))
    with tempfile.TemporaryDirectory() as directory:
        adapted.save_pretrained(directory)
        return (Path(directory) / "adapter_config.json").read_text()


def refusals(peft_type: str) -> dict:
    """PEFT's errors for a peft_type that it does not know, from both functions that load."""
    answers = {}
    with tempfile.TemporaryDirectory() as directory:
        FourierFTConfig(target_modules=["0"], n_frequency=4).save_pretrained(directory)
        path = Path(directory) / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "peft_type": peft_type}))
        model = torch.nn.Sequential(torch.nn.Linear(4, 4))
        for name, load in {
            "PeftConfig.from_pretrained": lambda: PeftConfig.from_pretrained(directory),
            "PeftModel.from_pretrained": lambda: PeftModel.from_pretrained(model, directory),
        }.items():
            try:
                load()
                answers[name] = "loaded"
            except Exception as error:
                answers[name] = f"{type(error).__name__}: {error}"
    return answers


fixture = {
    "versions": {"python": platform.python_version(), "peft": peft.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
    "refusals": refusals("FOURIERFT_STANDALONE"),
    "floats": [repr(x) for x in [0.0, 1.0, -1.5, 9.999e15, 9999999999999998.0, 1e16, 1.2e22, 0.0001, 0.00012, 9.9e-05, 1e-7, 1.7976931348623157e308, 2.0**60]],
    "configs": {name: saved(FourierFTConfig(**arguments)) for name, arguments in CONFIGS.items()} | {"saved model": saved_model()},
}
path = Path(__file__).parent / "__fixtures__" / "peft-configs.json"
path.write_text(json.dumps(fixture, indent=1, ensure_ascii=True) + "\n")
