"""``python -m bench.data_sources WHAT``: what data costs that is not a float32 array in memory.

``memmap``: memory and time of training on a file, which is made for it and deleted afterwards.
``elements``: epochs on integers, float16 and sparse rows beside those on float32.
``scaled``: epochs on uint8 images whose scaling is part of the gather, beside those where it is an operation.
``sparse``: epochs and predictions of a first layer that reads sparse rows, beside those that make them dense.
``online``: single-row steps of a tiny net in one call of fit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from scipy import sparse

import fastbp as bp
from fastbp.engine import planner

COLUMNS = 1024
ROWS_AT_ONCE = 4096
ROUNDS = 5


def peak() -> float:
    """Largest resident size of this process so far, in MiB; getrusage would count its parent's too."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 2**10


def seconds(call: Callable[[], object]) -> float:
    """Time of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def regressor(*hidden: int, optimizer: str = "adam") -> bp.Sequential:
    """Return a network with one output."""
    layers = [bp.layers.Dense(units, activation="relu") for units in hidden]
    return bp.Sequential([*layers, bp.layers.Dense(1)], "mean_squared_error", optimizer, seed=0)


def memmap(gigabytes: float) -> None:
    """Make a file of float32 rows and use it in a process of its own."""
    rows = int(gigabytes * 2**30) // (4 * COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        file = open_memmap(path, "w+", np.float32, (rows, COLUMNS))
        rng = np.random.default_rng(0)
        for begin in range(0, rows, ROWS_AT_ONCE):
            part = file[begin : begin + ROWS_AT_ONCE]
            part[...] = rng.random(part.shape, np.float32)
        file.flush()
        process = multiprocessing.get_context("spawn").Process(target=use_file, args=(path,))
        process.start()
        process.join()


def use_file(path: Path) -> None:
    """Train on a file in every order, predict and evaluate."""
    X = np.load(path, mmap_mode="r")
    y = np.zeros((len(X), 1), np.float32)
    bp.set_num_threads(1)  # beside the thread that reads
    model = regressor(16)
    model.fit(np.ones((256, COLUMNS), np.float32), y[:256], batch_size=64)
    before, size = peak(), X.nbytes / 2**20
    print(f"file of {size:,.0f} MiB, {len(X):,} rows; peak of the process before: {before:.0f} MiB")
    for name, use in {
        "fit, shuffle=False": lambda: model.fit(X, y, batch_size=64, shuffle=False),
        "fit, shuffle='batch'": lambda: model.fit(X, y, batch_size=64, shuffle="batch"),
        "fit, shuffle=True": lambda: model.fit(X, y, batch_size=64),
        "predict": lambda: model.predict(X),
        "evaluate": lambda: model.evaluate(X, y),
    }.items():
        took = seconds(use)
        print(
            f"{name:20} {took:6.1f} s {size / took:6.0f} MiB/s  peak +{peak() - before:.0f} MiB", flush=True
        )


def elements() -> None:
    """Compare epochs on the same numbers in several forms, round by round."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20000, 784), np.uint8) * (rng.random((20000, 784)) < 0.2)
    y = np.zeros((len(images), 1), np.float32)
    forms: dict[str, Any] = {"float32": images.astype(np.float32)}
    forms |= {name: images.astype(name) for name in ("uint8", "float16", "int64")}
    forms["sparse uint8, 20 % stored"] = sparse.csr_matrix(images)
    model = regressor(128)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS + 1):
        for name, X in forms.items():
            times[name].append(seconds(lambda X=X: model.fit(X, y, batch_size=64)))
    base = np.array(times["float32"][1:])
    for name, X in forms.items():
        size = sum(a.nbytes for a in (X.data, X.indices, X.indptr)) if sparse.issparse(X) else X.nbytes
        ratio = float(np.median(np.array(times[name][1:]) / base))
        print(f"{name:26} {size / 2**20:6.0f} MiB  epoch / epoch on float32: {ratio:.2f}")


def compare(models: tuple[bp.Sequential, bp.Sequential], X: Any, y: Any, rounds: int = ROUNDS) -> str:
    """How many times longer the second model takes than the first, epochs and predictions round by round."""
    ratios: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        fit = [seconds(lambda model=model: model.fit(X, y, batch_size=64)) for model in models]
        predict = [seconds(lambda model=model: model.predict(X)) for model in models]
        for kept, (first, second) in zip(ratios, (fit, predict), strict=True):
            kept.append(second / first)
    return "fit {:.2f}, predict {:.2f}".format(*(float(np.median(kept[1:])) for kept in ratios))


def without(step: str, make: Callable[[], bp.Sequential], X: Any, y: Any) -> bp.Sequential:
    """Return a model whose plans are made without a step of the planner."""
    kept = getattr(planner, step)
    setattr(planner, step, list)
    try:
        model = make()
        model.fit(X, y, batch_size=64)
        model.predict(X)  # both plans exist now
        return model
    finally:
        setattr(planner, step, kept)


def scaled() -> None:
    """Compare scaling in the gather with scaling by itself."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20000, 784), np.uint8)
    y = rng.integers(0, 10, len(images))
    bp.set_num_threads(1)

    def classifier(first: bp.layers.Layer) -> bp.Sequential:
        layers = [first, bp.layers.Dense(128, activation="relu"), bp.layers.Dense(10, activation="softmax")]
        return bp.Sequential(layers, "cross_entropy", "adam", seed=0)

    def normalization() -> bp.layers.Layer:
        layer = bp.layers.Normalization()
        layer.adapt(images)
        return layer

    for name, first in {
        "Rescaling": lambda: bp.layers.Rescaling(1 / 255),
        "Normalization": normalization,
    }.items():
        apart = without("_scale_inputs", lambda first=first: classifier(first()), images, y)
        ratios = compare((classifier(first()), apart), images, y, 3 * ROUNDS)
        print(f"{name}: by itself / in the gather: {ratios}")


def sparse_rows() -> None:
    """Compare a first layer that reads sparse rows with one that gets dense rows."""
    rng = np.random.default_rng(0)
    bp.set_num_threads(1)
    for columns, density, units in (
        (20000, 0.001, 128),
        (20000, 0.01, 128),
        (20000, 0.01, 16),
        (2000, 0.02, 64),
        (784, 0.05, 128),
        (784, 0.12, 128),
        (100, 0.1, 10),
    ):
        X = sparse.random_array((2560, columns), density=density, format="csr", dtype=np.float32, rng=rng)
        y = rng.normal(size=(X.shape[0], 1))
        dense = without("_read_sparse", lambda units=units: regressor(units), X, y)
        ratios = compare((regressor(units), dense), X, y)
        print(
            f"{columns:6} columns, {density:5.1%} stored, {units:3} units: dense / sparse {ratios}",
            flush=True,
        )


def online() -> None:
    """Count single-row steps of the net 4-16-16-1 per second, and per second of one core's time."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500_000, 4)).astype(np.float32)
    y = X[:, :1] * X[:, 1:2]
    bp.set_num_threads(1)
    for optimizer in ("sgd", "adam"):
        model = regressor(16, 16, optimizer=optimizer)
        times, core = [], []
        for _ in range(ROUNDS):
            begin = time.process_time()
            times.append(seconds(lambda model=model: model.fit(X, y, batch_size=1, shuffle=False)))
            core.append(time.process_time() - begin)
        rate, of_core = len(X) / min(times), len(X) / min(core)
        print(f"{optimizer:5} {rate:,.0f} steps/s, {of_core:,.0f} per second of the core")


WHAT = {"elements": elements, "scaled": scaled, "sparse": sparse_rows, "online": online}


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("memmap", *WHAT))
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the file")
    arguments = parser.parse_args()
    if arguments.what == "memmap":
        memmap(arguments.gigabytes)
    else:
        WHAT[arguments.what]()


if __name__ == "__main__":
    main()
