"""Metrics of values: how far predictions are from what was asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastbp.metrics.arguments import matrices, mean

_SMALLEST_TARGET = 1e-7  # below it, a percentage of the target says nothing; the value Keras uses


def mean_absolute_error(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Mean of abs(ŷ − y) over all samples and outputs.

    Examples
    --------
    >>> mean_absolute_error([1, 2], [1, 5])
    1.5
    """
    true, predicted, weights = matrices(y_true, y_pred, sample_weight)
    return mean(np.abs(predicted - true), weights)


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean of (ŷ − y)² over all samples and outputs.

    Examples
    --------
    >>> mean_squared_error([1, 2], [1, 5])
    4.5
    """
    true, predicted, weights = matrices(y_true, y_pred, sample_weight)
    return mean(np.square(predicted - true), weights)


def root_mean_squared_error(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Square root of the mean of (ŷ − y)² over all samples and outputs, in the unit of y.

    Examples
    --------
    >>> root_mean_squared_error([1, 2], [4, 5])
    3.0
    """
    return float(np.sqrt(mean_squared_error(y_true, y_pred, sample_weight)))


def mean_absolute_percentage_error(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Mean of 100 · abs((ŷ − y) / y) over all samples and outputs, in percent as in Keras.

    Targets closer to 0 than 1e-7 count as 1e-7.

    Examples
    --------
    >>> mean_absolute_percentage_error([1, 2], [1, 3])
    25.0
    """
    true, predicted, weights = matrices(y_true, y_pred, sample_weight)
    return mean(100 * np.abs(predicted - true) / np.maximum(np.abs(true), _SMALLEST_TARGET), weights)


def max_error(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Largest abs(ŷ − y) over the outputs of all samples that weigh more than 0.

    Examples
    --------
    >>> max_error([1, 2, 3], [1, 5, 4])
    3.0
    """
    true, predicted, weights = matrices(y_true, y_pred, sample_weight)
    return float(np.abs(predicted - true)[weights > 0].max())


def r2(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Coefficient of determination, 1 − Σ(ŷ − y)² / Σ(y − ȳ)² per output, then the mean over outputs.

    1 is perfect; 0 is no better than always predicting the mean ȳ. An output whose targets are all the
    same scores 1 if it is predicted perfectly and 0 otherwise.

    Examples
    --------
    >>> r2([1, 2, 3], [1, 2, 4])
    0.5
    >>> r2([2, 2, 2], [2, 2, 3])
    0.0
    """
    true, predicted, weights = matrices(y_true, y_pred, sample_weight)
    true, predicted, weights = (a[weights > 0] for a in (true, predicted, weights))
    share = (weights / weights.sum())[:, np.newaxis]
    residual = np.sum(share * np.square(predicted - true), axis=0)
    # Rounding makes the sum of squares of constant targets tiny, not 0: compare the targets themselves.
    constant = np.all(true == true[0], axis=0)
    total = np.sum(share * np.square(true - np.sum(share * true, axis=0)), axis=0)
    scores = 1 - residual / np.where(constant, 1, total)
    scores[constant] = np.where(residual == 0, 1, 0 * residual)[constant]  # 0 * residual: NaN stays NaN
    return float(scores.mean())
