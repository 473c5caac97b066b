"""The networks of `./x bench-proof`, trained: python models/proof_networks.py FOLDER [NAME ..]

For each a folder FOLDER/NAME with model.onnx, calibrate.npz (training rows), held.npz (rows that training did not see) and labels.npy.
They do not ship. The images are scikit-learn's `load_digits`, enlarged and shifted, the colour ones on a coloured ground with noise; the
encoder reads the phrases of `phrase_language`.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import phrase_language
from common import FLOAT, SEED, Builder, cross_entropy, minibatches, run, train

CALIBRATE = 128

# What a layer is: ("conv", filters, kernel, stride, padding), ("pool",), ("flatten",), ("average",), ("dense", width). A ReLU follows
# each convolution and each dense layer but the last.
LENET = [("conv", 6, 5, 1, 0), ("pool",), ("conv", 16, 5, 1, 0), ("pool",), ("flatten",), ("dense", 120), ("dense", 84), ("dense", 10)]
STAGES = [(32, 1), (32, 1), (64, 2), (64, 1), (96, 2), (164, 1)]
CNN = [*(("conv", filters, 3, stride, 1) for filters, stride in STAGES), ("average",), ("dense", 10)]
# name: layers, shape of an image, steps of training.
IMAGES = {
    "mlp": ([("flatten",), ("dense", 64), ("dense", 32), ("dense", 10)], (1, 8, 8), 2000),
    "lenet": (LENET, (1, 28, 28), 1000),
    "dense": ([("flatten",), *[("dense", 1024)] * 4, ("dense", 10)], (1, 32, 32), 400),
    "cnn": (CNN, (3, 32, 32), 500),
}
ENCODER = {"WIDTH": 128, "HEADS": 4, "HIDDEN": 512, "LAYERS": 4}
ENCODER_STEPS = 1000


def enlarged(images, shape, rng):
    """Digits of 8 x 8 in images of `shape` with values 0 to 1: bilinear, shifted by up to a twelfth, in colours where there are three."""
    channels, side, _ = shape
    if side == 8:
        return images[:, None] / 16.0
    inner = side - 2 * (side // 12)
    at = np.linspace(0, 7, inner)
    low = np.minimum(at.astype(int), 6)
    rows = images[:, low] * (1 - (at - low))[None, :, None] + images[:, low + 1] * (at - low)[None, :, None]
    ink = rows[:, :, low] * (1 - (at - low)) + rows[:, :, low + 1] * (at - low)
    out = np.zeros((len(images), side, side))
    for image, (y, x), digit in zip(out, rng.integers(0, side - inner + 1, (len(images), 2)), ink / 16.0):
        image[y : y + inner, x : x + inner] = digit
    out = out[:, None]
    if channels == 3:
        ground, colour = rng.uniform(0, 0.5, (2, len(images), 3, 1, 1))
        out = ground + (colour + 0.5 - ground) * out + rng.normal(0, 0.05, (len(images), *shape))
    return np.clip(out, 0, 1).astype(np.float32)


def initial(layers, shape, rng):
    params, (channels, side, _) = [], shape
    width = None
    for kind, *of in layers:
        if kind == "conv":
            filters, kernel, stride, pad = of
            params.append(rng.standard_normal((filters, channels, kernel, kernel)) * np.sqrt(2 / (channels * kernel**2)))
            params.append(np.zeros(filters))
            channels, side = filters, (side + 2 * pad - kernel) // stride + 1
        elif kind == "pool":
            side //= 2
        elif kind == "flatten":
            width = channels * side * side
        elif kind == "average":
            width = channels
        else:
            params += [rng.standard_normal((width, of[0])) * np.sqrt(2 / width), np.zeros(of[0])]
            width = of[0]
    return [np.asarray(p, np.float32) for p in params]


def forward(layers, params, x):
    left = list(params)
    for index, (kind, *of) in enumerate(layers):
        if kind == "conv":
            _, _, stride, pad = of
            x = jax.lax.conv_general_dilated(x, left[0], (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW"))
            x = jax.nn.relu(x + left[1][None, :, None, None])
        elif kind == "pool":
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        elif kind == "flatten":
            x = x.reshape(x.shape[0], -1)
        elif kind == "average":
            x = x.mean((2, 3))
        else:
            x = x @ left[0] + left[1]
            x = x if index + 1 == len(layers) else jax.nn.relu(x)
        if kind in ("conv", "dense"):
            left = left[2:]
    return x


def export(name, layers, shape, params):
    b = Builder()
    x, left = "x", list(params)
    for index, (kind, *of) in enumerate(layers):
        last = index + 1 == len(layers)
        if kind in ("conv", "dense"):
            weights = [b.const(left[0], f"{kind}{index}.weight"), b.const(left[1], f"{kind}{index}.bias")]
            left = left[2:]
        if kind == "conv":
            _, kernel, stride, pad = of
            x = b.op("Conv", [x, *weights], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
            x = b.op("Relu", [x])
        elif kind == "pool":
            x = b.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        elif kind == "flatten":
            x = b.op("Flatten", [x], axis=1)
        elif kind == "average":
            x = b.op("Flatten", [b.op("GlobalAveragePool", [x])], axis=1)
        else:
            x = b.op("Gemm", [x, *weights], "y" if last else None)
            x = x if last else b.op("Relu", [x])
    return b.model(name, [("x", FLOAT, ["batch", *shape])], [("y", FLOAT, ["batch", 10])])


def image_network(name):
    layers, shape, steps = IMAGES[name]
    rng = np.random.default_rng(SEED)
    data = load_digits()
    x, held, y, truth = train_test_split(data.images, data.target, test_size=0.25, random_state=SEED, stratify=data.target)
    x, held = (np.concatenate([enlarged(part, shape, rng) for _ in range(4)]).astype(np.float32) for part in (x, held))
    y, truth = (np.tile(part, 4) for part in (y, truth))
    loss = lambda params, batch, key: cross_entropy(forward(layers, params, batch[0]), batch[1])
    params = train(loss, initial(layers, shape, rng), minibatches(x, y, 64, rng), steps, rate=1e-3)
    order = rng.permutation(len(x))[:CALIBRATE]
    return export(name, layers, shape, params), {"x": x[order]}, {"x": held}, truth


def encoder_network():
    for key, value in ENCODER.items():
        setattr(phrase_language, key, value)
    rng = np.random.default_rng(SEED)
    parts = phrase_language.words(rng)
    held, truth = phrase_language.phrases(parts, 1, 1000, rng)

    def batches():
        while True:
            x, y = phrase_language.phrases(parts, 0, 64, rng)
            yield jnp.asarray(x), jnp.asarray(y)

    loss = lambda params, batch, key: cross_entropy(phrase_language.forward(params, batch[0], key), batch[1])
    params = train(loss, phrase_language.initial(rng), batches(), ENCODER_STEPS, rate=1e-3)
    calibrate, _ = phrase_language.phrases(parts, 0, CALIBRATE, rng)
    return phrase_language.export(params), {"tokens": calibrate}, {"tokens": held}, truth


def main():
    folder = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or [*IMAGES, "encoder"]:
        model, calibrate, held, truth = encoder_network() if name == "encoder" else image_network(name)
        right = float((run(model, held)[0].argmax(1) == truth).mean())
        at = folder / name
        at.mkdir(parents=True, exist_ok=True)
        np.savez(at / "calibrate.npz", **calibrate)
        np.savez(at / "held.npz", **held)
        np.save(at / "labels.npy", truth.astype(np.int64))
        # Last: the file whose presence says that the rest is there.
        (at / "model.onnx").write_bytes(model.SerializeToString())
        print(f"{name}: {right:.1%} of {len(truth)} held-out rows", file=sys.stderr)


if __name__ == "__main__":
    main()
