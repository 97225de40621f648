"""fastbp as users call it: model.fit."""

from __future__ import annotations

from typing import Any

from bench.peers import Train, first
from fastbp.workloads import Net


def make(net: Net, X: Any, y: Any, cores: int, shuffle: bool, batches: int | None) -> Train:
    """Return ``train(epochs)``."""
    import fastbp as bp
    from fastbp.benchmark import build

    bp.set_num_threads(cores)
    X, y = first(net, batches, X, y)
    model = build(net)

    def train(epochs: int) -> float:
        history = model.fit(X, y, epochs=epochs, batch_size=net.batch, shuffle=shuffle, verbose=0)
        return history.history["loss"][-1]

    return train
