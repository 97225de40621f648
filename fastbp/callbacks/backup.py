"""The callback that lets an interrupted training go on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from fastbp import checkpoint, model_file
from fastbp.callbacks.base import Callback
from fastbp.checkpoint import Cursor
from fastbp.checks import check_count, check_flag

if TYPE_CHECKING:
    pass


class BackupAndRestore(Callback):
    """Keep a checkpoint of the training, and go on from it when the same `fit` is called again.

    After a crash, a kill or a power failure, run the same program again: `fit` finds the checkpoint, gives
    the model, the optimizer, the random numbers, the history and the other callbacks the state they had,
    and trains on from there. The result has the same bits as that of a training that was never interrupted.

    The checkpoint is one file, replaced as a whole: it is never half written. `fit` raises an OSError if it
    cannot write the first one. If a later one fails, because the disk is full, say, training goes on with
    a RuntimeWarning, the checkpoint from before stays, and the next one is tried when its time comes.

    The data must be the same and so must `batch_size`, `shuffle`, model, loss and optimizer; `epochs` may
    be larger. Other callbacks must be made of the same classes; one of your own that remembers anything
    overrides :meth:`Callback.state` and :meth:`Callback.set_state`.

    Parameters
    ----------
    filepath : str or path
        The checkpoint; :func:`fastbp.load` can read it too. Its folder must exist.
    save_freq : "epoch" or int
        With a number: also after every so many batches of an epoch. Between them the engine runs as ever.
    delete_checkpoint : bool
        Delete it when training is over, as Keras does; a diverged training keeps it.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp as bp
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "run.safetensors")
    >>> def train(*callbacks):
    ...     model = bp.Sequential([bp.layers.Dense(1)], loss="mse", seed=0)
    ...     backup = bp.callbacks.BackupAndRestore(path)
    ...     return model.fit([[0.0], [1.0]], [0.0, 1.0], epochs=9, callbacks=[backup, *callbacks])
    >>> def fail(epoch):
    ...     if epoch == 5:
    ...         raise OSError("power failure")
    >>> train(bp.callbacks.LambdaCallback(on_epoch_begin=fail))
    Traceback (most recent call last):
    OSError: power failure
    >>> begun = []
    >>> history = train(bp.callbacks.LambdaCallback(on_epoch_begin=begun.append))
    >>> begun, len(history.epoch), os.listdir(folder.name)
    ([5, 6, 7, 8], 9, [])
    >>> folder.cleanup()
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        save_freq: Literal["epoch"] | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        self.filepath = os.fspath(filepath)
        self.save_freq = save_freq if save_freq == "epoch" else check_count("save_freq", save_freq)
        self.delete_checkpoint = check_flag("delete_checkpoint", delete_checkpoint)

    @property
    def batches(self) -> int | None:
        """After how many batches of an epoch to save; None: only between epochs."""
        return None if self.save_freq == "epoch" else int(self.save_freq)

    # Training calls these itself: a checkpoint holds what the hooks of all other callbacks have done.

    def begin(self, cursor: Cursor, callbacks: Sequence[Callback], data: dict[str, Any]) -> Cursor:
        """Return where to go on: from the checkpoint, if there is one, else from `cursor`."""
        self._others = [callback for callback in callbacks if callback is not self]
        self._data = data
        model_file.remove_leftovers(self.filepath)
        if os.path.exists(self.filepath):
            return checkpoint.read(self.filepath, self.model, self._others, data)
        checkpoint.write(self.filepath, self.model, cursor, self._others, data)
        return cursor

    def save(self, cursor: Cursor) -> None:
        """Write a checkpoint; a disk that fails does not end the training."""
        try:
            checkpoint.write(self.filepath, self.model, cursor, self._others, self._data)
        except OSError as error:
            place = f"in epoch {cursor.epoch + 1}" if cursor.position else f"after epoch {cursor.epoch}"
            warnings.warn(
                f"no checkpoint {place}: {error}. Training goes on, and what was in the file before is still "
                "there.",
                RuntimeWarning,
                stacklevel=2,
            )

    def end(self) -> None:
        """Delete the checkpoint, if that is wanted."""
        if self.delete_checkpoint and os.path.exists(self.filepath):
            os.unlink(self.filepath)
