"""Metrics of decisions: how often the predicted class is the right one.

With one output, class 1 is predicted above 0.5. With several, it is one class per sample, the one of the
largest output, where `y_true` holds labels or the predictions of each sample sum to 1, as after a softmax;
else every output is a yes or no of its own, above 0.5.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.array_like import Array
from fastbp.checks import check_count
from fastbp.metrics.arguments import matrices, mean, require_unit_interval, same_side

Flags = NDArray[np.bool_]

_SUM_TOLERANCE = 1e-3  # of the probabilities of one sample, which may be float32


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
    true, predicted, weights = matrices(y_true, y_pred, sample_weight, labels=True)
    if predicted.shape[1] == 1:
        return mean(same_side(true, predicted), weights)
    rows = np.arange(len(true))
    wanted = true[:, 0] if true.shape[1] == 1 else np.argmax(true, axis=1)
    chosen = np.argmax(predicted, axis=1)
    known = ~np.isnan(predicted[rows, chosen])  # argmax finds a NaN first
    return mean(((chosen == wanted) & known)[:, np.newaxis], weights)


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
    true, predicted, weights = matrices(y_true, y_pred, sample_weight)
    return mean(same_side(true, predicted), weights)


def top_k_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, *, k: int = 5
) -> float:
    """Fraction of samples whose class is among the k largest outputs.

    Parameters
    ----------
    y_true : array-like, shape (n,), (n, 1) or (n, K)
        Labels from 0 to K - 1, or rows of probabilities, whose largest counts.
    y_pred : array-like, shape (n, K)
        A class is among the k largest when fewer than k others are larger. NaN is never right.
    sample_weight : array-like, shape (n,), optional
    k : int
        In ``metrics=[...]`` the name stands for k = 5; another one: a function of your own that calls this.

    Returns
    -------
    float

    Examples
    --------
    >>> top_k_accuracy([0, 1, 2], [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], k=2)
    0.6666666666666666
    """
    k = check_count("k", k)
    true, predicted, weights = matrices(y_true, y_pred, sample_weight, labels=True)
    rows = np.arange(len(true))
    chosen = predicted[rows, _labels(true, predicted.shape[1])]
    larger = np.sum(predicted > chosen[:, np.newaxis], axis=1)
    right = (larger < k) & ~np.isnan(predicted).any(axis=1)
    return mean(right[:, np.newaxis], weights)


def precision(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Fraction of the samples predicted to be of a class that are; 0 where there are none.

    With one output it is that of class 1; with several the plain mean over the classes that occur or are
    predicted ("macro"), for independent outputs over all outputs.

    Parameters
    ----------
    y_true : array-like, shape (n,), (n, 1) or (n, K)
        Labels, rows of probabilities, or for independent outputs numbers from 0 to 1.
    y_pred : array-like, shape (n,), (n, 1) or (n, K)
    sample_weight : array-like, shape (n,), optional

    Returns
    -------
    float

    Examples
    --------
    >>> precision([0, 1, 1, 0], [0.1, 0.9, 0.2, 0.7])
    0.5
    """
    return _macro(y_true, y_pred, sample_weight, "precision")


def recall(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Fraction of the samples of a class that are predicted to be; otherwise as :func:`precision`.

    Examples
    --------
    >>> recall([0, 1, 1, 1], [0.1, 0.9, 0.2, 0.7])
    0.6666666666666666
    """
    return _macro(y_true, y_pred, sample_weight, "recall")


def f1(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Harmonic mean of precision and recall of a class; otherwise as :func:`precision`.

    Examples
    --------
    >>> f1([0, 1, 1, 0], [0.1, 0.9, 0.2, 0.7])
    0.5
    """
    return _macro(y_true, y_pred, sample_weight, "f1")


def _macro(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None,
    score: Literal["precision", "recall", "f1"],
) -> float:
    true, predicted, weights = matrices(y_true, y_pred, sample_weight, labels=True)
    wanted, chosen = _decisions(true, predicted)
    hits, asked, found = weights @ (wanted & chosen), weights @ wanted, weights @ chosen
    total = {"precision": found, "recall": asked, "f1": (asked + found) / 2}[score]
    scores = np.divide(hits, total, out=np.zeros(len(total)), where=total > 0)
    if one_class_per_sample(true, predicted):
        scores = scores[wanted.any(axis=0) | chosen.any(axis=0)]
    return float(scores.mean())


def one_class_per_sample(true: Array, predicted: Array) -> bool:
    """Whether several outputs stand for classes that exclude each other."""
    if predicted.shape[1] == 1:
        return False
    sums = np.abs(predicted.sum(axis=1) - 1)
    return true.shape[1] == 1 or bool(np.all((sums < _SUM_TOLERANCE) | np.isnan(sums)))


def _labels(true: Array, classes: int) -> NDArray[np.intp]:
    """Class of each sample."""
    if true.shape[1] > 1:
        most_likely: NDArray[np.intp] = np.argmax(true, axis=1)
        return most_likely
    labels: NDArray[np.intp] = true[:, 0].astype(np.intp)
    if not (np.all(labels == true[:, 0]) and labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"y_true must hold labels from 0 to {classes - 1}, as y_pred has {classes} columns")
    return labels


def membership(true: Array, predicted: Array) -> Flags:
    """Which classes, or outputs, each sample belongs to: shape of `predicted`."""
    if one_class_per_sample(true, predicted):
        classes = predicted.shape[1]
        members: Flags = _labels(true, classes)[:, np.newaxis] == np.arange(classes)
    else:
        require_unit_interval(true)
        members = true > 0.5
    return members


def _decisions(true: Array, predicted: Array) -> tuple[Flags, Flags]:
    """Which classes each sample has, and which ones are predicted; of NaN none is."""
    chosen = predicted > 0.5
    if one_class_per_sample(true, predicted):
        chosen = np.argmax(predicted, axis=1)[:, np.newaxis] == np.arange(predicted.shape[1])
        chosen &= ~np.isnan(predicted).any(axis=1, keepdims=True)
    return membership(true, predicted), chosen
