"""Opponents. A module of a library has ``make(net, X, y, cores, shuffle, batches, **options)``.

It starts from ``net.weights()``, brings the data where the library wants them, and returns
``train(epochs)``, which goes through all samples so many times, in batches of ``net.batch`` rows, in a new
random order each time if `shuffle`, and returns the mean loss of the last epoch. An epoch ends after so many
`batches`, where that is given; it runs in a process that is
pinned to so many cores and whose environment sets all numbers of threads.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastbp.workloads import Net

Train = Callable[[int], float]


def first(net: Net, batches: int | None, *arrays: Any) -> tuple[Any, ...]:
    """Return as many rows of each array as so many batches have."""
    return tuple(array if batches is None else array[: batches * net.batch] for array in arrays)


@dataclass(frozen=True)
class Peer:
    """A way to train: the package it needs, the module here that knows it, and how it is to be used."""

    package: str
    """As installers call it."""
    imported_as: str
    module: str
    about: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        """Whether the package is there."""
        return importlib.util.find_spec(self.imported_as) is not None

    @property
    def version(self) -> str:
        """Version of the package."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:  # imported from its source tree
            return str(importlib.import_module(self.imported_as).__version__)

    def load(self) -> None:
        """Import the library."""
        importlib.import_module(self.imported_as)

    def make(self, net: Net, X: Any, y: Any, cores: int, shuffle: bool, batches: int | None = None) -> Train:
        """Get ready to train."""
        module = importlib.import_module(f"bench.peers.{self.module}")
        train: Train = module.make(net, X, y, cores, shuffle, batches, **self.options)
        return train


PEERS = {
    "fastbp": Peer("fastbp", "fastbp", "fastbp_peer", "model.fit"),
    "jax-scan": Peer("jax", "jax", "jax_peer", "an epoch in one jit: lax.scan, donated", {"scan": True}),
    "jax-step": Peer("jax", "jax", "jax_peer", "a jit for each step, donated", {"scan": False}),
    "torch": Peer("torch", "torch", "torch_peer", "eager, fused Adam", {"compiled": False}),
    "torch-compile": Peer("torch", "torch", "torch_peer", "torch.compile, fused Adam", {"compiled": True}),
    "sklearn": Peer("scikit-learn", "sklearn", "sklearn_peer", "partial_fit"),
    "numpy": Peer("numpy", "numpy", "numpy_peer", "by hand, in place"),
}
"""In the order of the tables."""
