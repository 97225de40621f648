"""What all metrics do with their arguments: matrices of one shape, and weights of the samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.array_like import Array, read


def matrices(
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


def same_side(true: Array, predicted: Array) -> NDArray[np.bool_]:
    """Whether target and prediction are on the same side of 0.5, for outputs that are a yes or no each."""
    require_unit_interval(true)
    same: NDArray[np.bool_] = ((true > 0.5) == (predicted > 0.5)) & ~np.isnan(predicted)
    return same


def require_unit_interval(true: Array) -> None:
    """Require targets from 0 to 1."""
    if not (true.min() >= 0 and true.max() <= 1):
        raise ValueError(
            f"y_true must lie between 0 and 1 where y_pred has one column per answer, "
            f"not between {true.min():g} and {true.max():g}"
        )


def mean(values: Array | NDArray[np.bool_], weights: Array) -> float:
    """Weighted mean over rows of the plain mean over columns."""
    return float(weights @ values.mean(axis=1) / weights.sum())
