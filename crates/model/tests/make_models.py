#!/usr/bin/env python3
"""Writes the golden models beside it (`models/*.onnx`). Run: python make_models.py (needs onnx and numpy)."""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

OUT = pathlib.Path(__file__).parent / "models"
F = T.FLOAT


def weights(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def init(name, array):
    return nh.from_array(array, name)


def value(name, shape, dtype=F):
    return h.make_tensor_value_info(name, dtype, shape)


def save(name, nodes, inputs, outputs, initializers=(), opset=17, functions=(), ml=None, more=()):
    graph = h.make_graph(list(nodes), "g", inputs, outputs, list(initializers))
    imports = [h.make_opsetid("", opset)] + ([h.make_opsetid("ai.onnx.ml", ml)] if ml else []) + list(more)
    model = h.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions))
    (OUT / f"{name}.onnx").write_bytes(model.SerializeToString())
    return model


def mlp_nodes(p=""):
    return [h.make_node("Gemm", ["x", p + "w1", p + "b1"], [p + "h1"], name=p + "fc1", transB=1),
            h.make_node("Relu", [p + "h1"], [p + "h2"], name=p + "act"),
            h.make_node("Gemm", [p + "h2", p + "w2", p + "b2"], ["y"], name=p + "fc2")]


def mlp():
    arrays = {"w1": weights(1, 8, 6), "b1": weights(2, 8), "w2": weights(3, 8, 3), "b2": weights(4, 3)}
    x, y = value("x", ["N", 6]), value("y", ["N", 3])
    save("mlp", mlp_nodes(), [x], [y], [init(k, v) for k, v in arrays.items()])
    # The same model: other names and order, some weights as Constant nodes, some also listed as inputs, an Identity.
    p = "other/"
    nodes = [n for n in reversed(mlp_nodes(p))]
    nodes += [h.make_node("Constant", [], [p + "w1"], value=init("", arrays["w1"])),
              h.make_node("Constant", [], [p + "raw"], value=init("", arrays["b2"])),
              h.make_node("Identity", [p + "raw"], [p + "b2"]),
              h.make_node("Exp", ["x"], [p + "unused"])]
    save("mlp-again", nodes, [value("x", ["batch", 6]), value(p + "w2", [8, 3])], [value("y", ["batch", 3])],
         [init(p + "w2", arrays["w2"]), init(p + "b1", arrays["b1"]), init(p + "dead", arrays["b1"])])
    arrays["w1"] = arrays["w1"] + np.float32(1)
    save("mlp-other-weights", mlp_nodes(), [x], [y], [init(k, v) for k, v in arrays.items()])


def cnn():
    nodes = [h.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
             h.make_node("Relu", ["c"], ["r"], name="act"),
             h.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
             h.make_node("Flatten", ["p"], ["f"], name="flat"),
             h.make_node("MatMul", ["f", "m"], ["y"], name="head")]
    save("cnn", nodes, [value("x", [1, 2, 8, 8])], [value("y", [1, 5])],
         [init("w", weights(5, 4, 2, 3, 3)), init("b", weights(6, 4)), init("m", weights(7, 64, 5))])


def main():
    OUT.mkdir(exist_ok=True)
    for make in (mlp, cnn):
        make()


main()
