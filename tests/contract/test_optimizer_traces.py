"""1,000 steps in float64 of every optimizer that PyTorch has too: the same parameters on the way."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import optimizers
from fastbp.layers import Dense

SCRIPT = Path(__file__).resolve().parents[1] / "vectors" / "optimizer_traces.py"
SPEC = importlib.util.spec_from_file_location("optimizer_traces", SCRIPT)
vectors = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(vectors)


def model_with(optimizer, start):
    """A layer whose parameters are these eight numbers."""
    model = fastbp.Sequential([Dense(2)], None, optimizer, input_size=3, dtype="float64")
    layer = model.layers[0]
    layer.weight, layer.bias = start[:6].reshape(2, 3), start[6:]
    return model, layer


def steps(optimizer, start, gradient, count):
    """Parameters after each step."""
    model, layer = model_with(optimizer, start)
    for step in range(1, count + 1):
        g = gradient(np.concatenate([layer.weight.ravel(), layer.bias]), step)
        layer.weight_grad[...], layer.bias_grad[...] = g[:6].reshape(2, 3), g[6:]
        model.step()
        yield np.concatenate([layer.weight.ravel(), layer.bias])


@pytest.mark.parametrize("name", vectors.CASES)
def test_trace(name, engine):
    with np.load(vectors.PATH) as file:
        expected = file[name]
    optimizer = vectors.CASES[name][0]
    trace = list(steps(optimizer, vectors.START, vectors.gradient, max(vectors.SHOWN)))
    shown = np.array([trace[step - 1] for step in vectors.SHOWN])
    np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-10)


def test_every_optimizer_of_pytorch_is_here():
    ours = {kind for kind in vars(optimizers).values() if isinstance(kind, type)}
    kinds = {kind for kind in ours if issubclass(kind, optimizers.Optimizer) and getattr(kind, "kind", "")}
    assert {type(case[0]) for case in vectors.CASES.values()} == kinds - {optimizers.Lion}
    assert {case[1] for case in vectors.CASES.values()} == {kind.__name__ for kind in kinds} - {"Lion"}


def test_lion(engine):
    """Against the formula of the paper, term by term."""
    rate, beta_1, beta_2, decay = 0.01, 0.9, 0.99, 0.1
    theta, m = vectors.START, np.zeros(8)
    for number, ours in enumerate(
        steps(optimizers.Lion(rate, weight_decay=decay), vectors.START, vectors.gradient, 1000), 1
    ):
        g = vectors.gradient(theta, number)
        theta = theta - rate * (np.sign(beta_1 * m + (1 - beta_1) * g) + decay * theta)
        m = beta_2 * m + (1 - beta_2) * g
        np.testing.assert_allclose(ours, theta, rtol=0, atol=1e-10)
