#!/usr/bin/env python3
"""Speed beside onnxruntime: both run the same models in turns, in one run.

Writes the models (fixed seeds) into target/bench, builds the engine's `bench` example and prints one table: the median time of
each with one thread, the ratio, and each one's speed-up with two threads. Exits 1 if a bar is missed: geometric mean of the ratios
at most 1.3, none above 1.7, geometric mean of our speed-ups with two threads at least that of onnxruntime's. Models that gain
less than onnxruntime's are named all the same.
"""
import math
import os
import pathlib
import struct
import subprocess
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OUT = TARGET / "bench"
MEAN, WORST = 1.3, 1.7


class Net:
    """A model in the making."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def weight(self, *shape, scale=None):
        scale = scale or 1 / math.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, value):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind, *inputs, **attrs):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}_{len(self.nodes)}", **attrs))
        return name

    def save(self, path, shape, output, opset):
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "bench", [x], [y], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)


def mlp(path):
    net, h = Net(1), "x"
    for i, (k, n) in enumerate([(784, 512), (512, 512), (512, 10)]):
        h = net.op("Gemm", h, net.weight(n, k, scale=1 / math.sqrt(k)), net.weight(n, scale=0.1), transB=1)
        if i < 2:
            h = net.op("Relu", h)
    net.save(path, ["n", 784], h, 17)


def cnn(path):
    net, h, c = Net(2), "x", 3
    for filters, stride in [(32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)]:
        w = net.weight(filters, c, 3, 3)
        h = net.op("Conv", h, w, net.weight(filters, scale=0.1), kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4)
        h, c = net.op("Relu", h), filters
    h = net.op("Flatten", net.op("GlobalAveragePool", h), axis=1)
    h = net.op("Gemm", h, net.weight(10, c, scale=0.1), net.weight(10, scale=0.1), transB=1)
    net.save(path, ["n", 3, 128, 128], h, 17)


def transformer(path, written_norm):
    net, d, t, heads = Net(3), 256, 64, 8
    scalar = lambda x: net.constant(np.float32(x))
    shape = lambda *s: net.constant(np.array(s, np.int64))

    def linear(x, k, n):
        return net.op("Add", net.weight(n, scale=0.1), net.op("MatMul", x, net.weight(k, n)))

    def norm(x):
        g, b = net.constant(np.ones(d, np.float32) * 1.1), net.weight(d, scale=0.1)
        if not written_norm:
            return net.op("LayerNormalization", x, g, b, axis=-1, epsilon=1e-5)
        c = net.op("Sub", x, net.op("ReduceMean", x, axes=[-1]))
        var = net.op("ReduceMean", net.op("Pow", c, scalar(2)), axes=[-1])
        c = net.op("Div", c, net.op("Sqrt", net.op("Add", var, scalar(1e-5))))
        return net.op("Add", net.op("Mul", c, g), b)

    x = "x"
    for _ in range(4):
        def split(h, perm):
            return net.op("Transpose", net.op("Reshape", h, shape(1, t, heads, d // heads)), perm=perm)
        q, k, v = (split(linear(x, d, d), p) for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        scores = net.op("Div", net.op("MatMul", q, k), scalar(math.sqrt(d // heads)))
        h = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
        h = net.op("Reshape", net.op("Transpose", h, perm=[0, 2, 1, 3]), shape(1, t, d))
        x = norm(net.op("Add", x, linear(h, d, d)))
        h = linear(x, d, 4 * d)
        gelu = net.op("Add", net.op("Erf", net.op("Div", h, scalar(math.sqrt(2)))), scalar(1))
        h = net.op("Mul", net.op("Mul", h, gelu), scalar(0.5))
        x = norm(net.op("Add", x, linear(h, 4 * d, d)))
    net.save(path, [1, t, d], x, 14 if written_norm else 17)


CASES = [
    ("MLP, batch 1", "mlp", [1, 784], 400),
    ("MLP, batch 64", "mlp", [64, 784], 200),
    ("CNN 128x128", "cnn", [1, 3, 128, 128], 40),
    ("transformer", "transformer", [1, 64, 256], 40),
    ("transformer, norms written out", "transformer_written", [1, 64, 256], 40),
]


class Ours:
    """The engine's `bench` example at the other end of a pipe."""

    def __init__(self, binary):
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer or answer.startswith("error"):
            sys.exit(f"bench: {line}: {answer}")
        return answer

    def times(self, n):
        return [int(x) for x in self.ask(f"run {n}").split()]


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # A waiting thread that spins would take a core from whoever's turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure(ours, name, shape, runs, threads):
    """Medians in nanoseconds, ours and theirs, taken in turns."""
    path, inputs = OUT / f"{name}.onnx", OUT / f"{name}-{shape[0]}.bin"
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    inputs.write_bytes(struct.pack(f"<{len(shape) + 1}Q", len(shape), *shape) + x.tobytes())
    ours.ask(f"{path} {inputs} {threads}")
    theirs = session(path, threads)
    expected = theirs.run(None, {"x": x})[0].ravel()
    got = np.array([float(v) for v in ours.ask("out").split()], np.float32)
    if np.abs(got - expected).max() > 1e-4 * max(1, np.abs(expected).max()):
        sys.exit(f"bench: {name}: answers differ by {np.abs(got - expected).max()}")
    def their_times(n):
        times = []
        for _ in range(n):
            start = time.perf_counter_ns()
            theirs.run(None, {"x": x})
            times.append(time.perf_counter_ns() - start)
        return times

    a, b = [], []
    for turn in range(8):
        # Whose turn comes first alternates; before each the other side's threads get time to stop spinning, and the first third of
        # each block of runs, with its cold caches and sleeping threads, does not count.
        sides = [(ours.times, a), (their_times, b)]
        for run, into in sides if turn % 2 else reversed(sides):
            time.sleep(0.05)
            into += run(runs)[runs // 3 :]
    return np.median(a), np.median(b)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    mlp(OUT / "mlp.onnx")
    cnn(OUT / "cnn.onnx")
    transformer(OUT / "transformer.onnx", False)
    transformer(OUT / "transformer_written.onnx", True)
    build = ["cargo", "build", "--release", "--quiet", "--locked", "-p", "hallmark-engine", "--example", "bench"]
    subprocess.run(build, cwd=ROOT, check=True)
    ours = Ours(TARGET / "release/examples/bench")
    print(f"{'model':32} {'hallmark':>10} {'ort':>10} {'ratio':>7}   two threads: {'hallmark':>8} {'ort':>8}")
    ratios, speedups, slower = [], [], []
    for title, name, shape, runs in CASES:
        one = measure(ours, name, shape, runs, 1)
        two = measure(ours, name, shape, runs, 2)
        ratio = one[0] / one[1]
        gains = one[0] / two[0], one[1] / two[1]
        ratios.append(ratio)
        speedups.append(gains)
        if gains[0] < gains[1]:
            slower.append(title)
        print(f"{title:32} {one[0] / 1e3:8.0f}us {one[1] / 1e3:8.0f}us {ratio:7.2f}   {'':12} {gains[0]:8.2f} {gains[1]:8.2f}")
    mean, gain, theirs = (geometric(column) for column in (ratios, *zip(*speedups)))
    print(f"{'geometric mean':32} {'':21} {mean:7.2f}   {'':12} {gain:8.2f} {theirs:8.2f}")
    print(f"bars: mean ratio at most {MEAN}, worst ({max(ratios):.2f}) at most {WORST}, mean speed-up at least onnxruntime's")
    if slower:
        print("two threads gain less than onnxruntime's: " + ", ".join(slower))
    sys.exit(1 if mean > MEAN or max(ratios) > WORST or gain < theirs else 0)


def geometric(values):
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
