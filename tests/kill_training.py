"""Kills a training at random moments and checks what it leaves behind: `python tests/kill_training.py 200`.

Each time the checkpoint must be readable and not older than the last one that was completed, and in the end
the training must come out with the same bits as one that was never interrupted.
"""

import hashlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fastbp as bp
from fastbp import checkpoint, model_file, optimizers


def kinds(base=optimizers.Optimizer):
    for kind in base.__subclasses__():
        if kind.key and kind.kind and kind.__module__.startswith("fastbp."):
            yield kind
        yield from kinds(kind)


def make_optimizers():
    """All optimizers of the library, and those of their options that keep more state."""
    more = [
        optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        optimizers.RMSprop(0.001, momentum=0.9, centered=True),
        optimizers.SGD(0.1, gradient_accumulation_steps=3, use_ema=True, ema_momentum=0.9),
    ]
    return [kind(learning_rate=1e-3) for kind in kinds()] + more


def make_model(optimizer):
    layers = [
        bp.layers.Dense(16, activation="relu"),
        bp.layers.Dropout(0.3),
        bp.layers.Dense(3, activation="softmax"),
    ]
    return bp.Sequential(layers, "cross_entropy", optimizer, metrics=["accuracy", "log_loss"], seed=1)


def make_data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 8)).astype("float32")
    return X, (X[:, 0] > 0) + (X[:, 1] > 0.5).astype(int)


def make_callbacks(folder):
    return [
        bp.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=1.0, factor=0.9),
        bp.callbacks.EarlyStopping("val_accuracy", patience=5, restore_best_weights=True),
        bp.callbacks.CSVLogger(Path(folder) / "log.csv"),
        bp.callbacks.BackupAndRestore(Path(folder) / "checkpoint", save_freq=4),
    ]


def fingerprint(model, folder):
    """SHA-256 of everything that a training leaves."""
    network = model._require_network()
    sha = hashlib.sha256()
    for array in (network.counters, *network.tensors(optimizer=True).values()):
        sha.update(array.tobytes())
    history = {"history": model.history.history, "optimizer": repr(model.optimizer)}
    sha.update(json.dumps(history).encode())
    sha.update(json.dumps(model._rng.bit_generator.state).encode())
    sha.update((Path(folder) / "log.csv").read_bytes())
    return sha.hexdigest()


def train(optimizer, folder):
    """Train to the end; tell of each checkpoint that is complete, and of the result."""
    write = checkpoint.write
    told = os.open(Path(folder) / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write_and_tell(path, model, cursor, callbacks, data):
        write(path, model, cursor, callbacks, data)
        os.write(told, f"{cursor.epoch} {cursor.position}\n".encode())

    checkpoint.write = write_and_tell
    X, y = make_data()
    model = make_model(optimizer)
    model.fit(
        X,
        y,
        epochs=4,
        batch_size=9,
        class_weight="balanced",
        validation_split=0.2,
        callbacks=make_callbacks(folder),
    )
    os.close(told)
    (Path(folder) / "result").write_text(fingerprint(model, folder))


def start(optimizer, folder):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    process = context.Process(target=train, args=(optimizer, folder))
    process.start()
    return process


def check(folder):
    """Check the checkpoint against what the training told; return where it is."""
    told, path = Path(folder) / "told", Path(folder) / "checkpoint"
    lines = told.read_text().splitlines() if told.exists() else []
    if not lines:
        return None
    if not path.exists():  # the training was over, and has deleted it: the next one starts anew
        assert int(lines[-1].split()[0]) > 1, "the checkpoint is gone"
        told.unlink()
        return None
    description = model_file.read(path)[1]["training"]
    bp.load(path)
    found = description["epoch"], description["position"]
    assert found >= tuple(map(int, lines[-1].split())), f"{found} is older than {lines[-1]}"
    return found


def undisturbed(optimizer):
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        process = start(optimizer, folder)
        process.join()
        assert process.exitcode == 0
        return (Path(folder) / "result").read_text(), time.perf_counter() - begin


def disturbed(optimizer, kills, longest):
    """Kill the training that often, at any moment; return its result and where the kills struck."""
    struck = []
    while True:
        with tempfile.TemporaryDirectory() as folder:
            while True:
                process = start(optimizer, folder)
                if len(struck) < kills:
                    process.join(random.uniform(0, longest))
                    if process.is_alive():
                        process.kill()
                        process.join()
                        struck.append(check(folder))
                        continue
                process.join()
                assert process.exitcode == 0, process.exitcode
                break
            result = (Path(folder) / "result").read_text()
            left = sorted(os.listdir(folder))
            assert left == ["log.csv", "result", "told"], left
        if len(struck) == kills:
            return result, struck


def main(kills):
    choices = make_optimizers()[: max(1, kills // 5)]
    share, rest = divmod(kills, len(choices))
    places, total = set(), 0
    for number, optimizer in enumerate(choices):
        expected, seconds = undisturbed(optimizer)
        count = share + (number < rest)
        result, struck = disturbed(optimizer, count, seconds)
        assert result == expected, f"{optimizer!r}: {result} instead of {expected}"
        places |= set(struck)
        total += count
        print(f"{optimizer!r}: {count} kills, SHA-256 {result[:16]} as without")
    print(f"{total} kills, checkpoints at {len(places)} different places")


if __name__ == "__main__":
    main(int(sys.argv[1]))
