#!/usr/bin/env python3
"""Writes the operator tests of the `onnx` package where `conformance` (an example of hallmark-engine) reads them.

    scripts/onnx-conformance.py [FOLDER]          default: target/onnx-tests
    cargo run --release -p hallmark-engine --example conformance -- FOLDER

A test is taken when every input and output of its graph is a tensor of float32, int32, int64, int8, uint8 or bool, and its
model imports the default domain at opset 22 or lower. With onnx 1.23.0 these are 989 of 1,884 tests.

Each test is a folder: `model.onnx` and `case.json`:

    {"name": ..., "op": the operator under test, "rtol": ..., "atol": ...,
     "sets": [{"inputs": [TENSOR...], "outputs": [TENSOR...]}]}     TENSOR = {"dtype", "shape", "data": little-endian bytes in hex}
"""

import json
import pathlib
import shutil
import sys
import warnings

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, numpy_helper  # noqa: E402
from onnx.backend.test.case.node import collect_testcases  # noqa: E402

CORE = {
    TensorProto.FLOAT,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.BOOL,
}
NEWEST_OPSET = 22


def taken(model: onnx.ModelProto) -> bool:
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.WhichOneof("value") != "tensor_type":
            return False
        if value.type.tensor_type.elem_type not in CORE:
            return False
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    return opsets.get("", NEWEST_OPSET + 1) <= NEWEST_OPSET


def tensor(value) -> dict:
    array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": little.tobytes().hex()}


def operators(cases) -> dict[str, str]:
    """The operator of each test; a test of an expanded function belongs to the function."""
    single = {c.name: c.model.graph.node[0].op_type for c in cases if len(c.model.graph.node) == 1}
    found = {}
    for case in cases:
        base = case.name.split("_expanded")[0]
        own = [node.op_type for node in case.model.graph.node if node.op_type != "Constant"]
        found[case.name] = single.get(base) or (own or ["Constant"])[0]
    return found


def main() -> None:
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "target" / "onnx-tests"
    shutil.rmtree(folder, ignore_errors=True)
    every = collect_testcases(None)
    operator = operators(every)
    cases = [case for case in every if taken(case.model)]
    for case in cases:
        place = folder / case.name
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(case.model.SerializeToString())
        sets = [
            {"inputs": [tensor(v) for v in inputs], "outputs": [tensor(v) for v in outputs]}
            for inputs, outputs in case.data_sets
        ]
        text = {
            "name": case.name,
            "op": operator[case.name],
            "rtol": case.rtol,
            "atol": case.atol,
            "sets": sets,
        }
        (place / "case.json").write_text(json.dumps(text))
    print(f"onnx {onnx.__version__}: {len(cases)} of {len(every)} tests in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
