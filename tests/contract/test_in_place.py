"""A first dense layer may read samples where they lie: the bits are those of gathered samples."""

import numpy as np
import pytest

import fastbp
from fastbp.layers import Branches, Dense, Residual

FORWARD, BACKWARD = ("gather", "gather_targets", "forward"), ("loss", "backward", "update")

# inputs, units of the first layer, rows of a batch: samples that are gathered since they are short or a
# multiple of 1 KiB; layers too narrow for tiles; more rows, and more columns, than a block of a product has
SHAPES = [
    (4, 20, 32),
    (9, 20, 33),
    (30, 64, 32),
    (33, 2, 20),
    (33, 5, 1),
    (33, 70, 1),
    (256, 40, 17),
    (300, 17, 15),
    (40, 120, 1100),
    (50, 140, 300),
    (1100, 20, 10),
    (784, 70, 64),
]


def make(inputs, units, dtype, layers=None):
    layers = layers or [Dense(units, "tanh"), Dense(2)]
    return fastbp.Sequential(layers, "mean_squared_error", "adam", input_size=inputs, dtype=dtype, seed=3)


def samples(inputs, rows, dtype):
    """More of them than a batch needs, and which ones it takes."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(rows + 5, inputs)).astype(dtype)
    y = rng.normal(size=(rows + 5, 2)).astype(dtype)
    return X, y, rng.integers(0, rows + 5, rows + 3)


def trained(model, X, y, order, rows, phases):
    """Arrays after a batch from position 3 on, in runs of some phases; after the first, samples are gone."""
    network = model._network
    program = network._program(rows, 2, "training")
    X = X.copy()
    for part in phases:
        rates = network._rates(1)
        program.run(part, 3, rows, inputs=X, targets=y, order=order, learning_rates=rates, training=True)
        X[...] = np.nan
    return [a.copy() for a in (network.parameters, network.gradients, network.state)]


def same_bits(found, expected):
    return [a.tobytes() for a in found] == [b.tobytes() for b in expected]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("inputs", "units", "rows"), SHAPES)
def test_samples_read_in_place_or_gathered(maker, engine, dtype, inputs, units, rows, ordered):
    X, y, order = samples(inputs, rows, dtype)
    order = order if ordered else None
    expected = None
    for threads in engine.teams:
        fastbp.set_num_threads(threads)
        for phases in ([FORWARD, BACKWARD], [FORWARD + BACKWARD]):
            found = trained(make(inputs, units, dtype), X, y, order, rows, phases)
            expected = expected or found
            assert np.isfinite(found[0]).all()
            assert same_bits(found, expected), (threads, phases)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Residual([Dense(30, "tanh")])],
        lambda: [Branches([Dense(20, "relu"), Dense(33, "tanh")])],
        lambda: [Branches([Dense(20, "relu"), Dense(3)])],
    ],
)
def test_inputs_with_several_readers(engine, dtype, layers):
    X, y, order = samples(30, 20, dtype)
    found = [
        trained(make(30, 0, dtype, [*layers(), Dense(2)]), X, y, order, 20, phases)
        for phases in ([FORWARD, BACKWARD], [FORWARD + BACKWARD])
    ]
    assert same_bits(*found)


def test_no_inputs(engine, dtype):
    """A run that is given none reads what the workspace holds, which is 0 at first."""
    _, y, _ = samples(30, 20, dtype)
    network = make(30, 20, dtype)._network
    program, rates = network._program(20, 2, "training"), network._rates(1)
    program.run(FORWARD + BACKWARD, 0, 20, targets=y, learning_rates=rates, training=True)
    assert not network.layers[0].weight_grad.any()
    assert np.isfinite(network.parameters).all()


def test_blocks_of_predictions(engine, dtype):
    """Tall batches go through the network in blocks, which read where the rows lie too."""
    X = np.random.default_rng(1).normal(size=(3000, 30)).astype(dtype)
    model = make(30, 64, dtype)
    together = model.predict(X)
    apart = np.concatenate([model.predict(X[i : i + 100]) for i in range(0, 3000, 100)])
    if engine.native:
        assert together.tobytes() == apart.tobytes()
    else:
        np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)
