"""What the functions of :mod:`fastbp.kernels` take: checked, and brought to the form of the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.checks import check_number
from fastbp.engine.plan import ACTIVATIONS

Array = NDArray[np.floating]


def numbers(name: str, value: ArrayLike) -> NDArray[Any]:
    """Read an array of numbers of any dtype."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise ValueError(f"{name}: expected an array of numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected numbers, got an array of dtype {array.dtype}")
    return array


def read_arrays(**arguments: ArrayLike) -> list[Array]:
    """Bring the arguments to one floating dtype, native byte order and C order."""
    arrays = [numbers(name, value) for name, value in arguments.items()]
    narrow = all(array.dtype.newbyteorder("=") == np.float32 for array in arrays)
    dtype = np.float32 if narrow else np.float64
    return [np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"]) for array in arrays]


def check_matrix(name: str, array: Array, shape: tuple[int | None, int | None] = (None, None)) -> None:
    """Require two dimensions, and those sizes that are given."""
    fits = array.ndim == 2 and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise ValueError(f"{name}: expected a matrix of shape {wanted}, got shape {array.shape}")


def check_columns(name: str, array: Array, at_least: int) -> None:
    """Require a matrix that has so many columns."""
    check_matrix(name, array)
    if array.shape[1] < at_least:
        raise ValueError(f"{name}: expected at least {at_least} columns, got shape {array.shape}")


def output(out: Array | None, like: Array, *apart: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Return `out`, or a new array in its place.

    Parameters
    ----------
    out : ndarray or None
    like : ndarray
        Has the dtype, and without `shape` the shape; then `out` may be this very array.
    apart : ndarray
        Arrays that `out` must not overlap.
    shape : tuple of int, optional
    """
    in_place = shape is None
    shape = like.shape if shape is None else shape
    if out is None:
        return np.empty(shape, like.dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected an array, got {type(out).__name__}")
    if out.shape != shape or out.dtype != like.dtype or not out.flags.carray:
        came = f"{out.dtype} of shape {out.shape}, strides {out.strides}, writable {out.flags.writeable}"
        raise ValueError(
            f"out: expected a writable C-contiguous {like.dtype} array of shape {shape}, got {came}"
        )
    same = in_place and out.ctypes.data == like.ctypes.data
    if any(np.may_share_memory(out, array) for array in (apart if same else (like, *apart))):
        raise ValueError("out: must not share memory with an argument")
    return out


def check_activation(argument: str, kind: str, alpha: float) -> float:
    """Require the name of an activation and return its parameter."""
    if not isinstance(kind, str) or kind not in ACTIVATIONS:
        raise ValueError(f"{argument}: expected one of {', '.join(ACTIVATIONS)}, got {kind!r}")
    return check_number("alpha", alpha, "[0, inf)")
