"""Loads adapters with heads into models of transformers with PEFT, and prints the logits as JSON.

    python heads_in_peft.py CASES

CASES is a JSON list of {"class", "config", "weights", "adapter", "labels", "inputIds"}: a class such as AutoModelForSequenceClassification, the
configuration of the base model, a safetensors file with its weights, the folder of the adapter, and the number of labels of the adapter's head.
"""

import json
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file


def logits_of(case):
    config = transformers.AutoConfig.for_model(**{**case["config"], "num_labels": case["labels"]})
    torch.manual_seed(0)
    base = getattr(transformers, case["class"]).from_config(config).eval()
    # The classifiers have other sizes, or are new; they come from the adapter.
    weights = {name: tensor for name, tensor in load_file(case["weights"]).items() if not name.startswith("classifier")}
    loaded = base.load_state_dict(weights, strict=False)
    left = [name for name in loaded.missing_keys if not name.startswith("classifier")]
    if left or loaded.unexpected_keys:
        raise ValueError(f"missing: {left}, unexpected: {loaded.unexpected_keys}")
    model = peft.PeftModel.from_pretrained(base, case["adapter"]).eval()
    ids = torch.tensor([case["inputIds"]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return {"type": type(model).__name__, "shape": list(logits.shape), "logits": logits.flatten().tolist()}


versions = {"peft": peft.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
print(json.dumps({"versions": versions, "results": [logits_of(case) for case in json.loads(sys.argv[1])]}))
