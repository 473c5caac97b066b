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


def conv_nodes(p="", x="x", y="y"):
    return [h.make_node("Conv", [x, p + "w1", p + "b1"], [p + "c1"], name=p + "conv1", pads=[1, 1, 1, 1],
                        kernel_shape=[3, 3]),
            h.make_node("Relu", [p + "c1"], [p + "r1"], name=p + "act"),
            h.make_node("MaxPool", [p + "r1"], [p + "p1"], name=p + "pool", kernel_shape=[2, 2], strides=[2, 2]),
            h.make_node("Conv", [p + "p1", p + "w2", p + "b2"], [p + "c2"], name=p + "conv2"),
            h.make_node("Mul", [p + "c2", p + "scale"], [y], name=p + "scaled")]


def conv_weights():
    return {"w1": weights(1, 16, 2, 3, 3), "b1": weights(2, 16), "w2": weights(3, 24, 16, 2, 2), "b2": weights(4, 24),
            "scale": np.float32(0.5)}


def convnet():
    arrays = conv_weights()
    x, y = value("x", ["N", 2, 8, 8]), value("y", ["N", 24, 3, 3])
    save("convnet", conv_nodes(), [x], [y], [init(k, v) for k, v in arrays.items()])
    save("convnet-output-name", conv_nodes(y="z"), [x], [value("z", ["N", 24, 3, 3])],
         [init(k, v) for k, v in arrays.items()])
    # The same model: other names and order, weights as Constant nodes and as inputs with defaults, renaming and dead nodes.
    p = "other/"
    nodes = list(reversed(conv_nodes(p, x="x2")))
    nodes += [h.make_node("Constant", [], [p + "w1"], value=init("", arrays["w1"])),
              h.make_node("Constant", [], [p + "raw"], value=init("", arrays["b2"])),
              h.make_node("Constant", [], [p + "scale"], value_float=0.5),
              h.make_node("Identity", [p + "raw"], [p + "b2"]),
              h.make_node("Dropout", ["x"], ["x2"]),
              h.make_node("Relu", ["x"], [p + "unused"])]
    save("convnet-again", nodes, [value("x", ["batch", 2, 8, 8]), value(p + "w2", [24, 16, 2, 2])],
         [value("y", None)], [init(p + "w2", arrays["w2"]), init(p + "b1", arrays["b1"]), init(p + "dead", arrays["b1"])],
         opset=18)
    # The same model with its weights beside it, in one file.
    data, external = b"", []
    for k, v in arrays.items():
        tensor = T(name=k, data_type=F, dims=v.shape, data_location=T.EXTERNAL)
        for key, text in (("location", "weights.bin"), ("offset", len(data)), ("length", v.nbytes)):
            tensor.external_data.add(key=key, value=str(text))
        data += v.tobytes()
        external.append(tensor)
    (OUT / "weights.bin").write_bytes(data)
    save("convnet-external", conv_nodes(), [x], [y], external)
    # The same model as a call of a function, whose attributes and names are its own.
    body = conv_nodes("f/", x="in", y="out")
    for node, attribute in ((body[0], "pads"), ):
        node.attribute.remove(next(a for a in node.attribute if a.name == attribute))
        node.attribute.append(onnx.AttributeProto(name=attribute, ref_attr_name="border", type=onnx.AttributeProto.INTS))
    names = ["f/" + k for k in arrays]
    function = h.make_function("custom", "Net", ["in", *names], ["out"], body, [h.make_opsetid("", 17)], ["border"])
    call = h.make_node("Net", ["x", *arrays], ["y"], domain="custom", border=[1, 1, 1, 1])
    save("convnet-function", [call], [x], [y], [init(k, v) for k, v in arrays.items()], functions=[function],
         more=[h.make_opsetid("custom", 1)])
    arrays["w1"] = arrays["w1"] + np.float32(1)
    save("convnet-other-weights", conv_nodes(), [x], [y], [init(k, v) for k, v in arrays.items()])


def branch():
    """An If whose branches capture an input, a constant and a value through a renaming node."""
    then = h.make_graph([h.make_node("Mul", ["h2", "k"], ["t"])], "then", [], [value("t", None)])
    other = h.make_graph([h.make_node("Relu", ["x"], ["r"]), h.make_node("Sub", ["r", "h"], ["e"])], "else", [],
                         [value("e", None)])
    nodes = [h.make_node("Relu", ["x"], ["h"]), h.make_node("Identity", ["h"], ["h2"]),
             h.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    save("branch", nodes, [value("c", [], T.BOOL), value("x", ["N", 4])], [value("y", None)],
         [init("k", weights(8, 4))])


def zipmap():
    nodes = [h.make_node("Relu", ["x"], ["scores"]),
             h.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"])]
    maps = h.make_value_info("maps", h.make_sequence_type_proto(
        h.make_map_type_proto(T.STRING, h.make_tensor_type_proto(F, []))))
    save("zipmap", nodes, [value("x", [None, 2])], [maps], ml=1)


def main():
    OUT.mkdir(exist_ok=True)
    for make in (convnet, branch, zipmap):
        make()


main()
