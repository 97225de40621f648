"""Batch and layer normalization and PReLU beside PyTorch, and where numbers grow or do not vary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.initializers import Constant
from fastbp.layers import (
    BatchNormalization,
    Branches,
    Dense,
    GaussianNoise,
    LayerNormalization,
    Normalization,
    PReLU,
    Rescaling,
    Residual,
)
from fastbp.optimizers import SGD

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "layers.npz"
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
LAYERS = {
    "batch": lambda: BatchNormalization(momentum=0.9, epsilon=1e-5, unbiased=True),
    "layer": lambda: LayerNormalization(epsilon=1e-5),
    "prelu": lambda: PReLU(Constant(0.25)),
}
NAMES = {"gamma": "weight", "beta": "bias", "alpha": "weight"}
STATISTICS = {"moving_mean": "running_mean", "moving_variance": "running_var"}


@pytest.fixture(scope="module")
def vectors():
    with np.load(VECTORS) as file:
        return dict(file)


def close(found, expected, dtype, what):
    atol = TOLERANCE[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=what)


@pytest.mark.parametrize("name", LAYERS)
def test_pytorch(name, vectors, engine, dtype):
    layer = LAYERS[name]()
    model = fastbp.Sequential([layer], input_size=5, dtype=dtype)
    for own, view in layer.parameters.items():
        view[...] = vectors[f"{name}.{NAMES[own]}"]
    for size in engine.teams:
        fastbp.set_num_threads(size)
        for own, view in layer.statistics.items():
            view[...] = own == "moving_variance"
        for step in range(3):
            expected = {key: vectors[f"{name}.{step}.{key}"] for key in ("x", "dy", "y", "dx")}
            y = model.forward(expected["x"], training=True)
            close(y, expected["y"], dtype, f"y in step {step}")
            # the feature without variance: 1 / √ε makes the rounding of y and dy that much larger
            scale = 1 if dtype == "float64" else 1e-2
            dx = model.backward(expected["dy"])
            close(dx * scale, expected["dx"] * scale, dtype, f"dx in step {step}")
            for own, gradient in layer.gradients.items():
                close(gradient, vectors[f"{name}.{step}.{NAMES[own]}_grad"], dtype, f"{own} in step {step}")
            for own, view in layer.statistics.items():
                close(view, vectors[f"{name}.{step}.{STATISTICS[own]}"], dtype, f"{own} in step {step}")
        close(model.predict(expected["x"]), vectors[f"{name}.eval"], dtype, "y outside training")


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 300])
def test_batch_statistics(rows, engine, dtype, rng):
    """In training the mean and the biased variance of the batch, and of these the moving averages."""
    x = rng.normal(5, 3, size=(rows, 19)).astype(dtype)
    layer = BatchNormalization(momentum=0.75, epsilon=1e-3)
    model = fastbp.Sequential([layer], input_size=19, dtype=dtype)
    mean, variance = np.zeros(19), np.ones(19)
    for _ in range(3):
        y = model.forward(x, training=True)
        wide = x.astype(float)
        expected = (wide - wide.mean(axis=0)) / np.sqrt(wide.var(axis=0) + 1e-3)
        close(y, expected if rows > 1 else np.zeros((1, 19)), dtype, "y")
        mean, variance = (
            0.75 * old + 0.25 * new for old, new in ((mean, wide.mean(0)), (variance, wide.var(0)))
        )
        close(layer.moving_mean, mean, dtype, "moving_mean")
        close(layer.moving_variance, variance, dtype, "moving_variance")
    before = layer.moving_mean.copy()
    model.predict(x)
    assert np.array_equal(layer.moving_mean, before)


@pytest.mark.parametrize("kind", [BatchNormalization, LayerNormalization])
@pytest.mark.parametrize("value", [0.0, 1.1, -3e5, 1e-30])
def test_no_variance(kind, value, engine, dtype):
    """Equal values give beta, and gradients that are finite."""
    model = fastbp.Sequential([kind()], input_size=37, dtype=dtype)
    model.layers[0].beta = np.arange(37)
    for rows in (1, 3, 64):
        y = model.forward(np.full((rows, 37), value), training=True)
        np.testing.assert_allclose(
            y, np.tile(np.arange(37), (rows, 1)), atol=1e-4 * max(1, abs(value)) ** 0.5
        )
        assert np.isfinite(model.backward(np.ones((rows, 37)))).all()
        assert np.isfinite(model.gradients).all()


@pytest.mark.parametrize("kind", [BatchNormalization, LayerNormalization])
def test_a_large_mean_does_not_eat_the_variance(kind, engine, rng):
    """Two passes: float32 keeps what it can of values far from 0."""
    x = (1e4 + rng.normal(size=(512, 512))).astype("float32")
    y = fastbp.Sequential([kind(epsilon=1e-6)], input_size=512).forward(x, training=True)
    axis = 0 if kind is BatchNormalization else 1
    wide = x.astype(float)
    expected = (wide - wide.mean(axis, keepdims=True)) / wide.std(axis, keepdims=True)
    assert np.abs(y - expected).max() < 2e-3  # a unit in the last place of x is 1e-3


def test_native_and_reference_train_the_same(engine, dtype, rng):
    """100 steps of all that normalizes, scales and adds, statistics included."""
    X, y = rng.normal(size=(200, 6)), rng.normal(size=(200, 2))

    def trained():
        layers = [
            Branches([[Normalization(), Dense(9)], [Rescaling(0.5), PReLU()]], [[0, 1, 2, 3], [3, 4, 5]]),
            BatchNormalization(momentum=0.9),
            Residual([LayerNormalization(), Dense(12, "tanh"), GaussianNoise(0.1)]),
            Dense(2),
        ]
        model = fastbp.Sequential(layers, "mse", SGD(0.02, momentum=0.9), input_size=6, dtype=dtype, seed=0)
        model.fit(X, y, epochs=10, batch_size=20)
        return {name: view.copy() for name, view in model._network.tensors(optimizer=True).items()}

    found = trained()
    engine.select_reference()
    for name, expected in trained().items():
        atol = {"float32": 1e-5, "float64": 1e-12}[dtype] * max(1, np.abs(expected).max())
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=atol, err_msg=name)


def test_nothing_but_the_step_moves_gamma_and_nothing_decays_it(engine):
    """Statistics are out of the optimizer's reach; gamma and beta lie with the biases."""
    layer = BatchNormalization()
    optimizer = fastbp.optimizers.SGD(0.1, weight_decay=0.5)
    model = fastbp.Sequential([layer, Dense(1)], "mse", optimizer, input_size=3, dtype="float64", seed=0)
    plan = model.plan
    last_weight = max(p.tensor.offset for p in plan.parameters if p.decay)
    update = next(op for op in plan.ops if op.phase == "update")
    swept = update.operands["parameters"].columns
    for parameter in plan.parameters:
        assert parameter.decay or parameter.tensor.offset > last_weight
        assert parameter.trained == (parameter.tensor.offset < swept)
    layer.moving_mean = [1, 2, 3]
    model.forward(np.ones((4, 3)))
    model.backward(np.zeros((4, 1)))
    model.step()
    assert layer.moving_mean.tolist() == [1, 2, 3]
    assert layer.moving_variance.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be a number in"),
        ({"momentum": 1.5}, "momentum must be a number in"),
        ({"center": 1}, "center must be True or False"),
        ({"gamma_initializer": "one"}, "gamma_initializer 'one' is not known"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        BatchNormalization(**arguments)


def test_arrays_as_attributes():
    layer = LayerNormalization(scale=False)
    with pytest.raises(AttributeError, match="'layer_normalization' has no beta yet"):
        layer.beta.sum()
    fastbp.Sequential([layer], input_size=3)
    layer.beta = [1, 2, 3]
    assert layer.beta.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="beta must have shape"):
        layer.beta = [1, 2]
    with pytest.raises(AttributeError, match="has no gamma"):
        layer.gamma.sum()
