#!/usr/bin/env python3
"""Exports scikit-learn, XGBoost and LightGBM models as their converters do by default, runs them with onnxruntime and writes both
where `conformance` (an example of hallmark-engine) compares our answers with them.

    pip install scikit-learn skl2onnx onnxmltools xgboost lightgbm onnxruntime
    scripts/tabular-check.py [FOLDER]             default: target/tabular-tests
    cargo run --release -p hallmark-engine --example conformance -- FOLDER

A score may differ by 1e-5 * max(1, largest score); labels, text ones included, must be equal.
"""

import json
import pathlib
import shutil
import sys
import warnings

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
from onnxmltools import convert_lightgbm, convert_xgboost  # noqa: E402
from onnxmltools.convert.common.data_types import FloatTensorType as ToolsFloat  # noqa: E402
from skl2onnx import convert_sklearn, to_onnx  # noqa: E402
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn import compose, datasets, decomposition, discriminant_analysis, ensemble  # noqa: E402
from sklearn import impute, linear_model, naive_bayes, neighbors, neural_network  # noqa: E402
from sklearn import feature_selection, pipeline, preprocessing, svm, tree  # noqa: E402

ROWS = 40


def encoded(array: np.ndarray) -> dict:
    if array.dtype.kind in "OU":
        return {"dtype": "string", "shape": list(array.shape), "data": [str(v) for v in array.ravel()]}
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": little.tobytes().hex()}


def answer(value) -> np.ndarray:
    """An output of onnxruntime; the maps of ZipMap become a matrix, columns in the order of their keys."""
    if isinstance(value, list):
        return np.array([list(row.values()) for row in value], dtype=np.float32)
    return np.asarray(value)


class Writer:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.count = 0

    def add(self, name: str, model, inputs: dict[str, np.ndarray]) -> None:
        session = onnxruntime.InferenceSession(model.SerializeToString())
        outputs = [answer(v) for v in session.run(None, inputs)]
        largest = max([1.0] + [float(np.abs(v).max()) for v in outputs if v.dtype.kind == "f" and v.size])
        place = self.folder / name
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(model.SerializeToString())
        ordered = [inputs[i.name] for i in session.get_inputs()]
        sets = [{"inputs": [encoded(v) for v in ordered], "outputs": [encoded(v) for v in outputs]}]
        case = {"name": name, "op": name.split("_")[0], "rtol": 0.0, "atol": 1e-5 * largest, "sets": sets}
        (place / "case.json").write_text(json.dumps(case))
        self.count += 1


def sklearn_models(write: Writer) -> None:
    iris, cancer = datasets.load_iris(), datasets.load_breast_cancer()
    diabetes, digits = datasets.load_diabetes(), datasets.load_digits()
    texts = np.array(["setosa", "versicolor", "virginica"])[iris.target]
    classifiers = {
        "logistic": linear_model.LogisticRegression(max_iter=5000),
        "ridge": linear_model.RidgeClassifier(),
        "sgd": linear_model.SGDClassifier(random_state=0),
        "perceptron": linear_model.Perceptron(random_state=0),
        "tree": tree.DecisionTreeClassifier(max_depth=5, random_state=0),
        "forest": ensemble.RandomForestClassifier(20, max_depth=6, random_state=0),
        "extra": ensemble.ExtraTreesClassifier(20, max_depth=6, random_state=0),
        "boosting": ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0),
        "hist": ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=0),
        "ada": ensemble.AdaBoostClassifier(n_estimators=10, random_state=0),
        "bagging": ensemble.BaggingClassifier(n_estimators=5, random_state=0),
        "mlp": neural_network.MLPClassifier((16, 8), max_iter=300, random_state=0),
        "knn": neighbors.KNeighborsClassifier(5),
        "bayes": naive_bayes.GaussianNB(),
        "lda": discriminant_analysis.LinearDiscriminantAnalysis(),
        "linearsvc": svm.LinearSVC(),
        "svc": svm.SVC(),
        "svcproba": svm.SVC(probability=True, random_state=0),
    }
    sets = {
        "binary": (cancer.data, cancer.target),
        "multi": (iris.data, iris.target),
        "text": (iris.data, texts),
        "textbinary": (iris.data[:100], texts[:100]),
    }
    for name, model in classifiers.items():
        for kind, (x, y) in sets.items():
            x = x.astype(np.float32)
            for scaled in (False, True) if kind in ("binary", "text") else (False,):
                fitted = clone(model)
                if scaled:
                    fitted = pipeline.make_pipeline(preprocessing.StandardScaler(), fitted)
                fitted.fit(x, y)
                title = f"{name}_{kind}" + ("_scaled" if scaled else "")
                try:
                    onnx = to_onnx(fitted, x[:1])
                    write.add(title, onnx, {onnx.graph.input[0].name: x[:: max(1, len(x) // ROWS)]})
                except Exception as error:  # a converter that does not take the model
                    print(f"skipped {title}: {str(error).splitlines()[0][:150]}", file=sys.stderr)
    regressors = {
        "linear": linear_model.LinearRegression(),
        "lasso": linear_model.Lasso(),
        "treereg": tree.DecisionTreeRegressor(max_depth=5, random_state=0),
        "forestreg": ensemble.RandomForestRegressor(20, max_depth=6, random_state=0),
        "boostingreg": ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0),
        "histreg": ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=0),
        "mlpreg": neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=300, random_state=0),
        "knnreg": neighbors.KNeighborsRegressor(5),
        "svr": svm.SVR(),
        "linearsvr": svm.LinearSVR(),
    }
    x = diabetes.data.astype(np.float32)
    for name, model in regressors.items():
        model.fit(x, diabetes.target)
        try:
            write.add(name, to_onnx(model, x[:1]), {"X": x[::10]})
        except Exception as error:
            print(f"skipped {name}: {str(error).splitlines()[0][:150]}", file=sys.stderr)
    multi = tree.DecisionTreeRegressor(max_depth=4).fit(x, np.stack([diabetes.target, -diabetes.target], 1))
    write.add("treereg_targets", to_onnx(multi, x[:1]), {"X": x[::10]})
    x = digits.data.astype(np.float32)
    transformers = {
        "minmax": preprocessing.MinMaxScaler(),
        "maxabs": preprocessing.MaxAbsScaler(),
        "robust": preprocessing.RobustScaler(),
        "normalizer": preprocessing.Normalizer(),
        "normalizermax": preprocessing.Normalizer("max"),
        "binarizer": preprocessing.Binarizer(threshold=3.0),
        "poly": pipeline.make_pipeline(decomposition.PCA(4), preprocessing.PolynomialFeatures(2)),
        "pca": decomposition.PCA(8),
        "bins": preprocessing.KBinsDiscretizer(4, encode="ordinal"),
        "imputer": impute.SimpleImputer(),
        "select": feature_selection.SelectKBest(k=10),
        "power": pipeline.make_pipeline(decomposition.PCA(4), preprocessing.PowerTransformer()),
    }
    for name, model in transformers.items():
        sample = x[::50].copy()
        if name == "imputer":
            sample[::3, ::5] = np.nan
        model.fit(x, digits.target)
        try:
            write.add(name, to_onnx(model, x[:1]), {"X": sample})
        except Exception as error:
            print(f"skipped {name}: {str(error).splitlines()[0][:150]}", file=sys.stderr)
    columns(write)


def columns(write: Writer) -> None:
    """Columns of several types, as of a table with text."""
    rng = np.random.default_rng(0)
    colours = rng.choice(["red", "green", "blue"], 200).reshape(-1, 1)
    grades = rng.integers(0, 4, 200).reshape(-1, 1)
    numbers = rng.normal(size=(200, 3)).astype(np.float32)
    target = np.where((colours[:, 0] == "red") ^ (numbers[:, 0] > 0), "yes", "no")
    table = np.concatenate([numbers.astype(object), colours, grades.astype(object)], axis=1)
    shape = compose.ColumnTransformer([
        ("numbers", preprocessing.StandardScaler(), [0, 1, 2]),
        ("colours", preprocessing.OneHotEncoder(handle_unknown="ignore"), [3]),
        ("grades", preprocessing.OrdinalEncoder(), [4]),
    ])
    model = pipeline.make_pipeline(shape, linear_model.LogisticRegression()).fit(table, target)
    types = [
        ("numbers", FloatTensorType([None, 3])),
        ("colours", StringTensorType([None, 1])),
        ("grades", Int64TensorType([None, 1])),
    ]
    onnx = convert_sklearn(model, initial_types=types)
    write.add("columns", onnx, {"numbers": numbers, "colours": colours.astype(object), "grades": grades})


def boosters(write: Writer) -> None:
    import lightgbm
    import xgboost

    iris, cancer, diabetes = datasets.load_iris(), datasets.load_breast_cancer(), datasets.load_diabetes()
    cases = {"binary": cancer, "multi": iris, "regression": diabetes}
    for kind, data in cases.items():
        x = data.data.astype(np.float32)
        types = [("input", ToolsFloat([None, x.shape[1]]))]
        classify = kind != "regression"
        small = {"n_estimators": 20, "max_depth": 4}
        booster = (xgboost.XGBClassifier if classify else xgboost.XGBRegressor)(**small, random_state=0)
        booster.fit(x, data.target)
        sample = x[:: max(1, len(x) // ROWS)].copy()
        sample[::4, 0] = np.nan
        write.add(f"xgboost_{kind}", convert_xgboost(booster, initial_types=types), {"input": sample})
        booster = (lightgbm.LGBMClassifier if classify else lightgbm.LGBMRegressor)(**small, verbose=-1)
        booster.fit(x, data.target)
        write.add(f"lightgbm_{kind}", convert_lightgbm(booster, initial_types=types), {"input": sample})


def main() -> None:
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "target" / "tabular-tests"
    shutil.rmtree(folder, ignore_errors=True)
    write = Writer(folder)
    boosters(write)
    sklearn_models(write)
    print(f"{write.count} models in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
