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

INPUTS = 5
LOSSES = {
    "cross_entropy": (lambda: CrossEntropy(from_logits=True), 1),
    "mean_squared_error": (MeanSquaredError, 3),
}


def run(engine, dtype, loss, rows, block_rows, monkeypatch, weighted):
    """Two steps over `rows` samples; return parameters, gradients, outputs and loss."""
    make, columns = LOSSES[loss]
    if block_rows:
        monkeypatch.setattr(planner, "schedule", lambda batch_size, gradients: (block_rows, 3))
    plan = planner.build(
        [
            Branches([[], Rescaling(0.5)], [None, [1, 0]]),
            Dense(9, "tanh"),
            Dropout(0.3),
            Residual([LayerNormalization(), PReLU(), GaussianNoise(0.1)]),
            Dense(17, "gelu"),
            Dense(3),
        ],
        INPUTS,
        loss=make(),
        optimizer=SGD(0.1, momentum=0.9),
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
    outputs = np.empty((rows, 3), dtype)
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
        training=True,
    )
    return flat[0], flat[1], outputs, loss_sum / weight_sum


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
