"""``python -m bench.sklearn_fit``: seconds that ``fit`` takes, beside scikit-learn at equal settings.

Both estimators get the same rows, ``random_state`` and number of epochs, in one process on as many cores as
are asked for, in turn: A B A B. The losses that they end with are compared. The floor is the time that the
products of the training steps would take at the rate of the best large product seen between the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.neural_network
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastbp as bp
import fastbp.sklearn


@dataclass(frozen=True)
class Table:
    """Rows, and the settings of the estimators that are not the default."""

    load: Callable[[], tuple[Any, Any]]
    hidden: tuple[int, ...]
    epochs: int


def _covertype() -> tuple[Any, Any]:
    """As many rows, columns and classes as a large part of the forest covertype data has."""
    X, y = make_classification(
        100_000, 54, n_informative=20, n_classes=7, n_clusters_per_class=2, random_state=0
    )
    return X, y


TABLES = {
    "breast cancer": Table(lambda: load_breast_cancer(return_X_y=True), (100,), 100),
    "digits": Table(lambda: load_digits(return_X_y=True), (64, 32), 50),
    "covertype": Table(_covertype, (100,), 5),
}
SOLVERS = ("adam", "sgd")


def flops(rows: int, units: list[int], epochs: int) -> float:
    """Of the products: forward and weight gradients in each layer, the way back in all but the first."""
    products = [2.0 * rows * a * b for a, b in itertools.pairwise(units)]
    return epochs * (2 * products[0] + 3 * sum(products[1:]))


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


@dataclass
class Result:
    """Seconds of each fit, by how much the losses differ, and the best FLOP/s of a large product."""

    ours: list[float]
    theirs: list[float]
    difference: float
    rate: float


def measure(table: Table, solver: str, dtype: str, rounds: int) -> Result:
    """Fit in turn."""
    X, y = table.load()
    X = StandardScaler().fit_transform(X).astype(dtype)
    parameters: dict[str, Any] = {"hidden_layer_sizes": table.hidden, "solver": solver, "random_state": 0}
    parameters |= {"max_iter": table.epochs, "tol": 0.0, "n_iter_no_change": np.inf}
    ours = fastbp.sklearn.MLPClassifier(**parameters)
    theirs = sklearn.neural_network.MLPClassifier(**parameters)
    for estimator in (ours, theirs):  # imports, caches and frequencies
        estimator.fit(X[:2000], y[:2000])
    a = np.random.default_rng(0).normal(size=(768, 768)).astype(dtype)
    result = Result([], [], 0.0, 0.0)
    for _ in range(rounds):
        result.ours.append(seconds(lambda: ours.fit(X, y)))
        result.theirs.append(seconds(lambda: theirs.fit(X, y)))
        result.rate = max(result.rate, 2 * len(a) ** 3 / seconds(lambda: bp.kernels.matmul(a, a)))
    result.difference = abs(ours.loss_ - theirs.loss_) / theirs.loss_
    return result


HEADS = "table", "layers", "epochs", "solver", "dtype", "fastbp", "scikit-learn", "ratio", "floor", "Δ loss"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.sklearn_fit", description=__doc__)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--tables", default=",".join(TABLES), help=f"of {', '.join(TABLES)}")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    warnings.simplefilter("ignore")  # the epochs are too few to converge
    print(f"| {' | '.join(HEADS)} |\n{'|---' * len(HEADS)}|")
    rates: dict[str, float] = {}
    for name, solver, dtype in itertools.product(
        arguments.tables.split(","), SOLVERS, ("float32", "float64")
    ):
        table = TABLES[name]
        X, y = table.load()
        classes = len(np.unique(y))
        units = [X.shape[1], *table.hidden, classes if classes > 2 else 1]
        with bp.threads(arguments.cores), threadpool_limits(arguments.cores):
            r = measure(table, solver, dtype, arguments.rounds)
        rates[dtype] = max(r.rate, rates.get(dtype, 0))
        ratio = statistics.median(b / a for a, b in zip(r.ours, r.theirs, strict=True))
        share = flops(len(X), units, table.epochs) / rates[dtype] / min(r.ours)
        row = f"{name} {len(X)} × {X.shape[1]}", "-".join(map(str, units)), table.epochs, solver, dtype
        times = f"{min(r.ours):.3f} s", f"{min(r.theirs):.3f} s", f"{ratio:.1f}", f"{share:.0%}"
        print(f"| {' | '.join(map(str, (*row, *times)))} | {r.difference:.0e} |", flush=True)


if __name__ == "__main__":
    main()
