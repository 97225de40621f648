"""Where another batch follows, products may take Adam's step with a gradient: the bits are the same."""

import numpy as np
import pytest

import fastbp
from fastbp import constraints, optimizers, regularizers, schedules
from fastbp.callbacks import Callback
from fastbp.layers import Dense, Dropout

TRAIN = ("gather", "gather_targets", "forward", "loss", "backward", "update")
MERGING = ("x86_v4",)  # instruction sets with registers enough
UNREAD = 7.0

# hidden units, rows of a batch: groups of columns that end in one vector, in its middle, with it, of one or
# several widths; fewer rows than a tile has vectors, more than a block is deep
SHAPES = [((64, 64), 32), ((33, 47), 7), ((300, 40), 13), ((96, 130), 1), ((70, 41), 2), ((40, 36), 1100)]
# whether a product may take the step
OPTIMIZERS = {
    "adam": (lambda: optimizers.Adam(0.01), True),
    "epsilon hat": (lambda: optimizers.Adam(0.01, epsilon=1e-3), True),
    "schedule": (lambda: optimizers.Adam(schedules.ExponentialDecay(0.01, 2, 0.5)), True),
    "average": (lambda: optimizers.Adam(0.01, use_ema=True), True),
    "AdamW": (lambda: optimizers.AdamW(0.01, weight_decay=0.1), False),
    "AMSGrad": (lambda: optimizers.Adam(0.01, amsgrad=True), False),
    "clip value": (lambda: optimizers.Adam(0.01, clipvalue=1e-3), False),
    "clip norm": (lambda: optimizers.Adam(0.01, clipnorm=1e-3), False),
    "global norm": (lambda: optimizers.Adam(0.01, global_clipnorm=1e-3), False),
    "accumulation": (lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2), False),
    "SGD": (lambda: optimizers.SGD(0.01, momentum=0.9), False),
    "learning rate 0": (lambda: optimizers.Adam(0.0), False),
}


def make(dtype, hidden=(64, 64), optimizer=None, inputs=40, **options):
    """A model whose outputs are few and whose hidden layers are large enough."""
    layers = [Dense(n, "tanh", **options) for n in hidden]
    layers.insert(1, Dropout(0.1))
    optimizer = optimizer or optimizers.Adam(0.01)
    return fastbp.Sequential(
        [*layers, Dense(2)], "mean_squared_error", optimizer, input_size=inputs, dtype=dtype, seed=3
    )


def dense_layers(model):
    return [layer for layer in model._network.layers if isinstance(layer, Dense)]


def forget_gradients(model):
    for layer in dense_layers(model):  # their padding is 0 and stays 0
        layer.weight_grad[...] = UNREAD


def trained(model, batch, pieces):
    """Train in runs of so many samples each, the last of them said to be the last; return all flat arrays."""
    network = model._network
    rng = np.random.default_rng(1)
    rows = sum(pieces)
    X = rng.normal(size=(rows, network.input_size)).astype(network.dtype)
    y = rng.normal(size=(rows, 2)).astype(network.dtype)
    program = network._program(batch, 2, "training")
    first = 0
    for count in pieces:
        forget_gradients(model)
        rates = network._rates(-(-count // batch))
        goes_on = first + count < rows
        program.run(
            TRAIN, first, count, inputs=X, targets=y, learning_rates=rates, training=True, goes_on=goes_on
        )
        first += count
    return [a.copy() for a in (network.parameters, network.gradients, network.state, network.counters)]


def same_bits(found, expected):
    return [a.tobytes() for a in found] == [b.tobytes() for b in expected]


def close(found, expected):
    """The reference's products are NumPy's, whose rounding depends on where matrices lie."""
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(("hidden", "batch"), SHAPES)
def test_shapes(maker, engine, dtype, hidden, batch):
    """One run of several batches, in which gradients go unread, and one run for each."""
    batches = 5
    network = make(dtype, hidden)._network
    before = network.parameters.copy()
    expected = None
    for threads in engine.teams:
        fastbp.set_num_threads(threads)
        for pieces in ([batches * batch], [batch] * batches, [2 * batch, batch, 2 * batch]):
            found = trained(make(dtype, hidden), batch, pieces)
            expected = expected or found
            assert same_bits(found, expected) if engine.native else close(found, expected), (threads, pieces)
    assert np.isfinite(expected[0]).all() and not np.array_equal(expected[0], before)


def test_against_the_reference(engine, dtype):
    found = trained(make(dtype, (65, 50)), 20, [77])
    engine.select_reference()
    expected = trained(make(dtype, (65, 50)), 20, [77])
    tolerance = {"float32": 2e-4, "float64": 1e-10}[dtype]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def unread(model, **options):
    """Train two batches as if more followed; tell of each weight whether its gradient was left alone."""
    network = model._network
    rng = np.random.default_rng(1)
    X = rng.normal(size=(20, network.input_size)).astype(network.dtype)
    y = rng.normal(size=(20, 2)).astype(network.dtype)
    forget_gradients(model)
    network._program(10, 2, "training").run(
        TRAIN, 0, 20, inputs=X, targets=y, learning_rates=network._rates(2), training=True, **options
    )
    return [bool((layer.weight_grad == UNREAD).all()) for layer in dense_layers(model)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(engine, dtype, name):
    """The step is taken at once where nothing else needs the gradient; and the numbers are the same."""
    make_optimizer, merges = OPTIMIZERS[name]
    large = merges and engine.name in MERGING
    assert unread(make(dtype, optimizer=make_optimizer()), goes_on=True) == [large, large, False]
    assert unread(make(dtype, optimizer=make_optimizer())) == [False] * 3
    together = trained(make(dtype, optimizer=make_optimizer()), 10, [50])
    alone = trained(make(dtype, optimizer=make_optimizer()), 10, [10] * 5)
    assert same_bits(together, alone)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_regularizer": regularizers.L2(0.1)},
        {"kernel_constraint": constraints.MaxNorm(0.5)},
        {"use_bias": False},
    ],
)
def test_layers(engine, dtype, options):
    merges = engine.name in MERGING and "kernel_regularizer" not in options
    assert unread(make(dtype, **options), goes_on=True) == [merges, merges, False]
    together, alone = (trained(make(dtype, **options), 10, pieces) for pieces in ([50], [10] * 5))
    assert same_bits(together, alone)


@pytest.mark.parametrize("callbacks", [False, True])
def test_fit_leaves_the_gradients_of_its_last_batch(engine, dtype, callbacks):
    """However it calls the engine, and as train_on_batch does; with callbacks those of each epoch."""
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(64, 40)), rng.normal(size=(64, 2))
    model, other = make(dtype), make(dtype)
    seen, expected = [], []

    class Reads(Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append(model.gradients.copy())

    model.fit(X, y, batch_size=16, epochs=3, shuffle=False, callbacks=[Reads()] if callbacks else [])
    for _ in range(3):
        for first in range(0, 64, 16):
            other.train_on_batch(X[first : first + 16], y[first : first + 16])
        expected.append(other.gradients.copy())
    assert same_bits([model.gradients, model.parameters], [other.gradients, other.parameters])
    assert same_bits(seen, expected if callbacks else [])
