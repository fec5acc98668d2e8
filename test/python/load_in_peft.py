"""Loads the directory of an adapter with PEFT and prints, as JSON, the versions, ΔW of every adapted module, and the parameters of saved modules.

    python load_in_peft.py DIRECTORY '{"encoder.query": [out, in], ...}' ['{"classifier": [out, in], ...}']

The base model has zero weights of the given shapes; the linear layers of the second mapping have a bias. If PEFT rejects the adapter, prints {"error": "..."}.
"""

import json
import sys

import peft
import torch
import transformers


def base_model(shapes, heads):
    """Returns a tree of modules with a Linear at every dotted name; those of `heads` have a bias."""
    root = torch.nn.Module()
    for name, (out_features, in_features) in {**shapes, **heads}.items():
        parent = root
        *folders, leaf = name.split(".")
        for folder in folders:
            if not hasattr(parent, folder):
                parent.add_module(folder, torch.nn.Module())
            parent = getattr(parent, folder)
        linear = torch.nn.Linear(in_features, out_features, bias=name in heads)
        for parameter in linear.parameters():
            torch.nn.init.zeros_(parameter)
        parent.add_module(leaf, linear)
    return root


def main():
    directory, shapes, heads = sys.argv[1], json.loads(sys.argv[2]), json.loads((sys.argv + ["{}"])[3])
    try:
        model = peft.PeftModel.from_pretrained(base_model(shapes, heads), directory)
    except Exception as error:  # PEFT raises errors of many types
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return
    deltas = {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").tolist()
        for name, module in model.named_modules()
        if hasattr(module, "fourierft_spectrum") and hasattr(module, "get_delta_weight")
    }
    versions = {"peft": peft.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    saved = {
        f"{name.removeprefix('base_model.model.')}.{kind}": parameter.tolist()
        for name, module in model.named_modules()
        if isinstance(getattr(module, "modules_to_save", None), torch.nn.ModuleDict)
        for kind, parameter in module.modules_to_save["default"].named_parameters()
    }
    print(json.dumps({"versions": versions, "deltas": deltas, **({"saved": saved} if saved else {})}))


main()
