"""Metrics: how good predictions are, as a number for people. Training never sees them.

Each takes what the model was asked for, what it predicted and, if wanted, weights of the samples. Vectors
count as one column. The mean over samples is weighted, Σ w·m / Σ w; the mean over outputs is not.
"""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import ArrayLike

from fastbp.checks import unknown_name
from fastbp.metrics.classification import accuracy, binary_accuracy, f1, precision, recall, top_k_accuracy
from fastbp.metrics.probabilities import log_loss, roc_auc
from fastbp.metrics.regression import (
    max_error,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    r2,
    root_mean_squared_error,
)

__all__ = [
    "BY_NAME",
    "LARGER_IS_BETTER",
    "Metric",
    "accuracy",
    "binary_accuracy",
    "f1",
    "get",
    "log_loss",
    "max_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "precision",
    "r2",
    "recall",
    "roc_auc",
    "root_mean_squared_error",
    "top_k_accuracy",
]

Metric = Callable[[ArrayLike, ArrayLike, ArrayLike | None], float]

_SMALLER_IS_BETTER = (
    log_loss,
    max_error,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    root_mean_squared_error,
)
_LARGER_IS_BETTER = (accuracy, binary_accuracy, f1, precision, r2, recall, roc_auc, top_k_accuracy)
_METRICS = (*_SMALLER_IS_BETTER, *_LARGER_IS_BETTER)

BY_NAME: dict[str, Metric] = {
    **{metric.__name__: metric for metric in _METRICS},
    "acc": accuracy,
    "auc": roc_auc,
    "f1_score": f1,
    "mae": mean_absolute_error,
    "mape": mean_absolute_percentage_error,
    "mse": mean_squared_error,
    "r2_score": r2,
    "rmse": root_mean_squared_error,
}
"""The metrics, by their names and by their short names."""

LARGER_IS_BETTER = frozenset(name for name, metric in BY_NAME.items() if metric in _LARGER_IS_BETTER)
"""Names of the metrics that grow with quality."""


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
        known = (function.__name__ for function in _METRICS)
        raise ValueError(unknown_name("metric", metric, BY_NAME, known))
    return BY_NAME[metric]
