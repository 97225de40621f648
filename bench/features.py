"""``python -m bench.features``: training steps per second with a feature, beside those without any.

One process; a few epochs of each variant in turn, so that a machine that slows down slows all of them. The
variant without features is there twice: how far the two lie apart is how much of the rest is noise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import fastbp as bp

BATCH = 32
EPOCHS = 20
ROUNDS = 9


class Batches(bp.callbacks.Callback):
    """Wants to hear of each batch."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Do nothing."""


def network(*, dropout: float = 0.0, optimizer: Any = "adam", metrics: Any = ()) -> bp.Sequential:
    """Return a classifier of digits."""
    layers: list[Any] = [bp.layers.Dense(64, activation="relu")]
    if dropout:
        layers.append(bp.layers.Dropout(dropout))
    layers.append(bp.layers.Dense(10, activation="softmax"))
    return bp.Sequential(layers, loss="cross_entropy", optimizer=optimizer, metrics=metrics, seed=0)


def main() -> None:
    """Print steps per second with each feature and their ratio to those without; rounds are interleaved."""
    X, y = bp.datasets.load_digits()
    X = X / 16
    ones = np.ones(len(X), np.float32)
    decay = bp.schedules.CosineDecay(1e-3, decay_steps=100_000)
    adam = bp.optimizers.Adam
    variants: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "nothing": ({}, {}),
        "nothing, again": ({}, {}),
        "dropout": ({"dropout": 0.2}, {}),
        "metrics (accuracy)": ({"metrics": ["accuracy"]}, {}),
        "sample_weight": ({}, {"sample_weight": ones}),
        "validation of 297 rows": ({}, {"validation_data": (X[1500:], y[1500:])}),
        "global_clipnorm": ({"optimizer": adam(global_clipnorm=1.0)}, {}),
        "clipvalue": ({"optimizer": adam(clipvalue=1.0)}, {}),
        "use_ema": ({"optimizer": adam(use_ema=True)}, {}),
        "schedule (cosine)": ({"optimizer": adam(learning_rate=decay)}, {}),
        "callback of epochs": ({}, {"callbacks": [bp.callbacks.EarlyStopping("loss", patience=10**6)]}),
        "callback of batches": ({}, {"callbacks": [Batches()]}),
    }
    models = {name: network(**options) for name, (options, _) in variants.items()}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS + 1):
        for name, (_, arguments) in variants.items():
            begin = time.perf_counter()
            models[name].fit(X, y, epochs=EPOCHS, batch_size=BATCH, verbose=0, **arguments)
            times[name].append(time.perf_counter() - begin)
    steps = EPOCHS * -(-len(X) // BATCH)
    print("| Feature | Steps per second | Of those without |\n| --- | --- | --- |")
    for name, values in times.items():
        pairs = zip(times["nothing"][1:], values[1:], strict=True)  # the first round warms up
        ratio = statistics.median(plain / with_it for plain, with_it in pairs)
        print(f"| {name} | {steps / statistics.median(values[1:]):,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
