"""The penalty on the weights and the losses of single batches, on every engine."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp.layers import Dense
from fastbp.network import Samples
from fastbp.optimizers import SGD

ROWS, BATCH, STRENGTH, RATE = 11, 4, 0.7, 0.05


def textbook(weights, bias, X, y, sample_weight):
    """One layer, half squared error: loss and penalty of each batch, and the parameters after it."""
    losses = []
    for begin in range(0, ROWS, BATCH):
        part = slice(begin, begin + BATCH)
        w = sample_weight[part]
        error = X[part] @ weights.T + bias - y[part]
        loss = np.sum(w * np.sum(error**2, axis=1) / 2) / w.sum()
        losses.append((loss, STRENGTH / w.sum() / 2 * np.sum(weights**2)))
        delta = w[:, np.newaxis] / w.sum() * error
        weights = weights - RATE * (delta.T @ X[part] + STRENGTH / w.sum() * weights)
        bias = bias - RATE * delta.sum(axis=0)
    return np.array(losses), weights, bias


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 2), (70, 33)])
def test_penalty_and_losses_of_batches(inputs, outputs, weighted, engine, dtype, rng):
    X, y = rng.normal(size=(ROWS, inputs)), rng.normal(size=(ROWS, outputs))
    weight = rng.uniform(0.5, 2, ROWS) if weighted else np.ones(ROWS)
    start = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs), rng.normal(size=outputs)
    expected, *end = textbook(*start, X, y, weight)
    results = set()
    for size in engine.teams:
        fastbp.set_num_threads(size)
        optimizer = SGD(RATE)
        optimizer.l2_penalty = STRENGTH
        model = fastbp.Sequential(
            [Dense(outputs)], "half_squared_error", optimizer, input_size=inputs, dtype=dtype
        )
        model.layers[0].weight, model.layers[0].bias = start
        samples = Samples(X.astype(dtype), y.astype(dtype), weight.astype(dtype) if weighted else None)
        losses = np.full((3, 2), np.nan)
        model._network.train_batches(samples, np.arange(ROWS), 0, BATCH, losses)
        tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
        np.testing.assert_allclose(losses, expected, rtol=tolerance)
        np.testing.assert_allclose(model.layers[0].weight, end[0], rtol=0, atol=10 * tolerance)
        np.testing.assert_allclose(model.layers[0].bias, end[1], rtol=0, atol=10 * tolerance)
        results.add((losses.tobytes(), model.parameters.tobytes()))
    assert len(results) == 1, "other bits on other numbers of threads"


def test_a_batch_without_weight_has_no_penalty(engine):
    optimizer = SGD(RATE)
    optimizer.l2_penalty = STRENGTH
    model = fastbp.Sequential([Dense(1)], "half_squared_error", optimizer, input_size=2, dtype="float64")
    before = model.parameters.copy()
    samples = Samples(np.ones((2, 2)), np.ones((2, 1)), np.zeros(2))
    losses = np.full((1, 2), np.nan)
    model._network.train_batches(samples, np.arange(2), 0, 2, losses)
    assert losses.tolist() == [[0, 0]]
    assert np.array_equal(model.parameters, before)


def test_batch_losses_need_room(engine):
    model = fastbp.Sequential([Dense(1)], "half_squared_error", SGD(RATE), input_size=2, dtype="float64")
    program = model._network._program(1, 1, "training")
    arenas = {"inputs": np.ones((5, 2)), "targets": np.ones((5, 1))}
    with pytest.raises(ValueError, match="batch_losses: expected two for each batch, got 8"):
        program.run(("gather", "forward", "loss"), 0, 5, batch_losses=np.zeros((4, 2)), **arenas)


def test_loss_and_penalty_are_a_step_without_the_step(engine, dtype, rng):
    model = fastbp.Sequential([Dense(2)], "half_squared_error", SGD(RATE), input_size=3, dtype=dtype, seed=0)
    before = model.parameters.copy()
    samples = Samples(rng.normal(size=(5, 3)).astype(dtype), rng.normal(size=(5, 2)).astype(dtype), None)
    (loss, penalty), gradients = model._network.loss_and_penalty(samples), model.gradients.copy()
    assert penalty == 0
    assert np.array_equal(model.parameters, before)
    assert model._network.counters[0] == 0
    assert model._network.train(samples) == loss
    assert np.array_equal(model.gradients, gradients)
