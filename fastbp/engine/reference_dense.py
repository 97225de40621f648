"""Dense layers and activations in the reference interpreter."""

from __future__ import annotations

import numpy as np

from fastbp.engine import formulas
from fastbp.engine.operations import Array, Run, operation

# ---- dense ----


SPACE = 16


def spaced(matrix: Array) -> Array:
    """Rows some space apart: where narrow ones lie one after another, BLAS rounds by how many there are."""
    rows, columns = matrix.shape
    if columns >= SPACE:
        return matrix
    memory = np.zeros((rows, SPACE), matrix.dtype)
    memory[:, :columns] = matrix
    return memory[:, :columns]


@operation
def dense_forward(
    run: Run, x: Array, weight: Array, bias: Array | None, y: Array, *, activation: str, alpha: float
) -> None:
    """Y = g(X W + b), W in memory as (in, out)."""
    z = spaced(x) @ spaced(weight)
    if bias is not None:
        z += bias
    y[...] = formulas.activate(activation, run.real(alpha), z)


@operation
def dense_backward_weight(run: Run, x: Array, dy: Array, weight_grad: Array, bias_grad: Array | None) -> None:
    """∂L/∂W = Xᵀ δ, ∂L/∂b = the sum of δ's rows."""
    dy = spaced(dy)
    weight_grad[...] = spaced(x).T @ dy
    if bias_grad is not None:
        bias_grad[...] = dy.sum(axis=0)


@operation
def dense_backward_input(
    run: Run, dy: Array, weight: Array, saved: Array | None, dx: Array, *, activation: str, alpha: float
) -> None:
    """δ Wᵀ, times g′ of the layer below when its output is given."""
    delta = spaced(dy) @ spaced(weight).T
    dx[...] = (
        delta if saved is None else formulas.activation_backward(activation, run.real(alpha), saved, delta)
    )


# ---- dense, on sparse inputs ----


@operation
def sparse_forward(
    run: Run, source: Array, weight: Array, bias: Array | None, y: Array, *, activation: str, alpha: float
) -> None:
    """Y = g(X W + b) of the batch's rows of the inputs."""
    dense_forward(run, source, weight, bias, y, activation=activation, alpha=alpha)


@operation
def sparse_backward_weight(
    run: Run, source: Array, dy: Array, weight_grad: Array, bias_grad: Array | None
) -> None:
    """∂L/∂W = Xᵀ δ, ∂L/∂b = the sum of δ's rows."""
    dense_backward_weight(run, source, dy, weight_grad, bias_grad)


# ---- activations ----


@operation
def activation_forward(run: Run, x: Array, y: Array, *, activation: str, alpha: float) -> None:
    """Y = g(X)."""
    y[...] = formulas.activate(activation, run.real(alpha), x)


@operation
def activation_backward(
    run: Run, saved: Array, dy: Array, dx: Array, *, activation: str, alpha: float
) -> None:
    """dX = dY ⊙ g′."""
    dx[...] = formulas.activation_backward(activation, run.real(alpha), saved, dy)


@operation
def softmax_forward(run: Run, x: Array, y: Array) -> None:
    """Softmax of each row."""
    y[...] = formulas.softmax(x)


@operation
def softmax_backward(run: Run, y: Array, dy: Array, dx: Array) -> None:
    """dX = Y ⊙ (dY − Σ dY ⊙ Y)."""
    dx[...] = formulas.softmax_backward(y, dy)
