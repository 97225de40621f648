"""A training in a file: the model, and where in which epoch it is. :class:`BackupAndRestore` writes them.

The file is a model file, so that :func:`fastbp.load` reads it as well. Tensors whose names begin with a dot
belong to the training: histories, predictions of the epoch so far, arrays of callbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastbp import model_file, saving
from fastbp.optimizers import Optimizer

if TYPE_CHECKING:
    from fastbp.callbacks import Callback
    from fastbp.model import Sequential


@dataclass
class Cursor:
    """Where a training is.

    Attributes
    ----------
    epoch : int
        Counted from 0.
    position : int
        Samples of the epoch that are done, of a stream those of its part.
    batch : int
        Batches of the epoch that are done.
    sums : (float, float)
        Of the epoch so far: weight times loss, and weight.
    outputs : ndarray or None
        Predictions of the epoch, up to `position`, when there are metrics.
    random : dict or None
        State of the generator before it drew the order of the epoch; None between epochs.
    """

    epoch: int = 0
    position: int = 0
    batch: int = 0
    sums: tuple[float, float] = (0.0, 0.0)
    outputs: NDArray[Any] | None = None
    random: dict[str, Any] | None = field(default=None, repr=False)


def write(
    path: str, model: Sequential, cursor: Cursor, callbacks: Sequence[Callback], data: dict[str, Any]
) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path : str
    model : Sequential
    cursor : Cursor
    callbacks : sequence of Callback
        Their states are kept.
    data : dict of JSON data
        What must be the same when training is resumed.

    Raises
    ------
    OSError
        When the file cannot be written; what was there before is untouched.
    TypeError, ValueError
        When a part of the model or a callback's state has no form in JSON.
    """
    description, tensors = saving.describe(model, optimizer=True, own_metrics=True)
    if cursor.random is not None:
        description["resume"]["random"] = saving.plain(cursor.random)
    history = model.history
    for name, values in history.history.items():
        tensors[f".history.{name}"] = np.array(values, np.float64)  # JSON has no NaN
    if cursor.outputs is not None:
        tensors[".outputs"] = cursor.outputs[: cursor.position]
    states = []
    for number, callback in enumerate(callbacks):
        state = callback.state()
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        tensors |= {f".callbacks.{number}.{name}": value for name, value in arrays.items()}
        states.append(
            {
                "class": type(callback).__name__,
                "state": {name: value for name, value in state.items() if name not in arrays},
                "arrays": list(arrays),
            }
        )
    description["training"] = {
        "epoch": cursor.epoch,
        "position": cursor.position,
        "batch": cursor.batch,
        "sums": cursor.sums,
        "stopped": model.stop_training,
        "epochs": history.epoch,
        "history": list(history.history),
        "callbacks": states,
        "data": data,
    }
    model_file.write(path, tensors, description)


def read(path: str, model: Sequential, callbacks: Sequence[Callback], data: dict[str, Any]) -> Cursor:
    """Bring a model, its history and its callbacks to where a checkpoint is, and return its cursor.

    The states of callbacks go to those of the same class, in their order.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is damaged, or of another model or other data.
    """
    tensors, saved = model_file.read(path)
    try:
        if "training" not in saved:
            raise ValueError("it holds a model, but no training to go on with")
        _compare(saved, model, data)
        training = saved["training"]
        saving.fill(model, saved, tensors)
        model.optimizer.learning_rate = Optimizer.from_config(saved["optimizer"]).learning_rate
        model.stop_training = training["stopped"]
        model.history.epoch[:] = training["epochs"]
        model.history.history.update(
            {name: tensors[f".history.{name}"].tolist() for name in training["history"]}
        )
        waiting = list(callbacks)
        for number, kept in enumerate(training["callbacks"]):
            match = next((c for c in waiting if type(c).__name__ == kept["class"]), None)
            if match is not None:
                waiting.remove(match)
                arrays = {name: tensors[f".callbacks.{number}.{name}"] for name in kept["arrays"]}
                match.set_state(kept["state"] | arrays)
        outputs, (loss_sum, weight_sum) = tensors.get(".outputs"), training["sums"]
        place = training["epoch"], training["position"], training["batch"]
        return Cursor(*place, (loss_sum, weight_sum), outputs)
    except (LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{path!r}: the checkpoint is damaged: {error!r}") from error
    except ValueError as error:
        hint = "To begin anew, delete it or give another path"
        raise ValueError(f"{path!r} is no checkpoint of this training: {error}. {hint}") from error


def _compare(saved: dict[str, Any], model: Sequential, data: dict[str, Any]) -> None:
    """Require the same model and data."""
    description, _ = saving.describe(model, optimizer=False, own_metrics=True)
    here = {name: description[name] for name in ("layers", "loss", "optimizer", "input_size", "dtype")} | data
    there = saved | saved["training"]["data"]
    for name, value in here.items():
        before = there[name]
        if name == "optimizer":  # callbacks change the rate; it is restored
            value, before = ({**config, "learning_rate": None} for config in (value, before))
        if value != before:
            raise ValueError(f"{name} was {_shown(before)}, and is {_shown(value)} here")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]} …"
