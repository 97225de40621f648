"""``python -m bench.beside``: fastbp and PyTorch in one process, a step of each by turns.

Both bring threads, and those of one may keep looking for work while the other needs the cores. In either
order of import; 784-512-512-10, batches of 128.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Container, Iterable
from importlib.util import find_spec
from typing import Any

from bench import alone, tables
from bench.peers import PEERS
from bench.processes import Worker
from fastbp.threads import available_cores
from fastbp.workloads import NETS

NET = NETS["deep"]
ORDERS = (("fastbp", "torch"), ("torch", "fastbp"))
ROUNDS, STEPS = 9, 20


def worker(order: tuple[str, str], cores: int) -> dict[str, Callable[..., Any]]:
    """Make what the process answers with."""
    for library in order:
        importlib.import_module(library)
    X, y = NET.samples(1)
    steps = [PEERS[library].make(NET, X, y, cores, shuffle=False) for library in ("fastbp", "torch")]

    def seconds(of: list[Callable[[int], float]]) -> float:
        begin = time.perf_counter()
        for _ in range(STEPS):
            for step in of:
                step(1)
        return (time.perf_counter() - begin) / STEPS

    def rounds(number: int) -> dict[str, list[float]]:
        cases = {"fastbp": steps[:1], "torch": steps[1:], "by_turns": steps}
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(number + 1):
            for name, of in cases.items():
                found[name].append(seconds(of))
        return {name: times[1:] for name, times in found.items()}  # the first one is to get warm

    return {"rounds": rounds}


def measure(
    cores: Iterable[int] = (1,), libraries: Container[str] | None = None, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """Measure with the largest number of cores; nothing without PyTorch."""
    rows = []
    if find_spec("torch") and (libraries is None or "torch" in libraries):
        for order in ORDERS:
            with Worker(max(cores), worker, order, max(cores)) as process:
                found = process.ask("rounds", rounds)
            rows.append({"order": " then ".join(order), "cores": max(cores), **found})
    return rows


TITLE = "Beside PyTorch in one process, a step of each by turns"
HEADS = ("imported", "cores", "fastbp µs", "torch µs", "by turns µs", "over the sum")


def cells(rows: list[dict[str, Any]], limits: Any) -> list[list[str]]:
    """Return the table."""
    return [
        [
            row["order"],
            f"{row['cores']}",
            *(tables.number(1e6 * min(row[name]), 4) for name in ("fastbp", "torch", "by_turns")),
            f"{ratio(row):.2f}",
        ]
        for row in rows
    ]


def ratio(row: dict[str, Any]) -> float:
    """Return the time of both by turns over the sum of both alone: median over the rounds."""
    rounds = zip(row["fastbp"], row["torch"], row["by_turns"], strict=True)
    return statistics.median(both / (one + other) for one, other, both in rounds)


if __name__ == "__main__":
    alone.main("beside", __doc__, available_cores(), ROUNDS, measure, HEADS, cells)
