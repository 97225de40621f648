"""fastbp: feed-forward neural networks trained by backpropagation on CPU cores.

>>> import fastbp as bp
>>> X, y = bp.datasets.load_digits()
>>> model = bp.Sequential(
...     [bp.layers.Dense(64, activation="relu"), bp.layers.Dense(10, activation="softmax")],
...     loss="cross_entropy", optimizer="adam", metrics=["accuracy"], seed=0)
>>> history = model.fit(X / 16, y, epochs=10, batch_size=32)
>>> history.history["accuracy"][-1] > 0.95
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fastbp import (
    callbacks,
    constraints,
    datasets,
    initializers,
    kernels,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from fastbp._version import __version__
from fastbp.config import show_config
from fastbp.loading import load
from fastbp.model import Sequential
from fastbp.threads import get_num_threads, set_num_threads, threads
from fastbp.training import History

if TYPE_CHECKING:
    from fastbp.explanation import explain
    from fastbp.gradient_check import gradcheck

__all__ = [
    "History",
    "Sequential",
    "__version__",
    "callbacks",
    "constraints",
    "datasets",
    "explain",
    "get_num_threads",
    "gradcheck",
    "initializers",
    "kernels",
    "layers",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
    "schedules",
    "set_num_threads",
    "show_config",
    "threads",
]

# What few programs use is imported with its first use: 7 % of the time that importing fastbp takes.
_LATER = {"explain": "fastbp.explanation", "gradcheck": "fastbp.gradient_check"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(globals().keys() | _LATER)
