"""Metrics: how good predictions are, as a number for people. Training never sees them.

Each takes what the model was asked for, what it predicted and, if wanted, weights of the samples. Vectors
count as one column. The mean over samples is weighted, Σ w·m / Σ w; the mean over outputs is not.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.array_like import Array, read

Metric = Callable[[ArrayLike, ArrayLike, ArrayLike | None], float]

_SMALLEST_TARGET = 1e-7  # below it, a percentage of the target says nothing; the value Keras uses


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Fraction of samples whose class is predicted.

    Parameters
    ----------
    y_true : array-like, shape (n,), (n, 1) or (n, K)
        Labels from 0 to K - 1, or rows of probabilities (one-hot rows too), whose largest counts.
    y_pred : array-like, shape (n, K), or (n,) or (n, 1)
        Rows of probabilities, whose largest counts; or, for two classes, the probability of class 1, which
        is predicted from above 0.5. NaN is never right.
    sample_weight : array-like, shape (n,), optional

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes do not fit, or for one column, if `y_true` is not between 0 and 1.

    See Also
    --------
    binary_accuracy : for outputs that are independent of each other.

    Examples
    --------
    >>> accuracy([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    0.6666666666666666
    >>> accuracy([0, 1, 1], [0.1, 0.8, 0.4])
    0.6666666666666666
    """
    true, predicted, weights = _matrices(y_true, y_pred, sample_weight, labels=True)
    if predicted.shape[1] == 1:
        return _mean(_same_side(true, predicted), weights)
    rows = np.arange(len(true))
    wanted = true[:, 0] if true.shape[1] == 1 else np.argmax(true, axis=1)
    chosen = np.argmax(predicted, axis=1)
    known = ~np.isnan(predicted[rows, chosen])  # argmax finds a NaN first
    return _mean(((chosen == wanted) & known)[:, np.newaxis], weights)


def binary_accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Fraction of values on the right side of 0.5; each output is a yes or no of its own.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,) or (n, k)
        Between 0 and 1. NaN is never right.
    sample_weight : array-like, shape (n,), optional

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes differ, or `y_true` is not between 0 and 1.

    Examples
    --------
    >>> binary_accuracy([[1, 0], [1, 1]], [[0.7, 0.2], [0.4, 0.9]])
    0.75
    """
    true, predicted, weights = _matrices(y_true, y_pred, sample_weight)
    return _mean(_same_side(true, predicted), weights)


def mean_absolute_error(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Mean of abs(ŷ − y) over all samples and outputs.

    Examples
    --------
    >>> mean_absolute_error([1, 2], [1, 5])
    1.5
    """
    true, predicted, weights = _matrices(y_true, y_pred, sample_weight)
    return _mean(np.abs(predicted - true), weights)


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean of (ŷ − y)² over all samples and outputs.

    Examples
    --------
    >>> mean_squared_error([1, 2], [1, 5])
    4.5
    """
    true, predicted, weights = _matrices(y_true, y_pred, sample_weight)
    return _mean(np.square(predicted - true), weights)


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
    true, predicted, weights = _matrices(y_true, y_pred, sample_weight)
    return _mean(100 * np.abs(predicted - true) / np.maximum(np.abs(true), _SMALLEST_TARGET), weights)


def max_error(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Largest abs(ŷ − y) over the outputs of all samples that weigh more than 0.

    Examples
    --------
    >>> max_error([1, 2, 3], [1, 5, 4])
    3.0
    """
    true, predicted, weights = _matrices(y_true, y_pred, sample_weight)
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
    true, predicted, weights = _matrices(y_true, y_pred, sample_weight)
    true, predicted, weights = (a[weights > 0] for a in (true, predicted, weights))
    share = (weights / weights.sum())[:, np.newaxis]
    residual = np.sum(share * np.square(predicted - true), axis=0)
    # Rounding makes the sum of squares of constant targets tiny, not 0: compare the targets themselves.
    constant = np.all(true == true[0], axis=0)
    total = np.sum(share * np.square(true - np.sum(share * true, axis=0)), axis=0)
    scores = 1 - residual / np.where(constant, 1, total)
    scores[constant] = np.where(residual == 0, 1, 0 * residual)[constant]  # 0 * residual: NaN stays NaN
    return float(scores.mean())


_METRICS = (
    accuracy,
    binary_accuracy,
    mean_absolute_error,
    mean_squared_error,
    root_mean_squared_error,
    mean_absolute_percentage_error,
    max_error,
    r2,
)

BY_NAME: dict[str, Metric] = {
    **{metric.__name__: metric for metric in _METRICS},
    "acc": accuracy,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "mse": mean_squared_error,
    "r2_score": r2,
    "rmse": root_mean_squared_error,
}
"""The metrics, by their names and by their short names."""


def get(metric: object) -> Metric:
    """Return the metric that a name stands for; a function is returned as it is.

    Parameters
    ----------
    metric : str or callable
        A function is called as ``metric(y_true, y_pred, sample_weight)`` and returns a number.

    Raises
    ------
    TypeError, ValueError
        If it is neither, or an unknown name.

    Examples
    --------
    >>> get("mae").__name__
    'mean_absolute_error'
    >>> get("acuracy")
    Traceback (most recent call last):
        ...
    ValueError: metric 'acuracy' is not known; did you mean 'accuracy'? Known: accuracy, ...
    """
    if callable(metric):
        return metric
    if not isinstance(metric, str):
        raise TypeError(f"metric must be a name or a function, got {metric!r}")
    if metric not in BY_NAME:
        close = difflib.get_close_matches(metric, BY_NAME, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        known = ", ".join(sorted(function.__name__ for function in _METRICS))
        raise ValueError(f"metric {metric!r} is not known{hint} Known: {known}")
    return BY_NAME[metric]


def _matrices(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None, labels: bool = False
) -> tuple[Array, Array, Array]:
    """Read the arguments of a metric as matrices of one shape and a vector of weights.

    With `labels`, `y_true` may have one column where `y_pred` has several.
    """
    true, predicted = _matrix("y_true", y_true), _matrix("y_pred", y_pred)
    if true.shape != predicted.shape and not (labels and true.shape == (len(predicted), 1)):
        raise ValueError(f"y_true has shape {true.shape}, but y_pred has shape {predicted.shape}")
    if sample_weight is None:
        return true, predicted, np.ones(len(true))
    weights = read(sample_weight, "float64", "sample_weight").values
    if weights.shape != (len(true),):
        raise ValueError(f"sample_weight has shape {weights.shape}, expected ({len(true)},)")
    if not (np.all(weights >= 0) and 0 < weights.sum() < np.inf):
        raise ValueError("sample_weight must be finite and not negative, and have a positive sum")
    return true, predicted, weights


def _matrix(argument: str, values: ArrayLike) -> Array:
    # float64: sums of many float32 squares would lose digits, differences of unsigned integers all of them
    array = read(values, "float64", argument).values
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"{argument} must have shape (n,) or (n, k) and not be empty, not shape {array.shape}"
        )
    return array


def _same_side(true: Array, predicted: Array) -> NDArray[np.bool_]:
    if not (true.min() >= 0 and true.max() <= 1):
        raise ValueError(
            f"y_true must lie between 0 and 1 where y_pred has one column per answer, "
            f"not between {true.min():g} and {true.max():g}"
        )
    same: NDArray[np.bool_] = ((true > 0.5) == (predicted > 0.5)) & ~np.isnan(predicted)
    return same


def _mean(values: Array | NDArray[np.bool_], weights: Array) -> float:
    """Weighted mean over rows of the plain mean over columns."""
    return float(weights @ values.mean(axis=1) / weights.sum())
