"""Weights, descriptions and outputs of models of other libraries, kept in tests/vectors/interop/.

    KERAS_BACKEND=torch python tests/vectors/make_interop.py

needs torch, keras and scikit-learn, and also checks that models go to these libraries and come back with the
same bits. The tests read the files and need none of the libraries.
"""

import json
import runpy
import warnings
from pathlib import Path

import keras
import numpy as np
import safetensors.torch
import torch
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier
from torch import nn

from fastbp import interop

HERE = Path(__file__).parent
FOLDER = HERE / "interop"
NETWORKS = runpy.run_path(str(HERE.parent / "networks.py"))


def torch_vectors():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 8, bias=False),
        nn.LayerNorm(8),
        nn.PReLU(8),
        nn.Dropout(0.25),
        nn.Linear(8, 3),
    )
    x = torch.randn(10, 6)
    net(x)  # moves the statistics
    net.eval()
    safetensors.torch.save_file(
        {f"net.{name}": t for name, t in net.state_dict().items()}, FOLDER / "torch.safetensors"
    )
    np.savez_compressed(FOLDER / "torch.npz", x=x.numpy(), y=net(x).detach().numpy())


def keras_vectors():
    keras.utils.set_random_seed(0)
    kind = keras.layers
    net = keras.Sequential(
        [
            keras.Input((6,)),
            kind.Normalization(mean=np.arange(6.0), variance=np.arange(1.0, 7.0)),
            kind.Rescaling(0.5, offset=0.25),
            kind.GaussianNoise(0.1),
            kind.Dense(8, activation="relu"),
            kind.BatchNormalization(),
            kind.Dropout(0.25),
            kind.Dense(8, activation="gelu", use_bias=False),
            kind.LayerNormalization(),
            kind.Dense(5, activation="leaky_relu"),
            kind.LeakyReLU(0.2),
            kind.Dense(5, activation=kind.ELU(alpha=0.5)),
            kind.PReLU(alpha_initializer="uniform"),
            kind.ReLU(),
            kind.Activation("silu"),
            kind.Dense(3),
            kind.Softmax(),
        ]
    )
    x = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
    net(x, training=True)
    y = net.predict(x, verbose=0)
    described = [{"class": type(one).__name__, "config": one.get_config()} for one in net.layers]
    (FOLDER / "keras.json").write_text(json.dumps(described, indent=1, default=np.ndarray.tolist) + "\n")
    weights = {
        f"{i}.{j}": array for i, one in enumerate(net.layers) for j, array in enumerate(one.get_weights())
    }
    np.savez_compressed(FOLDER / "keras.npz", x=x, y=y, **weights)


def sklearn_vectors():
    x, y = load_iris(return_X_y=True)
    estimator = MLPClassifier((5, 4), activation="tanh", max_iter=50, random_state=0).fit(x, y)
    arrays = {f"coefs.{i}": array for i, array in enumerate(estimator.coefs_)}
    arrays |= {f"intercepts.{i}": array for i, array in enumerate(estimator.intercepts_)}
    np.savez_compressed(FOLDER / "sklearn.npz", x=x[::10], y=estimator.predict_proba(x[::10]), **arrays)


def check_round_trips():
    """Every network that both sides know: the outputs agree, and the weights come back to the bit."""

    def run_torch(net, x):
        return net(torch.from_numpy(x)).detach().numpy()

    def run_keras(net, x):
        return np.asarray(net(x).detach())

    ways = (
        (interop.to_torch, interop.from_torch, run_torch),
        (interop.to_keras, interop.from_keras, run_keras),
    )
    for name in NETWORKS["STACKS"]:
        for dtype in ("float32", "float64"):
            model, x = NETWORKS["make"](name, dtype)
            for there, back, run in ways:
                try:
                    net = there(model)
                except ValueError as error:
                    print(f"{there.__name__}: {error}")
                    continue
                y = model.predict(x)
                np.testing.assert_allclose(run(net, x), y, rtol=0, atol=1e-6 * np.abs(y).max())
                again = back(net)
                for array, copy in zip(tensors(model), tensors(again), strict=True):
                    np.testing.assert_array_equal(array, copy)
    for classes in (2, 3):
        x, y = load_iris(return_X_y=True)
        x, y = x[y < classes], y[y < classes]
        estimator = MLPClassifier((5, 4), max_iter=50, random_state=0).fit(x, y)
        again = interop.to_sklearn(interop.from_sklearn(estimator))
        np.testing.assert_array_equal(again.predict_proba(x), estimator.predict_proba(x))
        np.testing.assert_array_equal(again.predict(x), estimator.predict(x))


def tensors(model):
    return [view for layer in model.layers for view in (layer.parameters | layer.statistics).values()]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    torch_vectors()
    keras_vectors()
    sklearn_vectors()
    check_round_trips()
