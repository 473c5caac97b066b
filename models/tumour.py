"""Two models for one tabular decision, malignant or benign (scikit-learn's `load_breast_cancer`): a multilayer perceptron and
gradient-boosted trees."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxmltools
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

from common import FLOAT, SEED, Builder, cross_entropy, minibatches, run, ship, train

CLASSES = ["malignant", "benign"]


def split():
    data = load_breast_cancer()
    x = data.data.astype(np.float32)
    return train_test_split(x, data.target, test_size=0.25, random_state=SEED, stratify=data.target)


def card(name, what, architecture, truth, accuracy, baseline, output):
    return f"""
# {name}

Says from 30 measurements of cell nuclei whether a tumour is malignant or benign.

| | |
|---|---|
| input | `features` float32 [batch, 30], in the order of scikit-learn's `load_breast_cancer` |
| output | {output} |
| architecture | {architecture} |
| data | the Breast Cancer Wisconsin (Diagnostic) set as scikit-learn carries it (569 cases, CC BY 4.0), a stratified quarter held out |
| held-out accuracy | **{accuracy:.1%}** of {len(truth)} cases |
| baseline | {baseline} |
| retrain | `./x train tumour` |

{what} Meant for demonstration and tests; no medical use.
"""


def perceptron():
    name = "tumour-mlp"
    x, held, y, truth = split()
    mean, std = x.mean(0), x.std(0)
    rng = np.random.default_rng(SEED)
    he = lambda *shape: (rng.standard_normal(shape) * np.sqrt(2.0 / shape[1])).astype(np.float32)
    sizes = [30, 32, 16, 2]
    params = {}
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:]), 1):
        params[f"w{i}"], params[f"b{i}"] = he(fan_out, fan_in), np.zeros(fan_out, np.float32)

    def forward(params, x):
        x = (x - mean) / std
        for i in (1, 2):
            x = jax.nn.relu(x @ params[f"w{i}"].T + params[f"b{i}"])
        return x @ params["w3"].T + params["b3"]

    def loss(params, batch, key):
        # The penalty's weight was chosen by ten-fold cross-validation on the training part.
        penalty = sum((params[f"w{i}"] ** 2).sum() for i in (1, 2, 3))
        return cross_entropy(forward(params, jnp.asarray(batch[0])), batch[1]) + 0.0035 * penalty

    params = train(loss, params, minibatches(x, y, 32, rng), steps=1500, rate=2e-3)

    b = Builder()
    v = b.op("Div", [b.op("Sub", ["features", b.const(mean, "mean")]), b.const(std, "std")])
    for i in (1, 2, 3):
        v = b.op("Gemm", [v, b.const(params[f"w{i}"], f"fc{i}.weight"), b.const(params[f"b{i}"], f"fc{i}.bias")], transB=1)
        v = b.op("Relu", [v]) if i < 3 else v
    b.op("Softmax", [v], "probabilities", axis=1)
    model = b.model(name, [("features", FLOAT, ["batch", 30])], [("probabilities", FLOAT, ["batch", 2])])

    accuracy = float((run(model, {"features": held})[0].argmax(1) == truth).mean())
    scaled = lambda a: (a - mean) / std
    baseline = LogisticRegression(max_iter=5000).fit(scaled(x), y).score(scaled(held), truth)
    ship(name, model, {"features": held}, truth,
         {"title": "Tumour diagnosis, neural network", "task": "whether a tumour is malignant or benign", "view": "table",
          "columns": load_breast_cancer().feature_names.tolist(),
          "answer": "probabilities", "classes": CLASSES,
          "score": f"{accuracy:.1%} of {len(truth)} held-out cases (logistic regression: {baseline:.1%})"},
         card(name, "The features are standardised inside the graph. The set is nearly linear: logistic regression is not beaten, and the card says so.",
              "standardisation, then dense layers 30-32-16-2 with ReLU; 1,554 parameters", truth, accuracy,
              f"logistic regression on standardised features: {baseline:.1%}", "`probabilities` float32 [batch, 2]: malignant, benign"))


def trees():
    name = "tumour-trees"
    x, held, y, truth = split()
    booster = xgboost.XGBClassifier(n_estimators=120, max_depth=3, learning_rate=0.1, subsample=0.8, random_state=SEED, n_jobs=1)
    booster.fit(x, y)
    model = onnxmltools.convert_xgboost(booster, initial_types=[("features", FloatTensorType([None, 30]))], target_opset=15)
    model.graph.name = name
    model.graph.doc_string = ""
    onnx.checker.check_model(model)
    label, _ = run(model, {"features": held})
    accuracy = float((label == truth).mean())
    baseline = DecisionTreeClassifier(random_state=SEED).fit(x, y).score(held, truth)
    ship(name, model, {"features": held}, truth,
         {"title": "Tumour diagnosis, boosted trees", "task": "whether a tumour is malignant or benign", "view": "table",
          "columns": load_breast_cancer().feature_names.tolist(),
          "answer": "probabilities", "classes": CLASSES,
          "score": f"{accuracy:.1%} of {len(truth)} held-out cases (one decision tree: {baseline:.1%})"},
         card(name, "The file is what the converter writes by default, unchanged but for its name.",
              "120 gradient-boosted trees of depth 3 (XGBoost, exported by onnxmltools)", truth, accuracy,
              f"one decision tree: {baseline:.1%}", "`label` int64 [batch], `probabilities` float32 [batch, 2]: malignant, benign"))


def main():
    perceptron()
    trees()


if __name__ == "__main__":
    main()
