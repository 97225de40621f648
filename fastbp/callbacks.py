"""Callbacks: hooks that training calls between epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastbp.model import Sequential

__all__ = ["Callback", "LambdaCallback"]

Logs = dict[str, float]


class Callback:
    """Base class: override the hooks that are of interest.

    The hooks run in Python between calls of the engine, so they may read and change the model: its
    weights, its optimizer's ``learning_rate``. Setting ``model.stop_training = True`` ends training
    after the current epoch.

    Attributes
    ----------
    model : Sequential
        The model that is being trained, set before the first hook.
    """

    model: Sequential

    def on_train_begin(self) -> None:
        """Run before the first epoch."""

    def on_train_end(self) -> None:
        """Run after the last epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after an epoch; `logs` holds what the history gets: loss, metrics, val_loss, ..."""


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    on_epoch_begin : callable (epoch) -> None, optional
    on_epoch_end : callable (epoch, logs) -> None, optional
    on_train_begin, on_train_end : callable () -> None, optional

    Examples
    --------
    >>> import fastbp as bp
    >>> seen = []
    >>> model = bp.Sequential([bp.layers.Dense(1)], loss="mean_squared_error", seed=0)
    >>> callback = bp.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    >>> _ = model.fit([[0.0], [1.0]], [0.0, 1.0], epochs=2, callbacks=[callback])
    >>> seen
    [0, 1]
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int], object] | None = None,
        on_epoch_end: Callable[[int, Logs], object] | None = None,
        on_train_begin: Callable[[], object] | None = None,
        on_train_end: Callable[[], object] | None = None,
    ) -> None:
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
        }
        for name, function in hooks.items():
            if function is not None:
                if not callable(function):
                    raise TypeError(f"{name}: expected a function, got {function!r}")
                setattr(self, name, function)
