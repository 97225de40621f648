"""The hooks that training calls, and callbacks made of functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastbp.model import Sequential

Logs = dict[str, float]


class Callback:
    """Base class: override the hooks that are of interest.

    The hooks run in Python between calls of the engine, so they may read and change the model: its
    weights, its optimizer's ``learning_rate``. Setting ``model.stop_training = True`` ends training
    after the current epoch, in a hook of a batch after this batch.

    Hooks of epochs cost nothing that could be measured. The hooks of batches make training call the engine
    for one batch at a time, and do so only when a callback overrides one of them.

    Attributes
    ----------
    model : Sequential
        The model that is being trained, set before the first hook.
    params : dict
        Also set before the first hook: "epochs"; "steps", batches in an epoch, None where that is not known
        before; "metrics", the names that the logs of an epoch will have.
    """

    model: Sequential
    params: dict[str, Any]

    def on_train_begin(self) -> None:
        """Run before the first epoch."""

    def on_train_end(self) -> None:
        """Run after the last epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after an epoch; `logs` holds what the history gets: loss, metrics, val_loss, ..."""

    def on_train_batch_begin(self, batch: int) -> None:
        """Run before a batch, counted from 0 in each epoch."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Run after a batch; ``logs["loss"]`` is the mean over the epoch so far, as in Keras."""

    def wants_batches(self) -> bool:
        """Tell whether training shall run the hooks of batches: by default, if one of them is overridden."""
        return any(
            getattr(getattr(self, hook), "__func__", None) is not getattr(Callback, hook)
            for hook in ("on_train_batch_begin", "on_train_batch_end")
        )

    def state(self) -> dict[str, Any]:
        """Return what this callback has to remember when training is resumed.

        Values may be arrays and whatever JSON can say; :class:`BackupAndRestore` keeps them.
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned; runs after :meth:`on_train_begin`."""


class LambdaCallback(Callback):
    """A callback made of functions.

    Functions may also take one more argument than named here, Keras' `logs`; it is then an empty dict.

    Parameters
    ----------
    on_epoch_begin : callable (epoch) -> None, optional
    on_epoch_end : callable (epoch, logs) -> None, optional
    on_train_begin, on_train_end : callable () -> None, optional
    on_train_batch_begin : callable (batch) -> None, optional
    on_train_batch_end : callable (batch, logs) -> None, optional

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
        on_epoch_begin: Callable[..., object] | None = None,
        on_epoch_end: Callable[..., object] | None = None,
        on_train_begin: Callable[..., object] | None = None,
        on_train_end: Callable[..., object] | None = None,
        on_train_batch_begin: Callable[..., object] | None = None,
        on_train_batch_end: Callable[..., object] | None = None,
    ) -> None:
        hooks = {
            "on_epoch_begin": (on_epoch_begin, 1),
            "on_epoch_end": (on_epoch_end, 2),
            "on_train_begin": (on_train_begin, 0),
            "on_train_end": (on_train_end, 0),
            "on_train_batch_begin": (on_train_batch_begin, 1),
            "on_train_batch_end": (on_train_batch_end, 2),
        }
        for name, (function, arguments) in hooks.items():
            if function is not None:
                if not callable(function):
                    raise TypeError(f"{name}: expected a function, got {function!r}")
                setattr(self, name, _without_logs(function, arguments))


def takes(function: Callable[..., object], arguments: int) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # a built-in function without a signature
        pass
    return True


def _without_logs(function: Callable[..., object], arguments: int) -> Callable[..., object]:
    """Call a function that takes `logs`, where we have none, with an empty dict."""
    return function if takes(function, arguments) else lambda *given: function(*given, {})


class Hooks:
    """The callbacks of one training, called together.

    Parameters
    ----------
    callbacks : sequence of Callback
    model : Sequential
    params : dict
        See :class:`Callback`.

    Attributes
    ----------
    per_batch : bool
        Whether a callback wants the hooks of batches.
    """

    def __init__(self, callbacks: Sequence[Callback], model: Sequential, params: dict[str, Any]) -> None:
        self.callbacks = callbacks
        for callback in callbacks:
            callback.model, callback.params = model, dict(params)
        self.per_batch = any(callback.wants_batches() for callback in callbacks)

    def __call__(self, hook: str, *arguments: Any) -> None:
        """Run a hook of each callback, in their order."""
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)
