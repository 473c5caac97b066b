"""What the training scripts share: reproducible splits, a small JAX training loop, ONNX building, and the files of a
shipped model (model.onnx, samples.npz, onnxruntime.npz, meta.json, card.md)."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import optax
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
SEED = 20261121
SAMPLES = 16


def train(loss_of, params, batches, steps, rate):
    """Minimises `loss_of(params, batch, key)` with AdamW under a cosine schedule; gives the trained parameters."""
    optimiser = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-2)
    state = optimiser.init(params)

    @jax.jit
    def step(params, state, batch, key):
        grads = jax.grad(loss_of)(params, batch, key)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    key = jax.random.PRNGKey(SEED)
    for index in range(steps):
        params, state = step(params, state, next(batches), jax.random.fold_in(key, index))
    return jax.tree.map(np.asarray, params)


def minibatches(x, y, size, rng):
    """Endless shuffled minibatches."""
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x) - size + 1, size):
            rows = order[start : start + size]
            yield jnp.asarray(x[rows]), jnp.asarray(y[rows])


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


class Builder:
    """Builds an ONNX graph: `b.op("Gemm", [x, w, b], transB=1)` adds a node and gives its output's name."""

    def __init__(self):
        self.nodes, self.weights, self.count = [], [], 0

    def const(self, array, name=None):
        name = name or f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind, inputs, output=None, **attrs):
        self.count += 1
        output = output or f"v{self.count}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind.lower()}_{self.count}", **attrs))
        return output

    def model(self, name, inputs, outputs, opset=17):
        def info(spec):
            return helper.make_tensor_value_info(spec[0], spec[1], spec[2])

        graph = helper.make_graph(self.nodes, name, [info(i) for i in inputs], [info(o) for o in outputs], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="hallmark-models")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def run(model, feeds):
    """The model's outputs by onnxruntime: every score in the cards is of the exported file, not of the training code."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def ship(name, model, feeds, expected, meta, card):
    """Writes a shipped model's folder. `feeds` are held-out rows by input name, `expected` their true class indices."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    samples = {key: value[:SAMPLES] for key, value in feeds.items()}
    np.savez(folder / "samples.npz", **samples)
    # What onnxruntime answers, so that a test can compare without it.
    names = [output.name for output in model.graph.output]
    np.savez(folder / "onnxruntime.npz", **dict(zip(names, run(model, samples))))
    meta = {"name": name, **meta, "expected": [int(v) for v in expected[:SAMPLES]]}
    (folder / "meta.json").write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n")
    (folder / "card.md").write_text(card.strip() + "\n")
    print(f"{name}: {meta['score']}")
