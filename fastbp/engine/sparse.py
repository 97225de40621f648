"""Compressed sparse rows: the form of sparse inputs that both interpreters read, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class SparseRows:
    """A matrix of which only some entries are stored; all others are 0.

    Entries ``starts[i]`` to ``starts[i + 1]`` belong to row i. Their columns may come in any order; an entry
    that occurs twice adds up.

    Attributes
    ----------
    values : ndarray, shape (entries,)
        Any of the dtypes :data:`fastbp.engine.plan.ELEMENTS`.
    columns : ndarray of int32, shape (entries,)
    starts : ndarray of int64, shape (rows + 1,)
    width : int
        Number of columns.
    """

    values: NDArray[Any]
    columns: NDArray[np.int32]
    starts: NDArray[np.int64]
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, rows: slice) -> SparseRows:
        """Return some rows in a row, without a copy of their entries."""
        begin, end, _ = rows.indices(len(self))
        return SparseRows(self.values, self.columns, self.starts[begin : max(begin, end) + 1], self.width)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), self.width

    @property
    def density(self) -> float:
        """Share of the entries that are stored."""
        return float(self.starts[-1] - self.starts[0]) / max(len(self) * self.width, 1)

    def dense(self, rows: slice | NDArray[np.int64], dtype: np.dtype) -> NDArray[Any]:
        """Return some rows as a dense matrix."""
        begins, ends = self.starts[:-1][rows], self.starts[1:][rows]
        out = np.zeros((len(begins), self.width), dtype)
        for row, begin, end in zip(out, begins, ends, strict=True):
            np.add.at(row, self.columns[begin:end], self.values[begin:end].astype(dtype))
        return out
