"""The epoch loop: order, callbacks, history, progress."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from fastbp.array_like import Array
from fastbp.callbacks import Callback, Logs
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


def train(
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
    rng: np.random.Generator,
) -> History:
    """Run the epochs of :meth:`fastbp.Sequential.fit` on checked samples.

    Whatever is raised on the way, by a callback or by Ctrl-C, leaves the model usable and its history with
    the epochs so far.
    """
    history = model.history = History()
    model.stop_training = False
    progress = _Progress(verbosity, epochs, _batches(samples, batch_size))
    for callback in callbacks:
        callback.model = model
    try:
        for callback in callbacks:
            callback.on_train_begin()
        for epoch in range(epochs):
            progress.begin_epoch(epoch)
            for callback in callbacks:
                callback.on_epoch_begin(epoch)
            logs = _train_epoch(model, network, samples, batch_size, shuffle, rng, progress.advance)
            if validation is not None:
                scores = evaluate(network, validation, model.scorers)
                logs |= {f"val_{name}": value for name, value in scores.items()}
            history.append(epoch, logs)
            progress.end_epoch(epoch, logs)
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs)
            if not np.isfinite(logs["loss"]):
                warnings.warn(
                    f"the loss became {logs['loss']} in epoch {epoch + 1}: training diverged. A smaller "
                    "learning_rate, or inputs scaled to about 1, usually mend that.",
                    RuntimeWarning,
                    stacklevel=3,
                )
                break
            if model.stop_training:
                break
        for callback in callbacks:
            callback.on_train_end()
    finally:
        progress.close()
    return history


def _train_epoch(
    model: Sequential,
    network: Network,
    samples: Samples | Stream,
    batch_size: int | None,
    shuffle: Shuffle,
    rng: np.random.Generator,
    progress: Callable[[int], None],
) -> Logs:
    """Do a step for each batch; without a batch size each part of a stream is one."""
    loss_sum = weight_sum = 0.0
    results: list[Result] = []
    for part in samples.parts():
        size = min(batch_size or len(part), len(part))
        order = None if batch_size is None else batch_order(len(part), shuffle, rng, size)
        outputs = np.empty((len(part), network.output_size), network.dtype) if model.metrics else None
        loss, weight = network.train_epoch(part, order, size, outputs, progress)
        loss_sum, weight_sum = loss_sum + loss, weight_sum + weight
        if outputs is not None:
            turns = slice(None) if order is None else order
            weights = None if part.weights is None else part.weights[turns]
            results.append((part.targets[turns], outputs, weights))
    return {"loss": mean_loss(loss_sum, weight_sum)} | _score(model.scorers, results)


def evaluate(network: Network, samples: Samples | Stream, metrics: Mapping[str, Metric]) -> Logs:
    """Return the loss and the metrics on samples."""
    loss_sum = weight_sum = 0.0
    results: list[Result] = []
    for part in samples.parts():
        loss, weight, outputs = network.evaluate(part)
        loss_sum, weight_sum = loss_sum + loss, weight_sum + weight
        if metrics:
            results.append((part.targets, outputs, part.weights))
    return {"loss": mean_loss(loss_sum, weight_sum)} | _score(metrics, results)


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
