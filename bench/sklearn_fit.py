"""``python -m bench.sklearn_fit``: seconds that ``fit`` takes, beside scikit-learn at equal settings.

Both estimators get the same rows, ``random_state`` and number of epochs, in one process, in turn: A B A B. On
one core the process is pinned to it; with ``all`` nothing is set, and both take the threads they would take
anyhow. The floor is what the products of the training steps would take at the rate of fused multiply-adds
that the same cores reach with all operands in registers, measured between the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.neural_network
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastbp as bp
import fastbp.sklearn
from bench import report, tables
from bench.about import about
from bench.tables import number, percent
from fastbp import machine


@dataclass(frozen=True)
class Table:
    """Rows, and the settings of the estimators that are not the default."""

    load: Callable[[], tuple[Any, Any]]
    hidden: tuple[int, ...]
    epochs: int


def covertype() -> tuple[Any, Any]:
    """As many rows, columns and classes as a large part of the forest covertype data has."""
    X, y = make_classification(
        100_000, 54, n_informative=20, n_classes=7, n_clusters_per_class=2, random_state=0
    )
    return X, y


TABLES = {
    "breast cancer": Table(lambda: load_breast_cancer(return_X_y=True), (100,), 100),
    "digits": Table(lambda: load_digits(return_X_y=True), (64, 32), 50),
    "covertype-shaped": Table(covertype, (100,), 5),
}
CORES, SOLVERS, DTYPES = ("1", "all"), ("adam", "sgd"), ("float32", "float64")


@dataclass
class Result:
    """Seconds of each fit on one table, and what they have to be compared with."""

    table: str
    units: list[int]
    epochs: int
    solver: str
    dtype: str
    flops: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    difference: float = 0.0
    peak: float | None = None

    @property
    def floor(self) -> float | None:
        """Seconds of the products at the FMA peak."""
        return self.flops / self.peak if self.peak else None

    @property
    def ratio(self) -> float:
        """Median over the rounds of scikit-learn's time over ours."""
        return statistics.median(b / a for a, b in zip(self.ours, self.theirs, strict=True))


def flops(rows: int, units: Sequence[int], epochs: int) -> float:
    """Of the products: forward and weight gradients in each layer, the way back in all but the first."""
    products = [2.0 * rows * a * b for a, b in itertools.pairwise(units)]
    return epochs * (2 * products[0] + 3 * sum(products[1:]))


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


@contextmanager
def limited(cores: str) -> Iterator[None]:
    """Pin the process to one core, and its libraries to one thread; or do nothing."""
    if cores == "all":
        yield
        return
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    with bp.threads(1), threadpool_limits(1):
        if before:
            os.sched_setaffinity(0, {min(before)})
        try:
            yield
        finally:
            if before:
                os.sched_setaffinity(0, before)


def measure(name: str, solver: str, dtype: str, rounds: int) -> Result:
    """Fit in turn."""
    table = TABLES[name]
    X, y = table.load()
    X = StandardScaler().fit_transform(X).astype(dtype)
    classes = len(np.unique(y))
    units = [X.shape[1], *table.hidden, classes if classes > 2 else 1]
    parameters: dict[str, Any] = {"hidden_layer_sizes": table.hidden, "solver": solver, "random_state": 0}
    parameters |= {"max_iter": table.epochs, "tol": 0.0, "n_iter_no_change": np.inf}
    ours = fastbp.sklearn.MLPClassifier(**parameters)
    theirs = sklearn.neural_network.MLPClassifier(**parameters)
    result = Result(
        f"{name} {len(X)} × {X.shape[1]}",
        units,
        table.epochs,
        solver,
        dtype,
        flops(len(X), units, table.epochs),
    )
    peaks = [machine.fma_peak(dtype)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the epochs are too few to converge
        for estimator in (ours, theirs):  # imports, caches and frequencies
            estimator.fit(X[:2000], y[:2000])
        for _ in range(rounds):
            result.ours.append(seconds(lambda: ours.fit(X, y)))
            result.theirs.append(seconds(lambda: theirs.fit(X, y)))
            peaks.append(machine.fma_peak(dtype))
    result.peak = max((peak for peak in peaks if peak is not None), default=None)
    result.difference = abs(ours.loss_ - theirs.loss_) / theirs.loss_
    return result


HEADS = (
    "table",
    "layers",
    "epochs",
    "solver",
    "dtype",
    "fastbp s",
    "scikit-learn s",
    "scikit-learn / fastbp",
    "floor s",
    "floor / fastbp",
    "Δ loss",
)


def cells(results: Sequence[Result]) -> list[list[str]]:
    """Return the table: the least seconds of each, the median of the ratios."""
    return [
        [
            r.table,
            "-".join(map(str, r.units)),
            f"{r.epochs}",
            r.solver,
            r.dtype,
            f"{min(r.ours):.4f}",
            f"{min(r.theirs):.4f}",
            f"{r.ratio:.2f}",
            "-" if r.floor is None else f"{r.floor:.4f}",
            percent(r.floor and r.floor / min(r.ours)),
            number(r.difference, 1),
        ]
        for r in results
    ]


def title(cores: str) -> str:
    """Return a heading."""
    return "One core" if cores == "1" else "As it comes: all cores, no thread count set"


def write(path: Path, facts: dict[str, str], found: dict[str, list[Result]]) -> None:
    """Write the page."""
    introduction = (
        "Seconds of a whole `fit`, in turn with scikit-learn's from the same `random_state`: the least of "
        "the rounds, and the median of the ratios within a round. `floor` is what the matrix products of the "
        "training steps take at the FMA peak of the same cores; `Δ loss` is the difference of the last "
        "losses, relative. [What scikit-learn's users find here](../from-scikit-learn.md)."
    )
    pages = [
        "# `fit` beside scikit-learn",
        tables.markdown(("", ""), [[name, value] for name, value in facts.items()]),
        introduction,
    ]
    for cores, results in found.items():
        pages += [f"## {title(cores)}", tables.markdown(HEADS, cells(results))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(pages) + "\n", "utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.sklearn_fit", description=__doc__)
    parser.add_argument("--cores", default=",".join(CORES), help="1, all, or both (default)")
    parser.add_argument("--tables", default=",".join(TABLES), help=f"of {', '.join(TABLES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page there")
    arguments = parser.parse_args(argv)
    for option, known in (("cores", CORES), ("tables", tuple(TABLES))):
        names = getattr(arguments, option).split(",")
        for name in names:
            if name not in known:
                parser.error(f"--{option}: {name!r} is not one of {', '.join(known)}")
        setattr(arguments, option, names)
    if arguments.rounds < 1:
        parser.error("--rounds: expected at least 1")
    facts = about(["fastbp", "sklearn", "numpy"], argv, "bench.sklearn_fit")
    print(report.introduction(facts))
    found: dict[str, list[Result]] = {}
    least = len("covertype-shaped 100000 × 54"), len("64-64-32-10")
    for cores in arguments.cores:
        print(f"\n{title(cores)}\n")
        results = found[cores] = []
        with limited(cores):
            for name, solver, dtype in itertools.product(arguments.tables, SOLVERS, DTYPES):
                results.append(measure(name, solver, dtype, arguments.rounds))
                same = [result for result in results if result.dtype == dtype]
                best = max((result.peak for result in same if result.peak), default=None)
                for result in same:  # other programs only ever make the peak smaller
                    result.peak = best
                table = tables.text(HEADS, cells(results[-1:]), least)
                print(table if len(results) == 1 else table.partition("\n")[2], flush=True)
    if arguments.report:
        write(arguments.report, facts, found)
        print(f"\nreport in {arguments.report}")


if __name__ == "__main__":
    main()
