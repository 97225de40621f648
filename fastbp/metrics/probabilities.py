"""Metrics of probabilities: how well they rank the samples, and how surprised they are by the truth.

With several outputs, whether they stand for one class per sample or for a yes or no each is decided as in
:mod:`fastbp.metrics.classification`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastbp.array_like import Array
from fastbp.metrics.arguments import matrices, mean, require_unit_interval
from fastbp.metrics.classification import Flags, membership, one_class_per_sample


def roc_auc(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Area under the receiver operating characteristic: how often a sample of a class ranks above another.

    Equal predictions count half. With several outputs it is the plain mean over classes, each against the
    rest ("one versus rest, macro"), of those that some but not all samples have.

    Parameters
    ----------
    y_true : array-like, shape (n,), (n, 1) or (n, K)
        Labels, rows of probabilities, or for independent outputs numbers from 0 to 1.
    y_pred : array-like, shape (n,), (n, 1) or (n, K)
        Any numbers that grow with the probability.
    sample_weight : array-like, shape (n,), optional

    Returns
    -------
    float
        NaN when there is no class that some but not all samples have, or NaN among the predictions.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    true, predicted, weights = matrices(y_true, y_pred, sample_weight, labels=True)
    if np.isnan(predicted).any():
        return math.nan
    members = membership(true, predicted)
    areas = [_area(has, scores, weights) for has, scores in zip(members.T, predicted.T, strict=True)]
    known = [area for area in areas if not math.isnan(area)]
    return float(np.mean(known)) if known else math.nan


def _area(has: Flags, scores: Array, weights: Array) -> float:
    """Area under the curve of one class."""
    _, group = np.unique(scores, return_inverse=True)  # equal scores make one step of the curve
    positive, negative = np.bincount(group, weights * has), np.bincount(group, weights * ~has)
    total = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / total) if total > 0 else math.nan


def log_loss(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean of −log of the probability that was given to what came: cross-entropy.

    With one output, or several independent ones, it is the mean of −y log ŷ − (1 − y) log(1 − ŷ) over
    outputs, else of −Σ y log ŷ. Probabilities count as no closer to 0 and 1 than the spacing of their
    dtype at 1, as in scikit-learn.

    Parameters
    ----------
    y_true : array-like, shape (n,), (n, 1) or (n, K)
        Labels, or probabilities.
    y_pred : array-like, shape (n,), (n, 1) or (n, K)
        Probabilities.
    sample_weight : array-like, shape (n,), optional

    Returns
    -------
    float

    Examples
    --------
    >>> round(log_loss([0, 1], [0.5, 0.25]), 6)  # (log 2 + log 4) / 2
    1.039721
    """
    true, predicted, weights = matrices(y_true, y_pred, sample_weight, labels=True)
    dtype = getattr(y_pred, "dtype", np.dtype(float))
    margin = np.finfo(np.float32 if dtype == np.float32 else np.float64).eps
    likely = np.clip(predicted, margin, 1 - margin)
    if one_class_per_sample(true, predicted):
        shares = membership(true, predicted) if true.shape[1] == 1 else true
        return mean(-np.sum(shares * np.log(likely), axis=1, keepdims=True), weights)
    require_unit_interval(true)
    return mean(-true * np.log(likely) - (1 - true) * np.log1p(-likely), weights)
