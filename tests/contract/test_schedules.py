"""Lanes: blocks of rows taken through the whole network give what the whole batch gives."""

import numpy as np
import pytest

import fastbp
from fastbp.engine import planner
from fastbp.layers import (
    Branches,
    Dense,
    Dropout,
    GaussianNoise,
    LayerNormalization,
    PReLU,
    Rescaling,
    Residual,
)
from fastbp.losses import CrossEntropy, MeanSquaredError
from fastbp.optimizers import SGD
from fastbp.regularizers import L1L2

INPUTS = 5
LOSSES = {
    "cross_entropy": (lambda: CrossEntropy(from_logits=True), 1),
    "mean_squared_error": (MeanSquaredError, 3),
}


def run(engine, dtype, loss, rows, block_rows, monkeypatch, weighted):
    """Two steps over `rows` samples; return parameters, gradients, outputs, losses and loss."""
    make, columns = LOSSES[loss]
    optimizer = SGD(0.1, momentum=0.9)
    optimizer.l2_penalty = 0.3
    if block_rows:
        monkeypatch.setattr(planner, "schedule", lambda batch_size, gradients: (block_rows, 3))
    plan = planner.build(
        [
            Branches([[], Rescaling(0.5)], [None, [1, 0]]),
            Dense(9, "tanh"),
            Dropout(0.3),
            Residual([LayerNormalization(), PReLU(), GaussianNoise(0.1)]),
            Dense(17, "gelu", kernel_regularizer=L1L2(0.01, 0.02), bias_regularizer="l1"),
            Dense(3),
        ],
        INPUTS,
        loss=make(),
        optimizer=optimizer,
        dtype=dtype,
        batch_size=50,
        one_pass="training" if block_rows else "",
    )
    monkeypatch.undo()
    engine.select()
    rng = np.random.default_rng(0)
    flat = [np.zeros(plan.sizes[name], dtype) for name in ("parameters", "gradients", "state")]
    for parameter in plan.parameters:
        matrix = parameter.tensor.matrix(flat[0])
        matrix[...] = rng.normal(size=matrix.shape)
    program = engine.program(plan, *flat, np.zeros(2, np.int64))
    X, order = rng.normal(size=(rows, INPUTS)).astype(dtype), rng.permutation(rows)
    y = rng.integers(3, size=(rows, columns)).astype(dtype)
    weights = rng.random(rows).astype(dtype) if weighted else None
    outputs, losses = np.empty((rows, 3), dtype), np.empty((-(-rows // 50), 2))
    phases = ("gather", "gather_targets", "forward", "output", "loss", "backward", "update")
    loss_sum, weight_sum = program.run(
        phases,
        0,
        rows,
        inputs=X,
        targets=y,
        outputs=outputs,
        sample_weights=weights,
        order=order,
        learning_rates=np.full(-(-rows // 50), 0.1),
        batch_losses=losses,
        training=True,
    )
    return flat[0], flat[1], outputs, losses, loss_sum / weight_sum


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [1, 50, 77, 100])
@pytest.mark.parametrize("block_rows", [1, 7, 16, 49])
@pytest.mark.parametrize("loss", LOSSES)
def test_blocks_give_what_the_batch_gives(loss, block_rows, rows, weighted, engine, dtype, monkeypatch):
    expected = run(engine, dtype, loss, rows, None, monkeypatch, weighted)
    digests = set()
    for size in engine.teams:
        fastbp.set_num_threads(size)
        found = run(engine, dtype, loss, rows, block_rows, monkeypatch, weighted)
        for a, b in zip(found, expected, strict=True):
            tolerance = (1e-5 if dtype == "float32" else 1e-12) * max(1, np.max(np.abs(b)))
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
        digests.add(b"".join(np.asarray(part).tobytes() for part in found))
    assert len(digests) == 1


def test_the_planner_chooses_from_the_shapes():
    tall, short = (
        planner.build(
            [Dense(4)], 3, loss=MeanSquaredError(), optimizer=SGD(), batch_size=n, one_pass="training"
        )
        for n in (5000, 500)
    )
    assert tall.block_rows == planner.BLOCK_ROWS and tall.lanes > 1
    assert "lanes" in str(tall)
    assert short.block_rows is None and short.lanes == 1
    wide = planner.build(
        [Dense(4000)], 3, loss=MeanSquaredError(), optimizer=SGD(), batch_size=5000, one_pass="training"
    )
    assert wide.block_rows is None
    assert planner.build([Dense(4)], 3, batch_size=5000).block_rows is None


def test_parameters_beyond_the_cache_are_read_for_more_rows_at_a_time(engine, dtype, rng, monkeypatch):
    rows, exact = 1300, engine.native is not None  # NumPy's products depend on the number of rows
    X, y = rng.normal(size=(rows, INPUTS)).astype(dtype), rng.normal(size=(rows, 3)).astype(dtype)
    tolerance = 0 if exact else 1e-5 if dtype == "float32" else 1e-12
    plans, outputs = [], []
    for largest in (planner.LARGEST_IN_CACHE, 0):
        monkeypatch.setattr(planner, "LARGEST_IN_CACHE", largest)
        model = fastbp.Sequential(
            [Dense(20, activation="tanh"), Dense(3)],
            loss="mean_squared_error",
            input_size=INPUTS,
            dtype=dtype,
            seed=0,
        )
        expected, frozen = model.predict(X), model.freeze()
        for size in engine.teams:
            fastbp.set_num_threads(size)
            np.testing.assert_array_equal(frozen(X), expected)
            np.testing.assert_allclose(model.predict(X[:1]), expected[:1], rtol=0, atol=tolerance)
            loss = model.evaluate(X, y)["loss"]
            assert loss == pytest.approx(np.mean((expected - y) ** 2), rel=1e-5)
        plans.append((frozen.plan.block_rows, frozen.plan.lanes > 1))
        outputs.append(expected)
    assert plans == [(planner.BLOCK_ROWS, True), (None, False)]
    np.testing.assert_allclose(*outputs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("inputs", "units"), [(3, 4), (1, 19)])
def test_penalties_leave_tall_batches_their_lanes(inputs, units, engine, dtype, rng, monkeypatch):
    """They run once per batch; losses and gradients are those of the whole batch, to rounding."""
    X, y = rng.normal(size=(6000, inputs)), rng.normal(size=(6000, 2))
    results = []
    for lanes in (True, False):
        if not lanes:
            monkeypatch.setattr(planner, "schedule", lambda batch_size, gradients: (None, 1))
        layers = [Dense(units, "tanh", kernel_regularizer="l1_l2"), Dense(2, bias_regularizer="l2")]
        model = fastbp.Sequential(
            layers, "half_squared_error", SGD(0.1), input_size=inputs, dtype=dtype, seed=0
        )
        history = model.fit(X, y, batch_size=5000, epochs=2, shuffle=False, verbose=0).history
        assert (model.plan.lanes > 1) == lanes
        found = *history["loss"], model.evaluate(X, y)["loss"], model.gradients, model.parameters
        results.append(np.concatenate([np.ravel(part) for part in found]))
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(*results, rtol=tolerance, atol=tolerance)
