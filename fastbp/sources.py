"""Inputs that are not read into memory whole: memory-mapped files, and sparse matrices."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbp.array_like import Array, Table, as_numbers, element_type, require_finite
from fastbp.engine.sparse import SparseRows

Rows: TypeAlias = slice | NDArray[np.int64]
Job = TypeVar("Job")
Result = TypeVar("Result")

# Bytes of the file that are in memory as one block; a second one is read while the engine works.
BLOCK = 4 << 20
# Bytes of the file that may be mapped into memory before they are given back.
MAPPED = 16 << 20
# The kernel may map that much around a place that is touched: 64 KiB, or all of a large page.
AROUND = 2 << 20
LARGEST_COLUMN = 2**31 - 1


class MappedRows:
    """A matrix in a memory-mapped file, of which only blocks of rows are in memory.

    Parameters
    ----------
    array : ndarray, shape (n, k)
        Numbers in any memory layout and byte order.
    dtype : str
        Of the model.
    argument : str
        What the user calls it.
    first : int
        Number of its first row, for messages.
    """

    def __init__(self, array: NDArray[Any], dtype: str, argument: str, first: int = 0) -> None:
        self.array, self.dtype, self.argument, self.first = array, dtype, argument, first
        self.element = element_type(array.dtype, dtype)
        self._file = _read_only_file(array)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice) -> MappedRows:
        """Return some rows in a row, without reading them."""
        begin, _, _ = rows.indices(len(self))
        return MappedRows(self.array[rows], self.dtype, self.argument, self.first + begin)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.array.shape

    def load(self, rows: Rows | None = None, place: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read some rows, in ascending order, or all: in an element type that the engine takes, and finite.

        Parameters
        ----------
        rows : slice or ndarray of int64, optional
        place : ndarray, optional
            Where to, at its beginning.

        Raises
        ------
        ValueError
            Naming the first row with a value that is NaN, infinite or out of the range of the model's dtype.
        """
        numbers = np.arange(len(self))[slice(None) if rows is None else rows]
        if place is None:
            place = np.empty((len(numbers), self.shape[1]), self.element)
        values = place[: len(numbers)]
        with np.errstate(all="ignore"):  # what overflows is infinite now, and found as such
            for part in self._parts(numbers):
                chosen = numbers[part]
                if chosen[-1] - chosen[0] + 1 == len(chosen):  # in a row: no copy on the way
                    values[part] = self.array[chosen[0] : chosen[-1] + 1]
                else:
                    values[part] = self.array[chosen]
                if self._file is not None:
                    self._file.madvise(mmap.MADV_DONTNEED)
        if values.dtype.kind == "f":
            require_finite(
                Table(
                    values,
                    None,
                    lambda index: self.array[numbers[index[0]], index[1]],
                    self.argument,
                    lambda index: f"row {self.first + numbers[index[0]]}, column {index[1]}",
                )
            )
        return values

    def blocks(
        self, order: NDArray[np.int64] | None, batch_size: int
    ) -> Generator[tuple[Rows, NDArray[Any], NDArray[np.int64] | None]]:
        """Read rows block by block, each of whole batches, one block ahead of who uses them.

        Parameters
        ----------
        order : ndarray of int64, or None
            Numbers of the rows in the order of their turn; None: all as they lie.
        batch_size : int

        Yields
        ------
        rows : slice or ndarray of int64
            Which rows these are, in the order of the file.
        values : ndarray
            The rows. Their memory is used again for the block after the next one.
        turns : ndarray of int64, or None
            Which of `values` is whose turn; None: as they lie.
        """
        n = len(self) if order is None else len(order)
        batches = max(1, BLOCK // max(batch_size * self.shape[1] * self.array.itemsize, 1))
        size = min(batches * batch_size, n)
        places = [np.empty((size, self.shape[1]), self.element) for _ in range(2)]

        def load(begin: int) -> tuple[Rows, NDArray[Any], NDArray[np.int64] | None]:
            end, place = min(begin + size, n), places[begin // size % 2]
            if order is None:
                rows = slice(begin, end)
                return rows, self.load(rows, place), None
            by_place = np.argsort(order[begin:end], kind="stable")
            turns = np.empty_like(by_place)
            turns[by_place] = np.arange(end - begin)
            chosen = order[begin:end][by_place]
            return chosen, self.load(chosen, place), turns.astype(np.int64, copy=False)

        return read_ahead(load, range(0, n, size))

    def _parts(self, numbers: NDArray[np.int64]) -> Iterator[slice]:
        """Cut ascending row numbers so that reading one part maps about as much as MAPPED."""
        row = self.shape[1] * self.array.itemsize
        steps = np.diff(numbers, prepend=numbers[0] - 1)
        mapped = np.cumsum(np.minimum(steps * row, row + AROUND))
        cuts = np.searchsorted(mapped, np.arange(0, mapped[-1], MAPPED), side="right")
        bounds = np.unique([*cuts, len(numbers)]).tolist()
        for begin, end in zip([0, *bounds], bounds, strict=False):
            if begin < end:
                yield slice(begin, end)


def read_ahead(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Generator[Result]:
    """Yield ``work(job)`` for each job, computed in a thread while the result before it is in use."""
    from concurrent.futures import Future, ThreadPoolExecutor  # only where there is something to read

    with ThreadPoolExecutor(1, "fastbp-read-ahead") as pool:
        waiting: Future[Result] | None = None
        for job in jobs:
            following = pool.submit(work, job)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def is_mapped(value: object) -> bool:
    """Tell whether `value` is an array of numbers in a memory-mapped file."""
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        return False
    return value.dtype.kind in "biuf" and any(isinstance(owner, np.memmap) for owner in _owners(value))


def _owners(array: NDArray[Any]) -> Iterator[object]:
    """The array, what it is a view of, and so on."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        yield owner
        owner = owner.base
    yield owner


def _read_only_file(array: NDArray[Any]) -> mmap.mmap | None:
    """The mapping, if pages of it can be given back: nobody can have written to them."""
    owners = list(_owners(array))
    file = owners[-1]
    read_only = any(isinstance(owner, np.memmap) and owner.mode == "r" for owner in owners)
    return file if read_only and isinstance(file, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") else None


# ---- sparse matrices -----------------------------------------------------------------------------


def is_sparse(value: object) -> bool:
    """Tell whether `value` is a sparse matrix or array as SciPy has them."""
    return hasattr(value, "tocsr")


def sparse_rows(value: Any, dtype: str, argument: str) -> SparseRows:
    """Read a sparse matrix: one of compressed rows without a copy, any other format through that one.

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    ValueError
        If its arrays do not fit together, or hold values that are not finite.
    """
    if len(value.shape) == 2:
        _check_places(value, argument)
        value = value.tocsr()
    shape = value.shape
    if len(shape) != 2:
        raise ValueError(f"{argument} must have 2 dimensions (samples, features), not shape {shape}")
    if not all(shape):
        raise ValueError(f"{argument} is empty: shape {shape}")
    if shape[1] > LARGEST_COLUMN:
        raise ValueError(f"{argument} has {shape[1]} columns, expected at most {LARGEST_COLUMN}")
    starts = np.require(value.indptr, np.int64, "C")
    _check_compressed(starts, value.indices, value.data, shape[0], shape[1], argument)
    values = as_numbers(value.data, dtype, argument, keep=True)
    columns = np.require(value.indices, np.int32, "C")

    def place(index: tuple[int, ...]) -> str:
        row = int(np.searchsorted(starts, index[0], side="right")) - 1
        return f"row {row}, column {columns[index]}"

    if values.dtype.kind == "f":
        require_finite(Table(values[: starts[-1]], None, value.data.__getitem__, argument, place))
    return SparseRows(values, columns, starts, shape[1])


def _check_places(value: Any, argument: str) -> None:
    """Check the numbers of rows and columns before SciPy, which trusts them, writes to these places."""
    rows, columns = value.shape
    if value.format == "csc":
        starts = np.require(value.indptr, np.int64, "C")
        _check_compressed(starts, value.indices, value.data, columns, rows, argument, ("column", "row"))
    elif value.format == "coo":
        _check_range(value.row, rows, "row", argument)
        _check_range(value.col, columns, "column", argument)
    elif value.format == "bsr":
        height, width = value.blocksize
        starts = np.require(value.indptr, np.int64, "C")
        _check_compressed(starts, value.indices, value.data, rows // height, columns // width, argument)


def _check_compressed(
    starts: Array | NDArray[np.int64],
    indices: NDArray[Any],
    values: NDArray[Any],
    major: int,
    minor: int,
    argument: str,
    names: tuple[str, str] = ("row", "column"),
) -> None:
    """Check that compressed rows (or columns) are what they say."""
    if starts.shape != (major + 1,) or indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(
            f"{argument}.indptr has shape {starts.shape}, expected ({major + 1},): one more than {names[0]}s"
        )
    entries = min(len(indices), len(values))
    if starts[0] < 0 or starts[-1] > entries or np.any(starts[1:] < starts[:-1]):
        raise ValueError(
            f"{argument}.indptr must ascend from 0 to at most {entries}, the number of entries, "
            f"but goes from {starts[0]} to {starts[-1]} by steps from {np.diff(starts).min()} on"
        )
    _check_range(indices[starts[0] : starts[-1]], minor, names[1], argument)


def _check_range(indices: NDArray[Any], count: int, name: str, argument: str) -> None:
    if indices.size and not 0 <= indices.min() <= indices.max() < count:
        worst = indices.min() if indices.min() < 0 else indices.max()
        raise ValueError(f"{argument} has an entry in {name} {worst}, expected {name}s from 0 to {count - 1}")
