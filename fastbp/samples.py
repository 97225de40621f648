"""Samples in the engine's form."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp.array_like import Array
from fastbp.engine.sparse import SparseRows
from fastbp.sources import MappedRows

Inputs: TypeAlias = NDArray[Any] | SparseRows | MappedRows
"""What a network reads: a matrix of any element type that the engine takes, or one of the other sources."""


@dataclass
class Samples:
    """Samples in the engine's form: matrices, one row a sample.

    Attributes
    ----------
    inputs : ndarray, SparseRows or MappedRows, shape (n, input_size)
        Of any element type that the engine takes.
    targets : ndarray, shape (n, output_size), or (n, 1) for labels
        In the model's dtype.
    weights : ndarray, shape (n,), or None
        In the model's dtype.
    """

    inputs: Inputs
    targets: Array
    weights: Array | None

    def __len__(self) -> int:
        return len(self.inputs)

    def slice(self, begin: int, end: int) -> Samples:
        """Return the samples begin .. end, without a copy."""
        weights = None if self.weights is None else self.weights[begin:end]
        return Samples(self.inputs[begin:end], self.targets[begin:end], weights)

    def parts(self) -> Generator[Samples]:
        """Go through an epoch: all at once, as all are known."""
        yield self

    def arenas(self) -> dict[str, Any]:
        """Return the matrices under the engine's names."""
        return {"inputs": self.inputs, "targets": self.targets, "sample_weights": self.weights}

    def blocks(
        self, order: NDArray[np.int64] | None, batch_size: int
    ) -> Generator[tuple[Samples, NDArray[np.int64] | None]]:
        """Go through all samples in blocks that are in memory, each of whole batches.

        Parameters
        ----------
        order : ndarray of int64, or None
            Numbers of the samples in the order of their turn; None: as they lie.
        batch_size : int

        Yields
        ------
        samples : Samples
            These samples themselves, if they are in memory.
        order : ndarray of int64, or None
            Of the samples of this block.
        """
        if not isinstance(self.inputs, MappedRows):
            yield self, order
            return
        for rows, values, turns in self.inputs.blocks(order, batch_size):
            weights = None if self.weights is None else self.weights[rows]
            yield Samples(values, self.targets[rows], weights), turns


def in_memory(inputs: Inputs) -> NDArray[Any] | SparseRows:
    """Return inputs that one call of the engine can read."""
    return inputs.load() if isinstance(inputs, MappedRows) else inputs


def dense(inputs: Inputs, dtype: str) -> Array:
    """Return inputs as one matrix of a dtype; without a copy if they are that."""
    read = in_memory(inputs)
    if isinstance(read, SparseRows):
        return read.dense(slice(None), np.dtype(dtype))
    return np.require(read, np.dtype(dtype), "C")


def column_of(inputs: Inputs, number: int) -> NDArray[np.float64]:
    """Return one column of inputs; of a file only that column is kept in memory."""
    if isinstance(inputs, SparseRows):
        mine = inputs.columns == number
        mine[: inputs.starts[0]] = mine[inputs.starts[-1] :] = False
        rows = np.searchsorted(inputs.starts, np.flatnonzero(mine), side="right") - 1
        return np.bincount(rows, inputs.values[mine], len(inputs)).astype(np.float64)
    array = inputs.array if isinstance(inputs, MappedRows) else inputs
    return np.asarray(array[:, number], np.float64)
