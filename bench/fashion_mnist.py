"""``python -m bench.fashion_mnist FOLDER``: a network on Fashion-MNIST, process start included.

FOLDER holds the four IDX files of the data set (Debian: the package dataset-fashion-mnist). The network is
the MLP 256-128-100 with ReLU that the data set's own benchmark lists with a test accuracy of 0.8833.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import time
from pathlib import Path

import numpy as np

import fastbp as bp


def read_idx(path: Path) -> np.ndarray:
    """Return the array in an IDX file of unsigned bytes."""
    with gzip.open(path) as file:
        content = file.read()
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def load(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images as float32 rows from 0 to 1, and labels."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return images.reshape(len(images), -1) / np.float32(255), labels


def main() -> None:
    """Train and report after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--target", type=float, default=1.0, help="stop at this test accuracy")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    X, y = load(arguments.folder, "train")
    X_test, y_test = load(arguments.folder, "t10k")
    print(f"read in {time.perf_counter() - begin:.2f} s")

    layers = [bp.layers.Dense(units, activation="relu") for units in (256, 128, 100)]
    layers.append(bp.layers.Dense(10, activation="softmax"))
    model = bp.Sequential(layers, "cross_entropy", "adam", metrics=["accuracy"], seed=arguments.seed)

    def report(epoch: int, logs: dict[str, float]) -> None:
        scores = f"loss {logs['loss']:.4f}  test accuracy {logs['val_accuracy']:.4f}"
        print(f"epoch {epoch + 1:3}  {scores}  {time.perf_counter() - begin:6.2f} s", flush=True)
        model.stop_training = logs["val_accuracy"] >= arguments.target

    model.fit(
        X,
        y,
        epochs=arguments.epochs,
        batch_size=128,
        validation_data=(X_test, y_test),
        callbacks=[bp.callbacks.LambdaCallback(on_epoch_end=report)],
        verbose=0,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    arrays = (X.nbytes + X_test.nbytes) / 2**20
    print(f"peak memory {peak:.0f} MiB, of which {arrays:.0f} MiB images")


if __name__ == "__main__":
    main()
