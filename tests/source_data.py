"""Inputs of several kinds, and what a model makes of them."""

import numpy as np
from numpy.lib.format import open_memmap
from scipy import sparse

import fastbp as bp
from fastbp.engine.backend import native
from fastbp.layers import Dense

ROWS, COLUMNS = 121, 7
RNG = np.random.default_rng(0)
X = RNG.integers(0, 100, (ROWS, COLUMNS))
Y = RNG.normal(size=(ROWS, 2))
W = RNG.uniform(0.5, 2, ROWS)
SPARSE = sparse.random(ROWS, COLUMNS, 0.3, "csr", np.float32, rng=0)
VERY_SPARSE = sparse.random(ROWS, COLUMNS, 0.1, "csr", np.float32, rng=0)


def make(dtype="float32", **arguments):
    arguments = {"loss": "mean_squared_error", "optimizer": bp.optimizers.Adam(1e-3), "seed": 0} | arguments
    return bp.Sequential([Dense(5, activation="tanh"), Dense(2)], dtype=dtype, **arguments)


def mapped(path, values, mode="r", fortran=False):
    file = open_memmap(path / "X.npy", "w+", values.dtype, values.shape, fortran_order=fortran)
    file[...] = values
    file.flush()
    return np.load(path / "X.npy", mmap_mode=mode)


def trained(source, dtype="float32", **options):
    """Everything that a model does with inputs, as numbers."""
    model = make(dtype, metrics=["mae"])
    history = model.fit(source, Y, epochs=2, batch_size=10, sample_weight=W, validation_split=0.1, **options)
    scores = model.evaluate(source, Y, sample_weight=W)
    model.train_on_batch(source, Y)
    results = [model.parameters.copy(), model.predict(source), model.forward(source)]
    return results, [*history.history.values(), [*scores.values()]]


def check_same(source, dense, dtype="float32", **options):
    """The same bits of weights and outputs; sums of losses may be rounded in another order.

    A layer that reads sparse rows where they lie adds up the same products in another order; those of NumPy
    depend on the number of rows and on where they lie.
    """
    (bits, numbers), (expected, expected_numbers) = (trained(a, dtype, **options) for a in (source, dense))
    tolerance = 0 if native() and not sparse.issparse(source) else 100 * np.finfo(dtype).eps
    for got, wanted in zip(bits, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
    for got, wanted in zip(numbers, expected_numbers, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
