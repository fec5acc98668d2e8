"""
Trains the adapter of test/__fixtures__/minilm further in PyTorch and PEFT, in float32 as PEFT computes ΔW, and writes the losses to trajectory.json beside it.

    python packages/onnxruntime/scripts/minilm-trajectory.py MODEL.onnx

MODEL.onnx      as for train-minilm.py, whose files this program reads

The file was made with torch 2.13.0, transformers 5.23.0 and peft 0.21.0.
"""
import base64
import importlib
import json
import pathlib
import sys

import numpy as np
import torch
from peft import PeftModel

sys.path.insert(0, str(pathlib.Path(__file__).parent))
train_minilm = importlib.import_module("train-minilm")

RATE, STEPS, BATCHES, SCALE = 0.01, 8, 4, 20


def decode(array):
    """Decodes an array of vectors.json."""
    return np.frombuffer(base64.b64decode(array["data"]), array["dtype"]).reshape(array["shape"]).astype(np.int64)


def make_batch(ham, spam, first):
    """Pairs of emails: ham with ham, then ham with spam. The second half of the rows are the partners of the first half."""
    width = max(ham.shape[1], spam.shape[1])
    padded = [np.pad(texts, ((0, 0), (0, width - texts.shape[1]))) for texts in (ham, spam)]
    ham, spam = padded
    rows = [ham[first : first + 4]] * 2 + [ham[first + 4 : first + 8], spam[first : first + 4]]
    return torch.from_numpy(np.concatenate(rows))


def embeddings(model, ids):
    mask = (ids != 0).long()
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(pooled).chunk(2)


def cosine_similarity(a, b):
    """sentence-transformers' CosineSimilarityLoss."""
    return ((a * b).sum(1) - torch.tensor([1.0] * 4 + [0.0] * 4)).square().mean()


def contrastive(a, b):
    """sentence-transformers' MultipleNegativesRankingLoss."""
    return torch.nn.functional.cross_entropy(SCALE * a @ b.T, torch.arange(len(a)))


def trajectory(path, batches, loss_of):
    model = train_minilm.load_encoder(path)
    adapted = PeftModel.from_pretrained(model, train_minilm.FOLDER / "adapter", is_trainable=True).eval()
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    losses, norms = [], []
    for step in range(STEPS):
        loss = loss_of(*embeddings(adapted, batches[step % BATCHES]))
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.cat([p.grad for p in parameters]).norm().item())
        losses.append(loss.item())
        optimizer.step()
    return {"losses": losses, "gradientNorms": norms}


def main():
    vectors = json.loads((train_minilm.FOLDER / "vectors.json").read_text())
    ham, spam = (decode(vectors["mails"]["known"][name]) for name in ("ham", "spam"))
    batches = [make_batch(ham, spam, 4 * i) for i in range(BATCHES)]
    losses = {"cosineSimilarity": cosine_similarity, "contrastive": contrastive}
    result = {name: trajectory(sys.argv[1], batches, loss) for name, loss in losses.items()}
    (train_minilm.FOLDER / "trajectory.json").write_text(json.dumps({"learningRate": RATE, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
