"""The kernels as functions of arrays, against NumPy: values, memory layouts, out=, shapes, dtypes."""

import math

import numpy as np
import pytest
import scipy.special

from fastbp import kernels
from fastbp.engine.plan import ACTIVATIONS

pytestmark = pytest.mark.usefixtures("interpreter")


RNG = np.random.default_rng(0)
ALPHA = {"leaky_relu": 0.1, "elu": 1.5}
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
FORMULAS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "elu": lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0))),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "exponential": np.exp,
    "softplus": lambda x: np.logaddexp(x, 0),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * scipy.special.expit(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
}
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}

LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3],
    "negative strides": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "list": lambda a: a.tolist(),
}


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS["read-only"] = read_only


def matrix(rows, columns, dtype="float64"):
    return RNG.normal(size=(rows, columns)).astype(dtype)


# ---- matmul ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 5, 7), (17, 1, 33), (1, 40, 1), (64, 63, 65), (129, 300, 31)]
)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_matmul(dtype, shape, transposed):
    m, k, n = shape
    a, b = matrix(m, k, dtype), matrix(k, n, dtype)
    given = [np.ascontiguousarray(x.T) if t else x for x, t in zip((a, b), transposed, strict=True)]
    c = kernels.matmul(*given, transpose_a=transposed[0], transpose_b=transposed[1])
    assert c.dtype == dtype and c.flags.c_contiguous
    error = np.abs(c - a.astype("float64") @ b)
    assert (error <= 16 * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b))).all()


def test_products_of_integers_are_exact():
    a, b = RNG.integers(-8, 9, (33, 70)), RNG.integers(-8, 9, (70, 29))
    assert (kernels.matmul(a, b) == a @ b).all()
    assert (kernels.matmul(a.astype("float32"), b.astype("float32")) == a @ b).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memory_layouts(layout, dtype):
    a, b = matrix(6, 5, dtype), matrix(5, 4, dtype)
    c = kernels.matmul(LAYOUTS[layout](a), LAYOUTS[layout](b))
    expected = (
        kernels.matmul(a.astype("float64"), b.astype("float64")) if layout == "list" else kernels.matmul(a, b)
    )
    assert c.dtype == expected.dtype == ("float64" if layout == "list" else dtype)
    assert (c == expected).all()


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint64", "bool", "longdouble"])
def test_other_numbers_become_float64(dtype):
    a, b = (np.arange(6).reshape(2, 3) % 2).astype(dtype), np.eye(3, dtype=dtype)
    c = kernels.matmul(a, b)
    assert c.dtype == np.float64 and (c == a).all()


def test_float32_with_float64_becomes_float64():
    assert kernels.matmul(matrix(2, 2, "float32"), matrix(2, 2)).dtype == np.float64


# ---- dense ----


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense(kind, dtype):
    x, weight, bias = matrix(9, 20, dtype), matrix(17, 20, dtype), matrix(1, 17, dtype)[0]
    y = kernels.dense(x, weight, bias, activation=kind, alpha=ALPHA.get(kind, 0.0))
    expected = FORMULAS[kind](x.astype("float64") @ weight.T + bias)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, 10 * TOLERANCE[dtype], 10 * TOLERANCE[dtype])


def test_dense_without_bias_and_backward():
    x, weight, dy = matrix(9, 4), matrix(3, 4), matrix(9, 3)
    np.testing.assert_allclose(kernels.dense(x, weight), x @ weight.T, rtol=1e-12)
    dx, dw, db = kernels.dense_backward(x, weight, dy)
    np.testing.assert_allclose(dx, dy @ weight, rtol=1e-12)
    np.testing.assert_allclose(dw, dy.T @ x, rtol=1e-12)
    np.testing.assert_allclose(db, dy.sum(axis=0), rtol=1e-12)


# ---- activations ----


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_and_their_derivatives(kind, dtype):
    x = np.linspace(-6, 6, 203).astype(dtype)
    dy = RNG.normal(size=203).astype(dtype)
    alpha = ALPHA.get(kind, 0.0)
    y = kernels.activation(kind, x, alpha=alpha)
    exact = x.astype("float64")
    np.testing.assert_allclose(y, FORMULAS[kind](exact), TOLERANCE[dtype], TOLERANCE[dtype])
    step = 1e-5
    slope = (FORMULAS[kind](exact + step) - FORMULAS[kind](exact - step)) / (2 * step)
    smooth = np.abs(exact) > step
    dx = kernels.activation_backward(kind, y if ACTIVATIONS[kind] == "output" else x, dy, alpha=alpha)
    assert y.dtype == dx.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-8
    np.testing.assert_allclose(dx[smooth], (dy * slope)[smooth], tolerance, tolerance)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_nan_stays_nan(kind):
    assert np.isnan(kernels.activation(kind, [np.nan, 1.0], alpha=0.5)[0])


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0), (2, 3, 4)])
def test_any_shape(shape):
    x = RNG.normal(size=shape)
    y = kernels.activation("tanh", x)
    assert y.shape == shape
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-13)
    assert kernels.activation_backward("tanh", y, x).shape == shape


# ---- softmax ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 2, 10, 33])
def test_softmax(dtype, columns):
    x, dy = 5 * matrix(7, columns, dtype), matrix(7, columns, dtype)
    y = kernels.softmax(x)
    expected = scipy.special.softmax(x.astype("float64"), axis=1)
    np.testing.assert_allclose(y, expected, TOLERANCE[dtype], TOLERANCE[dtype])
    dx = kernels.softmax_backward(y, dy)
    exact = expected * (dy - (dy * expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(dx, exact, 10 * TOLERANCE[dtype], 10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0, 0.1, 1])
def test_softmax_cross_entropy(dtype, smoothing):
    logits, labels = 5 * matrix(11, 4, dtype), RNG.integers(0, 4, 11)
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    logs = scipy.special.log_softmax(logits.astype("float64"), axis=1)
    for given in (labels, np.eye(4)[labels]):
        loss, delta = kernels.softmax_cross_entropy(logits, given, label_smoothing=smoothing)
        assert isinstance(loss, float) and delta.dtype == dtype
        assert loss == pytest.approx(-(target * logs).sum() / 11, rel=TOLERANCE[dtype])
        expected = (np.exp(logs) - target) / 11
        np.testing.assert_allclose(delta, expected, 10 * TOLERANCE[dtype], TOLERANCE[dtype])


def test_softmax_cross_entropy_of_huge_logits():
    loss, delta = kernels.softmax_cross_entropy([[1e4, -1e4], [0.0, 1e4]], [1, 1])
    assert loss == 1e4
    assert delta.tolist() == [[0.5, -0.5], [0.0, 0.0]]


# ---- no rows, no columns ----


def test_empty_arrays():
    assert kernels.matmul(np.zeros((0, 3)), np.zeros((3, 2))).shape == (0, 2)
    assert kernels.matmul(np.zeros((2, 3)), np.zeros((3, 0))).shape == (2, 0)
    assert (kernels.matmul(np.zeros((2, 0)), np.zeros((0, 3))) == np.zeros((2, 3))).all()
    assert kernels.dense(np.zeros((0, 3)), np.ones((2, 3)), np.ones(2)).shape == (0, 2)
    assert (kernels.dense(np.zeros((4, 0)), np.ones((2, 0)), [1.0, -1.0], activation="relu") == [1, 0]).all()
    dx, dw, db = kernels.dense_backward(np.zeros((0, 3)), np.ones((2, 3)), np.zeros((0, 2)))
    assert dx.shape == (0, 3) and (dw == np.zeros((2, 3))).all() and (db == [0, 0]).all()
    assert kernels.softmax(np.zeros((0, 3))).shape == (0, 3)
    assert kernels.softmax_backward(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    loss, delta = kernels.softmax_cross_entropy(np.zeros((0, 3)), np.zeros(0))
    assert loss == 0 and delta.shape == (0, 3)


# ---- out ----

IN_PLACE = {
    "activation": lambda x, out: kernels.activation("tanh", x, out=out),
    "activation_backward": lambda x, out: kernels.activation_backward(
        "tanh", np.full((4, 5), 0.5), x, out=out
    ),
    "softmax": lambda x, out: kernels.softmax(x, out=out),
    "softmax_backward": lambda x, out: kernels.softmax_backward(np.full((4, 5), 0.2), x, out=out),
}
NEVER_IN_PLACE = {
    "matmul, a": lambda x: kernels.matmul(x, np.eye(5), out=x),
    "matmul, b": lambda x: kernels.matmul(np.eye(4), x, out=x),
    "dense, x": lambda x: kernels.dense(x, np.eye(5), out=x),
    "dense, weight": lambda x: kernels.dense(np.eye(4), x.reshape(5, 4), out=x.reshape(4, 5)),
    "activation_backward, saved": lambda x: kernels.activation_backward("tanh", x, np.ones((4, 5)), out=x),
    "softmax_backward, y": lambda x: kernels.softmax_backward(x, np.ones((4, 5)), out=x),
}


@pytest.mark.parametrize("function", IN_PLACE.values(), ids=IN_PLACE)
def test_out_may_be_the_argument(function):
    x = matrix(4, 5)
    expected = function(x.copy(), None)
    other = np.full((4, 5), np.nan)
    assert function(x, other) is other and (other == expected).all()
    assert function(x, x) is x and (x == expected).all()


@pytest.mark.parametrize("function", IN_PLACE.values(), ids=IN_PLACE)
def test_out_must_not_overlap_the_argument_in_part(function):
    memory = matrix(5, 5)
    with pytest.raises(ValueError, match="out: must not share memory with an argument"):
        function(memory[:4], memory[1:])


@pytest.mark.parametrize("function", NEVER_IN_PLACE.values(), ids=NEVER_IN_PLACE)
def test_out_must_not_be_an_argument_that_is_still_read(function):
    x = matrix(4, 5)
    before = x.copy()
    if function is NEVER_IN_PLACE["dense, weight"]:
        with pytest.raises(ValueError, match="out: "):
            function(x)
    else:
        with pytest.raises(ValueError, match="out: must not share memory with an argument"):
            function(x)
    assert (x == before).all()


def test_out_of_products():
    a, b, bias = matrix(4, 6), matrix(6, 5), np.ones(5)
    out = np.full((4, 5), np.nan)
    assert kernels.matmul(a, b, out=out) is out and (out == kernels.matmul(a, b)).all()
    assert kernels.dense(a, b.T, bias, out=out) is out and (out == kernels.dense(a, b.T, bias)).all()


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.zeros((5, 4)), ValueError),
        (np.zeros(20), ValueError),
        (np.zeros((4, 5), "float32"), ValueError),
        (np.zeros((4, 5), ">f8"), ValueError),
        (np.asfortranarray(np.zeros((4, 5))), ValueError),
        (np.zeros((8, 5))[::2], ValueError),
        (read_only(np.zeros((4, 5))), ValueError),
        ([[0.0] * 5] * 4, TypeError),
    ],
)
def test_out_must_fit(out, error):
    for function in IN_PLACE.values():
        with pytest.raises(error, match="out: expected"):
            function(np.ones((4, 5)), out)
    with pytest.raises(error, match="out: expected"):
        kernels.matmul(np.ones((4, 2)), np.ones((2, 5)), out=out)


# ---- bad arguments ----


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.matmul([1.0], [[1.0]]), ValueError, r"a: expected a matrix of shape \(any, any\)"),
        (
            lambda: kernels.matmul([[1.0, 2.0]], [[1.0]]),
            ValueError,
            r"b: expected a matrix of shape \(2, any\)",
        ),
        (lambda: kernels.matmul([["a"]], [[1.0]]), TypeError, "a: expected numbers"),
        (lambda: kernels.matmul([[1j]], [[1.0]]), TypeError, "a: expected numbers"),
        (lambda: kernels.matmul([[1.0]], None), TypeError, "b: expected numbers"),
        (lambda: kernels.matmul([[1.0], [1.0, 2.0]], [[1.0]]), ValueError, "a: expected an array of numbers"),
        (
            lambda: kernels.dense([[1.0]], [[1.0, 2.0]]),
            ValueError,
            r"weight: expected a matrix of shape \(any, 1\)",
        ),
        (
            lambda: kernels.dense([[1.0]], [[1.0]], [1.0, 2.0]),
            ValueError,
            r"bias: expected shape \(1,\), got \(2,\)",
        ),
        (
            lambda: kernels.dense([[1.0]], [[1.0]], activation="softmax"),
            ValueError,
            "activation: expected one of",
        ),
        (
            lambda: kernels.dense_backward([[1.0]], [[1.0]], [[1.0, 2.0]]),
            ValueError,
            r"dy: expected .* \(1, 1\)",
        ),
        (lambda: kernels.activation("rleu", [1.0]), ValueError, "kind: expected one of linear, relu"),
        (lambda: kernels.activation(3, [1.0]), ValueError, "kind: expected one of linear, relu"),
        (
            lambda: kernels.activation("elu", [1.0], alpha=-1.0),
            ValueError,
            r"alpha must be a number in \[0, inf\)",
        ),
        (lambda: kernels.activation("elu", [1.0], alpha="1"), TypeError, "alpha must be a number"),
        (
            lambda: kernels.activation_backward("relu", [1.0], [[1.0]]),
            ValueError,
            r"dy: expected the shape of saved",
        ),
        (lambda: kernels.softmax([1.0]), ValueError, "x: expected a matrix"),
        (lambda: kernels.softmax(np.zeros((2, 0))), ValueError, "x: expected at least 1 columns"),
        (lambda: kernels.softmax_backward([[1.0]], [[1.0, 2.0]]), ValueError, "dy: expected a matrix"),
        (
            lambda: kernels.softmax_cross_entropy([[1.0]], [0]),
            ValueError,
            "logits: expected at least 2 columns",
        ),
        (
            lambda: kernels.softmax_cross_entropy([[1.0, 2.0]], [2]),
            ValueError,
            "target: expected integer labels",
        ),
        (
            lambda: kernels.softmax_cross_entropy([[1.0, 2.0]], [-1]),
            ValueError,
            "target: expected integer labels",
        ),
        (
            lambda: kernels.softmax_cross_entropy([[1.0, 2.0]], [np.nan]),
            ValueError,
            "target: expected integer",
        ),
        (
            lambda: kernels.softmax_cross_entropy([[1.0, 2.0]], [0, 1]),
            ValueError,
            "target: expected 1 rows, got 2",
        ),
        (lambda: kernels.softmax_cross_entropy([[1.0, 2.0]], [[1.0]]), ValueError, "target: expected shape"),
        (lambda: kernels.softmax_cross_entropy([[1.0, 2.0]], ["a"]), TypeError, "target: expected numbers"),
        (
            lambda: kernels.softmax_cross_entropy([[1.0, 2.0]], [0], label_smoothing=2),
            ValueError,
            r"label_smoothing must be a number in \[0, 1\]",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
