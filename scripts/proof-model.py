"""Makes the tiny quantised models of vectors/proof, which tests of evidence `zk` prove: `.venv/bin/python scripts/proof-model.py`.

    x float32 [n, 8] -> int8 -> 8x6, bias, requantise (8 bits, ReLU) -> 6x3, bias -> y float32 [n, 3]

`tiny` and `other` differ in their weights alone. Needs scripts/requirements/tools.txt.
"""

import pathlib
import random

import onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "vectors" / "proof"


def model(seed):
    draw = random.Random(seed)

    def ints(name, kind, shape, low, high):
        count = int(np.prod(shape))
        values = [draw.randint(low, high) for _ in range(count)]
        return numpy_helper.from_array(np.array(values, kind).reshape(shape), name)

    weights = [
        numpy_helper.from_array(np.array(1 / 64, np.float32), "in_scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
        ints("w1", np.int8, (8, 6), -40, 40),
        ints("b1", np.int32, (6,), -500, 500),
        ints("m1", np.int32, (6,), 1, 3),
        ints("w2", np.int8, (6, 3), -90, 90),
        ints("b2", np.int32, (3,), -500, 500),
        numpy_helper.from_array(np.array(1 / 4096, np.float32), "out_scale"),
    ]
    requantise = dict(axis=1, shift=8, bits=10, low=0, high=255, to=TensorProto.UINT8, domain="ai.hallmark")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "in_scale", "zero"], ["q"], name="enter"),
        helper.make_node("MatMulInteger", ["q", "w1"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b1"], ["a1"], name="first_bias"),
        helper.make_node("Requantize", ["a1", "m1"], ["h"], name="activate", **requantise),
        helper.make_node("MatMulInteger", ["h", "w2"], ["c"], name="second"),
        helper.make_node("Add", ["c", "b2"], ["c1"], name="second_bias"),
        helper.make_node("DequantizeLinear", ["c1", "out_scale"], ["y"], name="leave"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.hallmark", 1)]
    return helper.make_model(graph, producer_name="hallmark", opset_imports=opsets, ir_version=8)


FOLDER.mkdir(exist_ok=True)
for seed, name in enumerate(["tiny", "other"]):
    (FOLDER / f"{name}.onnx").write_bytes(model(seed).SerializeToString(deterministic=True))
