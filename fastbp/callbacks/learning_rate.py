"""Callbacks that change the learning rate between epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastbp.callbacks.base import Callback, Logs, takes
from fastbp.callbacks.monitor import Monitor
from fastbp.checks import check_count, check_number
from fastbp.schedules import Schedule


class LearningRateScheduler(Callback):
    """Set the learning rate of each epoch.

    Parameters
    ----------
    schedule : callable (epoch, learning_rate) -> float
        Takes the epoch, counted from 0, and the rate until now; returns the rate of the epoch. It may also
        take the epoch alone.
    verbose : {0, 1}
        1: print the rate.

    Examples
    --------
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Dense(1)], loss="mse", optimizer=bp.optimizers.SGD(0.8), seed=0)
    >>> halve = bp.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    >>> _ = model.fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, callbacks=[halve])
    >>> model.optimizer.learning_rate
    0.2
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be a function of epoch and learning rate, got {schedule!r}")
        self.schedule, self.verbose = schedule, verbose
        self._takes_rate = takes(schedule, 2)

    def on_epoch_begin(self, epoch: int) -> None:
        """Ask the schedule."""
        optimizer = self.model.optimizer
        rate = self.schedule(epoch, optimizer.learning_rate) if self._takes_rate else self.schedule(epoch)
        optimizer.learning_rate = check_number("the learning rate of the schedule", rate, "[0, inf)")
        if self.verbose:
            print(f"epoch {epoch + 1}: learning rate {optimizer.learning_rate:.6g}")


class ReduceLROnPlateau(Callback):
    """Lower the learning rate when a value has stopped improving.

    Parameters
    ----------
    monitor : str
        Name in the logs.
    factor : float
        New rate = rate × factor, in (0, 1).
    patience : int
        Epochs without improvement after which to lower it.
    verbose : {0, 1}
        1: print the new rate.
    mode : {"auto", "min", "max"}
        As in :class:`EarlyStopping`.
    min_delta : float
        A smaller change is no improvement.
    cooldown : int
        Epochs after a reduction in which nothing is counted.
    min_lr : float
        No rate below this one.

    Examples
    --------
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Dense(1)], loss="mse", optimizer=bp.optimizers.SGD(0.1), seed=0)
    >>> lower = bp.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)
    >>> _ = model.fit([[0.0], [1.0]], [0.0, 1.0], epochs=4, callbacks=[lower])
    >>> model.optimizer.learning_rate
    0.0125
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.monitor = Monitor(monitor, mode, check_number("min_delta", min_delta, "(-inf, inf)"))
        self.factor = check_number("factor", factor, "(0, 1)")
        self.patience = check_count("patience", patience, at_least=0)
        self.verbose = verbose
        self.cooldown = check_count("cooldown", cooldown, at_least=0)
        self.min_lr = check_number("min_lr", min_lr, "[0, inf)")
        self._forget()

    def _forget(self) -> None:
        self.best: float | None = None
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self) -> None:
        """Forget the training before."""
        self.monitor.require(self.params)
        if isinstance(self.model.optimizer.learning_rate, Schedule):
            raise TypeError(
                "ReduceLROnPlateau needs a learning rate that is a number, and the optimizer has a schedule"
            )
        self._forget()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare, and lower the rate when patience has run out."""
        value, optimizer = logs[self.monitor.name], self.model.optimizer
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.monitor.better(value, self.best):
            self.best, self.wait = value, 0
            return
        if self.cooldown_counter > 0:
            return
        self.wait += 1
        if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
            optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
            self.cooldown_counter, self.wait = self.cooldown, 0
            if self.verbose:
                print(f"epoch {epoch + 1}: learning rate {optimizer.learning_rate:.6g}")

    def state(self) -> dict[str, Any]:
        """Return the best value, how long ago it was, and how long nothing is counted."""
        return {name: getattr(self, name) for name in ("best", "wait", "cooldown_counter")}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.__dict__.update(state)
