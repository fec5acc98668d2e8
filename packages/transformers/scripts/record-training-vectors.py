"""Writes src/train/__fixtures__/vectors.json: cut texts by Hugging Face's tokenizers, metrics by scikit-learn and SciPy.

    pip install tokenizers==0.23.3 scikit-learn scipy
    python scripts/record-training-vectors.py
"""
import json
import pathlib

import numpy as np
import scipy
import scipy.stats
import sklearn
import sklearn.metrics as metrics
import tokenizers

PACKAGE = pathlib.Path(__file__).parent.parent
FIXTURES = PACKAGE / "test" / "__fixtures__"
LONG = "she reads a letter at the window while the kettle sings"
WORDS = ["the", "letter", "counts", ",", "reads"]
SHORT = "the rain was long"


def cut_texts():
    for model in ["bert", "roberta", "llama", "t5", "gpt2"]:
        tokenizer = tokenizers.Tokenizer.from_file(str(FIXTURES / model / "tokenizer.json"))
        tokenizer.no_padding()
        for text, pair in [(LONG, None), (LONG, SHORT), (SHORT, LONG), (LONG, LONG)]:
            for length in [6, 7, 12, 13, 30, 60]:
                tokenizer.enable_truncation(length)
                encoded = tokenizer.encode(text, pair)
                yield {"model": model, "text": text, "pair": pair, "length": length, "ids": encoded.ids, "types": encoded.type_ids}


def words():
    tokenizer = tokenizers.Tokenizer.from_file(str(FIXTURES / "bert" / "tokenizer.json"))
    encoded = tokenizer.encode(WORDS, is_pretokenized=True)
    return {"tokens": WORDS, "ids": encoded.ids, "wordIds": encoded.word_ids}


def metric_values():
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 40)
    predictions = np.where(random.random(40) < 0.6, labels, random.integers(0, 4, 40))
    several = random.integers(0, 2, (12, 3))
    predicted = np.where(random.random((12, 3)) < 0.7, several, 1 - several)
    # Rounded, so that some values are equal.
    a = random.normal(size=30).round(1)
    b = (a + random.normal(size=30)).round(1)
    f1 = {"average": "macro", "zero_division": 0}
    return {
        "classes": {
            "labels": labels.tolist(),
            "predictions": predictions.tolist(),
            "accuracy": metrics.accuracy_score(labels, predictions),
            "f1": metrics.f1_score(labels, predictions, **f1),
            "f1OfClasses": metrics.f1_score(labels, predictions, average=None).tolist(),
            "matthews": metrics.matthews_corrcoef(labels, predictions),
        },
        "several": {
            "labels": several.tolist(),
            "predictions": predicted.tolist(),
            "accuracy": metrics.accuracy_score(several, predicted),
            "f1": metrics.f1_score(several, predicted, **f1),
        },
        "numbers": {"a": a.tolist(), "b": b.tolist(), "spearman": float(scipy.stats.spearmanr(a, b).statistic)},
    }


vectors = {
    "versions": {"tokenizers": tokenizers.__version__, "scikit-learn": sklearn.__version__, "scipy": scipy.__version__},
    "cutTexts": list(cut_texts()),
    "words": words(),
    "metrics": metric_values(),
}
(PACKAGE / "src" / "train" / "__fixtures__" / "vectors.json").write_text(json.dumps(vectors) + "\n")
