"""Every layer on every engine: its formula, its gradients, its file."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastbp
from fastbp import layers
from fastbp.activations import ActivationLayer
from fastbp.engine.plan import ACTIVATIONS
from fastbp.layers import (
    ELU,
    GELU,
    SELU,
    Activation,
    BatchNormalization,
    Branches,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    LayerNormalization,
    LeakyReLU,
    Linear,
    Mish,
    Normalization,
    PReLU,
    ReLU,
    Rescaling,
    Reshape,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
STEP = 1e-5  # of central differences, for values about 1
ROWS, INPUTS, UNITS = 5, 4, 3

# ---- formulas, written as the textbook writes them -----------------------------------------------


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


FORMULAS = {
    "linear": lambda z: z,
    "relu": lambda z: np.where(z > 0, z, 0),
    "leaky_relu": lambda z, slope=0.01: np.where(z > 0, z, slope * z),
    "elu": lambda z, alpha=1.0: np.where(z > 0, z, alpha * (np.exp(z) - 1)),
    "selu": lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * (np.exp(z) - 1)),
    "sigmoid": sigmoid,
    "tanh": lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "gelu": lambda z: z / 2 * (1 + np.vectorize(math.erf)(z / math.sqrt(2))),
    "gelu_tanh": lambda z: z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z * sigmoid(z),
    "mish": lambda z: z * np.tanh(np.log(1 + np.exp(z))),
    "softmax": softmax,
}

# ---- every layer, with the formula of its output ------------------------------------------------


def dense(layer, x, formula):
    weight, bias = layer.weight.astype(float), layer.bias
    z = np.array([[sum(weight[i] * sample) for i in range(layer.units)] for sample in x])
    return formula(z if bias is None else z + bias.astype(float))


def normalized(x, mean, variance, epsilon, layer):
    gamma, beta = (layer.parameters.get(name, default) for name, default in (("gamma", 1), ("beta", 0)))
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def layer_normalized(layer, x, epsilon=1e-3):
    mean = x.mean(axis=1, keepdims=True)
    return normalized(x, mean, ((x - mean) ** 2).mean(axis=1, keepdims=True), epsilon, layer)


def batch_normalized(layer, x, epsilon=1e-3):
    return normalized(x, layer.moving_mean, layer.moving_variance, epsilon, layer)


def branched(layer, x):
    below, _ = layer.children
    return np.hstack([dense(below, x[:, [2, 0]], FORMULAS["tanh"]), np.maximum(x[:, 1:], 0), x[:, [3]]])


LAYERS = {
    "BatchNormalization": (BatchNormalization, batch_normalized),
    "BatchNormalization, plain": (
        lambda: BatchNormalization(0.9, 0.1, center=False, scale=False, unbiased=True),
        lambda layer, x: batch_normalized(layer, x, 0.1),
    ),
    "LayerNormalization": (LayerNormalization, layer_normalized),
    "LayerNormalization, plain": (
        lambda: LayerNormalization(0.1, center=False, scale=False),
        lambda layer, x: layer_normalized(layer, x, 0.1),
    ),
    "LayerNormalization without beta": (lambda: LayerNormalization(center=False), layer_normalized),
    "PReLU": (PReLU, lambda layer, x: np.where(x > 0, x, layer.alpha * x)),
    "GaussianNoise": (lambda: GaussianNoise(0.5), lambda layer, x: x),
    "Rescaling": (lambda: Rescaling(-1.5, 0.25), lambda layer, x: -1.5 * x + 0.25),
    "Normalization": (Normalization, lambda layer, x: (x - layer.mean) / np.sqrt(layer.variance)),
    "Residual": (
        lambda: Residual([Dense(INPUTS, "tanh")]),
        lambda layer, x: x + dense(layer.children[0], x, FORMULAS["tanh"]),
    ),
    "Branches": (lambda: Branches([Dense(2, "tanh"), "relu", []], [[2, 0], [1, 2, 3], [3]]), branched),
    "Dense": (lambda: Dense(UNITS), lambda layer, x: dense(layer, x, FORMULAS["linear"])),
    "Dense without bias": (
        lambda: Dense(UNITS, "tanh", use_bias=False),
        lambda layer, x: dense(layer, x, FORMULAS["tanh"]),
    ),
    "Dense with a layer as activation": (
        lambda: Dense(UNITS, LeakyReLU(0.3)),
        lambda layer, x: dense(layer, x, lambda z: FORMULAS["leaky_relu"](z, 0.3)),
    ),
    "Dropout": (lambda: Dropout(0.4), lambda layer, x: x),
    "LeakyReLU(0.2)": (lambda: LeakyReLU(0.2), lambda layer, x: FORMULAS["leaky_relu"](x, 0.2)),
    "ELU(0.7)": (lambda: ELU(0.7), lambda layer, x: FORMULAS["elu"](x, 0.7)),
    "GELU('tanh')": (lambda: GELU("tanh"), lambda layer, x: FORMULAS["gelu_tanh"](x)),
}
LAYERS |= {
    kind.__name__: (kind, lambda layer, x, name=kind.key: FORMULAS[name](x))
    for kind in (Linear, ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Mish, Sigmoid, Tanh, Softplus, Softmax)
}
LAYERS |= {
    f"Dense {name}": (
        lambda name=name: Dense(UNITS, name),
        lambda layer, x, name=name: dense(layer, x, FORMULAS[name]),
    )
    for name in FORMULAS
}
LAYERS |= {
    f"Activation {name}": (lambda name=name: Activation(name), lambda layer, x, name=name: FORMULAS[name](x))
    for name in FORMULAS
}


def test_every_layer_and_activation_is_here():
    known = {
        kind for kind in vars(layers).values() if isinstance(kind, type) and issubclass(kind, layers.Layer)
    }
    elsewhere = {Embedding, Flatten, Reshape}  # test_embedding.py, test_shape.py
    assert {type(make()) for make, _ in LAYERS.values()} == known - {
        layers.Layer,
        ActivationLayer,
    } - elsewhere
    assert set(FORMULAS) == {*ACTIVATIONS, "softmax"}


def scattered(model, seed=1):
    """Give all weights and biases values about 1, so that nothing is zero by its initializer."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for view in layer.parameters.values():
            view[...] = rng.normal(scale=0.8, size=view.shape)
        for view in layer.statistics.values():
            view[...] = rng.uniform(0.5, 1.5, size=view.shape)
    return model


def inputs(columns=INPUTS):
    """Values about 1, none so close to 0 that a difference would step over a kink."""
    x = np.random.default_rng(7).normal(size=(ROWS, columns))
    return np.where(np.abs(x) < 0.01, 0.5, x)


@pytest.mark.parametrize("name", LAYERS)
def test_formula(name, engine, dtype):
    make, formula = LAYERS[name]
    model = scattered(fastbp.Sequential([make()], input_size=INPUTS, dtype=dtype, seed=0))
    x = inputs().astype(dtype)
    expected = formula(model.layers[0], x.astype(float))
    for y in (model.predict(x), model.forward(x)):
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


# ---- gradients -----------------------------------------------------------------------------------


def differences(function, array):
    """Central differences of a function by the elements of an array."""
    found = np.empty(array.shape)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + STEP
        above = function()
        array[place] = kept - STEP
        found[place] = (above - function()) / (2 * STEP)
        array[place] = kept
    return found


def check_gradient(name, found, expected, rtol):
    """Relative to the largest element: a difference is no better where the gradient is small."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max(), err_msg=name)


NETS = {
    **{name: lambda make=make: [make()] for name, (make, _) in LAYERS.items()},
    # below, between and above matrix products, where activations are fused into them
    **{
        f"{name} inside": lambda name=name: [Dense(6, name), Dense(5, name, use_bias=False), Dense(UNITS)]
        for name in FORMULAS
    },
    "activations in a row": lambda: [Dense(5, "tanh"), Softplus(), ELU(0.3), GELU(), Dense(2), Softmax()],
    "normalization between layers": lambda: [
        Dense(6, use_bias=False),
        BatchNormalization(),
        ReLU(),
        LayerNormalization(),
        Dense(5, "tanh"),
        BatchNormalization(),
        PReLU(),
    ],
    "noise": lambda: [GaussianNoise(0.3), Dense(6, "tanh"), GaussianNoise(0.2), Dense(2)],
    "residuals": lambda: [
        Residual([LayerNormalization(), Dense(5, "softplus"), Dense(INPUTS)]),
        Residual([Residual([Dense(INPUTS, "tanh")]), Dropout(0.3)]),
        Residual("softmax"),
    ],
    "branches": lambda: [
        Branches([[Dense(3, "tanh"), Dense(2, "tanh")], []]),
        Branches(
            [[Normalization(), Dense(3, "elu")], PReLU(), Residual(Dense(2))], [[0, 1, 4], [4, 2], [5, 1]]
        ),
        Branches([Dense(2, "softmax"), Dense(2)], [None, [3, 0]]),
    ],
    "dropout": lambda: [Dropout(0.2), Dense(9, "tanh"), Dropout(0.5), Dense(2)],
}


def network(name, dtype):
    model = fastbp.Sequential(NETS[name](), input_size=INPUTS, dtype=dtype, seed=0)
    return scattered(model)


def forward(model, x):
    model._network.counters[...] = 0  # the same dropout each time
    return model.forward(x, training=True)


def backward(model, x, direction):
    """Gradients of Σ outputs · direction by the inputs and by every parameter."""
    forward(model, x)
    found = {"inputs": model.backward(direction)}
    for layer in model.layers:
        found |= {f"{layer.name}.{name}": view.copy() for name, view in layer.gradients.items()}
    return found


@pytest.mark.parametrize("name", NETS)
def test_gradients(name, engine):
    model, x = network(name, "float64"), inputs()
    direction = np.random.default_rng(9).normal(size=(ROWS, model.output_size))
    found = backward(model, x, direction)
    parameters = {f"{layer.name}.{n}": view for layer in model.layers for n, view in layer.parameters.items()}
    for place, array in {"inputs": x, **parameters}.items():
        expected = differences(lambda: float(np.sum(forward(model, x) * direction)), array)
        check_gradient(place, found[place], expected, 1e-6)
    narrow = backward(network(name, "float32"), x.astype("float32"), direction.astype("float32"))
    for place, gradient in narrow.items():
        assert gradient.dtype == np.float32
        check_gradient(f"{place} in float32", gradient, found[place], 1e-5)


@pytest.mark.parametrize("name", NETS)
def test_file(name, engine, dtype, tmp_path):
    """What was saved predicts the same, and goes on training the same, to the bit."""
    stack = NETS[name]()
    last = [] if stack and isinstance(stack[-1], Softmax) else [Dense(2)]
    model = fastbp.Sequential(
        [*stack, *last], "mean_squared_error", "adam", input_size=INPUTS, dtype=dtype, seed=0
    )
    x = inputs()
    y = np.random.default_rng(3).normal(size=(ROWS, model.output_size))
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.safetensors")
    copy = fastbp.load(tmp_path / "model.safetensors")
    assert [layer.config() for layer in copy.layers] == [layer.config() for layer in model.layers]
    assert copy.predict(x).tobytes() == model.predict(x).tobytes()
    assert copy.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert copy.parameters.tobytes() == model.parameters.tobytes()
