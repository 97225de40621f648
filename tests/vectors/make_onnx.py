"""Models of other libraries, exported to tests/vectors/onnx/ with samples and the outputs that they gave.

    KERAS_BACKEND=torch python tests/vectors/make_onnx.py

needs torch, onnxscript, keras, scikit-learn and skl2onnx. The tests read the files and need none of these.
"""

import warnings
from pathlib import Path

import keras
import numpy as np
import onnx
import skl2onnx
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn

FOLDER = Path(__file__).parent / "onnx"


def keep(name, x, y):
    np.savez_compressed(FOLDER / f"{name}.npz", x=x, y=y)


def torch_net(layer_norm):
    """Every module that has a layer in fastbp; PyTorch takes LayerNorm apart before opset 17."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, 8),
        nn.BatchNorm1d(8),
        nn.GELU(),
        nn.Dropout(0.25),
        nn.Linear(8, 8, bias=False),
        nn.SiLU(),
        nn.LayerNorm(8) if layer_norm else nn.Identity(),
        nn.Linear(8, 8),
        nn.Mish(),
        nn.Linear(8, 6),
        nn.Softplus(),
        nn.PReLU(6),
        nn.ELU(0.7),
        nn.SELU(),
        nn.LeakyReLU(0.2),
        nn.Tanh(),
        nn.Sigmoid(),
        nn.GELU("tanh"),
        nn.ReLU(),
        nn.Linear(6, 3),
        nn.Softmax(-1),
    )
    net(torch.randn(50, 3, 4))  # moves the statistics
    return net.eval()


def torch_models():
    x = torch.randn(10, 3, 4)
    for opset, dynamo in ((13, False), (17, False), (18, True), (20, True)):
        name, net = f"torch_{opset}", torch_net(opset >= 17)
        batch = (
            {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
            if dynamo
            else {"dynamic_axes": {"x": {0: "n"}}}
        )
        torch.onnx.export(
            net, (x,), FOLDER / f"{name}.onnx", opset_version=opset, dynamo=dynamo, input_names=["x"],
            external_data=False, verbose=False, **batch,
        )  # fmt: skip
        keep(name, x.numpy(), net(x).detach().numpy())
    plain = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    flat = torch.randn(10, 12, dtype=torch.float64)
    torch.onnx.export(
        plain, (flat,), FOLDER / "torch_double.onnx", dynamo=True, external_data=False, verbose=False
    )
    keep("torch_double", flat.numpy(), plain(flat).detach().numpy())
    torch.onnx.export(
        plain, (flat,), FOLDER / "torch_external.onnx", dynamo=True, external_data=True, verbose=False
    )
    (FOLDER / "torch_external.onnx.data").unlink()


def sklearn_models():
    x, labels = load_iris(return_X_y=True)
    x = x.astype(np.float32)

    def convert(name, estimator, sample, outputs, **options):
        kind = {id(estimator): options} if options else None
        model = skl2onnx.to_onnx(estimator, sample[:1], options=kind, target_opset=18)
        (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())
        keep(name, sample[::15], outputs[::15])

    names = np.array(["setosa", "versicolor", "virginica"])[labels]
    classifier = make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=20, random_state=0)).fit(
        x, names
    )
    convert("sklearn_classifier", classifier, x, classifier.predict_proba(x), zipmap=False)
    convert("sklearn_zipmap", classifier, x, classifier.predict_proba(x), zipmap=True)
    two = MLPClassifier((5,), activation="tanh", max_iter=20, random_state=0).fit(x[:100], labels[:100])
    convert("sklearn_two_classes", two, x[:100], two.predict_proba(x[:100]), zipmap=False)
    x, y = load_diabetes(return_X_y=True)
    network = MLPRegressor(hidden_layer_sizes=(5, 4), activation="logistic", max_iter=20, random_state=0)
    regressor = make_pipeline(MinMaxScaler(), network).fit(x, y)
    convert("sklearn_regressor", regressor, x, regressor.predict(x)[:, np.newaxis])


def keras_model():
    keras.utils.set_random_seed(0)
    kind = keras.layers
    net = keras.Sequential(
        [
            keras.Input((6,)),
            kind.Normalization(mean=np.arange(6.0), variance=np.arange(1.0, 7.0)),
            kind.Dense(8, activation="relu"),
            kind.BatchNormalization(),
            kind.Dropout(0.25),
            kind.Dense(8, activation="gelu"),
            kind.LayerNormalization(),
            kind.Dense(5, activation="elu"),
            kind.Dense(5, activation="silu"),
            kind.Dense(5, activation="mish"),
            kind.Dense(5, activation="selu"),
            kind.Dense(5, activation="softplus"),
            kind.LeakyReLU(0.2),
            kind.PReLU(),
            kind.Dense(3, activation="softmax"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
    y = net.predict(x, verbose=0)
    # with this backend a model of Keras is a module of PyTorch
    torch.onnx.export(
        net, (torch.from_numpy(x),), FOLDER / "keras.onnx", dynamo=True, external_data=False, verbose=False
    )
    keep("keras", x, y)


def strip():
    """Take out what tells of the machine: paths of the exporters' sources."""
    for path in FOLDER.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        for part in (
            model,
            model.graph,
            *model.graph.node,
            *model.graph.value_info,
            *model.graph.initializer,
        ):
            part.doc_string = ""
            del part.metadata_props[:]
        del model.graph.value_info[:]
        path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    torch_models()
    sklearn_models()
    keras_model()
    strip()
