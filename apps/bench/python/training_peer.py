"""Exports the encoder of the training benchmark as an ONNX file, or measures one training step of the same encoder with PEFT on PyTorch, on one
thread. The weights are random, and equal in both. Prints one line of JSON.

    python training_peer.py versions
    python training_peer.py export model.onnx --layers 4 --width 768
    python training_peer.py FourierFT | LoRA --layers 4 --width 768 --rows 8 --tokens 128 --steps 3

    {"milliseconds": [processor time of each step but the first], "peak": bytes}
"""

import argparse
import json
import os
import re
import time

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import peft
import torch
import transformers

torch.set_num_threads(1)
VOCABULARY = 30522


def encoder(options, attention="sdpa"):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=options.width // 64,
        intermediate_size=4 * options.width, num_labels=2, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    config._attn_implementation = attention
    return transformers.BertForSequenceClassification(config)


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def export(options):
    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "sequence"}
    torch.onnx.export(
        Logits(encoder(options, "eager").eval()), (ids, ids), options.path, input_names=["input_ids", "attention_mask"],
        output_names=["logits"], dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}},
        opset_version=17, dynamo=False)
    return {}


def versions(_):
    return {"versions": f"PyTorch {torch.__version__}, PEFT {peft.__version__}, Transformers {transformers.__version__}"}


def train(options):
    targets = ["query", "value"]
    config = (peft.LoraConfig(r=8, target_modules=targets) if options.what == "LoRA"
              else peft.FourierFTConfig(n_frequency=1000, target_modules=targets))
    model = peft.get_peft_model(encoder(options), config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    shape = (options.rows, options.tokens)
    ids = torch.randint(0, VOCABULARY, shape)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(options.rows) % 2}
    milliseconds = []
    for _ in range(options.steps + 1):
        start = time.process_time()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        milliseconds.append((time.process_time() - start) * 1000)
    with open("/proc/self/status") as file:
        peak = int(re.search(r"^VmHWM:\s+(\d+) kB$", file.read(), re.M)[1]) * 1024
    return {"milliseconds": milliseconds[1:], "peak": peak}


arguments = argparse.ArgumentParser()
arguments.add_argument("what", choices=["versions", "export", "FourierFT", "LoRA"])
arguments.add_argument("path", nargs="?")
arguments.add_argument("--layers", type=int, required=True)
arguments.add_argument("--width", type=int, required=True)
arguments.add_argument("--rows", type=int)
arguments.add_argument("--tokens", type=int)
arguments.add_argument("--steps", type=int)
options = arguments.parse_args()
print(json.dumps({"versions": versions, "export": export}.get(options.what, train)(options)))
