"""
Writes the pairs `*-plain.onnx` and `*-fused.onnx` of src/__fixtures__/: one model before and after the fusions of
onnxruntime.transformers.optimizer, which combine q, k and v in one com.microsoft Attention. GPT-2's attention has the form of transformers
4.5, which the optimizer recognises.

    python packages/onnx/scripts/fused-fixtures.py

Made with torch 2.13.0, transformers 5.23.0 and onnxruntime 1.32.0 (CPU).
"""
import pathlib
import warnings

import torch
import transformers
from onnxruntime.transformers import optimizer

warnings.filterwarnings("ignore")
FOLDER = pathlib.Path(__file__).parent.parent / "src" / "__fixtures__"
HIDDEN, HEADS = 16, 2


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        config = transformers.BertConfig(
            vocab_size=40, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=32,
            max_position_embeddings=16, attn_implementation="eager",
        )
        self.model = transformers.BertForSequenceClassification(config)

    def forward(self, x, mask):
        return self.model(x, attention_mask=mask)[0]


class OldAttention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = transformers.pytorch_utils.Conv1D(3 * HIDDEN, HIDDEN)
        self.c_proj = transformers.pytorch_utils.Conv1D(HIDDEN, HIDDEN)
        self.register_buffer("bias", torch.tril(torch.ones(16, 16, dtype=torch.uint8)).view(1, 1, 16, 16))
        self.register_buffer("masked_bias", torch.tensor(-1e4))

    def heads(self, x, is_key=False):
        x = x.view(*x.size()[:-1], HEADS, x.size(-1) // HEADS)
        return x.permute(0, 2, 3, 1) if is_key else x.permute(0, 2, 1, 3)

    def forward(self, x):
        q, k, v = self.c_attn(x).split(HIDDEN, dim=2)
        w = torch.matmul(self.heads(q), self.heads(k, is_key=True))
        w = w / (float(HIDDEN // HEADS) ** 0.5)
        nd, ns = w.size(-2), w.size(-1)
        w = torch.where(self.bias[:, :, ns - nd : ns, :ns].bool(), w, self.masked_bias.to(w.dtype))
        y = torch.matmul(torch.nn.functional.softmax(w, dim=-1), self.heads(v))
        y = y.permute(0, 2, 1, 3).contiguous()
        return self.c_proj(y.view(*y.size()[:-2], HIDDEN))


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = torch.nn.LayerNorm(HIDDEN)
        self.attn = OldAttention()

    def forward(self, x):
        return x + self.attn(self.ln_1(x))


class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(40, HIDDEN)
        self.h = torch.nn.ModuleList([Block(), Block()])
        self.ln_f = torch.nn.LayerNorm(HIDDEN)

    def forward(self, x):
        y = self.wte(x)
        for block in self.h:
            y = block(y)
        return self.ln_f(y)


def main():
    x = torch.arange(16).reshape(2, 8) % 20
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, 5:] = 0
    for name, model, inputs in (("bert", Encoder(), {"x": x, "mask": mask}), ("gpt2", Decoder(), {"x": x})):
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        plain = str(FOLDER / f"{name}-plain.onnx")
        torch.onnx.export(
            model.eval(), tuple(inputs.values()), plain, input_names=list(inputs), output_names=["y"], dynamo=False,
            opset_version=14, dynamic_axes={key: {0: "batch", 1: "tokens"} for key in inputs},
        )
        fused = optimizer.optimize_model(plain, model_type=name, num_heads=HEADS, hidden_size=HIDDEN, opt_level=0)
        count = sum(node.op_type == "Attention" for node in fused.model.graph.node)
        print(name, "has", count, "fused attentions")
        assert count == 2
        fused.save_model_to_file(str(FOLDER / f"{name}-fused.onnx"))


if __name__ == "__main__":
    main()
