"""The networks that speed is measured on: sizes of published examples and of what people train on CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class Net:
    """A network, its batch and its data; the optimizer is Adam, the arithmetic float32.

    Attributes
    ----------
    name : str
    batch : int
        Rows of a batch.
    sizes : tuple of int
        Inputs, units of each hidden layer, outputs.
    hidden : {"relu", "tanh"}
        Activation of the hidden layers.
    classes : bool
        Softmax and cross-entropy over labels, or mean squared error.
    batches : int
        Batches of an epoch: some 0.1 s of work where a step is long, 0.01 s where it is short; at least four,
        since the last one of an epoch is not like the others.
    """

    name: str
    batch: int
    sizes: tuple[int, ...]
    hidden: str
    classes: bool
    batches: int

    @property
    def flops(self) -> int:
        """Floating-point operations of a step: the matrix products of the forward and the backward pass."""
        return sum(2 * self.batch * a * b * (2 if i == 0 else 3) for i, (a, b) in enumerate(self._pairs))

    def inference_flops(self, rows: int) -> int:
        """Floating-point operations of the forward pass."""
        return sum(2 * rows * a * b for a, b in self._pairs)

    @property
    def bytes(self) -> int:
        """Bytes that a step must move: its samples read; parameters and both moments read and written."""
        parameters = sum((a + 1) * b for a, b in self._pairs)
        targets = 1 if self.classes else self.sizes[-1]
        return 4 * (self.batch * (self.sizes[0] + targets) + 6 * parameters)

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.sizes, self.sizes[1:], strict=False))

    def samples(self, batches: int | None = None) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return inputs, and targets: labels, or as many columns as there are outputs.

        Parameters
        ----------
        batches : int, optional
            Those of an epoch if not given.
        """
        rng = np.random.default_rng(0)
        n = (self.batches if batches is None else batches) * self.batch
        X = rng.standard_normal((n, self.sizes[0]), dtype=np.float32)
        if self.classes:
            return X, rng.integers(0, self.sizes[-1], n)
        return X, rng.standard_normal((n, self.sizes[-1]), dtype=np.float32)

    def weights(self) -> Weights:
        """Return for each layer the weight, of shape (in, out), and the bias that training starts from."""
        rng = np.random.default_rng(1)
        return [
            ((rng.standard_normal((a, b)) * np.sqrt(1 / a)).astype(np.float32), np.zeros(b, np.float32))
            for a, b in self._pairs
        ]


NETS = {
    net.name: net
    for net in (
        Net("tiny", 32, (4, 16, 16, 1), "relu", False, 1000),  # control: overhead is everything
        Net("tabular", 32, (30, 64, 64, 2), "relu", True, 1000),  # the usual table
        Net("chain", 10000, (4, 32, 16, 4), "tanh", False, 20),  # published by SimpleChains.jl
        Net("mnist", 64, (784, 128, 10), "relu", True, 200),  # the classic
        Net("higgs", 100, (28, 300, 300, 300, 300, 300, 1), "tanh", False, 50),  # published by OpenNN
        Net("deep", 128, (784, 512, 512, 10), "relu", True, 30),  # the mnist_mlp of Keras
        Net("wide", 512, (1024, 2048, 2048, 1000), "relu", True, 4),  # bound by matrix products
    )
}
"""The seven networks by name, from the smallest to the largest step."""
