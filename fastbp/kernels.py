"""The kernels of the engine as functions of arrays, for people who write their own layers.

Every function takes arrays of one dtype, float32 or float64 (other numbers become float64), in any memory
layout, and returns new arrays; ``out=`` takes a C-contiguous array to fill instead, which must not share
memory with an argument unless its description says so. Batches stack samples as rows; weights have the shape
(out_features, in_features), so that a dense layer is z = x Wᵀ + b.

Without the compiled extension the same functions run on NumPy.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from fastbp.checks import check_number
from fastbp.engine import backend
from fastbp.kernel_arguments import (
    Array,
    check_activation,
    check_columns,
    check_matrix,
    numbers,
    output,
    read_arrays,
)

__all__ = [
    "activation",
    "activation_backward",
    "dense",
    "dense_backward",
    "matmul",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
]


def _formulas() -> ModuleType:
    """What to fall back to; not worth its import where there is the extension."""
    return importlib.import_module("fastbp.engine.formulas")


def _product(a: Array, b: Array, out: Array | None = None) -> Array:
    """NumPy's product, as silent about overflow as the engine's."""
    with np.errstate(all="ignore"):
        return np.matmul(a, b, out=out)


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    out: Array | None = None,
) -> Array:
    """Matrix product.

    Parameters
    ----------
    a : array_like, shape (m, k), or (k, m) with `transpose_a`
    b : array_like, shape (k, n), or (n, k) with `transpose_b`
    transpose_a, transpose_b : bool
        Use the transpose of the argument, without making it.
    out : ndarray, shape (m, n), optional
        Where to put the product.

    Returns
    -------
    ndarray, shape (m, n)
        Every element is summed in an order that depends on k alone: the rows of a product are, to the bit,
        the products of the rows.

    Raises
    ------
    TypeError, ValueError
        For arguments that are no matrices of numbers, or do not fit each other.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.matmul([[1.0, 2.0]], [[3.0, 4.0]], transpose_b=True)
    array([[11.]])
    """
    a, b = read_arrays(a=a, b=b)
    check_matrix("a", a)
    depth = a.shape[0 if transpose_a else 1]
    check_matrix("b", b, (None, depth) if transpose_b else (depth, None))
    c = output(out, a, b, shape=(a.shape[1 if transpose_a else 0], b.shape[0 if transpose_b else 1]))
    native = backend.native()
    if native:
        native.matmul(a, b, c, transpose_a, transpose_b)
    else:
        _product(a.T if transpose_a else a, b.T if transpose_b else b, out=c)
    return c


def dense(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str = "linear",
    alpha: float = 0.0,
    out: Array | None = None,
) -> Array:
    """Dense layer g(x Wᵀ + b).

    Parameters
    ----------
    x : array_like, shape (n, in_features)
    weight : array_like, shape (out_features, in_features)
    bias : array_like, shape (out_features,), optional
    activation : str
        Kind of g, such as "relu".
    alpha : float
        Parameter of "leaky_relu" (slope below zero) and "elu" (scale); not negative.
    out : ndarray, shape (n, out_features), optional

    Returns
    -------
    ndarray, shape (n, out_features)

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.dense([[1.0, -2.0]], [[3.0, 1.0], [0.0, 1.0]], [0.5, 0.5], activation="relu")
    array([[1.5, 0. ]])
    """
    alpha = check_activation("activation", activation, alpha)
    given = {"x": x, "weight": weight} | ({} if bias is None else {"bias": bias})
    arrays = dict(zip(given, read_arrays(**given), strict=True))
    x, weight = arrays["x"], arrays["weight"]
    check_matrix("x", x)
    check_matrix("weight", weight, (None, x.shape[1]))
    b = arrays.get("bias")
    if b is not None and b.shape != (weight.shape[0],):
        raise ValueError(f"bias: expected shape ({weight.shape[0]},), got {b.shape}")
    y = output(out, x, *list(arrays.values())[1:], shape=(x.shape[0], weight.shape[0]))
    native = backend.native()
    if native:
        native.matmul(x, weight, y, False, True, b, activation, alpha)
    else:
        z = _product(x, weight.T) if b is None else _product(x, weight.T) + b
        y[...] = _formulas().activate(activation, alpha, z)
    return y


def dense_backward(x: ArrayLike, weight: ArrayLike, dy: ArrayLike) -> tuple[Array, Array, Array]:
    """Gradients of a linear dense layer z = x Wᵀ + b.

    Parameters
    ----------
    x : array_like, shape (n, in_features)
    weight : array_like, shape (out_features, in_features)
    dy : array_like, shape (n, out_features)
        The delta ∂L/∂z.

    Returns
    -------
    dx : ndarray, shape (n, in_features)
        ∂L/∂x = δ W.
    weight_grad : ndarray, shape (out_features, in_features)
        ∂L/∂W = δᵀ x, summed over the batch.
    bias_grad : ndarray, shape (out_features,)
        ∂L/∂b, the sum of the rows of δ.

    Examples
    --------
    >>> from fastbp import kernels
    >>> dx, dw, db = kernels.dense_backward([[1.0, 2.0]], [[3.0, 4.0]], [[10.0]])
    >>> dx, dw, db
    (array([[30., 40.]]), array([[10., 20.]]), array([10.]))
    """
    x, weight, dy = read_arrays(x=x, weight=weight, dy=dy)
    check_matrix("x", x)
    check_matrix("weight", weight, (None, x.shape[1]))
    check_matrix("dy", dy, (x.shape[0], weight.shape[0]))
    native = backend.native()
    if not native:
        return _product(dy, weight), _product(dy.T, x), dy.sum(axis=0)
    bias_grad = np.empty(dy.shape[1], dy.dtype)
    native.column_sum(dy, bias_grad)
    return matmul(dy, weight), matmul(dy, x, transpose_a=True), bias_grad


def activation(kind: str, x: ArrayLike, *, alpha: float = 0.0, out: Array | None = None) -> Array:
    """Element-wise activation.

    Parameters
    ----------
    kind : str
        "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "sigmoid", "tanh",
        "softplus" or "linear".
    x : array_like, any shape
    alpha : float
        Parameter of "leaky_relu" (slope below zero) and "elu" (scale); not negative.
    out : ndarray like `x`, optional
        May be `x` itself.

    Returns
    -------
    ndarray like `x`

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.activation("leaky_relu", [-1.0, 2.0], alpha=0.1)
    array([-0.1,  2. ])
    """
    alpha = check_activation("kind", kind, alpha)
    (x,) = read_arrays(x=x)
    y = output(out, x)
    native = backend.native()
    if native:
        native.activation_forward(x, y, kind, alpha)
    else:
        y[...] = _formulas().activate(kind, alpha, x)
    return y


def activation_backward(
    kind: str, saved: ArrayLike, dy: ArrayLike, *, alpha: float = 0.0, out: Array | None = None
) -> Array:
    """Delta below an element-wise activation: dy ⊙ g′.

    Parameters
    ----------
    kind : str
        As in :func:`activation`.
    saved : array_like
        What g′ is computed from: the activation's input for "gelu", "gelu_tanh", "silu" and "mish", its
        output for the others.
    dy : array_like like `saved`
    alpha : float
    out : ndarray like `saved`, optional
        May be `dy` itself.

    Returns
    -------
    ndarray like `saved`

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.activation_backward("sigmoid", [0.5], [2.0])
    array([0.5])
    """
    alpha = check_activation("kind", kind, alpha)
    saved, dy = read_arrays(saved=saved, dy=dy)
    if saved.shape != dy.shape:
        raise ValueError(f"dy: expected the shape of saved, {saved.shape}, got {dy.shape}")
    dx = output(out, dy, saved)
    native = backend.native()
    if native:
        native.activation_backward(saved, dy, dx, kind, alpha)
    else:
        dx[...] = _formulas().activation_backward(kind, alpha, saved, dy)
    return dx


def softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Softmax of each row.

    Parameters
    ----------
    x : array_like, shape (n, k)
    out : ndarray, shape (n, k), optional
        May be `x` itself.

    Returns
    -------
    ndarray, shape (n, k)
        Rows that sum to 1.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.softmax([[1000.0, 1000.0]])
    array([[0.5, 0.5]])
    """
    (x,) = read_arrays(x=x)
    check_columns("x", x, 1)
    y = output(out, x)
    native = backend.native()
    if native:
        native.softmax_forward(x, y)
    else:
        y[...] = _formulas().softmax(x)
    return y


def softmax_backward(y: ArrayLike, dy: ArrayLike, *, out: Array | None = None) -> Array:
    """Delta below a softmax: y ⊙ (dy − Σ dy ⊙ y), the sum over each row.

    Parameters
    ----------
    y : array_like, shape (n, k)
        Output of :func:`softmax`.
    dy : array_like, shape (n, k)
    out : ndarray, shape (n, k), optional
        May be `dy` itself.

    Returns
    -------
    ndarray, shape (n, k)

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.softmax_backward([[0.5, 0.5]], [[1.0, 0.0]])
    array([[ 0.25, -0.25]])
    """
    y, dy = read_arrays(y=y, dy=dy)
    check_columns("y", y, 1)
    check_matrix("dy", dy, (y.shape[0], y.shape[1]))
    dx = output(out, dy, y)
    native = backend.native()
    if native:
        native.softmax_backward(y, dy, dx)
    else:
        dx[...] = _formulas().softmax_backward(y, dy)
    return dx


def softmax_cross_entropy(
    logits: ArrayLike, target: ArrayLike, *, label_smoothing: float = 0.0
) -> tuple[float, Array]:
    """Mean cross-entropy of softmax(logits), and its gradient, computed together in stable form.

    Parameters
    ----------
    logits : array_like, shape (n, k), k > 1
    target : array_like, shape (n,) of integer labels 0 … k-1, or (n, k) of probabilities
    label_smoothing : float
        s in t := (1 − s) t + s / k, from 0 to 1.

    Returns
    -------
    loss : float
        −(1/n) Σ t log softmax(logits).
    delta : ndarray, shape (n, k)
        Its gradient with respect to the logits, (softmax(logits) Σ t − t) / n.

    Raises
    ------
    ValueError
        For labels out of range and shapes that do not fit.

    Examples
    --------
    >>> from fastbp import kernels
    >>> loss, delta = kernels.softmax_cross_entropy([[0.0, 0.0]], [1])
    >>> round(loss, 4), delta
    (0.6931, array([[ 0.5, -0.5]]))
    """
    (logits,) = read_arrays(logits=logits)
    check_columns("logits", logits, 2)
    rows, columns = logits.shape
    label_smoothing = check_number("label_smoothing", label_smoothing, "[0, 1]")
    t = numbers("target", target)
    if t.ndim == 1:
        t = t[:, np.newaxis]
        if t.size and not (np.all(t == np.floor(t)) and t.min() >= 0 and t.max() < columns):
            raise ValueError(f"target: expected integer labels from 0 to {columns - 1}")
    elif t.shape != logits.shape:
        raise ValueError(f"target: expected shape ({rows},) or {logits.shape}, got {t.shape}")
    if t.shape[0] != rows:
        raise ValueError(f"target: expected {rows} rows, got {t.shape[0]}")
    t = np.require(t, logits.dtype, ["C_CONTIGUOUS", "ALIGNED"])
    scale = 1.0 / max(rows, 1)
    native = backend.native()
    if native:
        row_loss, delta = np.empty(rows), np.empty_like(logits)
        native.softmax_cross_entropy(logits, t, row_loss, delta, label_smoothing, scale)
    else:
        row_loss, delta = _formulas().softmax_cross_entropy(logits, t, label_smoothing)
        delta = delta * logits.dtype.type(scale)
    return float(row_loss.sum() * scale), delta
