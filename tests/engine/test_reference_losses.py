"""The reference's losses, beside their textbook formulas and central differences."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from fastbp.engine.plan import LOSSES

SINGLE = runpy.run_path(str(Path(__file__).with_name("single.py")))
ROWS, run_op = SINGLE["ROWS"], SINGLE["run_op"]
differences, assert_gradient = SINGLE["differences"], SINGLE["assert_gradient"]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def textbook_loss(kind, p, y, parameter):
    """One element of an element-wise loss."""
    e = p - y
    return {
        "mean_squared_error": lambda: e**2,
        "half_squared_error": lambda: e**2 / 2,
        "mean_absolute_error": lambda: abs(e),
        "huber": lambda: e**2 / 2 if abs(e) <= parameter else parameter * (abs(e) - parameter / 2),
        "quantile": lambda: max(parameter * -e, (parameter - 1) * -e),
        "poisson": lambda: p - y * math.log(p + 1e-7),
        "binary_cross_entropy": lambda: -y * math.log(p) - (1 - y) * math.log(1 - p),
        "sigmoid_binary_cross_entropy": lambda: math.log1p(math.exp(p)) - y * p,
        "multilabel_cross_entropy": lambda: math.log1p(math.exp(p)) - y * p,
        "poisson_deviance": lambda: y * math.log(y / math.exp(p)) - y + math.exp(p),
    }[kind]()


LOSS_CASES = [*((kind, None) for kind in LOSSES)] + [
    (kind, columns)
    for kind in ("cross_entropy_loss", "softmax_cross_entropy_loss")
    for columns in (1, 3)  # labels, probabilities
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("kind", "target_columns"), LOSS_CASES)
def test_losses(kind, target_columns, in_place, weighted, rng):
    p, y = rng.uniform(0.1, 0.9, size=(2, ROWS, 3))
    weight = rng.uniform(0.5, 2.0, size=(ROWS, 1)) if weighted else np.ones((ROWS, 1))
    if target_columns is None:
        parameter = 0.3
        attributes = {"loss": kind, "parameter": parameter}
        values = np.vectorize(lambda p, y: textbook_loss(kind, p, y, parameter))(p, y)
        rows = values.sum(axis=1) if LOSSES[kind] == "sum" else values.mean(axis=1)
        kind = "elementwise_loss"
    else:
        attributes = {"label_smoothing": 0.1}
        y = rng.integers(0, 3, size=(ROWS, 1)).astype(float) if target_columns == 1 else y
        t = (np.eye(3)[y[:, 0].astype(int)] if target_columns == 1 else y) * 0.9 + 0.1 / 3
        log = np.log(p) if kind == "cross_entropy_loss" else p - np.log(np.exp(p).sum(axis=1, keepdims=True))
        rows = -(t * log).sum(axis=1)
    where = {"delta": "prediction"} if in_place else None

    def run(p):
        reads = {"prediction": p, "target": y} | ({"sample_weight": weight} if weighted else {})
        return run_op(kind, reads, {"delta": 3}, None, attributes, in_place=where)

    found = run(p)
    assert found["loss"] == pytest.approx((np.sum(weight[:, 0] * rows), weight.sum()), rel=1e-12)
    assert_gradient(found["delta"], lambda p: run(p)["loss"][0] / weight.sum(), p)


def test_without_weight_there_is_no_delta():
    p, y, weight = np.ones((ROWS, 2)), np.zeros((ROWS, 2)), np.zeros((ROWS, 1))
    found = run_op(
        "elementwise_loss",
        {"prediction": p, "target": y, "sample_weight": weight},
        {"delta": 2},
        None,
        {"loss": "mean_squared_error", "parameter": 0.0},
    )
    assert found["loss"] == (0, 0)
    assert not found["delta"].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["binary_cross_entropy", "cross_entropy_loss"])
def test_probabilities_are_clipped(kind, dtype):
    low = {"float32": 1e-7, "float64": 1e-15}[dtype]
    p, y = np.zeros((ROWS, 2), dtype), np.ones((ROWS, 2), dtype)
    op, attributes = kind, {"label_smoothing": 0.0}
    if kind == "binary_cross_entropy":
        op, attributes = "elementwise_loss", {"loss": kind, "parameter": 0.0}
    found = run_op(op, {"prediction": p, "target": y}, {"delta": 2}, None, attributes)
    per_row = -math.log(low) * (1 if kind == "binary_cross_entropy" else 2)
    assert found["loss"][0] / ROWS == pytest.approx(per_row, rel=1e-6)
    assert not found["delta"].any()
