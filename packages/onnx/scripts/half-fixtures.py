"""
Writes src/__fixtures__/bert-half.onnx and bert-half-fused.onnx, which are bert-plain.onnx and bert-fused.onnx in float16, and
llama-q4f16.onnx, which has 4-bit weights and float16 activations. The converters are those that users run.

    python packages/onnx/scripts/half-fixtures.py

Made with onnx 1.19.1 and onnxruntime 1.32.0 (CPU).
"""
import pathlib

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

FOLDER = pathlib.Path(__file__).parent.parent / "src" / "__fixtures__"


def half(source):
    return convert_float_to_float16(onnx.load(FOLDER / source), keep_io_types=False)


def main():
    onnx.save(half("bert-plain.onnx"), FOLDER / "bert-half.onnx")
    onnx.save(half("bert-fused.onnx"), FOLDER / "bert-half-fused.onnx")
    quantizer = MatMulNBitsQuantizer(half("llama-torchscript.onnx"), block_size=16, is_symmetric=False)
    quantizer.process()
    onnx.save(quantizer.model.model, FOLDER / "llama-q4f16.onnx")


if __name__ == "__main__":
    main()
