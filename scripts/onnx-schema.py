#!/usr/bin/env python3
"""Writes crates/model/src/onnx/schema.txt: every version of every operator that the `onnx` package (PyPI) knows.

The importer must know versions that it does *not* implement, or a newer operator would silently run under the meaning
of an older one. Run: python scripts/onnx-schema.py  (needs onnx; the committed table names the release it came from)
"""
import pathlib

import onnx
import onnx.defs as defs

# Bit i of a type mask is `DType::ALL[i]`; bit 14 stands for every type outside that list.
DTYPES = ["float", "double", "float16", "bfloat16", "int8", "int16", "int32", "int64",
          "uint8", "uint16", "uint32", "uint64", "bool", "string"]
BIT = {f"tensor({name})": 1 << i for i, name in enumerate(DTYPES)}
ATTR = {"FLOAT": "f", "INT": "i", "STRING": "s", "TENSOR": "t", "GRAPH": "g", "FLOATS": "F", "INTS": "I",
        "STRINGS": "S", "TENSORS": "T", "GRAPHS": "G", "SPARSE_TENSOR": "p", "SPARSE_TENSORS": "P",
        "TYPE_PROTO": "y", "TYPE_PROTOS": "Y"}
OPTION = {"Single": "", "Optional": "?", "Variadic": "*"}
ANY = 2**31 - 1


def mask(types):
    bits = 0
    for name in types:
        bits |= BIT.get(name, 1 << 14)
    return f"{bits:x}"


def formal(param, groups):
    kind = OPTION[param.option.name]
    if kind == "*" and not param.is_homogeneous:
        kind = "~"
    return (param.type_str if param.type_str in groups else f"={mask(param.types)}") + kind


def many(items):
    return ",".join(items) or "-"


def count(n):
    return "n" if n >= ANY else str(n)


def line(schema):
    groups = {c.type_param_str: mask(c.allowed_type_strs) for c in schema.type_constraints}
    attrs = (f"{a.name}:{ATTR[a.type.name]}{'!' if a.required else ''}"
             for a in sorted(schema.attributes.values(), key=lambda a: a.name))
    return " ".join([
        schema.domain or "ai.onnx", schema.name, str(schema.since_version), "gone" if schema.deprecated else "live",
        f"{count(schema.min_input)}..{count(schema.max_input)}",
        f"{count(schema.min_output)}..{count(schema.max_output)}",
        many(attrs), many(f"{k}={v}" for k, v in sorted(groups.items())),
        many(formal(p, groups) for p in schema.inputs), many(formal(p, groups) for p in schema.outputs)])


def main():
    chosen = [s for s in defs.get_all_schemas_with_history() if s.domain in ("", "ai.onnx.ml")]
    chosen.sort(key=lambda s: (s.domain, s.name, s.since_version))
    newest = {d: max(s.since_version for s in chosen if s.domain == d) for d in ("", "ai.onnx.ml")}
    head = [f"# onnx {onnx.__version__}: newest ai.onnx {newest['']} ai.onnx.ml {newest['ai.onnx.ml']}",
            "# domain name since state inputs outputs attributes type-groups input-types output-types",
            "# written by scripts/onnx-schema.py"]
    path = pathlib.Path(__file__).parent.parent / "crates/model/src/onnx/schema.txt"
    path.write_text("\n".join(head + [line(s) for s in chosen]) + "\n")


main()
