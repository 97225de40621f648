"""The mathematics of the operations as functions of arrays: what is correct, in NumPy.

Results have the dtype of the arguments. NaN goes in and comes out; nothing warns.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastbp.engine.plan import LOSSES

Array = NDArray[np.floating]

# Klambauer et al., Self-Normalizing Neural Networks (2017)
SELU_SCALE = 1.0507009873554804934193349852946
SELU_SCALE_ALPHA = 1.7580993408473768599402175208123  # times 1.6732632423543772848170429916717
# Hendrycks and Gimpel, Gaussian Error Linear Units (2016)
GELU_SLOPE, GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715
POISSON_EPSILON = 1e-7

_erfc = np.frompyfunc(math.erfc, 1, 1)


_quiet = np.errstate(all="ignore")
"""Decorator: overflow, NaN and the like pass without a warning."""


def clip_bound(dtype: np.dtype) -> float:
    """Smallest probability whose logarithm is taken."""
    return 1e-7 if dtype == np.float32 else 1e-15


# ---- activations: value, and derivative from what kinds.def says is saved ----


def sigmoid(z: Array) -> Array:
    """1 / (1 + e⁻ᶻ), without overflow on either side."""
    e = np.exp(-np.abs(z))
    y: Array = np.where(z >= 0, 1, e) / (1 + e)
    return y


def softplus(z: Array) -> Array:
    """log(1 + eᶻ)."""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def normal_cdf(z: Array) -> Array:
    """Φ(z), accurate in the lower tail too."""
    return np.asarray(_erfc(-z / math.sqrt(2)) / 2, np.float64)


def _tanh_softplus(z: Array) -> Array:
    return np.tanh(softplus(z))


@_quiet
def activate(kind: str, alpha: float, z: Array) -> Array:
    """g(z), computed in float64 and rounded once."""
    if kind == "linear":
        return z
    if kind == "relu":
        return np.maximum(z, 0)
    return _activate(kind, alpha, z.astype(np.float64)).astype(z.dtype)


def _activate(kind: str, alpha: float, z: NDArray[np.float64]) -> NDArray[np.floating]:
    if kind == "leaky_relu":
        return np.where(z > 0, z, alpha * z)
    if kind == "elu":
        return np.where(z >= 0, z, alpha * np.expm1(np.minimum(z, 0)))
    if kind == "selu":
        return np.where(z >= 0, SELU_SCALE * z, SELU_SCALE_ALPHA * np.expm1(np.minimum(z, 0)))
    if kind == "sigmoid":
        return sigmoid(z)
    if kind == "tanh":
        return np.tanh(z)
    if kind == "softplus":
        return softplus(z)
    if kind == "exponential":
        return np.exp(z)
    # z · (a factor that tends to 0 faster than z grows): the limit at -inf is 0
    if kind == "gelu":
        factor = normal_cdf(z)
    elif kind == "gelu_tanh":
        # (1 + tanh u) / 2 is sigmoid(2u), which does not cancel in the lower tail
        factor = sigmoid(2 * GELU_SLOPE * (z + GELU_CUBIC * z**3))
    elif kind == "silu":
        factor = sigmoid(z)
    elif kind == "mish":
        factor = _tanh_softplus(z)
    else:
        raise ValueError(f"unknown activation {kind!r}")
    return np.where(np.isneginf(z), -0.0, z * factor)


@_quiet
def activation_derivative(kind: str, alpha: float, saved: Array) -> Array:
    """g′, from the output g(z) for the kinds that have an inverse, else from z; rounded once, like g."""
    return _derivative(kind, alpha, saved.astype(np.float64)).astype(saved.dtype)


def _derivative(kind: str, alpha: float, saved: NDArray[np.float64]) -> NDArray[np.floating]:
    if kind == "linear":
        return np.ones_like(saved)
    if kind == "relu":
        return np.where(saved <= 0, 0.0, 1.0)
    if kind == "leaky_relu":
        return np.where(saved <= 0, alpha, 1.0)
    if kind == "elu":
        return np.where(saved > 0, 1.0, saved + alpha)
    if kind == "selu":
        return np.where(saved > 0, SELU_SCALE, saved + SELU_SCALE_ALPHA)
    if kind == "sigmoid":
        return saved * (1 - saved)
    if kind == "tanh":
        return (1 - saved) * (1 + saved)
    if kind == "softplus":
        return -np.expm1(-saved)
    if kind == "exponential":
        return saved
    z = saved
    if kind == "gelu":  # Φ + z φ
        density = np.exp(-z * z / 2) * (1 / math.sqrt(2 * math.pi))
        return normal_cdf(z) + np.where(density == 0, 0, z * density)
    if kind == "gelu_tanh":
        s = sigmoid(2 * GELU_SLOPE * (z + GELU_CUBIC * z**3))
        slope = 2 * GELU_SLOPE * (z + 3 * GELU_CUBIC * z**3)
        return s + np.where(s * (1 - s) == 0, 0, slope * s * (1 - s))
    if kind == "silu":
        s = sigmoid(z)
        return s + np.where(s * (1 - s) == 0, 0, z * s * (1 - s))
    if kind == "mish":
        t, s = _tanh_softplus(z), sigmoid(z)
        rest = s * (1 - t * t)
        return t + np.where(rest == 0, 0, z * rest)
    raise ValueError(f"unknown activation {kind!r}")


@_quiet
def activation_backward(kind: str, alpha: float, saved: Array, dy: Array) -> Array:
    """dy ⊙ g′; where relu is off the delta is 0, whatever it was."""
    if kind == "relu":
        return np.where(saved <= 0, np.zeros((), dy.dtype), dy)
    return dy * activation_derivative(kind, alpha, saved)


# ---- softmax, over the columns of each row ----


@_quiet
def softmax(x: Array) -> Array:
    """e^x / Σ e^x."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    y: Array = e / e.sum(axis=1, keepdims=True)
    return y


@_quiet
def softmax_backward(y: Array, dy: Array) -> Array:
    """y ⊙ (dy − Σ dy ⊙ y)."""
    dx: Array = y * (dy - (dy * y).sum(axis=1, keepdims=True))
    return dx


# ---- losses: loss of each row (float64) and its derivative by the predictions ----


@_quiet
def elementwise_loss(kind: str, parameter: float, p: Array, y: Array) -> tuple[NDArray[np.float64], Array]:
    """Mean or sum over the columns, as plan.LOSSES says."""
    e = p - y
    if kind == "mean_squared_error":
        value, slope = e * e, 2 * e
    elif kind == "half_squared_error":
        value, slope = e * e / 2, e
    elif kind == "mean_absolute_error":
        value, slope = np.abs(e), np.sign(e)
    elif kind == "huber":
        inside = np.abs(e) <= parameter
        value = np.where(inside, e * e / 2, parameter * (np.abs(e) - parameter / 2))
        slope = np.where(inside, e, parameter * np.sign(e))
    elif kind == "quantile":
        value = np.maximum(-parameter * e, (1 - parameter) * e)
        slope = np.where(e > 0, 1 - parameter, np.where(e < 0, -parameter, 0 * e))
    elif kind == "poisson":
        value, slope = p - y * np.log(p + POISSON_EPSILON), 1 - y / (p + POISSON_EPSILON)
    elif kind == "binary_cross_entropy":
        low = clip_bound(p.dtype)
        c = np.clip(p, low, 1 - low)
        value = -y * np.log(c) - (1 - y) * np.log1p(-c)
        slope = np.where((p < low) | (p > 1 - low), 0 * one_like(p), (c - y) / (c * (1 - c)))
    elif kind in ("sigmoid_binary_cross_entropy", "multilabel_cross_entropy"):  # p: the logits
        # not softplus(p) − y p: for a large p and y = 1 those two cancel
        value = (np.maximum(p, 0) - y * p) + np.log1p(np.exp(-np.abs(p)))
        slope = sigmoid(p) - y
    elif kind == "poisson_deviance":  # p: the logarithm of the rate
        rate = np.exp(p)
        value = rate - y * p + np.where(y > 0, y * np.log(y) - y, 0 * y)
        slope = rate - y
    else:
        raise ValueError(f"unknown loss {kind!r}")
    share = 1 if LOSSES[kind] == "sum" else 1 / p.shape[1]
    return value.sum(axis=1, dtype=np.float64) * share, (slope * share).astype(p.dtype)


def one_like(p: Array) -> Array:
    """1 in the dtype of p."""
    return np.ones((), p.dtype)


def probabilities(target: Array, classes: int, label_smoothing: float) -> Array:
    """Rows of probabilities from labels (one column) or such rows, smoothed."""
    if target.shape[1] == 1:
        labels = np.clip(target[:, 0], 0, classes - 1).astype(np.intp)
        target = np.eye(classes, dtype=target.dtype)[labels]
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / classes
    return target


@_quiet
def cross_entropy(p: Array, target: Array, label_smoothing: float) -> tuple[NDArray[np.float64], Array]:
    """−Σ t log p of probabilities."""
    t = probabilities(target, p.shape[1], label_smoothing)
    low = clip_bound(p.dtype)
    loss = -(t * np.log(np.maximum(p, low))).sum(axis=1, dtype=np.float64)
    return loss, np.where(p < low, 0 * one_like(p), -t / p).astype(p.dtype)


@_quiet
def softmax_cross_entropy(
    logits: Array, target: Array, label_smoothing: float
) -> tuple[NDArray[np.float64], Array]:
    """−Σ t log softmax(logits)."""
    t = probabilities(target, logits.shape[1], label_smoothing)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    # a class without a target adds nothing, however impossible it is
    loss = np.where(t == 0, 0 * t, t * (log_sum - shifted)).sum(axis=1, dtype=np.float64)
    return loss, (softmax(logits) * t.sum(axis=1, keepdims=True) - t).astype(logits.dtype)
