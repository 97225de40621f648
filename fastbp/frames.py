"""Frames: pandas, polars, Arrow. Their columns of categories become columns of codes."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Categories: TypeAlias = Mapping[str, tuple[str, ...]]
"""Names of columns, and of the categories that the codes 0, 1, ... stand for."""


def frame_library(value: object) -> str | None:
    """Name of the library that `value` is a frame or series of, without importing either."""
    if isinstance(value, np.ndarray):
        return None
    for name in ("pandas", "polars"):
        library = sys.modules.get(name)  # whoever holds a frame has imported its library
        kinds = tuple(getattr(library, kind) for kind in ("DataFrame", "Series") if hasattr(library, kind))
        if isinstance(value, kinds):
            return name
    return None


def as_frame(value: Any, argument: str) -> Any:
    """Return a frame of a table that speaks Arrow (``__arrow_c_stream__``), and anything else as it is.

    Raises
    ------
    ImportError
        Without polars, and without pandas where the table makes a frame of it by itself.
    """
    if not hasattr(value, "__arrow_c_stream__") or not hasattr(value, "schema") or frame_library(value):
        return value
    try:
        import polars
    except ImportError as error:
        if hasattr(value, "to_pandas"):
            return value.to_pandas()
        raise ImportError(
            f'{argument} is an Arrow table; reading it needs polars: pip install "fastbp[arrow]"'
        ) from error
    return polars.DataFrame(value)


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


def categories(X: object) -> dict[str, tuple[str, ...]]:
    """Categories of the categorical columns of a frame, in the order of their codes.

    Those that the column declares: for polars' ``Categorical``, which declares none of its own, those that
    occur, sorted.

    Examples
    --------
    >>> import pandas
    >>> sizes = pandas.Categorical(["S", "L"], ["S", "M", "L"])
    >>> categories(pandas.DataFrame({"age": [31, 4], "size": sizes}))
    {'size': ('S', 'M', 'L')}
    """
    return {name: _labels(column) for _, name, column in _columns(X) if _is_categorical(column)}


def encode(X: Any, known: Categories, argument: str) -> Any:
    """Replace the columns of a frame that are categorical, or have known categories, by their codes.

    Parameters
    ----------
    X : frame
        Anything else is returned as it is.
    known : mapping of str to tuple of str
        As :func:`categories` returned it for the frame that the model was trained on; a column without
        known categories takes its own.
    argument : str
        What the user calls it.

    Raises
    ------
    ValueError
        If a column holds a category that is not among the known ones.

    Examples
    --------
    >>> import pandas
    >>> frame = pandas.DataFrame({"size": ["L", "S"]}, dtype="category")
    >>> encode(frame, {"size": ("S", "M", "L")}, "X")["size"].tolist()
    [2.0, 0.0]
    """
    encoded = X
    for number, name, column in _columns(X):
        if name in known or _is_categorical(column):
            values = _codes(column, known.get(name) or _labels(column), f"{argument} column {name!r}")
            if encoded is X:
                encoded = X.clone() if frame_library(X) == "polars" else X.copy(deep=False)
            if frame_library(X) == "polars":
                encoded = encoded.with_columns(type(column)(name, values))
            else:
                encoded.isetitem(number, values)
    return encoded


def _columns(X: Any) -> Iterator[tuple[int, str, Any]]:
    """Number, name and values of each column of a frame; nothing of what is no frame."""
    library = frame_library(X)
    if library is None or not hasattr(type(X), "columns"):
        return
    for number, name in enumerate(X.columns):
        yield number, str(name), X.iloc[:, number] if library == "pandas" else X.to_series(number)


def _is_categorical(column: Any) -> bool:
    if frame_library(column) == "pandas":
        return getattr(column.dtype, "name", "") == "category"
    return type(column.dtype).__name__ in ("Categorical", "Enum")


def _labels(column: Any) -> tuple[str, ...]:
    if frame_library(column) == "pandas":
        return tuple(str(category) for category in column.cat.categories)
    if type(column.dtype).__name__ == "Enum":
        return tuple(column.dtype.categories)
    return tuple(_text(column).unique().drop_nulls().sort())


def _text(column: Any) -> Any:
    return column.cast(sys.modules["polars"].String)


def _codes(column: Any, known: tuple[str, ...], what: str) -> NDArray[np.float64]:
    """Place of each value among the known categories, NaN where it is missing."""
    if frame_library(column) == "pandas":
        column = column if _is_categorical(column) else column.astype("category")
        own, codes = _labels(column), column.cat.codes.to_numpy()
    else:
        text = _text(column)
        own = tuple(text.unique().drop_nulls().sort())
        codes = text.cast(sys.modules["polars"].Enum(own)).to_physical().cast(int).fill_null(-1).to_numpy()
    number = {label: code for code, label in enumerate(known)}
    places = np.array([number.get(label, -1) for label in own] + [-1])
    result = places[codes]
    unknown = np.flatnonzero((result < 0) & (codes >= 0))
    if unknown.size:
        expected = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
        raise ValueError(
            f"{what} is {own[codes[unknown[0]]]!r} at row {unknown[0]}, a category that training did not "
            f"know: expected one of {expected}"
        )
    return np.where(codes < 0, np.nan, result)
