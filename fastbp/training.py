"""The epoch loop: order, callbacks, history, progress."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastbp import data
from fastbp.callbacks import BackupAndRestore, Callback
from fastbp.callbacks.base import Hooks, Logs
from fastbp.checkpoint import Cursor
from fastbp.divergence import Watch
from fastbp.metrics import Metric
from fastbp.network import Array, Network, Samples, mean_loss

if TYPE_CHECKING:
    from fastbp.model import Sequential


class History:
    """What happened in training.

    Attributes
    ----------
    history : dict of str to list of float
        "loss", one entry per metric, and with validation data the same names with "val_": one value per
        epoch. The training loss is the mean over the epoch while the weights were moving.
    epoch : list of int
        Epochs, counted from 0.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def append(self, epoch: int, logs: Logs) -> None:
        """Add the values of one epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.history.items())
        return f"<History of {len(self.epoch)} epochs{': ' + last if last else ''}>"


def check_verbose(verbose: str | int) -> int:
    """Return 0, 1 or 2 for the argument `verbose` of fit: what "auto" means depends on where it runs."""
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f'verbose must be "auto", 0, 1 or 2, got {verbose!r}')
    if verbose == "auto":
        terminal = sys.stderr is not None and sys.stderr.isatty()
        return int(terminal or _in_notebook())
    return int(verbose)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class _Progress:
    """A progress bar (verbosity 1), a line per epoch (2), or nothing (0)."""

    def __init__(self, verbosity: int, epochs: int, batches: int) -> None:
        self.lines, self.epochs, self.bar = verbosity == 2, epochs, None
        if verbosity == 1:
            from tqdm.auto import tqdm  # not worth its import where there is no bar

            self.bar = tqdm(total=epochs * batches, unit=" batches", dynamic_ncols=True, mininterval=0.1)

    def begin_epoch(self, epoch: int) -> None:
        self.started = time.perf_counter()
        if self.bar is not None:
            self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}")

    def advance(self, batches: int) -> None:
        if self.bar is not None:
            self.bar.update(batches)

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        values = {name: f"{value:.4f}" for name, value in logs.items()}
        if self.bar is not None:
            self.bar.set_postfix(values)
        if self.lines:
            seconds = time.perf_counter() - self.started
            text = "  ".join(f"{name} {value}" for name, value in values.items())
            print(f"epoch {epoch + 1}/{self.epochs}  {seconds:.2f} s  {text}", flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


class Training:
    """One call of :meth:`fastbp.Sequential.fit`, on checked samples.

    Whatever is raised on the way, by a callback or by Ctrl-C, leaves the model usable and its history with
    the epochs so far.
    """

    def __init__(
        self,
        model: Sequential,
        network: Network,
        samples: Samples,
        validation: Samples | None,
        *,
        epochs: int,
        batch_size: int,
        shuffle: bool,
        callbacks: Sequence[Callback],
        verbosity: int,
    ) -> None:
        self.model, self.network, self.samples, self.validation = model, network, samples, validation
        self.epochs, self.batch_size, self.shuffle = epochs, batch_size, shuffle
        if not network.optimizer.kind:  # it runs the network itself, with all samples together
            batch_size = self.batch_size = len(samples)
        self.history = model.history = History()
        steps = -(-len(samples) // batch_size)
        self.progress = _Progress(verbosity, epochs, steps)
        names = ["loss", *model.metrics]
        if validation is not None:
            names += [f"val_{name}" for name in names]
        self.names = names
        self.hooks = Hooks(callbacks, model, {"epochs": epochs, "steps": steps, "metrics": names})
        self.backup = _the_backup(callbacks)
        self.watch = Watch(network, samples, batch_size)
        self.fault = ""

    def run(self, initial_epoch: int) -> History:
        """Run the epochs."""
        self.model.stop_training = False
        cursor = Cursor(initial_epoch)
        try:
            self.hooks("on_train_begin")
            if self.backup is not None:
                data = {"samples": len(self.samples), "batch_size": self.batch_size, "shuffle": self.shuffle}
                cursor = self.backup.begin(cursor, self.hooks.callbacks, data)
                if cursor.position > 0:  # callbacks learn the epoch; what they change is put back
                    self.hooks("on_epoch_begin", cursor.epoch)
                    cursor = self.backup.begin(cursor, self.hooks.callbacks, data)
            while cursor.epoch < self.epochs and not self.model.stop_training:
                self._run_epoch(cursor)
                if self.fault:
                    self._warn(cursor.epoch)
                    break
                cursor = Cursor(cursor.epoch + 1)
                if self.backup is not None:
                    self.backup.save(cursor)
            if not self.fault:
                self.network.adopt_average()
            self.hooks("on_train_end")
            if self.backup is not None and not self.fault:
                self.backup.end()
        finally:
            self.progress.close()
        return self.history

    def _run_epoch(self, cursor: Cursor) -> None:
        self.progress.begin_epoch(cursor.epoch)
        if cursor.position == 0:
            self.hooks("on_epoch_begin", cursor.epoch)
        logs = self._train(cursor)
        if self.validation is not None and not self.fault:
            scores = evaluate(self.network, self.validation, self.model.metrics)
            logs |= {f"val_{name}": value for name, value in scores.items()}
        if self.fault:  # the rest was not computed
            logs = dict.fromkeys(self.names, math.nan) | logs
        self.history.append(cursor.epoch, logs)
        self.progress.end_epoch(cursor.epoch, logs)
        self.hooks("on_epoch_end", cursor.epoch, logs)

    def _train(self, cursor: Cursor) -> Logs:
        """Do the steps of an epoch, and return the loss and the metrics."""
        network, samples, size = self.network, self.samples, len(self.samples)
        outputs = np.empty((size, network.output_size), network.dtype) if self.model.metrics else None
        if outputs is not None and cursor.outputs is not None:
            outputs[: cursor.position] = cursor.outputs
        cursor.outputs = outputs
        backup, hooks = self.backup, self.hooks
        saved_after = None if backup is None else backup.batches
        cursor.random = None if saved_after is None else dict(self.model._rng.bit_generator.state)
        order = data.batch_order(size, self.shuffle, self.model._rng)
        # What runs without Python: the epoch, or what lies between two checkpoints, or a batch.
        part = self.batch_size * (1 if hooks.per_batch else saved_after or size)
        while cursor.position < size and not (hooks.per_batch and self.model.stop_training):
            batch, end = cursor.position // self.batch_size, min(cursor.position + part, size)
            if hooks.per_batch:
                hooks("on_train_batch_begin", batch)
            positions = range(cursor.position, end)
            self.watch.begin()
            cursor.sums = network.train_epoch(
                samples, order, self.batch_size, outputs, self.progress.advance, positions, cursor.sums
            )
            if self.watch.sees_fault(cursor.sums):
                self.fault = self.watch.describe_fault(order, positions)
                return {"loss": mean_loss(cursor.sums)}
            cursor.position = end
            if hooks.per_batch:
                hooks("on_train_batch_end", batch, {"loss": mean_loss(cursor.sums)})
            if backup and saved_after and end < size and end // self.batch_size % saved_after == 0:
                backup.save(cursor)
        logs = {"loss": mean_loss(cursor.sums)}
        if outputs is not None:
            seen = order[: cursor.position]
            weights = None if samples.weights is None else samples.weights[seen]
            logs |= _score(self.model.metrics, samples.targets[seen], outputs[: cursor.position], weights)
        return logs

    def _warn(self, epoch: int) -> None:
        warnings.warn(
            f"training diverged in epoch {epoch + 1}: {self.fault}. A smaller learning_rate, or inputs "
            "scaled to about 1, usually mend that.",
            RuntimeWarning,
            stacklevel=4,
        )


def _the_backup(callbacks: Sequence[Callback]) -> BackupAndRestore | None:
    found = [callback for callback in callbacks if isinstance(callback, BackupAndRestore)]
    if len(found) > 1:
        raise ValueError("callbacks: one BackupAndRestore is enough, got more")
    return found[0] if found else None


def evaluate(network: Network, samples: Samples, metrics: Mapping[str, Metric]) -> Logs:
    """Return the loss and the metrics on samples."""
    loss, outputs = network.evaluate(samples)
    return {"loss": loss} | _score(metrics, samples.targets, outputs, samples.weights)


def _score(metrics: Mapping[str, Metric], targets: Array, outputs: Array, weights: Array | None) -> Logs:
    return {name: float(metric(targets, outputs, weights)) for name, metric in metrics.items()}
