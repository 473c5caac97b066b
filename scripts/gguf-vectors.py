"""Writes vectors/llm/gguf-blocks.json: blocks of every supported format and the float32 bits that the `gguf` package makes of them.

    python scripts/gguf-vectors.py         (needs gguf)
"""

import json
import pathlib

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "llm"
# Where each block has float16 scales, which random bits would make NaN or infinite.
SCALES = {
    "F32": [], "F16": [], "BF16": [], "Q4_0": [0], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208],
    "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q5_K": [0, 2],
}  # fmt: skip


def main():
    random = np.random.default_rng(20)
    vectors = {}
    for name, scales in SCALES.items():
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        count = 3 if elements > 1 else 32
        if elements == 1:
            values = random.normal(size=count).astype(np.float32)
            values[:4] = [0.0, -0.0, 1e-7, 65504.0]
            blocks = gguf.quants.quantize(values, kind).view(np.uint8).reshape(count, size) if name != "F32" else values.view(np.uint8).reshape(count, size)
        else:
            blocks = random.integers(0, 256, size=(count, size), dtype=np.uint8)
            for at in scales:
                d = random.normal(size=count).astype(np.float16)
                d[0] = np.float16(6e-8)
                blocks[:, at : at + 2] = d.view(np.uint8).reshape(count, 2)
        raw = blocks if elements > 1 else blocks.reshape(-1)
        values = gguf.quants.dequantize(raw if name != "F32" else raw.view(np.float32), kind).astype(np.float32)
        vectors[name] = dict(blocks=blocks.tobytes().hex(), values=values.astype("<f4").tobytes().hex())
    (ROOT / "gguf-blocks.json").write_text(json.dumps(vectors, indent=0) + "\n")


main()
