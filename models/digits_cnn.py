"""A convolutional network that reads handwritten digits (8x8 images of scikit-learn's `load_digits`)."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from common import FLOAT, SEED, Builder, cross_entropy, minibatches, run, ship, train

NAME = "digits-cnn"


def forward(params, image, key=None):
    def conv(x, w, b):
        y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return jax.nn.relu(y + b[None, :, None, None])

    x = conv(image / 16.0, params["w1"], params["b1"])
    x = conv(x, params["w2"], params["b2"])
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    x = conv(x, params["w3"], params["b3"])
    x = x.reshape(x.shape[0], -1)
    if key is not None:
        x = x * jax.random.bernoulli(key, 0.7, x.shape) / 0.7
    x = jax.nn.relu(x @ params["w4"].T + params["b4"])
    return x @ params["w5"].T + params["b5"]


def shift(images, key):
    """Moves each image by up to one pixel: the only augmentation."""
    padded = jnp.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    offsets = jax.random.randint(key, (images.shape[0], 2), 0, 3)
    crop = lambda image, at: jax.lax.dynamic_slice(image, (0, at[0], at[1]), (1, 8, 8))
    return jax.vmap(crop)(padded, offsets)


def export(params):
    b = Builder()
    x = b.op("Div", ["image", b.const(np.float32(16.0), "pixel_range")])
    for layer in (1, 2):
        weights = [b.const(params[f"w{layer}"], f"conv{layer}.weight"), b.const(params[f"b{layer}"], f"conv{layer}.bias")]
        x = b.op("Relu", [b.op("Conv", [x, *weights], kernel_shape=[3, 3], pads=[1, 1, 1, 1])])
    x = b.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    weights = [b.const(params["w3"], "conv3.weight"), b.const(params["b3"], "conv3.bias")]
    x = b.op("Relu", [b.op("Conv", [x, *weights], kernel_shape=[3, 3], pads=[1, 1, 1, 1])])
    x = b.op("Flatten", [x], axis=1)
    x = b.op("Relu", [b.op("Gemm", [x, b.const(params["w4"], "fc1.weight"), b.const(params["b4"], "fc1.bias")], transB=1)])
    x = b.op("Gemm", [x, b.const(params["w5"], "fc2.weight"), b.const(params["b5"], "fc2.bias")], transB=1)
    b.op("Softmax", [x], "probabilities", axis=1)
    return b.model(NAME, [("image", FLOAT, ["batch", 1, 8, 8])], [("probabilities", FLOAT, ["batch", 10])])


def main():
    data = load_digits()
    images = data.images.astype(np.float32)[:, None]
    x, held, y, truth = train_test_split(images, data.target, test_size=0.25, random_state=SEED, stratify=data.target)
    rng = np.random.default_rng(SEED)
    he = lambda *shape: (rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))).astype(np.float32)
    zeros = lambda n: np.zeros(n, np.float32)
    params = {"w1": he(16, 1, 3, 3), "b1": zeros(16), "w2": he(32, 16, 3, 3), "b2": zeros(32), "w3": he(32, 32, 3, 3),
              "b3": zeros(32), "w4": he(64, 512), "b4": zeros(64), "w5": he(10, 64), "b5": zeros(10)}

    def loss(params, batch, key):
        image, label = batch
        first, second = jax.random.split(key)
        return cross_entropy(forward(params, shift(image, first), second), label)

    params = train(loss, params, minibatches(x, y, 64, rng), steps=1500, rate=2e-3)
    model = export(params)
    accuracy = float((run(model, {"image": held})[0].argmax(1) == truth).mean())
    flat = lambda a: a.reshape(len(a), -1) / 16.0
    baseline = LogisticRegression(max_iter=2000).fit(flat(x), y).score(flat(held), truth)
    count = sum(v.size for v in params.values())
    ship(NAME, model, {"image": held}, truth,
         {"title": "Handwritten digits", "task": "which digit an 8x8 grey image shows", "view": "image", "answer": "probabilities",
          "classes": [str(d) for d in range(10)],
          "score": f"{accuracy:.1%} of {len(truth)} held-out images (logistic regression: {baseline:.1%})"},
         f"""
# digits-cnn

Reads an 8x8 grey image of a handwritten digit.

| | |
|---|---|
| input | `image` float32 [batch, 1, 8, 8], pixels 0 to 16 |
| output | `probabilities` float32 [batch, 10] |
| architecture | three 3x3 convolutions (16, 32, 32 channels), max pooling, two dense layers; {count:,} parameters |
| data | scikit-learn's `load_digits` (1,797 images of the UCI Optical Recognition of Handwritten Digits set, CC BY 4.0), a stratified quarter held out |
| held-out accuracy | **{accuracy:.1%}** of {len(truth)} images |
| baseline | logistic regression on pixels: {baseline:.1%} |
| retrain | `./x train digits_cnn` |

Meant for demonstration and tests. It knows nothing but centred 8x8 digits, and answers with confidence on anything else.
""")


if __name__ == "__main__":
    main()
