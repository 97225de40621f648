"""Rows of a table, and statistics, beside what an optimizer sweeps."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp as bp
from fastbp.layers import Dense
from fastbp.optimizers import SGD, Adam, AdamW, Lion, Rprop


def table_network(optimizer):
    """An embedding, of which a batch uses few rows, beside a batch normalization with statistics."""
    branches = bp.layers.Branches([bp.layers.Embedding(9, 3), bp.layers.BatchNormalization()], [[0], [1, 2]])
    return bp.Sequential([branches, Dense(2)], "mse", optimizer, input_size=3, dtype="float64", seed=1)


TABLE_X = np.column_stack(
    [np.arange(12) % 3 * 4, np.linspace(-1, 1, 12), np.linspace(2, 5, 12)]
)  # rows 0, 4, 8

TABLE_Y = np.column_stack([np.sin(np.arange(12)), np.cos(np.arange(12))])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(0.1, weight_decay=0.1, global_clipnorm=0.5),
        lambda: Adam(0.01, weight_decay=0.1, clipnorm=0.5, gradient_accumulation_steps=2),
        lambda: bp.optimizers.Adagrad(0.1, initial_accumulator_value=0.5, clipvalue=0.1),
        lambda: AdamW(0.01, decay_biases=False),
        lambda: Rprop(0.01),
        lambda: Lion(0.01, use_ema=True),
    ],
)
def test_rows_without_a_gradient_stay(make):
    model = table_network(make())
    table = model.layers[0].parameters["embedding.weight"]
    start = table.copy()
    for _ in range(4):
        model.train_on_batch(TABLE_X, TABLE_Y)
    moved = (table != start).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [0, 4, 8]


def test_rows_of_a_table_begin_when_they_are_first_used():
    """A step size, and an accumulator, start from their first values in whatever step that is."""
    late = TABLE_X.copy()
    late[:, 0] = 5
    for optimizer, size in ((Rprop(0.01), 0.01), (bp.optimizers.Adagrad(0.1, 1e6), None)):
        model = table_network(optimizer)
        model.train_on_batch(TABLE_X, TABLE_Y)
        row = model.layers[0].parameters["embedding.weight"][5]
        start = row.copy()
        model.train_on_batch(late, TABLE_Y)
        change = np.abs(row - start)
        assert change.max() > 0
        if size:
            np.testing.assert_allclose(change, size)
        else:
            assert change.max() < 1e-3  # the large initial value makes small steps


def test_averages_of_weights_leave_statistics_alone(tmp_path):
    model = table_network(SGD(0.1, use_ema=True, ema_momentum=0.5))
    for _ in range(3):
        model.train_on_batch(TABLE_X, TABLE_Y)
    statistics = {name: values.copy() for name, values in model.layers[0].statistics.items()}
    assert statistics
    with model.averaged_weights():
        for name, values in model.layers[0].statistics.items():
            assert np.array_equal(values, statistics[name])
        averaged = model.predict(TABLE_X)
    assert not np.allclose(averaged, model.predict(TABLE_X))
    model.save(tmp_path / "m.safetensors")
    loaded = bp.load(tmp_path / "m.safetensors")
    with loaded.averaged_weights():
        assert np.array_equal(loaded.predict(TABLE_X), averaged)
