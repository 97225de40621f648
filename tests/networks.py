"""Small networks: two plain ones, and trained ones that hold every layer between them."""

import numpy as np

import fastbp as bp
from fastbp import layers
from fastbp.layers import Dense

INPUTS, ROWS = 8, 40
TABLES = [0, 1, 3]  # columns that hold rows of a table in the networks with an Embedding

ACTIVATIONS = {
    "linear": layers.Linear,
    "relu": layers.ReLU,
    "leaky_relu": lambda: layers.LeakyReLU(0.2),
    "elu": lambda: layers.ELU(0.7),
    "selu": layers.SELU,
    "gelu": layers.GELU,
    "gelu_tanh": lambda: layers.GELU("tanh"),
    "silu": layers.SiLU,
    "mish": layers.Mish,
    "sigmoid": layers.Sigmoid,
    "tanh": layers.Tanh,
    "softplus": layers.Softplus,
    "softmax": layers.Softmax,
}

STACKS = {
    **{name: lambda make=make: [Dense(7), make(), Dense(3)] for name, make in ACTIVATIONS.items()},
    "dropout": lambda: [layers.Dropout(0.25), Dense(5, "relu"), layers.Dropout(0.5), Dense(3)],
    "noise": lambda: [layers.GaussianNoise(0.1), Dense(5), layers.GaussianNoise(0.1)],
    "batch_normalization": lambda: [
        Dense(5),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.BatchNormalization(center=False),
        Dense(3),
        layers.BatchNormalization(scale=False),
    ],
    "layer_normalization": lambda: [
        Dense(5),
        layers.LayerNormalization(),
        layers.ReLU(),
        layers.LayerNormalization(center=False),
        Dense(6),
        layers.LayerNormalization(scale=False),
    ],
    "prelu": lambda: [Dense(5), layers.PReLU(bp.initializers.Constant(0.3)), Dense(3)],
    "scaling": lambda: [layers.Rescaling(0.5, -1), layers.Normalization(), Dense(3), layers.Rescaling(-2)],
    "residual": lambda: [
        layers.Residual([Dense(6, "relu"), layers.Residual([Dense(6, "tanh")]), Dense(INPUTS)]),
        Dense(3),
    ],
    "flatten": lambda: [layers.Flatten(), Dense(6), layers.Reshape([6])],
    "embedding": lambda: [layers.Embedding(4, 3), Dense(2)],
    "branches": lambda: [
        layers.Branches(
            [
                [layers.Embedding(5, 3)],
                [layers.Embedding(4, 2), Dense(4, "relu")],
                [layers.Normalization()],
                [],
            ],
            [[0], [3, 1], [2, 4, 5, 6, 7], [7, 2]],
        ),
        Dense(8, "relu"),
        layers.Residual([layers.Branches([[Dense(5)], [Dense(3)]])]),
        Dense(2),
    ],
}


def make(name, dtype="float32"):
    """A network after a few steps of training, which move its statistics, and samples for it."""
    model = bp.Sequential(STACKS[name](), input_size=INPUTS, loss="mean_squared_error", dtype=dtype, seed=0)
    rng = np.random.default_rng(0)
    X = rng.normal(0, 2, size=(ROWS, INPUTS))
    if name in ("branches", "embedding"):
        columns = TABLES if name == "branches" else slice(None)
        X[:, columns] = rng.integers(0, 4, size=X[:, columns].shape)
    X = X.astype(dtype)
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.adapt(X / 2 - 1)
        if isinstance(layer, Dense):  # out of the linear part of activations
            layer.weight *= 2
            layer.bias = np.linspace(-1, 1, layer.units)
    model.fit(X, rng.normal(size=(ROWS, model.output_size)), epochs=3, verbose=0)
    return model, X


def regressor(**arguments):
    """A network from three inputs to two numbers."""
    arguments = {"loss": "mean_squared_error", "input_size": 3, "dtype": "float64", "seed": 0} | arguments
    return bp.Sequential([Dense(5, activation="tanh"), Dense(2)], **arguments)


def classifier(**arguments):
    """A network from three inputs to three classes."""
    arguments = {"loss": "cross_entropy", "input_size": 3, "dtype": "float64", "seed": 0} | arguments
    return bp.Sequential([Dense(5, activation="tanh"), Dense(3, activation="softmax")], **arguments)
