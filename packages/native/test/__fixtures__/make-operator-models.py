"""Models of one linear layer with FourierFT and FourierFTGrad nodes, float32 and float16, for the tests of the ONNX Runtime operators.

    python make-operator-models.py

Written with onnx 1.19.1 and numpy 2.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT, IN, N = 24, 20, 30
folder = Path(__file__).parent


def model(dtype: int, numpy_type: type) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    places = np.arange(N) * 17 % (OUT * IN)
    weight = rng.integers(-8, 9, (IN, OUT)) / 8  # exact in float16
    tensor = helper.make_tensor_value_info
    tables = ["entries", "table.0", "table.1"]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weight"], ["base"], name="/layer/MatMul"),
            helper.make_node("FourierFT", ["x", "base", "c", "rows", *tables], ["y"], name="forward", domain="fourierft"),
            helper.make_node("FourierFTGrad", ["x", "g", "c", "rows", *tables], ["grad_c", "grad_x"], name="gradient", domain="fourierft"),
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
            numpy_helper.from_array(np.stack([places // IN, places % IN]).astype(np.int64), "entries"),
            # What the portable function of the same name reads, and the operator does not.
            numpy_helper.from_array(np.ones(3, np.float32), "table.0"),
            numpy_helper.from_array(np.ones(2, np.int64), "table.1"),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("fourierft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


onnx.save(model(TensorProto.FLOAT, np.float32), folder / "layer-float32.onnx")
onnx.save(model(TensorProto.FLOAT16, np.float16), folder / "layer-float16.onnx")
