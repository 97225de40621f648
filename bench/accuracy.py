"""``python -m bench.accuracy``: time to a test accuracy on Fashion-MNIST, whole processes, start to exit.

The network is the MLP 256-128-100 with ReLU that the data set's own benchmark lists with a test accuracy of
0.8833; Adam at its default rate, batches of 128, the test images after each epoch. Every process reads the
compressed files itself.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench import tables
from bench.processes import environment

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
HIDDEN, CLASSES, BATCH = (256, 128, 100), 10, 128
TARGET, MOST_EPOCHS = 0.88, 50
PEERS = {"fastbp": "fastbp", "torch": "torch", "sklearn": "sklearn"}
"""Opponent to the module that it needs."""

Epoch = Callable[[], np.ndarray]
"""Trains for an epoch and returns the predicted classes of the test images."""


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
    return images.reshape(len(images), -1) / np.float32(255), labels.astype(np.int64)


def start_fastbp(X: Any, y: Any, X_test: Any, cores: int, seed: int) -> Epoch:
    import fastbp as bp

    bp.set_num_threads(cores)
    layers = [bp.layers.Dense(units, activation="relu") for units in HIDDEN]
    model = bp.Sequential(
        [*layers, bp.layers.Dense(CLASSES, activation="softmax")],
        loss="cross_entropy",
        optimizer="adam",
        seed=seed,
    )

    def epoch() -> np.ndarray:
        model.fit(X, y, batch_size=BATCH, verbose=0)
        return model.predict(X_test).argmax(axis=1)

    return epoch


def start_torch(X: Any, y: Any, X_test: Any, cores: int, seed: int) -> Epoch:
    import torch

    torch.set_num_threads(cores)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    modules: list[torch.nn.Module] = []
    for inputs, units in zip((X.shape[1], *HIDDEN), HIDDEN, strict=False):
        modules += [torch.nn.Linear(inputs, units), torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules, torch.nn.Linear(HIDDEN[-1], CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    criterion = torch.nn.CrossEntropyLoss()
    X, y, X_test = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(X_test)

    def epoch() -> np.ndarray:
        for batch in torch.randperm(len(X)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            criterion(model(X.index_select(0, batch)), y.index_select(0, batch)).backward()
            optimizer.step()
        with torch.inference_mode():
            return model(X_test).argmax(dim=1).numpy()

    return epoch


def start_sklearn(X: Any, y: Any, X_test: Any, cores: int, seed: int) -> Epoch:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(HIDDEN, alpha=0, batch_size=BATCH, random_state=seed)

    def epoch() -> np.ndarray:
        model.partial_fit(X, y, classes=np.arange(CLASSES))
        return model.predict(X_test)

    return epoch


STARTS = {"fastbp": start_fastbp, "torch": start_torch, "sklearn": start_sklearn}


def run_alone(peer: str, folder: Path, cores: int, seed: int, target: float) -> dict[str, Any]:
    """Train in this process until the accuracy is reached."""
    X, y = load(folder, "train")
    X_test, y_test = load(folder, "t10k")
    epoch = STARTS[peer](X, y, X_test, cores, seed)
    epochs, accuracy = 0, 0.0
    while accuracy < target and epochs < MOST_EPOCHS:
        accuracy = float(np.mean(epoch() == y_test))
        epochs += 1
    return {"epochs": epochs, "accuracy": accuracy}


def measure(
    cores: Iterable[int] = (1,),
    libraries: Container[str] | None = None,
    seeds: int = 2,
    folder: Path = FOLDER,
    target: float = TARGET,
) -> list[dict[str, Any]]:
    """Run a process of each opponent in turn, seed by seed; those not installed are left out."""
    peers = [
        peer
        for peer, module in PEERS.items()
        if find_spec(module) and (libraries is None or module in libraries)
    ]
    rows = []
    for count in cores:
        of_count = {
            peer: {
                "peer": peer,
                "cores": count,
                "target": target,
                "seconds": [],
                "epochs": [],
                "accuracy": [],
            }
            for peer in peers
        }
        for seed in range(seeds):
            for peer, row in of_count.items():
                with environment(count):
                    seconds, found = run_process(peer, folder, count, seed, target)
                row["seconds"].append(seconds)
                row["epochs"].append(found["epochs"])
                row["accuracy"].append(found["accuracy"])
        rows += of_count.values()
    return rows


def run_process(
    peer: str, folder: Path, cores: int, seed: int, target: float
) -> tuple[float, dict[str, Any]]:
    """Train in a process of its own; return the seconds from its start to its end, and what it found."""
    arguments = [folder, "--cores", cores, "--target", target, "--alone", peer, "--seed", seed]
    command = [sys.executable, "-P", "-m", "bench.accuracy", *map(str, arguments)]
    path = os.pathsep.join(sys.path)  # the same packages there as here
    begin = time.perf_counter()
    result = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env=os.environ | {"PYTHONPATH": path}
    )
    return time.perf_counter() - begin, json.loads(result.stdout.splitlines()[-1])


TITLE = f"Time to a test accuracy of {TARGET} on Fashion-MNIST, whole processes"
HEADS = ("opponent", "cores", "seconds", "epochs", "reached", "opponent / fastbp")


def cells(rows: list[dict[str, Any]], limits: Any) -> list[list[str]]:
    """Return the table: medians over seeds."""
    own = {row["cores"]: statistics.median(row["seconds"]) for row in rows if row["peer"] == "fastbp"}
    table = []
    for row in rows:
        seconds, ours = statistics.median(row["seconds"]), own.get(row["cores"])
        reached = sum(accuracy >= row["target"] for accuracy in row["accuracy"])
        table.append(
            [
                row["peer"],
                f"{row['cores']}",
                f"{seconds:.2f}",
                f"{statistics.median(row['epochs']):g}",
                f"{reached} of {len(row['accuracy'])}",
                tables.number(ours and seconds / ours),
            ]
        )
    return table


def main() -> None:
    """Print the table; with --alone be one of its processes."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help=f"(default: {FOLDER})")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each opponent (default: 3)")
    parser.add_argument("--target", type=float, default=TARGET, help=f"test accuracy (default: {TARGET})")
    parser.add_argument("--alone", choices=PEERS, help="run one opponent in this process")
    parser.add_argument("--seed", type=int, default=0, help="for --alone")
    arguments = parser.parse_args()
    if arguments.alone:
        print(
            json.dumps(
                run_alone(
                    arguments.alone, arguments.folder, arguments.cores, arguments.seed, arguments.target
                )
            )
        )
    else:
        rows = measure([arguments.cores], None, arguments.seeds, arguments.folder, arguments.target)
        print(tables.text(HEADS, cells(rows, {})))


if __name__ == "__main__":
    main()
