"""Loads an adapter with a head into MiniLM with PEFT, and prints the logits of texts as JSON.

    python mail-classifier-in-peft.py WEIGHTS.safetensors ADAPTER INPUTS.json

WEIGHTS.safetensors  the encoder's weights with the names of BertForSequenceClassification
ADAPTER              the folder of the adapter
INPUTS.json          a list of texts as token ids
"""

import json
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file

weights, adapter, inputs = sys.argv[1:]
config = transformers.BertConfig(
    vocab_size=30522,
    hidden_size=384,
    num_hidden_layers=3,
    num_attention_heads=12,
    intermediate_size=1536,
    num_labels=2,
)
base = transformers.BertForSequenceClassification(config).eval()
loaded = base.load_state_dict(load_file(weights), strict=False)
# The head comes from the adapter.
left = [name for name in loaded.missing_keys if not name.startswith(("classifier.", "bert.pooler."))]
if left or loaded.unexpected_keys:
    raise ValueError(f"missing: {left}, unexpected: {loaded.unexpected_keys}")
model = peft.PeftModel.from_pretrained(base, adapter).eval()
with open(inputs) as file:
    texts = json.load(file)
with torch.no_grad():
    logits = [model(input_ids=torch.tensor([ids])).logits[0].tolist() for ids in texts]
print(json.dumps(logits))
