"""``python -m bench.threads``: is it ever slower with more threads than with one?

The seven networks and a grid of small ones, each trained by turns with one thread, with as many as there are
cores, and with 16, more than there are: that costs something, but must not collapse.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Container, Iterable
from itertools import product
from typing import Any

from bench import alone, tables
from bench.processes import Worker
from fastbp.threads import available_cores
from fastbp.workloads import NETS, Net

ROUNDS, SECONDS = 5, 0.02
MANY = 16
GRID = {
    f"{batch} x {width}": Net(
        f"{batch} x {width}",
        batch,
        (width, width, width, 4),
        "relu",
        False,
        max(2, 1_000_000 // (batch * width)),
    )
    for batch, width in product((8, 32, 128, 512, 2048), (8, 16, 32, 64, 128, 256))
}
"""Batch and width of networks with two hidden layers, four outputs and some 0.01 s of work in an epoch."""


def worker(cores: int) -> dict[str, Callable[..., Any]]:
    """Make what the process answers with."""
    import fastbp as bp
    from fastbp.benchmark import build

    def rounds(name: str, number: int) -> dict[str, list[float]]:
        net = (NETS | GRID)[name]
        model, (X, y) = build(net), net.samples()

        def seconds(threads: int, epochs: int) -> float:
            with bp.threads(threads):
                begin = time.perf_counter()
                model.fit(X, y, epochs=epochs, batch_size=net.batch, verbose=0)
                return (time.perf_counter() - begin) / (epochs * net.batches)

        sizes = {"one": 1, "full": cores, "many": MANY}
        for threads in sizes.values():
            seconds(threads, 1)
        epochs = max(1, round(SECONDS / (seconds(1, 1) * net.batches)))
        found: dict[str, list[float]] = {key: [] for key in sizes}
        for _ in range(number):
            for key, threads in sizes.items():
                found[key].append(seconds(threads, epochs))
        return found

    return {"rounds": rounds}


def measure(
    cores: Iterable[int] = (1,),
    libraries: Container[str] | None = None,
    nets: Iterable[str] = (*NETS, *GRID),
    rounds: int = ROUNDS,
) -> list[dict[str, Any]]:
    """Measure on the largest number of cores, fastbp alone."""
    count = max(cores)
    with Worker(count, worker, count) as process:
        return [{"net": name, "cores": count, **process.ask("rounds", name, rounds)} for name in nets]


TITLE = "Several threads beside one: the seven networks, and those of a grid (batch x width) that gain least"
HEADS = ("net", "cores", "1 thread, µs", "a thread a core", f"{MANY} threads")
WORST = 6


def cells(rows: list[dict[str, Any]], limits: Any) -> list[list[str]]:
    """Return the table: times of several threads over those of one."""
    seven = [row for row in rows if row["net"] in NETS]
    others = sorted((row for row in rows if row["net"] in GRID), key=lambda row: -ratio(row, "full"))
    return [
        [
            row["net"],
            f"{row['cores']}",
            tables.number(1e6 * min(row["one"]), 4),
            f"{ratio(row, 'full'):.2f}",
            f"{ratio(row, 'many'):.2f}",
        ]
        for row in seven + others[:WORST]
    ]


def ratio(row: dict[str, Any], key: str) -> float:
    """Return the time over that of one thread: of the fastest rounds, or of the pairs, whichever is less.

    Other programs only ever make a time longer.
    """
    pairs = [many / one for many, one in zip(row[key], row["one"], strict=True)]
    return min(min(row[key]) / min(row["one"]), statistics.median(pairs))


if __name__ == "__main__":
    alone.main("threads", __doc__, available_cores(), ROUNDS, measure, HEADS, cells)
