"""Frozen networks: what model.freeze() returns."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pandas
import pytest

import fastbp as bp
from bench.footprint import PEAK
from fastbp.engine import backend

RNG = np.random.default_rng(0)


def assert_same(found, expected):
    """To the bit; on the reference, whose products of other shapes round differently, but for rounding."""
    if backend.native():
        np.testing.assert_array_equal(found, expected)
    else:
        largest = max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=4 * np.finfo(expected.dtype).eps * largest)


def make(dtype="float32", **arguments):
    layers = [bp.layers.Dense(64, "gelu"), bp.layers.Dropout(0.5), bp.layers.Dense(3, "softmax")]
    return bp.Sequential(layers, input_size=30, dtype=dtype, seed=0, **arguments)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 31, 224, 225, 3000, 9000])
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


def adapted(X):
    layer = bp.layers.Normalization()
    layer.adapt(X)
    return layer


def make_stacks():
    layers, numbers = bp.layers, RNG.normal(5, 3, size=(20, 12))
    images = RNG.integers(0, 256, (20, 3, 4), np.uint8)
    codes = np.column_stack([RNG.integers(0, 4, 20), numbers])
    dense = layers.Dense(3, "softmax")
    return {
        "flatten": ([layers.Flatten(), dense], images),
        "flatten, rescaling": ([layers.Flatten(), layers.Rescaling(1 / 255), dense], images),
        "rescaling": ([layers.Rescaling(0.1, -1), dense], numbers),
        "normalization": ([adapted(numbers), dense], numbers),
        "reshape, flatten": ([layers.Reshape((3, 4)), layers.Flatten(), dense], numbers),
        "reshape at the end": ([layers.Dense(8), layers.Reshape((2, -1))], numbers),
        "autoencoder": ([layers.Flatten(), layers.Dense(12), layers.Reshape((3, 4))], images),
        "norms": ([layers.BatchNormalization(), layers.LayerNormalization(), dense], numbers),
        "tables": ([layers.Branches([layers.Embedding(4, 2), []], [[0], range(1, 13)]), dense], codes),
        "blocks": ([layers.Residual([layers.Dense(12)]), layers.PReLU(), dense], numbers),
        "noise": ([layers.GaussianNoise(0.3), layers.Dropout(0.3), layers.GELU(), dense], numbers),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", make_stacks())
def test_every_layer_that_inference_needs(name, dtype):
    stack, X = make_stacks()[name]
    model = bp.Sequential(stack, dtype=dtype, seed=0)
    expected = model.predict(X)
    f = model.freeze()
    assert_same(f(X), expected)
    assert_same(f(X.reshape(20, -1)[7].astype(dtype)), expected[7])
    out = np.empty_like(expected)
    assert f(X, out) is out
    assert_same(out, expected)
    assert f.plan.columns["inputs"] == model.input_size


@pytest.mark.parametrize("out", [np.empty((5, 4, 2)), np.empty((5, 2, 8))[:, :, ::2], [[1.0]]])
def test_bad_outputs_of_several_axes(out):
    model = bp.Sequential([bp.layers.Reshape((2, 4))], input_size=8, dtype="float64")
    with pytest.raises(ValueError, match=r"out: expected a C-contiguous array whose last axes are \(2, 4\)"):
        model.freeze()(np.zeros((5, 8)), out)


def test_frames_are_read_as_the_model_reads_them():
    train = pandas.DataFrame(
        {"a": [1.0, 2.0, 3.0], "size": pandas.Categorical(["S", "L", "M"], ["S", "M", "L"])}
    )
    model = bp.Sequential([bp.layers.Dense(2)], "mse", "adam", seed=0)
    model.fit(train, np.zeros((3, 2)))
    f = model.freeze()
    later = pandas.DataFrame({"a": [2.0], "size": pandas.Categorical(["L"])})
    assert_same(f(later), model.predict(train)[1:2])
    with pytest.raises(ValueError, match="a category that training did not know"):
        f(pandas.DataFrame({"a": [2.0], "size": ["XL"]}))


def test_a_layer_in_python_is_named():
    class Double(bp.layers.CustomLayer):
        def forward(self, x):
            return 2 * x, lambda dy: 2 * dy

    model = bp.Sequential([Double(name="twice"), bp.layers.Dense(2)], input_size=3)
    with pytest.raises(TypeError, match="layer 'twice' is written in Python and cannot be frozen"):
        model.freeze()


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


MEMORY = """
    import numpy as np
    import fastbp as bp

    X = np.zeros((1200, 1000), "f4")
    model = bp.Sequential([bp.layers.Dense(1000), bp.layers.Dense(10)], input_size=1000, seed=0)
    before = peak()
    model.freeze()(X), model.predict(X)
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak")
def test_inference_needs_no_gradients():
    """Parameters once more, 4 MB, and rows of activations, but no gradients for each of 32 lanes."""
    command = [sys.executable, "-c", PEAK + textwrap.dedent(MEMORY)]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(grown) < 32 << 20
