"""Operations of the layers beyond Dense: dropout, noise, normalization, PReLU, scaling, columns, sums,
tables.

Sums over rows or columns are taken in float64 and rounded once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastbp.engine import random
from fastbp.engine.operations import Array, Run, operation

# ---- dropout: the same counters give the same mask on the way back ----


@operation
def dropout_forward(run: Run, x: Array, y: Array, *, rate: float, stream: float) -> None:
    """Inverted dropout; the identity outside training."""
    if not run.training:
        y[...] = x
        return
    rows = run.first_row + run.rows
    halves = random.random_halves(run.seed, run.draw, int(stream), rows, x.shape[1])[run.first_row :]
    dropped = random.dropped_share(rate)
    y[...] = np.where(halves >= dropped, x * run.real(2**16 / (2**16 - dropped)), run.real(0))


@operation
def dropout_backward(run: Run, dy: Array, dx: Array, *, rate: float, stream: float) -> None:
    """Dropout of the delta."""
    dropout_forward(run, dy, dx, rate=rate, stream=stream)


# ---- batch normalization: over the rows of the batch ----


@operation
def batch_norm_forward(
    run: Run,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    moving_mean: Array,
    moving_variance: Array,
    saved: Array,
    y: Array,
    *,
    momentum: float,
    epsilon: float,
    unbiased: float,
) -> None:
    """Y = γ (X − μ) / √(σ² + ε) + β; saved: μ and 1 / √(σ² + ε)."""
    mean, variance = moving_mean[0].astype(np.float64), moving_variance[0].astype(np.float64)
    if run.training:
        mean, variance = x.mean(axis=0, dtype=np.float64), x.var(axis=0, dtype=np.float64)
        shown = variance * (run.rows / max(run.rows - 1, 1)) if unbiased else variance
        moving_mean += ((1 - momentum) * (mean - moving_mean)).astype(run.dtype)
        moving_variance += ((1 - momentum) * (shown - moving_variance)).astype(run.dtype)
    saved[0], saved[1] = mean, 1 / np.sqrt(variance + epsilon)
    y[...] = _scaled((x - saved[0]) * saved[1], gamma, beta)


@operation
def batch_norm_backward(
    run: Run,
    x: Array,
    gamma: Array | None,
    saved: Array,
    dy: Array,
    gamma_grad: Array | None,
    beta_grad: Array | None,
    dx: Array,
) -> None:
    """∂L/∂γ = Σ δ x̂, ∂L/∂β = Σ δ; dX = γ / √(σ² + ε) (δ − mean δ − x̂ mean(δ x̂)).

    Outside training μ and σ² are constants, and dX has no means.
    """
    x_hat = (x - saved[0]) * saved[1]
    along, total = _column_sum(dy * x_hat), _column_sum(dy)
    if gamma_grad is not None:
        gamma_grad[...] = along
    if beta_grad is not None:
        beta_grad[...] = total
    delta = dy
    if run.training:
        delta = dy - total / run.real(run.rows) - x_hat * (along / run.real(run.rows))
    dx[...] = _scaled(delta * saved[1], gamma, None)


def _scaled(x_hat: Array, gamma: Array | None, beta: Array | None) -> Array:
    y = x_hat if gamma is None else x_hat * gamma
    return y if beta is None else y + beta


def _column_sum(values: Array) -> Array:
    total: Array = values.sum(axis=0, dtype=np.float64).astype(values.dtype)
    return total


# ---- layer normalization: over the features of a row ----


@operation
def layer_norm_forward(
    run: Run, x: Array, gamma: Array | None, beta: Array | None, saved: Array, y: Array, *, epsilon: float
) -> None:
    """Y = γ (X − μ) / √(σ² + ε) + β; saved: μ and 1 / √(σ² + ε) of each row."""
    saved[:, 0] = x.mean(axis=1, dtype=np.float64)
    saved[:, 1] = 1 / np.sqrt(x.var(axis=1, dtype=np.float64) + epsilon)
    y[...] = _scaled((x - saved[:, :1]) * saved[:, 1:], gamma, beta)


@operation
def layer_norm_backward_parameters(
    run: Run, x: Array, saved: Array, dy: Array, gamma_grad: Array | None, beta_grad: Array | None
) -> None:
    """∂L/∂γ = Σ δ x̂, ∂L/∂β = Σ δ over the rows."""
    if gamma_grad is not None:
        gamma_grad[...] = _column_sum(dy * ((x - saved[:, :1]) * saved[:, 1:]))
    if beta_grad is not None:
        beta_grad[...] = _column_sum(dy)


@operation
def layer_norm_backward_input(
    run: Run, x: Array, gamma: Array | None, saved: Array, dy: Array, dx: Array
) -> None:
    """With d = γ δ: dX = (d − mean d − x̂ mean(d x̂)) / √(σ² + ε)."""
    x_hat, d = (x - saved[:, :1]) * saved[:, 1:], _scaled(dy, gamma, None)
    mean = d.mean(axis=1, keepdims=True, dtype=np.float64).astype(run.dtype)
    along = (d * x_hat).mean(axis=1, keepdims=True, dtype=np.float64).astype(run.dtype)
    dx[...] = (d - mean - x_hat * along) * saved[:, 1:]


# ---- element by element ----


@operation
def prelu_forward(run: Run, x: Array, alpha: Array, y: Array) -> None:
    """Y = X where positive, else α X."""
    y[...] = np.where(x > 0, x, alpha * x)


@operation
def prelu_backward(run: Run, x: Array, alpha: Array, dy: Array, alpha_grad: Array, dx: Array) -> None:
    """∂L/∂α = Σ δ min(X, 0) over the rows; dX = δ where X is positive, else α δ."""
    alpha_grad[...] = _column_sum(np.where(x > 0, run.real(0), dy * x))
    dx[...] = np.where(x > 0, dy, alpha * dy)


@operation
def gaussian_noise(run: Run, x: Array, y: Array, *, stddev: float, stream: float) -> None:
    """Y = X + stddev · a normal number; X outside training."""
    y[...] = x
    if run.training:
        rows = run.first_row + run.rows
        normals = random.random_normals(run.seed, run.draw, int(stream), rows, x.shape[1])[run.first_row :]
        y += (stddev * normals).astype(run.dtype)


@operation
def rescale(run: Run, x: Array, y: Array, *, scale: float, offset: float) -> None:
    """Y = scale X + offset."""
    y[...] = run.real(scale) * x + run.real(offset)


@operation
def normalize(run: Run, x: Array, mean: Array | None, variance: Array, y: Array) -> None:
    """Y = (X − mean) / max(√variance, 1e-7) for each column."""
    centered = x if mean is None else x - mean
    y[...] = centered / np.maximum(np.sqrt(variance), run.real(1e-7))


# ---- columns, sums, tables ----


@operation
def copy_columns(
    run: Run, source: Array, out: Array, *, begin: float, place: float, count: float, accumulate: float
) -> None:
    """Columns of the source, from `begin` on, over or onto those of out from `place` on."""
    columns = source[:, int(begin) : int(begin + count)]
    target = out[:, int(place) : int(place + count)]
    target[...] = target + columns if accumulate else columns


@operation
def add(run: Run, a: Array, b: Array, out: Array) -> None:
    """A + B."""
    out[...] = a + b


@operation
def clear(run: Run, dx: Array) -> None:
    """The delta of what has no derivative: 0."""
    dx[...] = 0


@operation
def embedding_forward(run: Run, index: Array, table: Array, y: Array) -> None:
    """The rows of the table that each row of indices names, one after the other."""
    y[...] = table[_row_numbers(index, table)].reshape(y.shape)


@operation
def embedding_backward(run: Run, index: Array, dy: Array, table_grad: Array) -> None:
    """For each row of the table the sum of the deltas where it was looked up."""
    table_grad[...] = 0
    np.add.at(table_grad, _row_numbers(index, table_grad), dy.reshape(*index.shape, -1))


def _row_numbers(index: Array, table: Array) -> NDArray[np.intp]:
    """Whatever does not name a row names the nearest one; the caller of the engine has checked them."""
    return np.clip(np.nan_to_num(index), 0, len(table) - 1).astype(np.intp)
