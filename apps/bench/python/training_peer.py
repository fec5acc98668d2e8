"""Exports a model of the training benchmark as an ONNX file, or measures one training step of the same model with PEFT on PyTorch, on one
thread. The weights are random, and equal in both. `quantise` rewrites an export as the 4-bit models of transformers.js are: the products of
weights become `MatMulNBits` with symmetric blocks of 32. Prints one line of JSON.

    python training_peer.py versions
    python training_peer.py export model.onnx --model encoder | decoder --layers 4 --width 768
    python training_peer.py quantise model.onnx q4.onnx
    python training_peer.py FourierFT | LoRA --model encoder --layers 4 --width 768 --rows 8 --tokens 128 --steps 3

    {"milliseconds": [processor time of each step but the first], "peak": bytes}
"""

import argparse
import json
import os
import re
import time

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import peft
import torch
import transformers

torch.set_num_threads(1)
BLOCK = 32


def encoder(options, attention):
    """BERT, with a classifier of two classes"""
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=options.width // 64,
        intermediate_size=4 * options.width, num_labels=2, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    config._attn_implementation = attention
    return transformers.BertForSequenceClassification(config)


def decoder(options, attention):
    """LLaMA"""
    config = transformers.LlamaConfig(
        vocab_size=16000, hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=options.width // 64,
        intermediate_size=32 * round(options.width / 12), max_position_embeddings=1024, tie_word_embeddings=False, use_cache=False)
    config._attn_implementation = attention
    return transformers.LlamaForCausalLM(config)


MODELS = {"encoder": (encoder, ["query", "value"]), "decoder": (decoder, ["q_proj", "v_proj"])}


def create(options, attention):
    torch.manual_seed(0)
    return MODELS[options.model][0](options, attention)


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def export(options):
    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "sequence"}
    logits = {0: "batch"} if options.model == "encoder" else axes
    torch.onnx.export(
        Logits(create(options, "eager").eval()), (ids, ids), options.paths[0], input_names=["input_ids", "attention_mask"],
        output_names=["logits"], dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": logits},
        opset_version=17, dynamo=False)
    return {}


def quantise(options):
    import onnx  # not in the processes whose memory is measured

    source, target = options.paths
    model = onnx.load(source)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        tensor = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if tensor is None or len(tensor.dims) != 2:
            continue
        k, n = tensor.dims
        blocks = onnx.numpy_helper.to_array(tensor).T.reshape(n, -1, BLOCK)
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
        scales = (largest / -8).astype(np.float32)
        integers = np.clip(np.round(blocks / scales) + 8, 0, 15).astype(np.uint8)
        packed = integers[..., ::2] | integers[..., 1::2] << 4
        names = [f"{tensor.name}.{part}" for part in ("q4", "scales")]
        for name, values in zip(names, (packed, scales.reshape(-1))):
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        node.op_type, node.domain = "MatMulNBits", "com.microsoft"
        node.input[:] = [node.input[0], *names]
        node.attribute.extend(
            onnx.helper.make_attribute(name, value) for name, value in {"K": k, "N": n, "bits": 4, "block_size": BLOCK}.items())
    used = {name for node in graph.node for name in node.input}
    for tensor in weights.values():
        if tensor.name not in used:
            graph.initializer.remove(tensor)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, target)
    return {}


def versions(_):
    return {"versions": f"PyTorch {torch.__version__}, PEFT {peft.__version__}, Transformers {transformers.__version__}"}


def train(options):
    targets = MODELS[options.model][1]
    config = (peft.LoraConfig(r=8, target_modules=targets) if options.what == "LoRA"
              else peft.FourierFTConfig(n_frequency=1000, target_modules=targets))
    model = peft.get_peft_model(create(options, "sdpa"), config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    shape = (options.rows, options.tokens)
    ids = torch.randint(0, model.config.vocab_size, shape)
    # A decoder shifts its labels itself.
    labels = torch.arange(options.rows) % 2 if options.model == "encoder" else ids
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
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
arguments.add_argument("what", choices=["versions", "export", "quantise", "FourierFT", "LoRA"])
arguments.add_argument("paths", nargs="*")
arguments.add_argument("--model", choices=MODELS)
for name in ("layers", "width", "rows", "tokens", "steps"):
    arguments.add_argument(f"--{name}", type=int)
options = arguments.parse_args()
print(json.dumps({"versions": versions, "export": export, "quantise": quantise}.get(options.what, train)(options)))
