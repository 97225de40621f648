"""``python -m bench.features``: training steps per second with a feature, beside those without any.

One process; a few epochs of each variant in turn, so that a machine that slows down slows all of them. The
variant without features is there twice: how far the two lie apart is how much of the rest is noise. Two more
use nothing: one says so with every option, one has used what it could in a fit before. The last column is
what a plan holds beyond that of a network without features: nothing, where the two are the same text.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

import fastbp as bp

BATCH = 32
EPOCHS = 10
ROUNDS = 61


class Batches(bp.callbacks.Callback):
    """Wants to hear of each batch."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Do nothing."""


def network(
    *, between: tuple[Any, ...] = (), optimizer: Any = "adam", metrics: Any = (), **dense: Any
) -> bp.Sequential:
    """Return a classifier of digits."""
    layers = [bp.layers.Dense(64, "relu", **dense), *between, bp.layers.Dense(10, "softmax", **dense)]
    return bp.Sequential(layers, loss="cross_entropy", optimizer=optimizer, metrics=metrics, seed=0)


def unused() -> dict[str, Any]:
    """Arguments of a network that say of everything that it is not wanted."""
    optimizer = bp.optimizers.Adam(
        weight_decay=0.0,
        amsgrad=False,
        clipvalue=None,
        clipnorm=None,
        global_clipnorm=None,
        gradient_accumulation_steps=None,
        use_ema=False,
    )
    off = {"kernel_regularizer": None, "bias_regularizer": None, "kernel_constraint": None}
    return {
        "between": (bp.layers.Dropout(0.0), bp.layers.GaussianNoise(0.0)),
        "optimizer": optimizer,
        "metrics": [],
        **off,
    }


def operations(model: bp.Sequential) -> Counter[str]:
    """Operations of the plan that ran last, with how often each is there."""
    return Counter(op.kind for op in model.plan.ops)


def added(model: bp.Sequential, plain: bp.Sequential) -> str:
    """Tell what a plan has beyond that of a model without features."""
    if str(model.plan) == str(plain.plan):
        return "nothing: the same plan"
    more = operations(model) - operations(plain)
    return ", ".join(f"{count} {kind}" for kind, count in more.items()) or "nothing"


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
        "all of it off, by name": (unused(), {"sample_weight": None, "class_weight": None, "callbacks": []}),
        "nothing any more": ({}, {}),
        "dropout": ({"between": (bp.layers.Dropout(0.2),)}, {}),
        "batch normalization": ({"between": (bp.layers.BatchNormalization(),)}, {}),
        "metrics (accuracy)": ({"metrics": ["accuracy"]}, {}),
        "sample_weight": ({}, {"sample_weight": ones}),
        "class_weight": ({}, {"class_weight": "balanced"}),
        "L2 penalty": ({"kernel_regularizer": bp.regularizers.L2(1e-4)}, {}),
        "weight_decay": ({"optimizer": adam(weight_decay=1e-4)}, {}),
        "validation of 297 rows": ({}, {"validation_data": (X[1500:], y[1500:])}),
        "global_clipnorm": ({"optimizer": adam(global_clipnorm=1.0)}, {}),
        "clipvalue": ({"optimizer": adam(clipvalue=1.0)}, {}),
        "use_ema": ({"optimizer": adam(use_ema=True)}, {}),
        "schedule (cosine)": ({"optimizer": adam(learning_rate=decay)}, {}),
        "callback of epochs": ({}, {"callbacks": [bp.callbacks.EarlyStopping("loss", patience=10**6)]}),
        "callback of batches": ({}, {"callbacks": [Batches()]}),
    }
    models = {name: network(**options) for name, (options, _) in variants.items()}
    was_busy = models["nothing any more"]
    was_busy.fit(X, y, sample_weight=ones, validation_split=0.1, callbacks=[Batches()], verbose=0)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS + 1):
        for name, (_, arguments) in variants.items():
            begin = time.perf_counter()
            models[name].fit(X, y, epochs=EPOCHS, batch_size=BATCH, verbose=0, **arguments)
            times[name].append(time.perf_counter() - begin)
    steps = EPOCHS * -(-len(X) // BATCH)
    print("| Feature | Steps per second | Of those without | The plan has more |\n| --- | --- | --- | --- |")
    for name, values in times.items():
        pairs = zip(times["nothing"][1:], values[1:], strict=True)  # the first round warms up
        ratio = statistics.median(plain / with_it for plain, with_it in pairs)
        rate, more = steps / statistics.median(values[1:]), added(models[name], models["nothing"])
        print(f"| {name} | {rate:,.0f} | {ratio:.2f} | {more} |")


if __name__ == "__main__":
    main()
