"""Writes __fixtures__/peft-matches.json: the modules that PEFT adapts, and their numbers of coefficients, in small models with real names.

Run with the versions that the fixture records: PYTHONHASHSEED=0 python make-matches.py
"""

import copy
import json
import platform
import random
import re
import tempfile
import warnings
from pathlib import Path

import peft
import torch
import transformers
from peft import FourierFTConfig
from peft.tuners.fourierft import FourierFTModel
from peft.tuners.fourierft.layer import FourierFTLayer
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn
from transformers.pytorch_utils import Conv1D

warnings.simplefilter("ignore")
random.seed(2024)
torch.manual_seed(0)
TINY = dict(hidden_size=16, num_attention_heads=2, intermediate_size=16)


def odd() -> nn.Module:
    """A model whose names are special in JavaScript objects or regular expressions."""
    model = nn.Module()
    for name in ["constructor", "toString", "prototype", "hasOwnProperty", "é", "a+b", "7", "10", "q_proj", "xq_proj"]:
        model.add_module(name, nn.Linear(8, 8))
    model.layers = nn.ModuleList(nn.ModuleDict({"q_proj": nn.Linear(8, 8), "constructor": nn.Linear(8, 8)}) for _ in range(3))
    model.blocks = nn.ModuleDict({"٣": nn.ModuleDict({"q_proj": nn.Linear(8, 8)}), "2": nn.ModuleDict({"experts": nn.ModuleList([nn.ModuleDict({"q_proj": nn.Linear(8, 8)})])})})
    return model


def models() -> dict[str, nn.Module]:
    t = transformers
    return {
        "bert": t.BertForSequenceClassification(t.BertConfig(**TINY, num_hidden_layers=12, vocab_size=9, max_position_embeddings=8)),
        "roberta": t.RobertaForSequenceClassification(t.RobertaConfig(**TINY, num_hidden_layers=2, vocab_size=9, max_position_embeddings=8)),
        "gpt2": t.GPT2LMHeadModel(t.GPT2Config(n_embd=16, n_head=2, n_layer=3, vocab_size=9, n_positions=8)),
        "llama": t.LlamaForCausalLM(t.LlamaConfig(**TINY, num_hidden_layers=12, num_key_value_heads=2, vocab_size=9)),
        "vit": t.ViTForImageClassification(t.ViTConfig(**TINY, num_hidden_layers=3, image_size=8, patch_size=4)),
        "t5": t.T5ForConditionalGeneration(t.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, vocab_size=9)),
        "odd": odd(),
    }


MODELS = models()
LINEAR = (nn.Linear, Conv1D)


def facts(model: nn.Module) -> dict:
    names = {module: name for name, module in model.named_modules()}
    result = {
        "names": [name for name, _ in model.named_modules()],
        "linear": [name for name, module in model.named_modules() if isinstance(module, LINEAR)],
    }
    if isinstance(model, transformers.PreTrainedModel):
        result["modelType"] = model.config.model_type
        output = model.get_output_embeddings()
        if output is not None:
            result["outputLayer"] = names[output]
    else:
        result["outputLayer"] = None
    return result


FACTS = {name: facts(model) for name, model in MODELS.items()}

HAND = [
    ("bert", dict(target_modules=["query", "value"])),
    ("bert", dict(target_modules=["attention.self.query"], n_frequency_pattern={"query": 5, "layer.1.attention.self.query": 6})),
    ("bert", dict(target_modules=["query"], n_frequency_pattern={"layer.1.attention.self.query": 6, r"layer\.1\.attention.*": 7, "query": 5})),
    ("bert", dict(target_modules=["query", "key"], n_frequency_pattern={"key|query": 4, "quer.": 3})),
    ("bert", dict(target_modules=["query"], n_frequency_pattern={"bert.encoder.layer.3.attention.self.query": 9, "(": 3})),
    ("bert", dict(target_modules=["query"], n_frequency_pattern={"bert.encoder.layer.3.attention.self.query": 9})),
    ("bert", dict(target_modules=["classifier"], n_frequency_pattern={"classifier": 3})),
    ("bert", dict(target_modules=["dense"], modules_to_save=["classifier", "pooler"])),
    ("bert", dict(target_modules=["dense"], modules_to_save=["output.dense", "attention.*"])),
    ("bert", dict(target_modules=["dense"], exclude_modules=["attention.output.dense", "bert.pooler.dense"])),
    ("bert", dict(target_modules=["dense"], exclude_modules=r".*layer\.(\d|10)\..*")),
    ("bert", dict(target_modules=["query"], exclude_modules=["query"])),
    ("bert", dict(target_modules=["queri"])),
    ("bert", dict(target_modules=[])),
    ("bert", dict(target_modules="")),
    ("bert", dict(target_modules="query")),
    ("bert", dict(target_modules="all-linear")),
    ("bert", dict(target_modules="ALL-Linear", task_type="SEQ_CLS")),
    ("bert", dict(target_modules="all-linear", task_type="SEQ_CLS", exclude_modules=["key", "dense"])),
    ("bert", dict(target_modules="dummy-target-modules")),
    ("bert", dict()),
    ("bert", dict(target_modules=["query"], layers_to_transform=1)),
    ("bert", dict(target_modules=["query"], layers_to_transform=[0, 11], layers_pattern="layer")),
    ("bert", dict(target_modules=["query"], layers_to_transform=[0, 11], layers_pattern=["layers", "h"])),
    ("bert", dict(target_modules=["query"], layers_to_transform=[0, 11], layers_pattern=["h", "layer"])),
    ("bert", dict(target_modules=["query"], layers_to_transform=[0, 11], layers_pattern="encoder|layer")),
    ("bert", dict(target_modules=["query"], layers_to_transform=[0, 11], layers_pattern="(?:enc|dec)oder.layer")),
    ("bert", dict(target_modules=["query"], layers_to_transform=[], layers_pattern=[])),
    ("bert", dict(target_modules=["query", "bert.pooler.dense"], layers_to_transform=[2])),
    ("bert", dict(target_modules=["bert.encoder.layer.4.attention.self.query", "key"], layers_to_transform=[2])),
    ("roberta", dict(target_modules="all-linear", task_type="SEQ_CLS")),
    ("roberta", dict(target_modules=["dense"], modules_to_save=["classifier"])),
    ("roberta", dict()),
    ("gpt2", dict(target_modules=["c_attn"], fan_in_fan_out=True)),
    ("gpt2", dict(target_modules=["c_proj"])),
    ("gpt2", dict(target_modules=["attn.c_proj"], layers_to_transform=[1, 2], layers_pattern="h")),
    ("gpt2", dict(target_modules="all-linear")),
    ("gpt2", dict()),
    ("gpt2", dict(target_modules=r"transformer\.h\.[02]\.mlp\.c_(fc|proj)")),
    ("gpt2", dict(target_modules=["wte"])),
    ("llama", dict(target_modules=["q_proj", "v_proj"], n_frequency_pattern={"q_proj": 9, r"layers\.1\d\.self_attn\.v_proj": 10})),
    ("llama", dict(target_modules=r"^(?!.*layers\.(0|1)\.).*self_attn\.(q|v)_proj$")),
    ("llama", dict(target_modules=r"^(model(?=\.).*\.(q_proj|gate_proj))$")),
    ("llama", dict(target_modules=r".*(q_proj")),
    ("llama", dict(target_modules="all-linear", n_frequency_pattern={"mlp.*": 5})),
    ("llama", dict(target_modules=["lm_head", "k_proj"])),
    ("llama", dict(target_modules=[f"model.layers.{i}.self_attn.{p}_proj" for i in range(12) for p in "qv"])),
    ("llama", dict(target_modules=[f"model.layers.{i}.self_attn.{p}_proj" for i in range(12) for p in "qv"], layers_to_transform=[3])),
    ("llama", dict(target_modules=[f"model.layers.{i}.self_attn.{p}_proj" for i in range(10) for p in "qvk"], layers_to_transform=[3])),
    ("llama", dict(target_modules=[f"model.layers.{i}.self_attn.q_proj" for i in range(12)], layers_to_transform=[3])),
    ("llama", dict()),
    ("vit", dict(target_modules=["query", "value"], modules_to_save=["classifier"])),
    ("vit", dict(target_modules="all-linear")),
    ("vit", dict(target_modules=["projection"])),
    ("vit", dict()),
    ("t5", dict(target_modules=".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$")),
    ("t5", dict(target_modules=["q", "v"], layers_to_transform=[0], layers_pattern="block")),
    ("t5", dict(target_modules=["q", "v"], layers_to_transform=[1])),
    ("t5", dict(target_modules="all-linear")),
    ("t5", dict()),
    ("odd", dict(target_modules=["constructor", "toString", "prototype"])),
    ("odd", dict(target_modules=["constructor"], n_frequency_pattern={"constructor": 3, "toString": 4})),
    ("odd", dict(target_modules=["toString", "constructor", "valueOf"], n_frequency_pattern={"toString": 3})),
    ("odd", dict(target_modules=["7", "10", "é", "a+b"], n_frequency_pattern={"10": 2, "7": 3, "a+b": 4})),
    ("odd", dict(target_modules=["q_proj"], layers_to_transform=[3])),
    ("odd", dict(target_modules=["q_proj"], layers_to_transform=3, layers_pattern=r"blocks")),
    ("odd", dict(target_modules=["q_proj"], layers_to_transform=2, layers_pattern=r"blo\w+")),
    ("odd", dict(target_modules=["q_proj"], layers_to_transform=0, layers_pattern=["experts", "layers"])),
    ("odd", dict(target_modules=["q_proj"], layers_to_transform=[0, 2])),
    ("odd", dict(target_modules="all-linear")),
    ("odd", dict(target_modules="all-linear", task_type="SEQ_CLS")),
    ("odd", dict(target_modules=r"\w")),
    ("odd", dict(target_modules=r"blocks\.\d\.q_proj")),
    ("odd", dict(target_modules=r"(?a)blocks\.\d\..*")),
    ("odd", dict()),
]


def generated(model: str) -> dict:
    linear = FACTS[model]["linear"]

    def ending() -> str:
        parts = random.choice(linear).split(".")
        return ".".join(parts[-random.randint(1, len(parts)) :])

    def pattern(edits: int = 2) -> str:
        text = ending()
        for _ in range(random.randint(0, edits)):
            at = random.randrange(len(text) + 1)
            text = text[:at] + random.choice([".", ".*", ".*", "|", "|", "?", r"\.", r"\w+", r"\w+", "[a-z]*", "x", "(", "["]) + text[at:]
        return text

    def endings() -> list[str]:
        return [ending() for _ in range(random.choice([1, 2, 3, 30]))]

    arguments = dict(target_modules=endings())
    if random.random() < 0.2:
        arguments["target_modules"] = random.choice([".*", ".*?", r".*\."]) + pattern()
    elif random.random() < 0.5:
        arguments["layers_to_transform"] = random.choice([0, 1, [0], [1, 2], [0, 2, 11]])
        if random.random() < 0.6:
            arguments["layers_pattern"] = random.choice(["layers", "layer", "h", "block", ["layer", "layers"], "layer.?", "[a-z]+", pattern()])
    if random.random() < 0.3:
        arguments["exclude_modules"] = random.choice([endings()[:2], ".*" + pattern()])
    if random.random() < 0.2:
        arguments["modules_to_save"] = [pattern()]
    if random.random() < 0.8:
        arguments["n_frequency_pattern"] = {pattern(1): n for n in range(1, random.randint(3, 6))}
    return arguments


def loaded(text: str) -> FourierFTConfig:
    """The configuration as PEFT reads it. Its pattern has the order of the file, which is sorted."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "adapter_config.json").write_text(text)
        return FourierFTConfig.from_pretrained(directory)


def in_model(text: str) -> FourierFTConfig:
    """The configuration that the tuner gets from PeftModel, whose classes for tasks add the names of heads."""
    config = loaded(text)
    heads = {"SEQ_CLS": ["classifier", "score"], "TOKEN_CLS": ["classifier", "score"], "QUESTION_ANS": ["qa_outputs"]}
    if config.task_type in heads:
        config.modules_to_save = [*(config.modules_to_save or []), *heads[config.task_type]]
    return config


def saved(config: FourierFTConfig) -> str:
    with tempfile.TemporaryDirectory() as directory:
        config.save_pretrained(directory)
        return (Path(directory) / "adapter_config.json").read_text()


DEFAULTS = json.loads(saved(FourierFTConfig()))


def case(name: str, arguments: dict) -> dict | None:
    text = saved(FourierFTConfig(n_frequency=12, **arguments))
    # PEFT's defaults are left out to keep the fixture small. The order of the keys stays.
    written = {key: value for key, value in json.loads(text).items() if key == "peft_type" or value != DEFAULTS[key]}
    result = {"model": name, "config": json.dumps(written)}
    names = FACTS[name]["names"]
    try:
        tuner = FourierFTModel(copy.deepcopy(MODELS[name]), {"default": in_model(text)}, "default")
    except re.error:
        return {**result, "error": "INVALID_PATTERN"}
    except (ValueError, KeyError) as error:
        message = str(error)
        if "n_frequency" in message:
            return None
        if "Please specify `target_modules`" in message or isinstance(error, KeyError):
            return {**result, "error": "INVALID_OPTION"}
        return {**result, "error": "MODULE_NOT_FOUND", "message": message}
    except TypeError as error:
        if "is not supported" not in str(error) and "Unsupported layer" not in str(error):
            raise
        # PEFT's rules match a module that FourierFT cannot adapt. Then only the matching is recorded.
        config = in_model(text)
        if isinstance(config.target_modules, set) and len(config.target_modules) >= 20:
            return None
        matched = [key for key in names if key and check_target_module_exists(config, key)]
        return {**result, "matched": [names.index(key) for key in matched]}
    matched = tuner.targeted_module_names
    layers = {key: module for key, module in tuner.model.named_modules() if isinstance(module, FourierFTLayer)}
    assert list(layers) == matched or set(layers) == set(matched)
    return {
        **result,
        "matched": [names.index(key) for key in matched],
        "frequencies": [layers[key].fourierft_n_frequency["default"] for key in matched],
    }


cases = [case(*hand) for hand in HAND]
for model in MODELS:
    for _ in range(45):
        cases.append(case(model, generated(model)))
cases = [one for one in cases if one]
fixture = {
    "versions": {"python": platform.python_version(), "peft": peft.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
    "models": FACTS,
    "cases": cases,
}
path = Path(__file__).parent / "__fixtures__" / "peft-matches.json"
with path.open("w") as file:
    for key, value in fixture.items():
        rows = json.dumps(value) if key != "cases" else "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        file.write(f'{"{" if key == "versions" else ","}{json.dumps(key)}: {rows}\n')
    file.write("}\n")
print(len(cases), "cases,", sum("error" in one for one in cases), "errors,", sum(bool(one.get("matched")) for one in cases), "with matches")
