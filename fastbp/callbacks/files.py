"""Callbacks that write files: the model now and then, the logs as a table."""

from __future__ import annotations

import os
from typing import Any, Literal

from fastbp.callbacks.base import Callback, Logs
from fastbp.callbacks.monitor import Monitor
from fastbp.checks import check_count, check_flag, check_number

StrPath = str | os.PathLike[str]


class ModelCheckpoint(Callback):
    """Save the model after epochs, or after a number of batches, or when it is better than before.

    Each file is a model for :func:`fastbp.load`. A file is replaced as a whole: when the disk is full, the
    error surfaces and the file from before is still there. To go on with an interrupted `fit`, use
    :class:`BackupAndRestore`.

    Parameters
    ----------
    filepath : str or path
        May hold fields: ``"{epoch:02d}-{val_loss:.3f}.safetensors"``; the epoch is counted from 1 here, as
        in Keras, and so is ``{batch}``, which between epochs is their number, 0 if that is not known.
    monitor : str
        Name in the logs, for `save_best_only`.
    verbose : {0, 1}
        1: print when it saves.
    save_best_only : bool
        Save only when the value has improved.
    save_weights_only : bool
        Leave the optimizer's state out, so that the file is smaller.
    mode : {"auto", "min", "max"}
        As in :class:`EarlyStopping`.
    save_freq : "epoch" or int
        With a number: after every so many batches, counted over all epochs. Training then calls the engine
        for one batch at a time.
    initial_value_threshold : float, optional
        The value that the first file must improve on, with `save_best_only`.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Dense(1)], loss="mse", seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save = bp.callbacks.ModelCheckpoint(os.path.join(folder, "{epoch:02d}.safetensors"))
    ...     _ = model.fit([[0.0], [1.0]], [0.0, 1.0], epochs=2, callbacks=[save])
    ...     sorted(os.listdir(folder))
    ['01.safetensors', '02.safetensors']
    """

    def __init__(
        self,
        filepath: StrPath,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Literal["epoch"] | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.monitor = Monitor(monitor, mode) if check_flag("save_best_only", save_best_only) else None
        self.save_weights_only = check_flag("save_weights_only", save_weights_only)
        self.save_freq = save_freq if save_freq == "epoch" else check_count("save_freq", save_freq)
        threshold = initial_value_threshold
        if threshold is not None:
            threshold = check_number("initial_value_threshold", threshold, "(-inf, inf)")
        self._threshold = threshold
        self._forget()

    def _forget(self) -> None:
        self.best, self.batches = self._threshold, 0

    def on_train_begin(self) -> None:
        """Forget the training before, and check that the file name can be made."""
        self._forget()
        per_epoch = self.save_freq == "epoch"
        names = self.params["metrics"] if per_epoch else ["loss"]
        if self.monitor is not None:
            self.monitor.require(self.params | {"metrics": names})
        self._path(0, 0, dict.fromkeys(names, 0.0))

    def _path(self, epoch: int, batch: int, logs: Logs) -> str:
        fields = {"epoch": epoch + 1, "batch": batch + 1, **logs}
        try:
            return self.filepath.format(**fields)
        except (LookupError, ValueError, AttributeError) as error:
            known = ", ".join(fields)
            raise ValueError(
                f"filepath {self.filepath!r} cannot be filled in with {known}: {error}"
            ) from None

    def on_epoch_begin(self, epoch: int) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save, if it is time."""
        if self.save_freq == "epoch":
            self._save(epoch, (self.params["steps"] or 0) - 1, logs)

    def wants_batches(self) -> bool:
        """Tell whether `save_freq` is a number of batches."""
        return self.save_freq != "epoch"

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Save, if it is time."""
        self.batches += 1
        if self.save_freq != "epoch" and self.batches % self.save_freq == 0:
            self._save(self._epoch, batch, logs)

    def _save(self, epoch: int, batch: int, logs: Logs) -> None:
        if self.monitor is not None:
            value = logs[self.monitor.name]
            if not self.monitor.better(value, self.best):
                return
            self.best = value
        path = self._path(epoch, batch, logs)
        self.model.save(path, optimizer=not self.save_weights_only)
        if self.verbose:
            print(f"epoch {epoch + 1}: saved {path}")

    def state(self) -> dict[str, Any]:
        """Return the best value so far and the number of batches."""
        return {"best": self.best, "batches": self.batches}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.best, self.batches = state["best"], state["batches"]


class CSVLogger(Callback):
    """Write the logs of each epoch as a row of a table.

    Parameters
    ----------
    filename : str or path
        The first row holds the names: epoch (counted from 0, as in the history), loss, ...
    separator : str
        Between the values of a row.
    append : bool
        Add to a file that is there, instead of beginning a new one.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Dense(1)], loss="mse", optimizer=bp.optimizers.SGD(0.0), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "log.csv")
    ...     _ = model.fit([[0.0]], [0.5], epochs=2, callbacks=[bp.callbacks.CSVLogger(path)])
    ...     print(open(path).read().strip())
    epoch,loss
    0,0.25
    1,0.25
    """

    def __init__(self, filename: StrPath, separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"separator must be one character, got {separator!r}")
        self.separator = separator
        self.append = check_flag("append", append)

    def on_train_begin(self) -> None:
        """Begin the file."""
        goes_on = self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0
        # The first row makes the file, so that a resumed training finds the one from before.
        self._mode = "a" if goes_on else "w"

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Write a row; the file is closed again, so that it is complete whatever comes next."""
        import csv  # not worth its time in `import fastbp`

        with open(self.filename, self._mode, newline="", encoding="utf-8") as file:
            rows = csv.writer(file, delimiter=self.separator, lineterminator="\n")
            if self._mode == "w":
                rows.writerow(["epoch", *logs])
            rows.writerow([epoch, *logs.values()])
        self._mode = "a"

    def state(self) -> dict[str, Any]:
        """Return the size of the file."""
        return {"size": os.path.getsize(self.filename) if self._mode == "a" else 0}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the file as it was: rows of epochs that will be repeated are cut off."""
        if state["size"]:
            with open(self.filename, "r+b") as file:
                file.truncate(state["size"])
            self._mode = "a"
