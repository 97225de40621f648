"""What the commands of ``fastbp`` do: train, predict, info.

Errors are exceptions here; :mod:`fastbp.cli` turns them into one line and an exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp.config import config
from fastbp.console import say
from fastbp.datasets import load_digits, split_rows
from fastbp.preprocessing import Preprocessing, choose_task
from fastbp.table import TableError, read_table

CLASSIFICATION_LOSSES = ("cross_entropy",)
REGRESSION_LOSSES = ("mean_squared_error", "mean_absolute_error", "huber")
FEWEST_ROWS = 10

# Without --epochs a table gets about this many optimizer steps, within limits.
STEPS = 3000
FEWEST_EPOCHS, MOST_EPOCHS = 10, 200

DIGITS = {"layers": (256,), "dropout": 0.3, "epochs": 30, "batch_size": 32, "learning_rate": 2e-3}
DIGITS_SPLIT = 0  # seed of the split; --seed varies the network on the same test images
TABLE = {"layers": (64, 64), "dropout": 0.0, "batch_size": 32, "learning_rate": 1e-3}


def train_digits(arguments: argparse.Namespace) -> None:
    """Train on the handwritten digits and say how well it went."""
    if arguments.target is not None:
        raise ValueError("--target needs a table: fastbp train table.csv --target NAME")
    _fill(arguments, DIGITS)
    out = None if arguments.out is None else _writable(arguments.out)
    X, y = load_digits()
    X /= 16  # pixels 0..16
    train, test = split_rows(y, arguments.validation_split, seed=DIGITS_SPLIT)
    say(
        f"data       UCI handwritten digits, 8 x 8: {len(train)} images for training, {len(test)} for testing"
    )
    model = _network(arguments, inputs=64, outputs=10, task="classification")
    with _threads(arguments.threads):
        speed = _fit(model, arguments, X[train], y[train])
        if out:
            _save(model, out, {})
        if len(test):
            accuracy = float(np.mean(model.predict(X[test]).argmax(axis=1) == y[test]))
            say(f"test       accuracy {accuracy:.4f}")
        say(speed)
    if out:
        say(f"saved      {out}")
    say("\nWhat next:")
    say("  fastbp train table.csv --target COLUMN                  train on a table of your own")
    say('  python -c "import fastbp as bp; help(bp.Sequential)"    the same in Python, with an example')
    say("  fastbp info                                             what this machine offers")


def train_table(arguments: argparse.Namespace) -> None:
    """Train on a table, compare with a trivial guess, and save the model."""
    if arguments.target is None:
        raise ValueError("--target NAME is needed: the column to predict")
    name = Path(arguments.table).stem + ".safetensors" if arguments.out is None else arguments.out
    out = _writable(name, inputs=[arguments.table])
    table = read_table(arguments.table, arguments.delimiter)
    target = arguments.target
    task, reason = choose_task(table, target, arguments.task)
    known = np.flatnonzero([bool(text) for text in table.texts(target)])
    if len(known) < FEWEST_ROWS:
        raise TableError(
            f"{table.source}: {len(known)} rows with a target; training needs {FEWEST_ROWS} at least"
        )
    strata = np.array(table.texts(target))[known] if task == "classification" else np.zeros(len(known))
    train, held_out = (known[part] for part in split_rows(strata, arguments.validation_split, arguments.seed))
    preprocessing = Preprocessing.fit(table, target, task, train)
    X = preprocessing.transform(table, arguments.dtype)
    y = preprocessing.targets(table)

    _fill(arguments, TABLE)
    if arguments.epochs is None:
        steps = math.ceil(len(train) / arguments.batch_size)
        arguments.epochs = min(max(round(STEPS / steps), FEWEST_EPOCHS), MOST_EPOCHS)
    classes = preprocessing.target.classes
    columns = _count(len(preprocessing.features), "column")
    say(f"data       {table.source}: {_count(table.rows, 'row')}, {columns} as {_count(X.shape[1], 'input')}")
    for name, why in preprocessing.ignored.items():
        say(f"ignored    {name!r}: {why}")
    say(f"task       {task}, {reason}" + (f", {len(classes)} classes" if classes else ""))
    missing = table.rows - len(known)
    say(
        f"rows       {len(train)} for training, {len(held_out)} held out"
        + (f", {missing} without a target left out" if missing else "")
    )
    model = _network(arguments, inputs=X.shape[1], outputs=len(classes) or 1, task=task)
    with _threads(arguments.threads):
        validation = (X[held_out], y[held_out]) if len(held_out) else None
        speed = _fit(model, arguments, X[train], y[train], validation)
        _save(model, out, {"table": preprocessing.config()})
        if len(held_out):
            say("held out   " + _score(preprocessing, model.predict(X[held_out]), y[train], y[held_out]))
        say(speed)
    say(f"saved      {out}")
    say(f"\nWhat next:\n  fastbp predict {out} {table.source}")


def predict(arguments: argparse.Namespace) -> None:
    """Write a prediction for each row of a table."""
    out = None if arguments.out is None else _writable(arguments.out, [arguments.table, arguments.model])
    model = bp.load(arguments.model)
    stored = model.metadata.get("table")
    if stored is None:
        raise ValueError(
            f"{arguments.model}: a model without a table's preprocessing; `fastbp train TABLE` writes it"
        )
    preprocessing = Preprocessing.from_config(stored)
    classes = preprocessing.target.classes
    if (model.input_size, model.output_size) != (len(preprocessing.inputs), len(classes) or 1):
        raise ValueError(f"{arguments.model}: the preprocessing in the file does not fit its network")
    if arguments.proba and not classes:
        raise ValueError("--proba is for classification; this model predicts a number")
    table = read_table(arguments.table, arguments.delimiter)
    X = preprocessing.transform(table, model.dtype)
    with _threads(arguments.threads):
        outputs = model.predict(X)
    header = ["prediction"]
    columns: list[Iterable[str]] = [
        preprocessing.decode(outputs).tolist() if classes else _formatted(preprocessing.decode(outputs))
    ]
    if arguments.proba:
        header += [f"probability of {name}" for name in classes]
        columns += [_formatted(column) for column in outputs.T]
    if out is None and sys.stdout is None:
        raise ValueError("standard output is closed; use --out FILE")
    with open(out, "w", encoding="utf-8", newline="") if out else contextlib.nullcontext(sys.stdout) as file:
        writer = csv.writer(file, lineterminator="\n")
        try:
            writer.writerow(header)
            writer.writerows(zip(*columns, strict=True))
        except UnicodeEncodeError as error:
            raise ValueError(
                f"standard output ({error.encoding}) cannot show all classes; use --out FILE"
            ) from None


def info(path: str | None) -> None:
    """Show the configuration, or what is in a model file."""
    if path is None:
        bp.show_config()
        return
    model = bp.load(path)
    say(model.summary())
    stored = model.metadata.get("table")
    if stored is not None:
        preprocessing = Preprocessing.from_config(stored)
        target = preprocessing.target
        say(f"task       {target.task} of {target.name!r}")
        if target.classes:
            say(f"classes    {', '.join(target.classes)}")
        say(f"columns    {', '.join(column.name for column in preprocessing.features)}")


def _network(arguments: argparse.Namespace, inputs: int, outputs: int, task: str) -> bp.Sequential:
    classify = task == "classification"
    losses = CLASSIFICATION_LOSSES if classify else REGRESSION_LOSSES
    loss = arguments.loss or losses[0]
    if loss not in losses:
        raise ValueError(f"--loss for {task} must be {' or '.join(losses)}, not {loss}")
    layers: list[Any] = []
    for units in arguments.layers:
        layers.append(bp.layers.Dense(units, activation=arguments.activation))
        if arguments.dropout:
            layers.append(bp.layers.Dropout(arguments.dropout))
    layers.append(bp.layers.Dense(outputs, activation="softmax" if classify else "linear"))
    optimizers = {
        "adam": bp.optimizers.Adam,
        "adamw": bp.optimizers.AdamW,
        "rmsprop": bp.optimizers.RMSprop,
        "sgd": bp.optimizers.SGD,
    }
    return bp.Sequential(
        layers,
        loss=loss,
        optimizer=optimizers[arguments.optimizer](learning_rate=arguments.learning_rate),
        metrics=["accuracy"] if classify else [],
        dtype=arguments.dtype,
        seed=arguments.seed,
        input_size=inputs,
    )


def _fit(
    model: bp.Sequential,
    arguments: argparse.Namespace,
    X: NDArray[Any],
    y: NDArray[Any],
    validation: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> str:
    """Train with a progress bar on a terminal and a line for each epoch elsewhere; return the speed."""
    say(f"\n{model.summary()}\n")
    terminal = all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training diverged", RuntimeWarning)
        try:
            model.fit(
                X,
                y,
                epochs=arguments.epochs,
                batch_size=arguments.batch_size,
                validation_data=validation,
                callbacks=() if terminal else (_EpochLines(arguments.epochs),),
                verbose=1 if terminal else 0,
            )
        except RuntimeWarning as error:
            raise ValueError(str(error)) from None
    seconds = time.perf_counter() - start
    facts = config()
    where = facts["isa"] if facts["backend"] == "native" else "NumPy reference"
    rate = len(X) * arguments.epochs / seconds
    say()
    threads = _count(bp.get_num_threads(), "thread")
    return f"speed      {rate:,.0f} samples per second in training, {seconds:.2f} s ({where}, {threads})"


class _EpochLines(bp.callbacks.Callback):
    """A line for each epoch."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        say(f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {numbers}")


def _score(
    preprocessing: Preprocessing, outputs: NDArray[Any], train: NDArray[Any], held_out: NDArray[Any]
) -> str:
    """Quality on the held-out rows, and that of the best answer that looks at no column."""
    target = preprocessing.target
    if target.task == "classification":
        accuracy = np.mean(outputs.argmax(axis=1) == held_out)
        majority = np.bincount(train, minlength=len(target.classes)).argmax()
        trivial = np.mean(held_out == majority)
        return f"accuracy {accuracy:.4f}; always saying {target.classes[majority]!r}: {trivial:.4f}"
    errors = (outputs[:, 0] - held_out) * target.scale
    deviations = (train.mean() - held_out) * target.scale
    rmse, trivial = (math.sqrt(float(np.mean(differences**2))) for differences in (errors, deviations))
    explained = f", R2 {1 - (rmse / trivial) ** 2:.4f}" if trivial else ""
    absolute = float(np.abs(errors).mean())
    quality = f"RMSE {rmse:.6g}, mean absolute error {absolute:.6g}{explained}"
    return f"{quality}; always saying the mean: RMSE {trivial:.6g}"


def _fill(arguments: argparse.Namespace, defaults: dict[str, Any]) -> None:
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def _writable(path: str, inputs: Sequence[str] = ()) -> Path:
    """Make sure, before the work, that a file can be written at its end."""
    out = Path(path)
    if out.exists():
        if not out.is_file():
            raise ValueError(f"--out {out}: not a regular file")
        if any(os.path.exists(other) and out.samefile(other) for other in inputs):
            raise ValueError(f"--out {out}: this is an input, and would be overwritten")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write in {out.parent} ({error.strerror})") from None
    return out


def _save(model: bp.Sequential, path: Path, metadata: dict[str, Any]) -> None:
    """Save a model; if the place fails after all, save it in a temporary folder."""
    try:
        model.save(path, metadata=metadata)
    except OSError as error:
        rescue = Path(tempfile.mkdtemp(prefix="fastbp-")) / path.name
        model.save(rescue, metadata=metadata)
        raise ValueError(
            f"--out {path}: {error.strerror or error}; the model is in {rescue} instead"
        ) from error


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    with bp.threads(count) if count else contextlib.nullcontext():
        yield


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _formatted(numbers: NDArray[Any]) -> list[str]:
    return [f"{number:.7g}" for number in numbers.tolist()]
