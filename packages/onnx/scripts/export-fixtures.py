"""
Writes the small models of src/__fixtures__/: real exports of tiny configurations with random weights. Names, operators and quantisation are
like those in users' files.

    python packages/onnx/scripts/export-fixtures.py

`*-torchscript`, `*-dynamo`, `*-q8`, `*-q4` and `*-qdq` are for a batch of one; `*-batch` are for any batch, like optimum's exports. The script
end-to-end-vectors.py writes the outputs of PyTorch and PEFT with these weights.

Made with torch 2.13.0, transformers 5.23.0, diffusers 0.42.1, onnx 1.19.1, onnxscript 0.7.2 and onnxruntime 1.32.0 (CPU).
"""
import pathlib
import warnings

import diffusers
import numpy
import onnx
import onnxruntime
import onnxscript
import torch
import transformers
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

warnings.filterwarnings("ignore")
FOLDER = pathlib.Path(__file__).parent.parent / "src" / "__fixtures__"


class SingleOutput(torch.nn.Module):
    """The model with one output and without a cache; its modules keep their names."""

    def __init__(self, model, name):
        super().__init__()
        self.name = name
        setattr(self, name, model)

    def forward(self, x):
        model = getattr(self, self.name)
        out = model(pixel_values=x, return_dict=True) if x.is_floating_point() else model(x, return_dict=True, **self.extra)
        return out[0] if not hasattr(out, "logits") else out.logits


class ForAnyBatch(torch.nn.Module):
    """The model with a mask that is computed from the input, so that the export has no constants of the example's size."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, context=None):
        if context is not None:
            return self.model(x, encoder_hidden_states=context, return_dict=False)[0]
        if x.is_floating_point():
            return self.model(pixel_values=x)[0]
        cache = {"use_cache": False} if hasattr(self.model, "lm_head") else {}
        return self.model(x, attention_mask=torch.ones_like(x), **cache)[0]


def diffusion_attention():
    """Returns self-attention and cross-attention over pixels, as in `attentions.0` of a diffusion UNet."""
    torch.manual_seed(0)
    return diffusers.Transformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=16, norm_num_groups=4, cross_attention_dim=12
    ).eval()


class Calibration(CalibrationDataReader):
    """Inputs that give the ranges of activations."""

    def __init__(self):
        self.inputs = iter([{"x": (numpy.arange(8) * k % 20).reshape(1, 8)} for k in (1, 3, 7)])

    def get_next(self):
        return next(self.inputs, None)


def with_weights(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def export_for_any_batch(model, inputs, path):
    axes = {"x": {0: "batch"}, "context": {0: "batch"}}
    if not inputs[0].is_floating_point():
        axes["x"][1] = "sequence"
    torch.onnx.export(
        ForAnyBatch(model).eval(), inputs, str(path), input_names=["x", "context"][: len(inputs)], output_names=["y"],
        dynamo=False, opset_version=17, dynamic_axes=axes,
    )


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
    for package in (torch, transformers, diffusers, onnx, onnxscript, onnxruntime):
        print(package.__name__, package.__version__)
    for name, model, x, extra in models():
        wrapped = SingleOutput(with_weights(model), "model")
        wrapped.extra = extra
        for exporter, dynamo in (("torchscript", False), ("dynamo", True)):
            path = FOLDER / f"{name}-{exporter}.onnx"
            try:
                torch.onnx.export(
                    wrapped.eval(), (x,), str(path), input_names=["x"], output_names=["y"], dynamo=dynamo,
                    external_data=False, verbose=False, **({} if dynamo else {"opset_version": 17}),
                )
                if dynamo:  # remove the stack traces, which contain paths of this machine
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
        if name == "bert" and source.exists():
            quantize_static(source, FOLDER / f"{name}-qdq.onnx", Calibration())
        if name != "t5-encoder":
            export_for_any_batch(model, (x,), FOLDER / f"{name}-batch.onnx")
    pixels, words = torch.rand(1, 16, 4, 4), torch.rand(1, 3, 12)
    export_for_any_batch(diffusion_attention(), (pixels, words), FOLDER / "unet-attention-batch.onnx")


if __name__ == "__main__":
    main()
