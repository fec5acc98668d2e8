"""Writes models of one linear layer with FourierFT and FourierFTGrad nodes, float32, float16 and bfloat16, for the tests of the ONNX Runtime operators.

    python make-operator-models.py

The gradient of x is added to x. Written with onnx 1.23.2 and numpy 2.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT, IN, N = 24, 20, 30
folder = Path(__file__).parent


def model(dtype: int, numpy_type: type) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    positions = np.arange(N) * 17 % (OUT * IN)
    weight = rng.integers(-8, 9, (IN, OUT)) / 8  # exact in float16
    tensor = helper.make_tensor_value_info
    tables = ["entries", "table.0", "table.1"]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weight"], ["base"], name="/layer/MatMul"),
            helper.make_node("FourierFT", ["x", "base", "c", "rows", *tables], ["y"], name="forward", domain="fourierft"),
            helper.make_node("FourierFTGrad", ["x", "g", "x", "c", "rows", *tables], ["grad_c", "grad_x"], name="gradient", domain="fourierft"),
        ],
        "layer",
        [
            tensor("x", dtype, ["batch", "tokens", IN]),
            tensor("g", dtype, ["batch", "tokens", OUT]),
            tensor("c", TensorProto.FLOAT, ["adapters", N]),
            tensor("rows", TensorProto.INT64, ["rows"]),
        ],
        [
            tensor("base", dtype, ["batch", "tokens", OUT]),
            tensor("y", dtype, ["batch", "tokens", OUT]),
            tensor("grad_c", TensorProto.FLOAT, ["adapters", N]),
            tensor("grad_x", dtype, ["batch", "tokens", IN]),
        ],
        [
            numpy_helper.from_array(weight.astype(numpy_type), "weight"),
            numpy_helper.from_array(np.stack([positions // IN, positions % IN]).astype(np.int64), "entries"),
            # The portable function of the same name reads these tables; the operator does not.
            numpy_helper.from_array(np.ones(3, np.float32), "table.0"),
            numpy_helper.from_array(np.ones(2, np.int64), "table.1"),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("fourierft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def bfloat16_model() -> onnx.ModelProto:
    """Returns the float32 model with activations that are rounded to bfloat16 before the operators and widened after them: JavaScript has no
    bfloat16 tensors, and ONNX Runtime's CPU provider has no bfloat16 product."""
    result = model(TensorProto.FLOAT, np.float32)
    graph = result.graph
    product, forward, gradient = list(graph.node)
    product.output[0] = "base.wide"
    for node, inputs, outputs in ((forward, 2, ["y"]), (gradient, 3, ["grad_c", "grad_x"])):
        for i in range(inputs):
            node.input[i] += ".brain"
        for i, name in enumerate(outputs):
            if name != "grad_c":
                node.output[i] += ".brain"
    cast = lambda source, target, to: helper.make_node("Cast", [source], [target], name=f"cast {target}", to=to)
    narrow = [cast(name, f"{to}.brain", TensorProto.BFLOAT16) for name, to in (("x", "x"), ("g", "g"), ("base.wide", "base"))]
    widen = [cast(f"{name}.brain", name, TensorProto.FLOAT) for name in ("base", "y", "grad_x")]
    del graph.node[:]
    graph.node.extend([product, *narrow, forward, gradient, *widen])
    return result


onnx.save(model(TensorProto.FLOAT, np.float32), folder / "layer-float32.onnx")
onnx.save(model(TensorProto.FLOAT16, np.float16), folder / "layer-float16.onnx")
onnx.save(bfloat16_model(), folder / "layer-bfloat16.onnx")
