"""Activations on every engine: at most 2 units in the last place over all finite numbers, and what special
values give."""

from __future__ import annotations

from functools import cache

import mpmath
import numpy as np
import pytest

import fastbp
from fastbp import kernels
from fastbp.engine.plan import ACTIVATIONS
from fastbp.layers import ELU, Dense, LeakyReLU

ALPHA = {"leaky_relu": 0.2, "elu": 1.5}
ULPS = 2.0
PRECISION = 140  # bits

# ---- exact values --------------------------------------------------------------------------------
# Functions of the number x and of the same number within ±10,000, where all of them are settled.

with mpmath.workprec(PRECISION):
    SELU_SCALE = mpmath.mpf("1.0507009873554804934193349852946")
    SELU_LOWEST = -SELU_SCALE * mpmath.mpf("1.6732632423543772848170429916717")


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def gelu_tanh_logit(x):
    return mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)


EXACT = {
    "linear": lambda x, near: x,
    "relu": lambda x, near: max(x, 0),
    "leaky_relu": lambda x, near: x if x > 0 else mpmath.mpf(ALPHA["leaky_relu"]) * x,
    "elu": lambda x, near: x if x > 0 else mpmath.mpf(ALPHA["elu"]) * mpmath.expm1(near),
    "selu": lambda x, near: SELU_SCALE * x if x > 0 else -SELU_LOWEST * mpmath.expm1(near),
    "sigmoid": lambda x, near: sigmoid(near),
    "tanh": lambda x, near: mpmath.tanh(near),
    "softplus": lambda x, near: max(x, 0) + mpmath.log1p(mpmath.exp(-abs(near))),
    "exponential": lambda x, near: mpmath.exp(near),
    "gelu": lambda x, near: x * mpmath.ncdf(near),
    "gelu_tanh": lambda x, near: x * sigmoid(gelu_tanh_logit(near)),
    "silu": lambda x, near: x * sigmoid(near),
    "mish": lambda x, near: x * mpmath.tanh(max(near, 0) + mpmath.log1p(mpmath.exp(-abs(near)))),
}


@cache
def sample(dtype):
    """Finite numbers: one of each few binades, subnormal ones too, and many where the functions bend."""
    rng = np.random.default_rng(6)
    info = np.finfo(dtype)
    lowest = info.minexp - info.nmant
    exponents = np.arange(lowest, info.maxexp, 1 if dtype == "float32" else 8)
    binades = np.ldexp(rng.uniform(1, 2, exponents.size), exponents)
    bends = [
        np.exp2(rng.uniform(-30, 10, 500)),
        rng.uniform(0, 8, 300),
        rng.uniform(8, 2 * -np.log(info.tiny), 150),
        np.sqrt(rng.uniform(0, 4 * -np.log(info.tiny), 100)),  # the tail of the normal distribution
        [info.max, info.tiny, info.smallest_subnormal, info.eps, 1, 2, 0.75, 0.5, np.log(2), np.log(2) / 2],
    ]
    positive = np.concatenate([binades, *bends]).astype(dtype)
    return np.concatenate([positive, -positive])


@cache
def exact(kind, dtype):
    """Values rounded to the dtype, what the rounding left in units of the last place, and those units."""
    rounded, rest, units = [], [], []
    largest = np.finfo(dtype).max
    with mpmath.workprec(PRECISION):
        for x in sample(dtype).tolist():
            value = EXACT[kind](mpmath.mpf(x), mpmath.mpf(min(max(x, -1e4), 1e4)))
            nearest = np.dtype(dtype).type(float(value)) if abs(value) <= largest else np.copysign(np.inf, x)
            rounded.append(float(nearest))
            if np.isfinite(nearest):
                size = np.abs(nearest)
                below = np.nextafter(size, np.dtype(dtype).type(0))
                units.append(float(size - below if size == largest else np.spacing(size)))
                rest.append(float((value - mpmath.mpf(float(nearest))) / mpmath.mpf(units[-1])))
            else:
                units.append(1.0)
                rest.append(0.0)
    return np.array(rounded), np.array(rest), np.array(units)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_units_in_the_last_place(kind, engine, dtype):
    x = sample(dtype)
    found = kernels.activation(kind, x, alpha=ALPHA.get(kind, 0.0))
    assert found.dtype == dtype
    rounded, rest, units = exact(kind, dtype)
    finite = np.isfinite(rounded)
    assert np.array_equal(found[~finite], rounded[~finite])
    error = np.abs((found[finite].astype(float) - rounded[finite]) / units[finite] - rest[finite])
    bound = np.full_like(error, ULPS)
    if not engine.native:  # plain NumPy: exact to the rounding of 1 where a tail is far below 1
        bound = np.maximum(bound, ULPS * np.finfo(dtype).eps / units[finite])
    worst = np.argmax(error - bound)
    assert error[worst] <= bound[worst], f"{kind}({x[finite][worst]!r}) is off by {error[worst]:.2f} ULP"


def test_tanh_of_every_few_numbers(engine):
    """Within the bound, odd and rising, also where segments begin that it may be cut into."""
    every_few = np.arange(0, np.float32(np.inf).view(np.uint32), 211, np.uint32)
    borders = np.array([k / 32 for k in range(320)], np.float32).view(np.uint32)[1:]
    beside = (borders[:, None] + np.arange(-20, 20).astype(np.uint32)).ravel()
    x = np.sort(np.concatenate([every_few, beside])).view(np.float32)
    y = kernels.activation("tanh", x)
    assert (kernels.activation("tanh", -x) == -y).all()
    assert (np.diff(kernels.activation("tanh", np.arange(0, 12, 1 / 1024, np.float32))) >= 0).all()
    assert (y[x > 9.1] == 1).all()
    exact = np.tanh(x.astype(float))
    assert (np.abs(y - exact) <= ULPS * np.spacing(exact.astype(np.float32))).all()


# ---- special values ------------------------------------------------------------------------------

INF = np.inf
# at 0, at infinity, at minus infinity
SPECIAL = {
    "linear": (0, INF, -INF),
    "relu": (0, INF, 0),
    "leaky_relu": (0, INF, -INF),
    "elu": (0, INF, -1.5),
    "selu": (0, INF, float(SELU_LOWEST)),
    "sigmoid": (0.5, 1, 0),
    "tanh": (0, 1, -1),
    "softplus": (np.log(2), INF, 0),
    "exponential": (1, INF, 0),
    "gelu": (0, INF, 0),
    "gelu_tanh": (0, INF, 0),
    "silu": (0, INF, 0),
    "mish": (0, INF, 0),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_special_values(kind, engine, dtype):
    alpha = ALPHA.get(kind, 0.0)
    largest = np.finfo(dtype).max
    x = np.array([0, INF, -INF, np.nan, -0.0, largest, -largest], dtype)
    at_zero, above, below = SPECIAL[kind]
    y = kernels.activation(kind, x, alpha=alpha)
    np.testing.assert_array_equal(y[:5], np.array([at_zero, above, below, np.nan, at_zero], dtype))
    if at_zero == 0 and kind != "relu":
        assert np.signbit(y[4]) and not np.signbit(y[0])
    assert not np.isnan(y[5:]).any()
    # the same inside a layer, where NaN and infinity come from the weights
    layer = {"leaky_relu": LeakyReLU(alpha), "elu": ELU(alpha)}.get(kind, kind)
    model = fastbp.Sequential([Dense(x.size, layer, kernel_initializer="zeros")], input_size=1, dtype=dtype)
    model.layers[0].bias = x
    np.testing.assert_array_equal(model.predict([[1.0]])[0], y)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_position_does_not_matter(kind, engine, dtype, rng):
    """In the middle of a vector, at its end, alone, in place or not: the same bits."""
    x = rng.normal(scale=3, size=70).astype(dtype)
    alpha = ALPHA.get(kind, 0.0)
    whole = kernels.activation(kind, x, alpha=alpha)
    for begin, end in ((0, 1), (1, 2), (3, 70), (5, 38), (16, 33), (0, 69)):
        part = x[begin:end].copy()
        kernels.activation(kind, part, alpha=alpha, out=part)
        assert part.tobytes() == whole[begin:end].tobytes(), f"{begin}:{end}"


def test_derivative_at_the_kink_and_beside_infinity(engine, dtype):
    """relu'(0) is 0, and what it stops it stops even where the delta is infinite or NaN."""
    saved, dy = np.array([0, 0, 0, 0, 2, 2], dtype), np.array([1, INF, -INF, np.nan, INF, -3], dtype)
    dx = kernels.activation_backward("relu", saved, dy)
    np.testing.assert_array_equal(dx, np.array([0, 0, 0, 0, INF, -3], dtype))
    for kind, slope in (("leaky_relu", 0.2), ("elu", 1.5)):
        dx = kernels.activation_backward(kind, np.zeros(3, dtype), np.ones(3, dtype), alpha=slope)
        np.testing.assert_array_equal(dx, np.full(3, slope, dtype))


@pytest.mark.parametrize("kind", [kind for kind in ACTIVATIONS if kind != "linear"])
def test_derivatives_far_out(kind, engine, dtype):
    """0 or the slope of a line at both ends, but for the exponential, which is its own derivative."""
    largest = np.finfo(dtype).max
    x = np.array([largest, -largest, 1e4, -1e4, 200, -200], dtype)
    alpha = ALPHA.get(kind, 0.0)
    saved = kernels.activation(kind, x, alpha=alpha) if ACTIVATIONS[kind] == "output" else x
    dx = kernels.activation_backward(kind, saved, np.ones_like(x), alpha=alpha)
    right = {"selu": float(SELU_SCALE), "sigmoid": 0, "tanh": 0}.get(kind, 1)
    left = {"leaky_relu": alpha}.get(kind, 0)
    expected = saved if kind == "exponential" else np.array([right, left] * 3)
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=np.finfo(dtype).eps * 4)


# ---- softmax -------------------------------------------------------------------------------------


def test_softmax_of_extremes(engine, dtype):
    largest = np.finfo(dtype).max
    x = np.array(
        [
            [1000, 1000, 0],
            [-1000, -1000, -1000],
            [largest, -largest, 0],
            [-INF, 0, 0],
            [np.nan, 0, 0],
            [1, 2, 3],
        ],
        dtype,
    )
    y = kernels.softmax(x)
    third = 1 / 3
    np.testing.assert_allclose(
        y[:4], [[0.5, 0.5, 0], [third] * 3, [1, 0, 0], [0, 0.5, 0.5]], rtol=4 * np.finfo(dtype).eps
    )
    assert np.isnan(y[4]).all()
    e = np.exp([1.0, 2, 3])
    np.testing.assert_allclose(y[5], e / e.sum(), rtol=4 * np.finfo(dtype).eps)


def test_softmax_against_exact_values(engine, dtype, rng):
    bound = 8 * np.finfo(dtype).eps
    for columns in (1, 2, 3, 7, 8, 9, 16, 17, 33, 1000):
        x = rng.normal(scale=4, size=(3, columns)).astype(dtype)
        e = np.exp((x - x.max(axis=1, keepdims=True)).astype(np.longdouble))
        expected = e / e.sum(axis=1, keepdims=True)
        error = np.abs(kernels.softmax(x) / expected - 1)
        assert error.max() <= bound, f"{columns} columns: {error.max() / bound * 8:.1f} eps"


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 8, 9, 16, 17])
def test_softmax_of_a_row_depends_on_itself_alone(columns, engine, dtype, rng):
    x = rng.normal(scale=4, size=(35, columns)).astype(dtype)
    y = kernels.softmax(x)
    for i in (0, 3, 15, 16, 34):
        assert kernels.softmax(x[i : i + 1]).tobytes() == y[i].tobytes()
        assert kernels.softmax(x[i:]).tobytes() == y[i:].tobytes()
