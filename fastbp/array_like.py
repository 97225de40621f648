"""Reading anything array-like into a C-contiguous array of the engine's dtype.

A :class:`Table` remembers where its values came from, so that whoever rejects one can name its place and
show it as it came.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastbp.engine import backend
from fastbp.frames import as_frame, frame_library

Array = NDArray[np.floating]

_EXPECTED = "expected numbers: a NumPy array, a nested list, a pandas or polars frame, or the like"
_KINDS = {
    "c": "complex numbers",
    "M": "dates",
    "m": "time differences",
    "S": "text",
    "T": "text",
    "U": "text",
}


class Table(NamedTuple):
    """An array of the engine, and how to speak of its source.

    Attributes
    ----------
    values : ndarray
        C-contiguous and aligned, in the dtype asked for. Of any shape, and with values that may have
        become infinite in the conversion: see :func:`require_finite`.
    names : tuple of str or None
        Names of the columns of a frame.
    original : callable
        Takes a place in `values` and returns the value that came.
    argument : str
        What the user calls it.
    where : callable, optional
        Says where a place in `values` is in the source, if it is another one there.
    """

    values: NDArray[Any]
    names: tuple[str, ...] | None
    original: Callable[[tuple[int, ...]], object]
    argument: str
    where: Callable[[tuple[int, ...]], str] | None = None

    def place(self, index: tuple[int, ...]) -> str:
        """Say where `index` is, in words."""
        if self.where is not None:
            return self.where(index)
        if len(index) > 2:
            return f"index {index}"
        column = (
            f", column {repr(self.names[index[1]]) if self.names else index[1]}" if len(index) > 1 else ""
        )
        return f"row {index[0]}{column}"


def read(value: object, dtype: str, argument: str, *, keep: bool = False) -> Table:
    """Read an array, nested list, frame, series, or anything with ``__array__`` or ``__dlpack__``.

    Parameters
    ----------
    value : array-like
    dtype : {"float32", "float64"}
    argument : str
        What the user calls it.
    keep : bool
        Leave arrays of integers, booleans and float16 as they are: the engine converts them row by row.

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    ValueError
        If it is a ragged list or a masked array with masked values.
    """
    if type(value) is np.ndarray and value.dtype.kind in "biuf":  # none of what follows
        return Table(as_numbers(value, dtype, argument, keep=keep), None, value.__getitem__, argument)
    value = as_frame(value, argument)
    library = frame_library(value)
    if library == "pandas":
        return _read_pandas(value, dtype, argument)
    if library == "polars":
        return _read_polars(value, dtype, argument)
    if hasattr(value, "toarray"):
        raise TypeError(
            f"{argument} is sparse ({type(value).__name__}), expected a dense array: use {argument}.toarray()"
        )
    array = _as_numpy(value, argument)
    keep = keep and not isinstance(value, list | tuple)  # a list is copied anyhow
    return Table(as_numbers(array, dtype, argument, keep=keep), None, array.__getitem__, argument)


def describe(value: object) -> str:
    """Show a value that came, in a few words."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return repr(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"{Decimal(value):.6e}"
    if isinstance(value, numbers.Number | str):
        with suppress(ValueError):  # Python does not print integers of thousands of digits
            text = repr(value)
            return text if len(text) <= 40 else f"{text[:37]}..."
    return f"of type {type(value).__name__}"


def require(allowed: NDArray[np.bool_], table: Table, rule: str) -> None:
    """Raise ValueError with the first place where `allowed`, shaped like the values, is false."""
    count = allowed.size - int(np.count_nonzero(allowed))
    if count:
        index = _unravel(int(np.argmin(allowed)), table.values.shape)
        others = f" (and at {count - 1} other places)" if count > 1 else ""
        came = f"{describe(table.original(index))} at {table.place(index)}"
        raise ValueError(f"{table.argument} {rule}, but is {came}{others}")


def require_finite(table: Table) -> None:
    """Raise ValueError if any value is NaN or infinite, or became so in the conversion."""
    if backend.all_finite(table.values):
        return
    finite = np.isfinite(table.values)
    count = finite.size - int(np.count_nonzero(finite))
    index = _unravel(int(np.argmin(finite)), table.values.shape)
    original = table.original(index)
    kinds, advice = "NaN, infinite or missing", ""
    if _is_finite(original):
        name = table.values.dtype.name
        kinds = f"NaN, infinite or out of the range of {name}"
        advice = "; scale the data" + (" or use dtype='float64'" if name == "float32" else "")
    what = f"{count} values that are {kinds}: the first is" if count > 1 else f"a value that is {kinds}:"
    raise ValueError(f"{table.argument} holds {what} {describe(original)} at {table.place(index)}{advice}")


def _unravel(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(position, shape))


def _is_finite(value: Any) -> bool:
    try:
        return bool(abs(value) < math.inf)  # false for NaN; right for integers and decimals of any size
    except (ArithmeticError, TypeError, ValueError):
        return False


def _as_numpy(value: object, argument: str) -> NDArray[Any]:
    """View or gather a value as a NumPy array of any dtype."""
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        if mask.any():
            raise ValueError(
                f"{argument} holds {np.count_nonzero(mask)} masked values, expected none: fill or drop them"
            )
        return np.asarray(value.data)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.asarray(np.from_dlpack(value))
        array = np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(value, list | tuple):
            raise ValueError(f"{argument} is a ragged list: {_ragged(value)}") from error
        raise TypeError(f"{argument} ({type(value).__name__}) gives no NumPy array: {error}") from error
    if array.ndim == 0 and array.dtype == object:
        raise TypeError(f"{argument} is {describe(value)}, {_EXPECTED}")
    return array


def _ragged(rows: Sequence[object]) -> str:
    lengths = [len(row) if isinstance(row, Sequence | np.ndarray) else None for row in rows]
    for i, length in enumerate(lengths):
        if length != lengths[0]:
            texts = ["one value" if n is None else f"{n} values" for n in (length, lengths[0])]
            return f"row {i} has {texts[0]}, row 0 has {texts[1]}"
    return "its rows differ in shape"


def element_type(given: np.dtype, dtype: str) -> np.dtype:
    """The type, of those that the engine takes for inputs, that holds elements of a given type best.

    Examples
    --------
    >>> [element_type(np.dtype(given), "float32").name for given in (">i2", "float16", "float64")]
    ['int16', 'float16', 'float32']
    """
    keeps = given.kind in "biu" or given == np.float16
    return np.dtype(given.str[1:] if keeps else dtype)  # without the byte order


def as_numbers(
    array: NDArray[Any], dtype: str, argument: str, column: str = "", *, keep: bool = False
) -> NDArray[Any]:
    """Convert to the engine's dtype and layout; no copy if it has both.

    `column` completes the name of the argument for one column of a frame. With `keep` the dtype is the one
    that :func:`element_type` tells.
    """
    if array.dtype == object:
        array = _from_objects(array, argument, column)
    elif array.dtype.kind not in "biuf":
        found = _KINDS.get(array.dtype.kind, "values")
        raise TypeError(f"{argument}{column} holds {found} (dtype {array.dtype}), {_EXPECTED}")
    element = element_type(array.dtype, dtype) if keep else np.dtype(dtype)
    if array.dtype is element and array.flags.c_contiguous and array.flags.aligned:
        return array  # in a fraction of the time of what follows
    with np.errstate(all="ignore"):  # what overflows is infinite now, and found as such
        return np.require(array, element, ["C_CONTIGUOUS", "ALIGNED"])


def _from_objects(array: NDArray[Any], argument: str, column: str) -> NDArray[np.float64]:
    out = np.empty(array.shape)
    flat = out.reshape(-1)
    for i, value in enumerate(array.flat):
        if not isinstance(value, numbers.Real | Decimal | np.bool_) or isinstance(value, np.timedelta64):
            index = _unravel(i, array.shape)
            place = Table(out, None, array.__getitem__, argument).place(index)
            raise TypeError(f"{argument}{column} is {describe(value)} at {place}, expected a number")
        try:
            flat[i] = float(value)
        except OverflowError:  # an integer or fraction beyond float64
            flat[i] = math.inf
        except ValueError:  # a signalling NaN
            flat[i] = math.nan
    return out


def _read_pandas(value: Any, dtype: str, argument: str) -> Table:
    series = value.ndim == 1
    frame = value.to_frame() if series else value
    names = tuple(str(name) for name in frame.columns)
    plain = [getattr(kind, "kind", "O") in "biuf" for kind in frame.dtypes]
    with np.errstate(all="ignore"):
        if all(plain):
            values = frame.to_numpy(dtype=dtype, na_value=np.nan)
        else:
            values = np.empty(frame.shape, dtype)
            for j, name in enumerate(names):
                column = frame.iloc[:, j]
                values[:, j] = (
                    column.to_numpy(dtype=dtype, na_value=np.nan)
                    if plain[j]
                    else as_numbers(column.to_numpy(), dtype, argument, f" column {name!r}")
                )
    return _frame_table(values, dtype, names, lambda index: frame.iat[index], series, argument)


def _read_polars(value: Any, dtype: str, argument: str) -> Table:
    polars = sys.modules["polars"]
    series = isinstance(value, polars.Series)
    frame = value.to_frame() if series else value
    real = polars.Float32 if dtype == "float32" else polars.Float64
    plain = [kind.is_numeric() or kind in (polars.Boolean, polars.Null) for kind in frame.dtypes]
    if all(plain):
        values = frame.cast(real).to_numpy(order="c")
    else:
        values = np.empty(frame.shape, dtype)
        for j, name in enumerate(frame.columns):
            column = frame.to_series(j)
            if column.dtype.is_nested():
                raise TypeError(f"{argument} column {name!r} holds {column.dtype}, expected numbers")
            values[:, j] = (
                column.cast(real).to_numpy()
                if plain[j]
                else as_numbers(column.to_numpy(), dtype, argument, f" column {name!r}")
            )
    return _frame_table(
        values, dtype, tuple(frame.columns), lambda index: frame.item(*index), series, argument
    )


def _frame_table(
    values: NDArray[Any],
    dtype: str,
    names: tuple[str, ...],
    item: Callable[[tuple[int, ...]], object],
    series: bool,
    argument: str,
) -> Table:
    """Make a table of a frame, with one dimension less for a series."""
    values = as_numbers(values, dtype, argument)
    if series:
        return Table(values.reshape(-1), None, lambda index: item((index[0], 0)), argument)
    return Table(values, names, item, argument)
