"""
Writes the small models of src/__fixtures__/: real exports of tiny configurations with random weights, so that names, operators and
quantisation are those that users have.

    python packages/onnx/scripts/export-fixtures.py

Made with torch 2.13.0, transformers 5.23.0, onnx 1.19.1, onnxscript 0.7.2 and onnxruntime 1.32.0 (CPU).
"""
import pathlib
import warnings

import onnx
import onnxruntime
import onnxscript
import torch
import transformers
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

warnings.filterwarnings("ignore")
FOLDER = pathlib.Path(__file__).parent.parent / "src" / "__fixtures__"


class Only(torch.nn.Module):
    """One output, and no cache, under the model's own names."""

    def __init__(self, model, name):
        super().__init__()
        self.name = name
        setattr(self, name, model)

    def forward(self, x):
        model = getattr(self, self.name)
        out = model(pixel_values=x, return_dict=True) if x.is_floating_point() else model(x, return_dict=True, **self.extra)
        return out[0] if not hasattr(out, "logits") else out.logits


def models():
    t = transformers
    ids = torch.arange(8).reshape(1, 8) % 20
    size = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    yield "bert", t.BertForSequenceClassification(t.BertConfig(**size, max_position_embeddings=16)), ids, {}
    gpt2 = t.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    yield "gpt2", t.GPT2LMHeadModel(gpt2), ids, {"use_cache": False, "attention_mask": torch.ones(1, 8, dtype=torch.long)}
    llama = t.LlamaConfig(**size, num_key_value_heads=1, max_position_embeddings=16)
    yield "llama", t.LlamaForCausalLM(llama), ids, {"use_cache": False, "attention_mask": torch.ones(1, 8, dtype=torch.long)}
    vit = {**size, "image_size": 8, "patch_size": 4}
    vit.pop("vocab_size")
    yield "vit", t.ViTModel(t.ViTConfig(**vit)), torch.rand(1, 3, 8, 8), {}
    t5 = t.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    yield "t5-encoder", t.T5EncoderModel(t5), ids, {}


def main():
    FOLDER.mkdir(exist_ok=True)
    for package in (torch, transformers, onnx, onnxscript, onnxruntime):
        print(package.__name__, package.__version__)
    for name, model, x, extra in models():
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        wrapped = Only(model.eval(), "model")
        wrapped.extra = extra
        for exporter, dynamo in (("torchscript", False), ("dynamo", True)):
            path = FOLDER / f"{name}-{exporter}.onnx"
            try:
                torch.onnx.export(
                    wrapped.eval(), (x,), str(path), input_names=["x"], output_names=["y"], dynamo=dynamo,
                    external_data=False, verbose=False, **({} if dynamo else {"opset_version": 17}),
                )
                if dynamo:  # source positions of this machine are no part of a model
                    proto = onnx.load(path)
                    for node in proto.graph.node:
                        kept = [p for p in node.metadata_props if "stack_trace" not in p.key]
                        del node.metadata_props[:]
                        node.metadata_props.extend(kept)
                        node.doc_string = ""
                    onnx.save(proto, path)
            except Exception as error:
                print(path.name, "failed:", type(error).__name__, str(error)[:300])
                path.unlink(missing_ok=True)
        source = FOLDER / f"{name}-torchscript.onnx"
        if name in ("bert", "gpt2", "llama") and source.exists():
            quantize_dynamic(source, FOLDER / f"{name}-q8.onnx")
            quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=16, is_symmetric=False)
            quantizer.process()
            onnx.save(quantizer.model.model, FOLDER / f"{name}-q4.onnx")


if __name__ == "__main__":
    main()
