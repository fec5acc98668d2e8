"""Exports the pretrained model for transformers.js: onnx/model.onnx (float32), onnx/model_q4.onnx (4 bits, blocks of 32) and the tokenizer.

    python export.py --model MODEL --out FOLDER

FOLDER can be loaded with `pipeline('text-generation', FOLDER, { dtype: 'q4' })`. The export has the inputs of a decoder with a cache, as optimum writes it.
"""

import argparse
import shutil
from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from optimum.exporters.onnx import main_export


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    main_export(str(args.model), output=str(args.out), task="text-generation-with-past", do_validation=False)
    folder = args.out / "onnx"
    folder.mkdir(exist_ok=True)
    shutil.move(args.out / "model.onnx", folder / "model.onnx")
    shutil.copy(args.model / "pretraining.json", args.out)
    quantizer = MatMulNBitsQuantizer(onnx.load(folder / "model.onnx"), block_size=32, is_symmetric=True)
    quantizer.process()
    onnx.save(quantizer.model.model, folder / "model_q4.onnx")
    for file in sorted(folder.iterdir()):
        print(f"{file.name}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
