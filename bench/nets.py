"""The networks: sizes of published examples and of what people train on CPUs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Net:
    """A network, its batch and its loss; the optimizer is Adam, the arithmetic float32."""

    name: str
    batch: int
    sizes: tuple[int, ...]
    hidden: str
    classes: bool
    """Softmax cross-entropy over labels, or mean squared error."""

    @property
    def flops(self) -> int:
        """Floating-point operations of one step: the matrix products of forward and backward pass."""
        pairs = list(zip(self.sizes, self.sizes[1:], strict=False))
        return sum(2 * self.batch * a * b * (2 if i == 0 else 3) for i, (a, b) in enumerate(pairs))

    def samples(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and targets for so many batches."""
        rng = np.random.default_rng(0)
        n = steps * self.batch
        X = rng.standard_normal((n, self.sizes[0]), dtype=np.float32)
        if self.classes:
            return X, rng.integers(0, self.sizes[-1], n)
        return X, rng.standard_normal((n, self.sizes[-1]), dtype=np.float32)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the weights (in, out) and biases that every peer starts from."""
        rng = np.random.default_rng(1)
        pairs = list(zip(self.sizes, self.sizes[1:], strict=False))
        return [
            ((rng.standard_normal((a, b)) * np.sqrt(1 / a)).astype(np.float32), np.zeros(b, np.float32))
            for a, b in pairs
        ]


NETS = {
    net.name: net
    for net in (
        Net("tiny", 32, (4, 16, 16, 1), "relu", False),  # control: overhead is everything
        Net("tabular", 32, (30, 64, 64, 2), "relu", True),  # the usual table
        Net("chain", 10000, (4, 32, 16, 4), "tanh", False),  # published by SimpleChains.jl
        Net("mnist", 64, (784, 128, 10), "relu", True),  # the classic
        Net("higgs", 100, (28, 300, 300, 300, 300, 300, 1), "tanh", False),  # published by OpenNN
        Net("deep", 128, (784, 512, 512, 10), "relu", True),  # the mnist_mlp of Keras
        Net("wide", 512, (1024, 2048, 2048, 1000), "relu", True),  # bound by matrix products
    )
}
