"""Callbacks that end the training."""

from __future__ import annotations

import math
from typing import Any

from fastbp.callbacks.base import Callback, Logs
from fastbp.callbacks.monitor import Monitor
from fastbp.checks import check_count, check_flag, check_number


class EarlyStopping(Callback):
    """End the training when a value has stopped improving.

    Parameters
    ----------
    monitor : str
        Name in the logs.
    min_delta : float
        A smaller change is no improvement.
    patience : int
        Epochs without improvement after which to stop.
    verbose : {0, 1}
        1: print when it stops.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; "auto" knows it for the loss and for the metrics of
        :mod:`fastbp.metrics`.
    baseline : float, optional
        A value that must be passed for the patience to begin anew.
    restore_best_weights : bool
        Give the model the weights of its best epoch at the end, instead of the last ones.
    start_from_epoch : int
        Epochs before this one, counted from 0, are not looked at.

    Attributes
    ----------
    best : float or None
        Best value so far.
    best_epoch : int
        Its epoch.
    stopped_epoch : int or None
        The epoch after which training was stopped; None if it was not.

    Examples
    --------
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Dense(1)], loss="mse", optimizer=bp.optimizers.SGD(0.1), seed=0)
    >>> stop = bp.callbacks.EarlyStopping("loss", min_delta=1e-3, patience=2)
    >>> history = model.fit([[0.0], [1.0]], [0.0, 1.0], epochs=1000, callbacks=[stop])
    >>> len(history.epoch) == stop.stopped_epoch + 1 < 200
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        self.monitor = Monitor(monitor, mode, check_number("min_delta", min_delta, "(-inf, inf)"))
        self.patience = check_count("patience", patience, at_least=0)
        self.verbose = verbose
        self.baseline = None if baseline is None else check_number("baseline", baseline, "(-inf, inf)")
        self.restore_best_weights = check_flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = check_count("start_from_epoch", start_from_epoch, at_least=0)
        self._forget()

    def _forget(self) -> None:
        self.best: float | None = None
        self.best_epoch, self.wait = 0, 0
        self.stopped_epoch: int | None = None
        self.best_weights: Any = None

    def on_train_begin(self) -> None:
        """Forget the training before."""
        self.monitor.require(self.params)
        self._forget()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare, and stop when patience has run out."""
        if epoch < self.start_from_epoch:
            return
        value = logs[self.monitor.name]
        improved = self.monitor.better(value, self.best)
        if improved or (self.restore_best_weights and self.best_weights is None):
            self.best_epoch = epoch
            self.best = value if improved else None
            if self.restore_best_weights:
                self.best_weights = self.model.parameters.copy()
        if improved and (self.baseline is None or self.monitor.better(value, self.baseline)):
            self.wait = 0
            return
        self.wait += 1
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            if self.verbose:
                print(f"epoch {epoch + 1}: {self.monitor.name} no longer improves, training stops")

    def on_train_end(self) -> None:
        """Give the model its best weights."""
        if self.best_weights is not None:
            self.model.parameters[...] = self.best_weights

    def state(self) -> dict[str, Any]:
        """Return the best value, its epoch and weights, and how long ago it was."""
        names = ("best", "best_epoch", "wait", "stopped_epoch", "best_weights")
        return {name: getattr(self, name) for name in names}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.__dict__.update(state)


class TerminateOnNaN(Callback):
    """End the training after an epoch in which any value of the logs is NaN or infinite.

    A training loss that is not finite ends `fit` without this callback too, at once and with a warning
    that names the layer; this one also looks at the metrics and at the validation.
    """

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Look at the logs."""
        if not all(math.isfinite(value) for value in logs.values()):
            self.model.stop_training = True
