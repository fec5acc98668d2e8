"""Writes src/heads/__fixtures__/heads.json: what the heads of transformers' models compute, with the names that PEFT gives their weights.

    python scripts/head-vectors.py

Needs torch, transformers and peft. The models are tiny and random. `hidden` is the last hidden state, `saved` the tensors of PEFT's file that
are not of an adapted layer.
"""

import json
from pathlib import Path

import peft
import torch
import transformers
from peft import FourierFTConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

TEXT = dict(
    hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6, vocab_size=9, max_position_embeddings=12
)
SIZES = {
    "distilbert": dict(dim=4, n_layers=1, n_heads=2, hidden_dim=6, vocab_size=9, max_position_embeddings=12),
    "albert": dict(TEXT, embedding_size=4),
    "electra": dict(TEXT, embedding_size=4),
    "deberta": dict(TEXT, pooler_hidden_size=4),
    "deberta-v2": dict(TEXT, pooler_hidden_size=4),
}
IMAGE = dict(hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6, image_size=4, patch_size=2, num_channels=1)
# The last part of the names of adapted layers, and the modules in modules_to_save for the sequence head.
TEXTS = {
    "albert": ("query", ["albert.pooler", "classifier"]),
    "bert": ("query", ["bert.pooler.dense", "classifier"]),
    "camembert": ("query", ["classifier"]),
    "deberta": ("in_proj", ["pooler.dense", "classifier"]),
    "deberta-v2": ("query_proj", ["pooler.dense", "classifier"]),
    "distilbert": ("q_lin", ["pre_classifier", "classifier"]),
    "electra": ("query", ["classifier"]),
    "mpnet": ("attn.q", ["classifier"]),
    "roberta": ("query", ["classifier"]),
    "xlm-roberta": ("query", ["classifier"]),
}
IMAGES = ["deit", "dinov2", "vit", "vit_msn"]


def rounded(tensor):
    return {"shape": list(tensor.shape), "values": [float(f"{value:.8g}") for value in tensor.flatten().tolist()]}


def record(kind, model_type, task, sizes, target, modules_to_save, inputs):
    torch.manual_seed(7)
    config = AutoConfig.for_model(model_type, num_labels=3, **sizes)
    if model_type == "deit":
        config.architectures = ["DeiTForImageClassification"]
    base = kind.from_config(config).eval()
    for name, parameter in base.named_parameters():
        if "pooler" in name or "classifier" in name:
            torch.nn.init.normal_(parameter, std=0.7)
    hidden = []
    encoder = getattr(base, base.base_model_prefix)
    encoder.register_forward_hook(lambda *call: hidden.append(call[-1][0]))
    if target is None:
        target = next(name for name, module in encoder.named_modules() if isinstance(module, torch.nn.Linear)).split(".")[-1]
    adapter = FourierFTConfig(n_frequency=2, target_modules=[target], modules_to_save=modules_to_save)
    model = get_peft_model(base, adapter).eval()
    with torch.no_grad():
        logits = model(**inputs).logits
    state = get_peft_model_state_dict(model)
    return {
        "modelType": model_type,
        "task": task,
        "root": base.base_model_prefix,
        "modulesToSave": modules_to_save,
        "hidden": rounded(hidden[-1]),
        "saved": {name: rounded(tensor) for name, tensor in state.items() if not name.endswith("fourierft_spectrum")},
        "logits": rounded(logits),
    }


ids = {"input_ids": torch.tensor([[5, 6, 7], [8, 4, 3]]), "attention_mask": torch.ones(2, 3, dtype=torch.long)}
heads = []
for model_type, (target, saved) in TEXTS.items():
    sizes = SIZES.get(model_type, TEXT)
    heads.append(record(AutoModelForSequenceClassification, model_type, "text-classification", sizes, target, saved, ids))
    heads.append(record(AutoModelForTokenClassification, model_type, "token-classification", sizes, target, ["classifier"], ids))
torch.manual_seed(3)
pixels = {"pixel_values": torch.randn(2, 1, 4, 4)}
for model_type in IMAGES:
    heads.append(record(AutoModelForImageClassification, model_type, "image-classification", IMAGE, None, ["classifier"], pixels))
versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
path = Path(__file__).parent / "../src/heads/__fixtures__/heads.json"
path.write_text(json.dumps({"versions": versions, "heads": heads}, separators=(",", ":")) + "\n")
for head in heads:
    print(head["modelType"], head["task"], *head["saved"], head["logits"]["values"][:2])
