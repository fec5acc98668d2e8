"""Fine-tunes the sentence encoder of the benchmark `fine-tuning` with PEFT on PyTorch, on one thread: the same files, starting weights, batches, rates and
schedule as `train` of @fourierft/transformers. Prints one line of JSON.

    python fine_tuning_peer.py versions
    python fine_tuning_peer.py FourierFT | LoRA FOLDER

FOLDER is what apps/bench/src/fine-tuning-files.ts writes. All times are milliseconds of processor time:

    {"opening": until the model is open, "preparation": until the first step, "epochs": [{"training", "evaluation", "end": since the data were read,
     "loss", "accuracy"}], "total": of the whole process, "peak": bytes}
"""

import json
import math
import os
import pathlib
import re
import sys
import time

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"

import peft
import tokenizers
import torch
import transformers
from safetensors.torch import load_file

torch.set_num_threads(1)
# The most batches that are sorted by length together, and the fewest groups.
GROUP, LEAST_GROUPS = 50, 4


def now():
    return time.process_time() * 1000


def adapted_model(method, folder, settings):
    """The model with the adapter's start: the head of the folder's adapter, also for LoRA."""
    torch.manual_seed(settings["seed"])
    model = transformers.BertForSequenceClassification.from_pretrained(
        folder / "pytorch", num_labels=2, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    start = folder / "start"
    if method == "FourierFT":
        return peft.PeftModel.from_pretrained(model, start, is_trainable=True)
    state = load_file(start / "adapter_model.safetensors")
    head = {name: tensor for name, tensor in state.items() if "fourierft" not in name}
    lora = settings["lora"]
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=lora["rank"], lora_alpha=lora["alpha"], target_modules=settings["targetModules"], task_type="SEQ_CLS",
        modules_to_save=["classifier", "bert.pooler.dense"]))
    result = peft.set_peft_model_state_dict(model, head)
    assert not result.unexpected_keys, result
    return model


def read_examples(path, tokenizer, labels):
    with open(path, encoding="utf8") as file:
        rows = [json.loads(line) for line in file]
    encoded = tokenizer.encode_batch([row["text"] for row in rows])
    return [(one.ids, labels.index(row["label"])) for one, row in zip(encoded, rows)]


def by_length(examples, indices):
    return sorted(indices, key=lambda index: -len(examples[index][0]))


def chunks(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]


def permutation(length, seed):
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()


def shuffled_batches(examples, size, seed):
    """As packages/transformers/src/train/batches.ts."""
    group = max(1, min(GROUP, len(examples) // (size * LEAST_GROUPS)))
    groups = chunks(permutation(len(examples), seed), group * size)
    batches = [batch for indices in groups for batch in chunks(by_length(examples, indices), size)]
    return [batches[index] for index in permutation(len(batches), seed)]


def collate(examples, indices):
    rows = [examples[index] for index in indices]
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([label for _, label in rows])}


def evaluate(model, examples, size):
    loss, correct = 0, 0
    with torch.no_grad():
        for indices in chunks(by_length(examples, range(len(examples))), size):
            batch = collate(examples, indices)
            output = model(**batch)
            loss += output.loss.item() * len(indices)
            correct += (output.logits.argmax(-1) == batch["labels"]).sum().item()
    return loss / len(examples), correct / len(examples)


def train(method, folder):
    settings = json.loads((folder / "settings.json").read_text())
    epochs, size, seed = (settings[name] for name in ("epochs", "batchSize", "seed"))
    model = adapted_model(method, folder, settings)
    opening = start = now()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "minilm" / "tokenizer.json"))
    tokenizer.enable_truncation(settings["maxLength"])
    examples, held = (read_examples(folder / f"{name}.jsonl", tokenizer, settings["labels"]) for name in ("training", "held"))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    is_branch = lambda name: "fourierft_" in name or "lora_" in name
    rate = settings["learningRate"] if method == "FourierFT" else settings["lora"]["learningRate"]
    groups = [
        {"params": [parameter for name, parameter in trained.items() if is_branch(name)], "lr": rate},
        {"params": [parameter for name, parameter in trained.items() if not is_branch(name)], "lr": settings["headLearningRate"]},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings["weightDecay"])
    steps = epochs * math.ceil(len(examples) / size)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(settings["warmup"] * steps), steps)
    preparation = now() - start
    reports = []
    for epoch in range(epochs):
        begin = now()
        model.train()
        for indices in shuffled_batches(examples, size, seed + epoch):
            model(**collate(examples, indices)).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), settings["maxGradientNorm"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        middle = now()
        loss, accuracy = evaluate(model.eval(), held, size)
        end = now()
        reports.append({"training": middle - begin, "evaluation": end - middle, "end": end - start, "loss": loss, "accuracy": accuracy})
    with open("/proc/self/status") as file:
        peak = int(re.search(r"^VmHWM:\s+(\d+) kB$", file.read(), re.M)[1]) * 1024
    return {"opening": opening, "preparation": preparation, "epochs": reports, "total": now(), "peak": peak}


def versions():
    return {"versions": f"PyTorch {torch.__version__}, PEFT {peft.__version__}, Transformers {transformers.__version__}, Tokenizers {tokenizers.__version__}"}


what, *folder = sys.argv[1:]
print(json.dumps(versions() if what == "versions" else train(what, pathlib.Path(folder[0]))))
