"""What X and y may be: everything a user may pass, checked once and converted to what the engine reads.

The engine reads C-contiguous matrices in the dtype of the model. An array that is one already passes
through without a copy; all else (lists, frames, other dtypes and memory layouts) is copied once. What
cannot be right stops here, with a message that names the argument, the place, what was expected and what
came.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastbp.array_like import Array, Table, describe, frame_library, read, require, require_finite
from fastbp.checks import check_number
from fastbp.engine.plan import Index

TargetKind = Literal["values", "probabilities", "classes"]

_SUM_TOLERANCE = 1e-2  # of the probabilities of one sample: they may have been float16


def features(X: object, *, dtype: str, columns: int | None = None, argument: str = "X") -> Array:
    """Convert the inputs of a model.

    Parameters
    ----------
    X : array-like, shape (n, k)
        NumPy array, nested list, pandas or polars frame, or anything with ``__array__`` or
        ``__dlpack__``; floating-point numbers, integers or booleans, in any memory layout.
    dtype : str
        "float32" or "float64".
    columns : int, optional
        How many columns the model takes, if that is known already.
    argument : str
        What to call it in messages.

    Returns
    -------
    ndarray, shape (n, k)
        C-contiguous; `X` itself, if it is that already. It may be read-only.

    Raises
    ------
    TypeError
        If `X` holds text, dates, complex numbers, None or other objects, or is sparse.
    ValueError
        If `X` has the wrong shape, is empty, or holds NaN, infinities or values out of the range of
        `dtype`.

    Examples
    --------
    >>> features([[1, 2], [3, 4]], dtype="float32")
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    >>> features([1, 2], dtype="float32")
    Traceback (most recent call last):
        ...
    ValueError: X must have 2 dimensions (samples, features), not shape (2,): use X.reshape(-1, 1) for one
    feature or X.reshape(1, -1) for one sample
    """
    table = read(X, dtype, argument)
    shape = table.values.shape
    if len(shape) != 2:
        hint = ""
        if len(shape) == 1:
            hint = (
                f": use {argument}.reshape(-1, 1) for one feature or {argument}.reshape(1, -1) for one sample"
            )
        elif len(shape) > 2:
            hint = f": use {argument}.reshape(len({argument}), -1), or begin the model with Flatten()"
        raise ValueError(f"{argument} must have 2 dimensions (samples, features), not shape {shape}{hint}")
    _require_some(table)
    if columns is not None and shape[1] != columns:
        raise ValueError(
            f"{argument} has {shape[1]} columns, expected {columns}, the input size of the model"
        )
    require_finite(table)
    return table.values


def require_indices(X: Array, indices: Sequence[Index], argument: str = "X") -> None:
    """Require whole numbers in range where a layer looks up the rows of a table.

    Parameters
    ----------
    X : ndarray, shape (n, k)
        As :func:`features` returns it.
    indices : sequence of Index
        Columns, each with the layer that looks it up and the number of rows of its table.
    argument : str
        What to call it in messages.

    Raises
    ------
    ValueError
        Naming column, layer and row.
    """
    for index in indices:
        column = X[:, index.column]
        wrong = np.flatnonzero((column < 0) | (column > index.count - 1) | (column != np.rint(column)))
        if wrong.size:
            raise ValueError(
                f"{argument} must hold whole numbers from 0 to {index.count - 1} in column {index.column}, "
                f"which layer {index.layer!r} looks up, but is {column[wrong[0]]:.9g} at row {wrong[0]}"
            )


def feature_names(X: object) -> tuple[str, ...] | None:
    """Names of the columns of a pandas or polars frame or series.

    Returns
    -------
    tuple of str or None
        None for all else, and for frames whose columns are merely numbered.

    Examples
    --------
    >>> import pandas
    >>> feature_names(pandas.DataFrame({"age": [31], "height": [1.8]}))
    ('age', 'height')
    """
    library = frame_library(X)
    if library is None:
        return None
    frame: Any = X
    labels = list(frame.columns) if hasattr(type(X), "columns") else [frame.name]
    if all(label is None or isinstance(label, numbers.Integral) for label in labels):
        return None
    return tuple(str(label) for label in labels)


def targets(
    y: object, *, dtype: str, rows: int, kind: TargetKind, columns: int, argument: str = "y"
) -> Array:
    """Convert the targets of a model.

    Parameters
    ----------
    y : array-like
        As for :func:`features`; a vector counts as one column.
    dtype : str
        "float32" or "float64".
    rows : int
        How many samples there are.
    kind : {"values", "probabilities", "classes"}
        What the loss takes: any finite values, shape (n, columns); values in [0, 1], shape (n, columns);
        or one of as many classes as there are columns: either integer labels from 0 to columns - 1,
        shape (n,) or (n, 1), or rows of probabilities (one-hot rows too), shape (n, columns).
    columns : int
        How many outputs the model has.
    argument : str
        What to call it in messages.

    Returns
    -------
    ndarray, shape (rows, columns), or (rows, 1) for labels
        C-contiguous; `y` itself, if it is that already. It may be read-only.

    Raises
    ------
    TypeError
        If `y` holds anything but numbers, or is sparse.
    ValueError
        If `y` has the wrong shape, or holds values that its kind does not allow.

    Examples
    --------
    >>> targets([0, 2], dtype="float32", rows=2, kind="classes", columns=3)
    array([[0.],
           [2.]], dtype=float32)
    >>> targets([0, 3], dtype="float32", rows=2, kind="classes", columns=3)
    Traceback (most recent call last):
        ...
    ValueError: y must hold integer labels from 0 to 2, as the model has 3 outputs, but is 3 at row 1
    """
    try:
        table = read(y, dtype, argument)
    except TypeError as error:
        if kind == "classes":
            error.add_note(
                "class labels are integers from 0: numpy.unique(y, return_inverse=True) makes them"
            )
        raise
    matrix = table.values.reshape(-1, 1) if table.values.ndim == 1 else table.values
    labels = kind == "classes" and matrix.ndim == 2 and matrix.shape[1] == 1
    if matrix.ndim != 2 or (matrix.shape[1] != columns and not labels):
        wanted = f"({rows}, {columns})"
        if kind == "classes":
            wanted = f"({rows},) for labels or {wanted} for one probability per class"
        elif columns == 1:
            wanted = f"({rows},) or {wanted}"
        raise ValueError(f"{argument} has shape {table.values.shape}, expected {wanted}")
    _require_rows(table, rows)
    _require_some(table)
    require_finite(table)
    if labels:
        _require_labels(table, columns)
    elif kind != "values":
        _require_probabilities(table)
        if kind == "classes":
            _require_distributions(table)
    return matrix


def sample_weights(w: object, *, rows: int, dtype: str, argument: str = "sample_weight") -> Array | None:
    """Convert weights of samples.

    Parameters
    ----------
    w : array-like or None
        Shape (n,) or (n, 1): finite, not negative, not all zero.
    rows : int
        How many samples there are.
    dtype : str
        "float32" or "float64".
    argument : str
        What to call it in messages.

    Returns
    -------
    ndarray, shape (rows,), or None
        None if `w` is None.

    Raises
    ------
    TypeError, ValueError
        If `w` is no such vector.

    Examples
    --------
    >>> sample_weights([1, 0, 2], rows=3, dtype="float64")
    array([1., 0., 2.])
    """
    if w is None:
        return None
    table = read(w, dtype, argument)
    values = table.values
    if values.ndim != 1 and (values.ndim != 2 or values.shape[1] != 1):
        raise ValueError(f"{argument} has shape {values.shape}, expected ({rows},): one weight per sample")
    _require_rows(table, rows)
    require_finite(table)
    require(values >= 0, table, "must not be negative")
    if not values.any():
        raise ValueError(f"{argument} must have a positive sum, but all {rows} weights are zero")
    return values.reshape(-1)


def class_weights(class_weight: object, labels: Array, classes: int, argument: str = "class_weight") -> Array:
    """Weights of samples from weights of classes.

    Parameters
    ----------
    class_weight : dict of int to float, or "balanced"
        Classes that are absent weigh 1. "balanced": every class that occurs gets the same total weight,
        and the mean weight is 1: n / (classes that occur × samples of the class).
    labels : ndarray, shape (n, 1) or (n, classes)
        As :func:`targets` returns them: labels, or rows of probabilities, of which the largest counts.
    classes : int
        How many classes there are; 2 for a single output of kind "probabilities".
    argument : str
        What to call it in messages.

    Returns
    -------
    ndarray, shape (n,)
        In the dtype of `labels`.

    Raises
    ------
    TypeError
        If `class_weight` is neither, or a weight is no number.
    ValueError
        If a class does not exist, a weight is negative or not finite, or all samples weigh 0.

    Examples
    --------
    >>> y = targets([0, 0, 0, 1], dtype="float64", rows=4, kind="classes", columns=2)
    >>> class_weights({0: 1, 1: 3}, y, 2)
    array([1., 1., 1., 3.])
    >>> class_weights("balanced", y, 2).round(3)
    array([0.667, 0.667, 0.667, 2.   ])
    """
    indices = (
        np.argmax(labels, axis=1) if labels.ndim == 2 and labels.shape[1] > 1 else np.rint(labels).ravel()
    )
    indices = indices.astype(np.intp)
    weights = np.ones(classes)
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(indices, minlength=classes)
        weights = len(indices) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    elif isinstance(class_weight, Mapping):
        for key, weight in class_weight.items():
            if key not in range(classes):
                raise ValueError(f"{argument} names class {key!r}, expected classes from 0 to {classes - 1}")
            weights[int(key)] = check_number(f"{argument}[{key!r}]", weight, "[0, inf)")
    else:
        raise TypeError(
            f"{argument} must be a dict of class to weight or 'balanced', not {describe(class_weight)}"
        )
    result: Array = weights.astype(labels.dtype)[indices]
    if not result.any():
        raise ValueError(f"{argument} must give some sample a positive weight, but all {len(result)} weigh 0")
    return result


def split(n: int, validation_split: float, argument: str = "validation_split") -> int:
    """How many samples to train on; the rest, the last ones as they came, are held out as in Keras.

    Parameters
    ----------
    n : int
        How many samples there are.
    validation_split : float
        Fraction to hold out, 0 <= validation_split < 1.
    argument : str
        What to call it in messages.

    Returns
    -------
    int
        floor(n × (1 − validation_split)).

    Raises
    ------
    TypeError
        If `validation_split` is no number.
    ValueError
        If it is out of range, or leaves no sample on one of the two sides.

    Examples
    --------
    >>> split(10, 0.25)
    7
    """
    fraction = check_number(argument, validation_split, "[0, 1)")
    # 100 * (1 - 0.9) is 9.999999999999998: round before the floor
    training = math.floor(round(n * (1 - fraction), 6))
    if training < 1 or (fraction > 0 and training == n):
        raise ValueError(
            f"{argument}={fraction:g} of {n} samples leaves {training} to train on "
            f"and {n - training} to validate on, expected at least 1 each"
        )
    return training


def batch_order(n: int, shuffle: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """Order in which an epoch visits the samples.

    Examples
    --------
    >>> batch_order(4, False, np.random.default_rng(0))
    array([0, 1, 2, 3])
    """
    return rng.permutation(n).astype(np.int64, copy=False) if shuffle else np.arange(n, dtype=np.int64)


def _require_rows(table: Table, rows: int) -> None:
    found = len(table.values)
    if found != rows:
        raise ValueError(f"{table.argument} has {found} rows, expected {rows}: one per sample")


def _require_some(table: Table) -> None:
    if not table.values.size:
        raise ValueError(f"{table.argument} is empty: shape {table.values.shape}")


def _require_labels(table: Table, classes: int) -> None:
    labels = table.values
    allowed = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    outputs = f"{classes} outputs" if classes > 1 else "1 output (for two classes: 2 outputs or a sigmoid)"
    require(allowed, table, f"must hold integer labels from 0 to {classes - 1}, as the model has {outputs}")


def _require_probabilities(table: Table) -> None:
    values = table.values
    if values.min() < 0 or values.max() > 1:  # no temporary array in the usual case
        require((values >= 0) & (values <= 1), table, "must lie between 0 and 1")


def _require_distributions(table: Table) -> None:
    sums = table.values.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE)
    if wrong.size:
        row = int(wrong[0])
        raise ValueError(
            f"{table.argument} must hold probabilities of {table.values.shape[1]} classes that sum to 1, "
            f"but the sum is {sums[row]:.6g} in row {row}"
        )
