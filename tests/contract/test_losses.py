"""Every loss on every engine: its formula, and that the gradient is exactly that of the number it reports."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import losses
from fastbp.layers import Dense, Exponential, Sigmoid, Softmax, Softplus
from fastbp.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    HalfSquaredError,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    MultilabelCrossEntropy,
    Poisson,
    PoissonDeviance,
    Quantile,
)
from fastbp.optimizers import SGD

ROWS, INPUTS = 7, 4
STEP = 1e-5  # of central differences


def smoothed(loss, y, outputs):
    """Targets as one row of probabilities per sample."""
    rows = np.eye(outputs)[y.astype(int).ravel()] if y.ndim == 1 or y.shape[1] == 1 else y
    return (1 - loss.label_smoothing) * rows + loss.label_smoothing / outputs


# The loss of each sample, from the outputs of the network (logits turned into probabilities) and the targets.
FORMULAS = {
    MeanSquaredError: lambda loss, p, y: np.mean((p - y) ** 2, axis=1),
    HalfSquaredError: lambda loss, p, y: np.sum((p - y) ** 2, axis=1) / 2,
    MeanAbsoluteError: lambda loss, p, y: np.mean(np.abs(p - y), axis=1),
    Huber: lambda loss, p, y: np.mean(
        np.where(
            np.abs(p - y) <= loss.delta, (p - y) ** 2 / 2, loss.delta * (np.abs(p - y) - loss.delta / 2)
        ),
        axis=1,
    ),
    Quantile: lambda loss, p, y: np.mean(
        np.maximum(loss.quantile * (y - p), (loss.quantile - 1) * (y - p)), axis=1
    ),
    Poisson: lambda loss, p, y: np.mean(p - y * np.log(p + 1e-7), axis=1),
    BinaryCrossEntropy: lambda loss, p, y: np.mean(-y * np.log(p) - (1 - y) * np.log(1 - p), axis=1),
    MultilabelCrossEntropy: lambda loss, p, y: np.sum(-y * np.log(p) - (1 - y) * np.log(1 - p), axis=1),
    PoissonDeviance: lambda loss, p, y: np.sum(
        np.where(y > 0, y * np.log(np.maximum(y, 1) / p), 0) - y + p, axis=1
    ),
    CrossEntropy: lambda loss, p, y: -np.sum(smoothed(loss, y, p.shape[1]) * np.log(p), axis=1),
}

# name: loss, end of the network, targets of `outputs` columns
VALUES, COUNTS, BITS, LABELS, SHARES = "values", "counts", "bits", "labels", "shares"
CASES = {
    "mean squared error": (MeanSquaredError(), [], VALUES),
    "mean squared error of a sigmoid": (MeanSquaredError(), [Sigmoid()], BITS),
    "mean squared error of a softmax": (MeanSquaredError(), [Softmax()], SHARES),
    "half squared error": (HalfSquaredError(), [], VALUES),
    "mean absolute error": (MeanAbsoluteError(), [], VALUES),
    "huber": (Huber(), [], VALUES),
    "huber of another width": (Huber(0.3), [], VALUES),
    "median": (Quantile(), [], VALUES),
    "quantile": (Quantile(0.9), [], VALUES),
    "poisson": (Poisson(), [Softplus()], COUNTS),
    "binary cross-entropy, fused": (BinaryCrossEntropy(), [Sigmoid()], BITS),
    "binary cross-entropy of logits": (BinaryCrossEntropy(from_logits=True), [], BITS),
    "binary cross-entropy of probabilities": (BinaryCrossEntropy(), [Softmax()], BITS),
    "multilabel cross-entropy": (MultilabelCrossEntropy(), [Sigmoid()], BITS),
    "poisson deviance": (PoissonDeviance(), [Exponential()], COUNTS),
    "cross-entropy of labels": (CrossEntropy(), [Softmax()], LABELS),
    "cross-entropy of shares": (CrossEntropy(), [Softmax()], SHARES),
    "cross-entropy of logits": (CrossEntropy(from_logits=True), [], LABELS),
    "cross-entropy, smoothed labels": (CrossEntropy(label_smoothing=0.1), [Softmax()], LABELS),
    "cross-entropy, smoothed shares": (CrossEntropy(True, label_smoothing=0.3), [], SHARES),
}
OUTPUTS = (1, 2, 5)


def _cases():
    for name, (_, end, targets) in CASES.items():
        needs_two = targets in (LABELS, SHARES) or (end and isinstance(end[0], Softmax))
        for outputs in OUTPUTS:
            if outputs > 1 or not needs_two:
                yield pytest.param(name, outputs, id=f"{name}-{outputs}")


EACH_CASE = pytest.mark.parametrize(("name", "outputs"), list(_cases()))


def targets_of(kind, outputs):
    rng = np.random.default_rng(5)
    shape = ROWS, outputs
    return {
        VALUES: rng.normal(size=shape),
        COUNTS: rng.poisson(2, shape),
        BITS: rng.choice([0.0, 0.25, 1.0], shape),
        LABELS: rng.integers(outputs, size=ROWS),
        SHARES: rng.dirichlet(np.ones(outputs), ROWS),
    }[kind]


def network(name, outputs, dtype):
    """A network whose weights stand still: its learning rate is 0."""
    loss, end, targets = CASES[name]
    model = fastbp.Sequential(
        [Dense(6, "tanh"), Dense(outputs), *(type(layer)() for layer in end)],
        loss,
        SGD(0.0),
        input_size=INPUTS,
        dtype=dtype,
        seed=0,
    )
    rng = np.random.default_rng(1)
    for layer in model.layers:
        for view in layer.parameters.values():
            view[...] = rng.normal(scale=0.8, size=view.shape)
    return model, targets_of(targets, outputs)


X = np.random.default_rng(2).normal(size=(ROWS, INPUTS))
WEIGHTS = {"unweighted": None, "weighted": np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25, 1.5])}


def test_every_loss_is_here():
    known = {
        kind for kind in vars(losses).values() if isinstance(kind, type) and issubclass(kind, losses.Loss)
    }
    assert {type(loss) for loss, _, _ in CASES.values()} == {kind for kind in known if kind.key}
    assert set(FORMULAS) == {type(loss) for loss, _, _ in CASES.values()}


@pytest.mark.parametrize("weights", WEIGHTS)
@EACH_CASE
def test_formula(name, outputs, weights, engine, dtype):
    model, y = network(name, outputs, dtype)
    loss = model.loss
    p = model.predict(X).astype(float)
    if getattr(loss, "from_logits", False):
        p = np.exp(p)
        p /= 1 + p if isinstance(loss, BinaryCrossEntropy) else p.sum(axis=1, keepdims=True)
    expected = np.average(FORMULAS[type(loss)](loss, p, y), weights=WEIGHTS[weights])
    rtol = {"float32": 1e-5, "float64": 1e-12}[dtype]
    for reported in (
        model.evaluate(X, y, sample_weight=WEIGHTS[weights])["loss"],
        model.train_on_batch(X, y, sample_weight=WEIGHTS[weights]),
    ):
        assert reported == pytest.approx(expected, rel=rtol)


@pytest.mark.parametrize("weights", WEIGHTS)
@EACH_CASE
def test_gradient_is_that_of_the_reported_loss(name, outputs, weights, engine):
    weight = WEIGHTS[weights]
    model, y = network(name, outputs, "float64")
    model.train_on_batch(X, y, sample_weight=weight)
    found = model.gradients.copy()
    flat, expected = model.parameters, np.zeros_like(found)
    for parameter in model.plan.parameters:
        for i in parameter.tensor.matrix(np.arange(flat.size)).flat:
            kept = flat[i]
            flat[i] = kept + STEP
            above = model.evaluate(X, y, sample_weight=weight)["loss"]
            flat[i] = kept - STEP
            expected[i] = (above - model.evaluate(X, y, sample_weight=weight)["loss"]) / (2 * STEP)
            flat[i] = kept
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    narrow, _ = network(name, outputs, "float32")
    narrow.train_on_batch(X, y, sample_weight=weight)
    np.testing.assert_allclose(narrow.gradients, found, rtol=0, atol=1e-5 * np.abs(found).max())


@pytest.mark.parametrize(
    ("fused", "logits", "targets"),
    [
        ("binary cross-entropy, fused", "binary cross-entropy of logits", BITS),
        ("cross-entropy of labels", "cross-entropy of logits", LABELS),
    ],
)
def test_fused_and_on_logits_are_the_same(fused, logits, targets, engine, dtype):
    one, y = network(fused, 3, dtype)
    other, _ = network(logits, 3, dtype)
    assert one.train_on_batch(X, y) == other.train_on_batch(X, y)
    assert one.gradients.tobytes() == other.gradients.tobytes()


@pytest.mark.parametrize("name", ["binary cross-entropy, fused", "cross-entropy of labels"])
def test_certain_and_wrong_is_finite(name, engine, dtype):
    """No probability is ever logged: logits of ±1000 give a loss of 1000, not infinity."""
    model, y = network(name, 2, dtype)
    model.layers[-2].weight = np.zeros((2, 6))
    model.layers[-2].bias = [1000, -1000]
    wrong = np.array([[0.0, 1.0]] * ROWS) if y.ndim == 2 else np.ones(ROWS, int)
    loss = model.train_on_batch(X, wrong)
    assert loss == pytest.approx(1000 if y.ndim == 2 else 2000, rel=1e-6)
    np.testing.assert_allclose(model.layers[-2].bias_grad, [0.5, -0.5] if y.ndim == 2 else [1, -1], rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [64, 67, 150])
@pytest.mark.parametrize("outputs", range(1, 8))
def test_many_short_rows(outputs, rows, weighted, engine, dtype):
    """More than are taken at a time: each row has its own weight, and its own share of the gradient."""
    rng = np.random.default_rng(rows)
    model = fastbp.Sequential(
        [Dense(outputs)], MeanSquaredError(), SGD(0.0), input_size=INPUTS, dtype=dtype, seed=0
    )
    x, y = rng.normal(size=(rows, INPUTS)), rng.normal(size=(rows, outputs))
    weight = rng.uniform(0.1, 2, rows) if weighted else np.ones(rows)
    error = x @ model.layers[0].weight.T + model.layers[0].bias - y
    loss = model.train_on_batch(x, y, sample_weight=weight if weighted else None)
    rtol = {"float32": 1e-4, "float64": 1e-10}[dtype]
    assert loss == pytest.approx(np.average(np.mean(error**2, axis=1), weights=weight), rel=rtol)
    delta = 2 / outputs * error * (weight / weight.sum())[:, None]
    np.testing.assert_allclose(model.layers[0].weight_grad, delta.T @ x, rtol=rtol, atol=rtol * 0.1)
    np.testing.assert_allclose(model.layers[0].bias_grad, delta.sum(axis=0), rtol=rtol, atol=rtol * 0.1)


@pytest.mark.parametrize("outputs", [2, 5])
@pytest.mark.parametrize(
    "name",
    ["mean squared error", "multilabel cross-entropy", "cross-entropy of labels", "cross-entropy of shares"],
)
def test_a_row_depends_on_itself_alone(name, outputs, engine, dtype):
    """Alone or between others that count nothing: the same bits, wherever it lies in a vector."""
    model, y = network(name, outputs, dtype)
    rows, targets = np.tile(X, (5, 1)), np.concatenate([y] * 5)
    last, rtol = model.layers[1], 0 if engine.native else 1e-6  # NumPy's products round by the batch,
    atol = 0 if engine.native else 1e-7  # and a delta is the difference of two shares
    for i in (0, 15, 16, 34):
        alone = model.train_on_batch(rows[i : i + 1], targets[i : i + 1])
        delta = last.bias_grad.copy()
        among = model.train_on_batch(rows, targets, sample_weight=np.arange(35) == i)
        np.testing.assert_allclose(among, alone, rtol=rtol)
        np.testing.assert_allclose(last.bias_grad, delta, rtol=rtol, atol=atol)
