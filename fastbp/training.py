"""The epoch loop: order, callbacks, history, progress."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from fastbp.array_like import Array
from fastbp.callbacks import BackupAndRestore, Callback
from fastbp.callbacks.base import Hooks, Logs
from fastbp.checkpoint import Cursor
from fastbp.chunks import Pace, Sums
from fastbp.divergence import Watch
from fastbp.metrics import Metric
from fastbp.network import Network, mean_loss
from fastbp.order import Shuffle, batch_order
from fastbp.samples import Samples
from fastbp.streams import Stream

if TYPE_CHECKING:
    from fastbp.model import Sequential


# Targets, outputs and weights of some samples.
Result: TypeAlias = tuple[Array, Array, Array | None]


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


def _batches(samples: Samples | Stream, batch_size: int | None) -> int | None:
    """How many batches an epoch has, if that is known."""
    if isinstance(samples, Stream):
        return samples.parts_per_epoch if batch_size is None else None
    return -(-len(samples) // (batch_size or len(samples)))


class _Progress:
    """A progress bar (verbosity 1), a line per epoch (2), or nothing (0)."""

    def __init__(self, verbosity: int, epochs: int, batches: int | None) -> None:
        self.lines, self.epochs, self.bar = verbosity == 2, epochs, None
        if verbosity == 1:
            from tqdm.auto import tqdm  # not worth its import where there is no bar

            total = None if batches is None else epochs * batches
            self.bar = tqdm(total=total, unit=" batches", dynamic_ncols=True, mininterval=0.1)

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

    Parameters
    ----------
    model : Sequential
    network : Network
    samples : Samples or Stream
    validation : Samples, Stream or None
    epochs : int
    batch_size : int or None
        None: each part of a stream is one batch.
    shuffle : bool or "batch"
    callbacks : sequence of Callback
    verbosity : {0, 1, 2}
    """

    def __init__(
        self,
        model: Sequential,
        network: Network,
        samples: Samples | Stream,
        validation: Samples | Stream | None,
        *,
        epochs: int,
        batch_size: int | None,
        shuffle: Shuffle,
        callbacks: Sequence[Callback],
        verbosity: int,
    ) -> None:
        self.model, self.network, self.samples, self.validation = model, network, samples, validation
        self.epochs, self.batch_size, self.shuffle = epochs, batch_size, shuffle
        self.history = model.history = History()
        steps = _batches(samples, batch_size if network.optimizer.kind else None)
        self.progress = _Progress(verbosity, epochs, steps)
        names = ["loss", *model.metrics]
        if validation is not None:
            names += [f"val_{name}" for name in names]
        self.names = names
        self.hooks = Hooks(callbacks, model, {"epochs": epochs, "steps": steps, "metrics": names})
        self.backup = _the_backup(callbacks, samples)
        self.watch, self.pace = Watch(network), Pace()
        self.fault = ""

    def run(self, initial_epoch: int) -> History:
        """Run the epochs."""
        self.model.stop_training = False
        cursor = Cursor(initial_epoch)
        try:
            self.hooks("on_train_begin")
            if self.backup is not None:
                cursor = self._restore(self.backup, cursor)
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

    def _restore(self, backup: BackupAndRestore, cursor: Cursor) -> Cursor:
        """Go to where the checkpoint is, if there is one."""
        size = None if isinstance(self.samples, Stream) else len(self.samples)
        data = {"samples": size, "batch_size": self.batch_size, "shuffle": self.shuffle}
        cursor = backup.begin(cursor, self.hooks.callbacks, data)
        if cursor.position > 0:  # callbacks learn the epoch; what they change is put back
            self.hooks("on_epoch_begin", cursor.epoch)
            cursor = backup.begin(cursor, self.hooks.callbacks, data)
        return cursor

    def _run_epoch(self, cursor: Cursor) -> None:
        self.progress.begin_epoch(cursor.epoch)
        if cursor.position == 0:
            self.hooks("on_epoch_begin", cursor.epoch)
        logs = self._train(cursor)
        if self.validation is not None and not self.fault:
            scores = evaluate(self.network, self.validation, self.model.scorers)
            logs |= {f"val_{name}": value for name, value in scores.items()}
        if self.fault:  # the rest was not computed
            logs = dict.fromkeys(self.names, math.nan) | logs
        self.history.append(cursor.epoch, logs)
        self.progress.end_epoch(cursor.epoch, logs)
        self.hooks("on_epoch_end", cursor.epoch, logs)

    def _train(self, cursor: Cursor) -> Logs:
        """Do the steps of an epoch, and return the loss and the metrics."""
        results: list[Result] = []
        with closing(self.samples.parts()) as parts:
            for part in parts:
                result = self._train_part(part, cursor)
                if self.fault:
                    return {"loss": mean_loss(cursor.sums)}
                if result is not None:
                    results.append(result)
                if self.hooks.per_batch and self.model.stop_training:
                    break
                cursor.position = 0
        return {"loss": mean_loss(cursor.sums)} | _score(self.model.scorers, results)

    def _train_part(self, part: Samples, cursor: Cursor) -> Result | None:
        """Do the steps of a part of an epoch, and return what its metrics need."""
        network, backup, hooks, rows = self.network, self.backup, self.hooks, len(part)
        outputs = np.empty((rows, network.output_size), network.dtype) if self.model.metrics else None
        if outputs is not None and cursor.outputs is not None:
            outputs[: cursor.position] = cursor.outputs[: cursor.position]
        cursor.outputs = outputs
        saved_after = None if backup is None else backup.batches
        cursor.random = None if saved_after is None else dict(self.model._rng.bit_generator.state)
        size = min(self.batch_size or rows, rows)
        order = None
        if self.batch_size is not None:
            order = batch_order(rows, self.shuffle, self.model._rng, size)
        if not network.optimizer.kind:  # it runs the network itself, with all samples together
            size = rows
        # Only callbacks, and what yields the parts of a stream, may look at the model between two epochs.
        unread = not hooks.callbacks and part is self.samples and cursor.epoch + 1 < self.epochs
        # What runs without Python: all, or what lies between two checkpoints, or a batch.
        count = size * (1 if hooks.per_batch else saved_after or rows)
        while cursor.position < rows and not (hooks.per_batch and self.model.stop_training):
            begin, end = cursor.position, min(cursor.position + count, rows)
            if hooks.per_batch:
                hooks("on_train_batch_begin", cursor.batch)
            turns = None if order is None else order[begin:end]
            places = None if outputs is None else outputs[begin:end]
            self.watch.begin()
            cursor.sums = network.train_epoch(
                part, turns, size, places, self.progress.advance, self.pace, cursor.sums, unread
            )
            if self.watch.sees_fault(cursor.sums):
                self.fault = self.watch.describe_fault(part, turns, size, cursor.batch)
                return None
            cursor.position, cursor.batch = end, cursor.batch - (begin - end) // size
            if hooks.per_batch:
                hooks("on_train_batch_end", cursor.batch - 1, {"loss": mean_loss(cursor.sums)})
            if backup and saved_after and end < rows and cursor.batch % saved_after == 0:
                backup.save(cursor)
        if outputs is None:
            return None
        seen = slice(cursor.position) if order is None else order[: cursor.position]
        weights = None if part.weights is None else part.weights[seen]
        return part.targets[seen], outputs[: cursor.position], weights

    def _warn(self, epoch: int) -> None:
        warnings.warn(
            f"training diverged in epoch {epoch + 1}: {self.fault}. A smaller learning_rate, or inputs "
            "scaled to about 1, usually mend that.",
            RuntimeWarning,
            stacklevel=4,
        )


def _the_backup(callbacks: Sequence[Callback], samples: Samples | Stream) -> BackupAndRestore | None:
    """The callback that keeps a checkpoint, when there is one and it can."""
    found = [callback for callback in callbacks if isinstance(callback, BackupAndRestore)]
    if len(found) > 1:
        raise ValueError("callbacks: one BackupAndRestore is enough, got more")
    if found and isinstance(samples, Stream):
        if samples.once or samples.parts_per_epoch is not None:
            raise ValueError(
                "BackupAndRestore needs data that begin anew with each epoch: arrays, or a function that "
                "returns the chunks, without steps_per_epoch"
            )
        if found[0].batches is not None:
            raise ValueError(
                f"BackupAndRestore(save_freq={found[0].batches}) needs arrays; with an iterable or a "
                "function it saves between epochs: save_freq='epoch'"
            )
    return found[0] if found else None


def evaluate(network: Network, samples: Samples | Stream, metrics: Mapping[str, Metric]) -> Logs:
    """Return the loss and the metrics on samples."""
    sums: Sums = (0.0, 0.0)
    results: list[Result] = []
    for part in samples.parts():
        sums, outputs = network.evaluate(part, sums)
        if metrics:
            results.append((part.targets, outputs, part.weights))
    return {"loss": mean_loss(sums)} | _score(metrics, results)


def _score(metrics: Mapping[str, Metric], results: Sequence[Result]) -> Logs:
    """Return the metrics of targets, outputs and weights that came in parts."""
    if not metrics:
        return {}
    targets, outputs, weights = (list(column) for column in zip(*results, strict=True))
    together = None
    if any(w is not None for w in weights):
        of_parts = zip(targets, weights, strict=True)
        together = np.concatenate([np.ones(len(y)) if w is None else w for y, w in of_parts])
    y_true, y_pred = (a[0] if len(a) == 1 else np.concatenate(a) for a in (targets, outputs))
    return {name: float(metric(y_true, y_pred, together)) for name, metric in metrics.items()}
