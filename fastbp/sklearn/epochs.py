"""What training does with the rows: an epoch at a time, or all of them together for L-BFGS."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.chunks import Pace
from fastbp.engine import backend
from fastbp.network import Array, Network
from fastbp.samples import Samples

DENSE_BYTES = 2**26
"""A sparse matrix is made dense as a whole up to this size, else block by block."""


def dense(X: Any, dtype: Any) -> Array:
    """Return the rows of a dense or sparse matrix in the form that the engine reads."""
    rows = X.toarray() if hasattr(X, "toarray") else X
    return np.ascontiguousarray(rows, dtype)


def shuffle(order: NDArray[np.int64], random_state: np.random.RandomState) -> None:
    """Shuffle in place, to what ``sklearn.utils.shuffle(order)`` returns.

    The engine draws and swaps what ``RandomState.shuffle`` would, without a branch for each rejected draw.
    """
    native, generator = backend.native(), random_state._bit_generator
    if native is None or len(order) > 2**32:
        random_state.shuffle(order)
    else:
        with generator.lock:
            native.shuffle(order, generator.capsule)


class Epochs:
    """Runs a network over training rows, epoch by epoch.

    Parameters
    ----------
    network : Network
    X : ndarray or sparse matrix, shape (n, features)
    targets : ndarray, shape (n, columns)
    weights : ndarray, shape (n,), or None
    batch_size : int
    scale : float
        What scikit-learn calls the loss, divided by what the engine does.
    """

    def __init__(
        self, network: Network, X: Any, targets: Array, weights: Array | None, batch_size: int, scale: float
    ) -> None:
        self.network, self.batch_size, self.targets = network, batch_size, targets
        self.weights = weights
        size = X.shape[0] * X.shape[1] * np.dtype(network.dtype).itemsize
        self.blocks = hasattr(X, "tocsr") and size > DENSE_BYTES
        self.X = X.tocsr() if self.blocks else dense(X, network.dtype)
        self._pace = Pace()
        # of each batch: its mean loss, and the penalty on the weights before its step
        self._losses = np.empty((-(-len(targets) // batch_size), 2))
        sizes = np.full(len(self._losses), batch_size)
        sizes[-1] -= sizes.sum() - len(targets)
        self._shares = np.outer(sizes / len(targets), (scale, 1.0))  # of these in the loss of an epoch

    def run(self, order: NDArray[np.int64]) -> float:
        """Do a step for each batch in the given order of rows.

        Returns
        -------
        float
            Mean over rows of the loss of their batch, penalty included.
        """
        self._run(order, self._losses)
        return float(np.vdot(self._shares, self._losses))

    def _run(self, order: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
        if not self.blocks:
            self._steps(Samples(self.X, self.targets, self.weights), order, losses)
            return
        row_bytes = self.X.shape[1] * np.dtype(self.network.dtype).itemsize
        batches = max(1, DENSE_BYTES // (row_bytes * self.batch_size))
        for first in range(0, len(losses), batches):
            rows = order[first * self.batch_size : (first + batches) * self.batch_size]
            weights = None if self.weights is None else self.weights[rows]
            block = Samples(dense(self.X[rows], self.network.dtype), self.targets[rows], weights)
            self._steps(block, np.arange(len(rows)), losses[first : first + batches])

    def _steps(self, samples: Samples, order: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
        """Call the engine, as a rule once; more often where it takes long, at the pace of the last call."""
        done = 0
        while done < len(losses):
            part = losses[done : done + self._pace.batches]
            begin = time.perf_counter()
            self.network.train_batches(samples, order, done * self.batch_size, self.batch_size, part)
            elapsed = time.perf_counter() - begin
            done += len(part)
            self._pace.note(len(part), elapsed)


class Objective:
    """The loss on all rows as a function of all coefficients, packed as scikit-learn packs them.

    Parameters
    ----------
    network : Network
    views : list of ndarray
        The network's weights, shape (in, out) each, and then its biases.
    gradients : list of ndarray
        Of the same, in the same order.
    samples : Samples
    scale : float
        As of :class:`Epochs`.
    """

    def __init__(
        self,
        network: Network,
        views: list[Array],
        gradients: list[Array],
        samples: Samples,
        scale: float,
    ) -> None:
        self.network, self.views, self.gradients = network, views, gradients
        self.samples, self.scale = samples, scale

    def pack(self) -> Array:
        """Return the coefficients as they are in one vector."""
        return np.concatenate([view.ravel() for view in self.views])

    def unpack(self, packed: Array) -> None:
        """Put a vector's values into the network."""
        begin = 0
        for view in self.views:
            view[...] = packed[begin : begin + view.size].reshape(view.shape)
            begin += view.size

    def __call__(self, packed: Array) -> tuple[float, Array]:
        """Return loss and gradient."""
        self.unpack(packed)
        loss, penalty = self.network.loss_and_penalty(self.samples)
        return self.scale * loss + penalty, np.concatenate([gradient.ravel() for gradient in self.gradients])
