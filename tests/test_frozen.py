"""Frozen networks: what model.freeze() returns."""

import threading

import numpy as np
import pytest

import fastbp as bp
from fastbp.engine import backend

RNG = np.random.default_rng(0)


def assert_same(found, expected):
    """To the bit; on the reference, whose products of other shapes round differently, but for rounding."""
    if backend.native():
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=4 * np.finfo(expected.dtype).eps)


def make(dtype="float32", **arguments):
    layers = [bp.layers.Dense(64, "gelu"), bp.layers.Dropout(0.5), bp.layers.Dense(3, "softmax")]
    return bp.Sequential(layers, input_size=30, dtype=dtype, seed=0, **arguments)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 31, 140, 141, 3000, 9000])
def test_equals_predict(dtype, rows):
    model = make(dtype)
    X = RNG.normal(size=(rows, 30)).astype(dtype)
    f = model.freeze()
    expected = model.predict(X)
    assert_same(f(X), expected)
    assert_same(f(X[0]), expected[0])
    out = np.empty_like(expected)
    assert f(X, out) is out
    assert_same(out, expected)


def test_takes_what_predict_takes():
    model = make()
    X = RNG.normal(size=(5, 30)).astype(np.float32)
    f, expected = model.freeze(), model.predict(X)
    for same in (
        X.tolist(),
        X.astype(">f4"),
        X.astype("float64"),
        np.asfortranarray(X),
        X[::-1].copy()[::-1],
    ):
        assert_same(f(same), expected)


def test_does_not_follow_the_model():
    model = make(loss="cross_entropy")
    X, y = RNG.normal(size=(50, 30)), RNG.integers(0, 3, 50)
    f = model.freeze()
    before = f(X).copy()
    model.fit(X, y)
    np.testing.assert_array_equal(f(X), before)
    assert not np.array_equal(model.predict(X), before)


def test_many_threads_at_once():
    f = make().freeze()
    X = RNG.normal(size=(8, 700, 30)).astype(np.float32)
    expected, found = [f(x) for x in X], [None] * len(X)

    def work(number):
        for _ in range(30):
            found[number] = f(X[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(X))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 3)), ValueError, "x has 3 columns, expected 30"),
        (np.zeros(3, np.float32), ValueError, "x has 3 columns, expected 30"),
        (np.zeros((1, 2, 30), np.float32), ValueError, "2 dimensions"),
        (np.float32(1), ValueError, "2 dimensions"),
        ("a", TypeError, "text"),
        (None, TypeError, "x is None"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        make().freeze()(x)


@pytest.mark.parametrize(
    "out",
    [np.empty((2, 2), np.float32), np.empty((2, 3)), np.empty(3, np.float32)],
    ids=["shape", "dtype", "row"],
)
def test_bad_outputs(out):
    with pytest.raises(ValueError, match=r"out: expected an array of float32 and shape \(2, 3\)"):
        make().freeze()(np.zeros((2, 30), np.float32), out)
