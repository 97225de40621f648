"""Trains on a disk that fills up, then on one that is read-only: `python tests/full_disk.py FOLDER`.

FOLDER must be a file system of its own of about 256 KiB, whose mount this process may change.
"""

import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastbp as bp


def fill(path):
    """Write until the disk is full, bit by bit: a write that is too long may leave everything as it is."""
    with path.open("wb", 0) as file:
        while True:
            file.write(bytes(1024))


def main(folder):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 32)), rng.normal(size=(40, 1))
    path, filler = folder / "run.safetensors", folder / "filler"
    seen = []

    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)

    def change(epoch):
        seen.append((path.stat().st_ino, path.read_bytes()))
        if epoch == 2:
            with pytest.raises(OSError, match="No space left on device"):
                fill(filler)
        if epoch == 4:
            filler.unlink()
        if epoch == 6:
            remount("ro")
        if epoch == 7:
            with pytest.raises(OSError, match="the model cannot be saved: Read-only file system"):
                model.save(folder / "other")
            remount("rw")

    def train(*callbacks):
        model = bp.Sequential(
            [bp.layers.Dense(64), bp.layers.Dropout(0.5), bp.layers.Dense(1)], "mse", seed=0
        )
        return model, lambda: model.fit(X, Y, epochs=9, callbacks=list(callbacks))

    plain, run = train()
    run()
    backup = bp.callbacks.BackupAndRestore(path, delete_checkpoint=False)
    model, run = train(backup, bp.callbacks.LambdaCallback(on_epoch_begin=change))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    messages = [str(warning.message) for warning in caught]
    print(*messages, sep="\n")
    assert [message.partition(":")[0] for message in messages] == [
        f"no checkpoint after epoch {n}" for n in (3, 4, 7)
    ]
    assert "No space left on device" in messages[0] and "write-protected" in messages[2]
    # after epochs 2, 3 and 6 the file is the one from before
    changed = [a != b for a, b in itertools.pairwise(seen)]
    assert changed == [True, True, False, False, True, True, False, True], changed
    assert (model.parameters == plain.parameters).all()
    assert (bp.load(path).parameters == plain.parameters).all()
    assert set(os.listdir(folder)) - {"lost+found"} == {path.name}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
