"""
Writes __fixtures__/keras-graph.json: a small Keras model (convolution, dense layers on vectors and on sequences, attention), frozen and
optimised as TensorFlow's converter for JavaScript does. The file contains the GraphDef as JSON, the weights and the output for one input.

    python make-keras-graph.py

Made with tensorflow_cpu 2.21.0.
"""

import base64
import json
import pathlib

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training import saver

keras = tf.keras
keras.utils.set_random_seed(0)
image = keras.Input((6, 6, 2), name="image")
x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="patches")(image)
x = keras.layers.Reshape((36, 4))(x)
x = keras.layers.Dense(8, name="project")(x)
x = keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
x = keras.layers.GlobalAveragePooling1D()(x)
x = keras.layers.Dense(16, activation="relu", name="hidden")(x)
x = keras.layers.Dense(5, name="out")(x)
model = keras.Model(image, x)

call = tf.function(lambda images: model(images)).get_concrete_function(tf.TensorSpec((None, 6, 6, 2), tf.float32, name="image"))
frozen = convert_to_constants.convert_variables_to_constants_v2(call)
graph = frozen.graph
meta = saver.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
fetch = meta_graph_pb2.CollectionDef()
fetch.node_list.value.extend([tensor.name for tensor in frozen.inputs + frozen.outputs])
meta.collection_def["train_op"].CopyFrom(fetch)
config = config_pb2.ConfigProto()
rewrite = config.graph_options.rewrite_options
rewrite.optimizers[:] = ["pruning", "constfold", "arithmetic", "dependency", "pruning", "remap", "constfold", "arithmetic", "dependency"]
definition = tf_optimizer.OptimizeGraph(config, meta)

weights = []
for node in definition.node:
    if node.op == "Const":
        value = tf.make_ndarray(node.attr["value"].tensor)
        weights.append({"name": node.name, "shape": list(value.shape), "dtype": value.dtype.name, "data": base64.b64encode(value.tobytes()).decode()})
        tensor = node.attr["value"].tensor
        for field in ("tensor_content", "float_val", "int_val", "int64_val", "bool_val"):
            tensor.ClearField(field)
images = np.sin(np.arange(2 * 6 * 6 * 2, dtype=np.float32)).reshape(2, 6, 6, 2)
folder = pathlib.Path(__file__).parent / "__fixtures__"
folder.mkdir(exist_ok=True)
topology = json_format.MessageToDict(definition)
topology.pop("library", None)
output = model(images).numpy()
fixture = {
    "tensorflow": tf.__version__,
    "topology": topology,
    "weights": weights,
    "output": {"node": frozen.outputs[0].name, "shape": list(output.shape), "values": output.ravel().tolist()},
}
(folder / "keras-graph.json").write_text(json.dumps(fixture, indent=1) + "\n")
print([(n.op, n.name, list(n.input)) for n in definition.node if n.op not in ("Const",)])
