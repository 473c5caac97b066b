#!/usr/bin/env python3
"""Small models as PyTorch, scikit-learn and onnxruntime's quantiser and optimiser write them, each through the whole of a proof:
model quantize, model commit, infer --evidence zk, verify. The float model's outputs are compared with onnxruntime's.

    ./x zoo [NAME...]        names may be parts of names: `./x zoo lenet mlp`

Prints a table: how far the float model is from onnxruntime (relative), how far the integers are from the float model (root mean
square, relative), the bundle's size, and the verdict, or why the model is refused. Exits with 1 if any is not proved.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from onnxruntime import quantization  # noqa: E402
from sklearn import datasets, neural_network, pipeline, preprocessing  # noqa: E402
from skl2onnx import to_onnx  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

onnxruntime.set_default_logger_severity(4)
SAMPLES = 32


class Then(nn.Module):
    """A module, then a function of its output."""

    def __init__(self, module, function):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *x):
        return self.function(self.module(*x))


def mlp(activation):
    return nn.Sequential(nn.Linear(10, 32), activation, nn.Linear(32, 16), activation, nn.Linear(16, 3))


def pooled(pool):
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(3))


def lenet(pool, activation):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), activation, pool, nn.Conv2d(6, 16, 5), activation, pool,
        nn.Flatten(), nn.Linear(400, 120), activation, nn.Linear(120, 84), activation, nn.Linear(84, 10))


def normed(norm):
    return nn.Sequential(nn.Linear(8, 16), norm, nn.Linear(16, 3))


class Residual(nn.Module):
    def __init__(self, block, shortcut=None, after=None):
        super().__init__()
        self.block, self.shortcut, self.after = block, shortcut or nn.Identity(), after or nn.Identity()

    def forward(self, x):
        return self.after(self.shortcut(x) + self.block(x))


def conv(inputs, outputs, kernel, stride=1, groups=1, activation=None):
    parts = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, *([activation] if activation else []))


def basic(inputs, outputs, stride):
    shortcut = conv(inputs, outputs, 1, stride) if stride > 1 else None
    block = nn.Sequential(conv(inputs, outputs, 3, stride, activation=nn.ReLU()), conv(outputs, outputs, 3))
    return Residual(block, shortcut, nn.ReLU())


def resnet(pool):
    return nn.Sequential(
        conv(3, 8, 3, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1), basic(8, 8, 1), basic(8, 16, 2), pool, nn.Flatten(), nn.Linear(16, 10))


class Squeeze(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


def mobile(activation):
    def block(inputs, outputs, stride):
        wide = inputs * 4
        parts = nn.Sequential(
            conv(inputs, wide, 1, activation=activation), conv(wide, wide, 3, stride, wide, activation), conv(wide, outputs, 1))
        return Residual(parts) if stride == 1 else parts

    return nn.Sequential(
        conv(3, 8, 3, 2, activation=activation), block(8, 8, 1), Squeeze(8), block(8, 12, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))


class Rms(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Attention(nn.Module):
    """By hand, with heads, and causal if asked."""

    def __init__(self, width, heads, causal):
        super().__init__()
        self.all, self.out, self.heads, self.causal = nn.Linear(width, 3 * width), nn.Linear(width, width), heads, causal

    def forward(self, x):
        batch, length, width = x.shape
        parts = [part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in self.all(x).split(width, 2)]
        query, key, value = parts
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        if self.causal:
            scores = scores.masked_fill(torch.ones(length, length).tril() == 0, float("-inf"))
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width))


def block(width, causal=False, norm=nn.LayerNorm):
    dense = nn.Sequential(norm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
    return nn.Sequential(Residual(nn.Sequential(norm(width), Attention(width, 2, causal))), Residual(dense))


class Words(nn.Module):
    def __init__(self, causal, norm=nn.LayerNorm):
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Embedding(8, 16)
        self.blocks = nn.Sequential(block(16, causal, norm), block(16, causal, norm))
        self.norm, self.head = norm(16), nn.Linear(16, 20, bias=False)

    def forward(self, ids):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]).unsqueeze(0))
        return self.head(self.norm(self.blocks(x)))


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.all, self.head = nn.Embedding(20, 16), nn.Linear(16, 48), nn.Linear(16, 2)

    def forward(self, ids, mask):
        query, key, value = self.all(self.words(ids)).split(16, 2)
        far = (1.0 - mask[:, None, :].float()) * -10000.0
        return self.head(((query @ key.transpose(1, 2) / 4 + far).softmax(-1) @ value)[:, 0])


class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.first, self.places = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 5, 16))
        self.block, self.norm, self.head = block(16), nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.norm(self.block(x))[:, 0])


def encoder(**kinds):
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, **kinds), 2)


IMAGE, VECTOR, ROWS, WORDS = (1, 3, 16, 16), (1, 10), (1, 6, 16), (1, 6)
# Name: module, shapes of the inputs (of ids below a number: with it), and options of the export.
TORCH = {
    **{f"mlp-{type(a).__name__.lower()}": (lambda a=a: mlp(a), [VECTOR], {}) for a in (
        nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.LeakyReLU(0.1), nn.ELU(), nn.Hardswish(), nn.Softplus(), nn.PReLU(), nn.ReLU6())},
    "mlp-softmax": (lambda: Then(mlp(nn.ReLU()), lambda y: y.softmax(-1)), [VECTOR], {}),
    "mlp-argmax": (lambda: Then(mlp(nn.ReLU()), lambda y: y.argmax(-1)), [VECTOR], {}),
    "mlp-any-rows": (lambda: mlp(nn.ReLU()), [VECTOR], {"free": {0: "n"}}),
    "prelu-channels": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.LazyLinear(3)), [IMAGE], {}),
    "one-layer": (lambda: nn.Linear(10, 3), [VECTOR], {}),
    "lenet-max": (lambda: lenet(nn.MaxPool2d(2), nn.ReLU()), [(1, 1, 28, 28)], {}),
    "lenet-mean": (lambda: lenet(nn.AvgPool2d(2), nn.Tanh()), [(1, 1, 28, 28)], {"free": {0: "n"}}),
    "resnet": (lambda: resnet(nn.AdaptiveAvgPool2d(1)), [IMAGE], {}),
    "resnet-any-size": (lambda: resnet(nn.AdaptiveAvgPool2d(1)), [IMAGE], {"free": {0: "n", 2: "h", 3: "w"}}),
    "mobilenet-relu6": (lambda: mobile(nn.ReLU6()), [IMAGE], {}),
    "mobilenet-hardswish": (lambda: mobile(nn.Hardswish()), [IMAGE], {}),
    "pool-padded": (lambda: pooled(nn.AvgPool2d(3, 2, 1, count_include_pad=False)), [(1, 3, 9, 9)], {}),
    "pool-ceil": (lambda: pooled(nn.AvgPool2d(3, 2, ceil_mode=True)), [(1, 3, 8, 8)], {}),
    "pool-max-everywhere": (lambda: pooled(nn.AdaptiveMaxPool2d(1)), [(1, 3, 8, 8)], {}),
    "conv-1d": (lambda: nn.Sequential(nn.Conv1d(4, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.LazyLinear(3)), [(1, 4, 32)], {}),
    "conv-transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), nn.ReLU(), nn.Conv2d(4, 1, 3)), [(1, 3, 6, 6)], {}),
    "norm-group": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)), [(1, 3, 8, 8)], {}),
    "norm-layer-14": (lambda: normed(nn.LayerNorm(16)), [(1, 5, 8)], {"opset": 14}),
    "norm-layer-17": (lambda: normed(nn.LayerNorm(16)), [(1, 5, 8)], {"opset": 17}),
    "norm-rms": (lambda: normed(Rms(16)), [(1, 5, 8)], {}),
    "encoder-12": (lambda: encoder(), [ROWS], {"opset": 12}),
    "encoder-13": (lambda: encoder(), [ROWS], {"opset": 13}),
    "encoder-17": (lambda: encoder(norm_first=True, activation="gelu"), [ROWS], {"opset": 17}),
    "words": (lambda: Words(False), [(WORDS, 20)], {}),
    "words-causal": (lambda: Words(True), [(WORDS, 20)], {"free": {0: "n"}}),
    "words-rms": (lambda: Words(True, Rms), [(WORDS, 20)], {}),
    "words-masked": (lambda: Masked(), [(WORDS, 20), (WORDS, 2)], {}),
    "patches": (lambda: Patches(), [(1, 3, 8, 8)], {"opset": 17, "free": {0: "n"}}),
}
# What onnxruntime's quantiser and optimiser are given, and how.
REWRITTEN = [
    "mlp-relu", "mlp-gelu", "mlp-softmax", "lenet-max", "resnet", "mobilenet-relu6", "mobilenet-hardswish", "encoder-13", "encoder-17", "words", "patches"]
KINDS = [*(f"{kind}.{integers}" for kind in ("QDQ", "QOperator", "dynamic") for integers in ("u8", "s8")), "optimised"]


class Model:
    """A file, inputs to calibrate with (many rows), and one request."""

    def __init__(self, folder, name, samples):
        self.file, self.rows, self.one = folder / f"{name}.onnx", folder / f"{name}.rows.npz", folder / f"{name}.npz"
        self.samples = samples
        np.savez(self.rows, **{key: np.concatenate([sample[key] for sample in samples]) for key in samples[0]})
        np.savez(self.one, **samples[0])


def of_torch(folder, name):
    make, inputs, options = TORCH[name]
    torch.manual_seed(7)
    draw = np.random.default_rng(1)
    shapes = [shape if isinstance(shape[0], tuple) else (shape, None) for shape in inputs]
    keys = [f"x{index}" for index in range(len(shapes))]

    def one(shape, below):
        return draw.integers(0, below, shape) if below else draw.standard_normal(shape).astype(np.float32)

    samples = [{key: one(*shape) for key, shape in zip(keys, shapes)} for _ in range(SAMPLES)]
    model, example = make().eval(), tuple(torch.from_numpy(samples[0][key]) for key in keys)
    with torch.no_grad():
        model(*example)
        for part in model.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 1.5)
            if isinstance(part, nn.PReLU):
                part.weight.uniform_(-0.2, 0.8)
    made = Model(folder, name, samples)
    free = {key: options["free"] for key in keys} if "free" in options else None
    torch.onnx.export(model, example, made.file, input_names=keys, opset_version=options.get("opset", 14), dynamic_axes=free)
    return made


class Reader(quantization.CalibrationDataReader):
    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def of_onnxruntime(folder, name):
    base, kind, *integers = name.split(".")
    source = of_torch(folder, base)
    made = Model(folder, name, source.samples)
    if kind == "optimised":
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(made.file)
        onnxruntime.InferenceSession(source.file, options, providers=["CPUExecutionProvider"])
        return made
    [integers] = integers
    whole = folder / f"{base}.whole.onnx"
    quantization.quant_pre_process(source.file, whole, skip_symbolic_shape=True)
    types = {"u8": quantization.QuantType.QUInt8, "s8": quantization.QuantType.QInt8}
    if kind == "dynamic":
        quantization.quantize_dynamic(whole, made.file, weight_type=types[integers])
    else:
        quantization.quantize_static(
            whole, made.file, Reader(source.samples), quant_format=quantization.QuantFormat[kind], per_channel=integers == "u8",
            activation_type=types[integers], weight_type=quantization.QuantType.QInt8)
    return made


def of_sklearn(folder, name):
    x, y = datasets.load_iris(return_X_y=True)
    network = neural_network.MLPClassifier((16,), max_iter=300, random_state=1)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), network) if name == "sklearn-scaled" else network
    x = x.astype(np.float32)
    model.fit(x, y)
    made = Model(folder, name, [{"X": row[None]} for row in x[::4]])
    made.file.write_bytes(to_onnx(model, x[:1], options={id(network): {"zipmap": False}}, target_opset=15).SerializeToString())
    return made


def names():
    # Static quantisation gives a mask of minus infinity an infinite scale.
    masked = ["words-rms.dynamic.s8", "words-rms.optimised"]
    return [*TORCH, *(f"{base}.{kind}" for base in REWRITTEN for kind in KINDS), *masked, "sklearn", "sklearn-scaled"]


def make(folder, name):
    if name.startswith("sklearn"):
        return of_sklearn(folder, name)
    return of_onnxruntime(folder, name) if "." in name else of_torch(folder, name)


class Refused(Exception):
    """By Hallmark."""


class NoModel(Exception):
    """What onnxruntime's own tools wrote, and it does not run."""


def hallmark(binary, home, *arguments):
    call = [binary, "--home", home, "--json", *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(" ".join((done.stderr or done.stdout).split())[:300])
    return json.loads(done.stdout) if done.stdout.strip() else {}


def expect(model):
    """onnxruntime's outputs for the request, by name."""
    try:
        session = onnxruntime.InferenceSession(model.file, providers=["CPUExecutionProvider"])
        values = session.run(None, dict(np.load(model.one)))
    except Exception as error:
        raise NoModel(" ".join(str(error).split())[:200]) from error
    return {output.name: value for output, value in zip(session.get_outputs(), values)}


def distance(expected, outputs):
    """How far the outputs are from those expected, relative to the greatest."""
    far = 0.0
    for name, value in expected.items():
        own = outputs[name].astype(np.float64)
        far = max(far, float(np.abs(own - value).max() / max(1e-9, np.abs(value).max())))
    return far


def prove(binary, folder, name):
    model = make(folder, name)
    expected = expect(model)
    with tempfile.TemporaryDirectory(dir=folder) as home:
        run = lambda *arguments: hallmark(binary, home, *arguments)  # noqa: E731
        outputs = pathlib.Path(home) / "outputs.npz"
        run("infer", model.file, "--input", model.one, "--output", outputs)
        far = distance(expected, np.load(outputs))
        made = run("model", "quantize", model.file, "--calibrate", model.rows, "--name", "zoo")
        run("model", "commit", "zoo")
        bundle = pathlib.Path(home) / "bundle.json"
        run("infer", "zoo", "--input", model.one, "--evidence", "zk", "--receipt", bundle)
        policy = pathlib.Path(home) / "policy.toml"
        shown = run("model", "show", "zoo")
        policy.write_text(f'name = "zoo"\nmodels = ["{shown["id"]}"]\nrequire = ["proof"]\nproof_bits = 100\n')
        run("verify", bundle, "--policy", policy)
        errors = [output["rms_relative"] for output in made["outputs"]]
        return far, max(errors), bundle.stat().st_size / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    wanted = [name for name in names() if not arguments.names or any(part in name for part in arguments.names)]
    missed = none = 0
    print(f"{'model':32} {'onnxruntime':>12} {'rms':>8} {'KiB':>6}  verdict", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            try:
                far, rms, size = prove(arguments.binary, pathlib.Path(folder), name)
                print(f"{name:32} {far:12.1e} {rms:8.2%} {size:6.0f}  accepted", flush=True)
            except Refused as refused:
                missed += 1
                print(f"{name:32} {'':12} {'':8} {'':6}  refused: {refused}", flush=True)
            except NoModel as error:
                none += 1
                print(f"{name:32} {'':12} {'':8} {'':6}  no model, says onnxruntime: {error}", flush=True)
    print(f"{len(wanted) - none - missed} of {len(wanted) - none} proved")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
