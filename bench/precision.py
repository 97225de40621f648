"""``python -m bench.precision``: training in float64 beside float32, in one process, by turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Container, Iterable
from typing import Any

from bench import alone, tables
from bench.processes import Worker
from fastbp.workloads import NETS

DTYPES = ("float32", "float64")
ROUNDS, SECONDS = 5, 0.05


def worker(name: str, cores: int) -> dict[str, Callable[..., Any]]:
    """Make what the process answers with."""
    import fastbp as bp
    from fastbp.benchmark import build

    bp.set_num_threads(cores)
    net = NETS[name]
    X, y = net.samples()
    data = {dtype: (X.astype(dtype), y if net.classes else y.astype(dtype)) for dtype in DTYPES}
    models = {dtype: build(net, dtype) for dtype in DTYPES}

    def seconds(dtype: str, epochs: int) -> float:
        begin = time.perf_counter()
        models[dtype].fit(*data[dtype], epochs=epochs, batch_size=net.batch, verbose=0)
        return (time.perf_counter() - begin) / (epochs * net.batches)

    def rounds(number: int) -> dict[str, list[float]]:
        epoch = [net.batches * seconds(dtype, 1) for dtype in DTYPES for _ in range(2)][1::2]
        epochs = [max(1, round(SECONDS / each)) for each in epoch]
        found: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
        for _ in range(number):
            for dtype, count in zip(DTYPES, epochs, strict=True):
                found[dtype].append(seconds(dtype, count))
        return found

    return {"rounds": rounds}


def measure(
    cores: Iterable[int] = (1,),
    libraries: Container[str] | None = None,
    nets: Iterable[str] = tuple(NETS),
    rounds: int = ROUNDS,
) -> list[dict[str, Any]]:
    """Measure each network on each number of cores, fastbp alone."""
    rows = []
    for count in cores:
        for name in nets:
            with Worker(count, worker, name, count) as process:
                rows.append({"net": name, "cores": count, **process.ask("rounds", rounds)})
    return rows


TITLE = "float64 beside float32"
HEADS = ("net", "cores", "float32 µs", "float64 µs", "rate of float64", "of its FMA peak")


def cells(rows: list[dict[str, Any]], limits: Any) -> list[list[str]]:
    """Return the table."""
    return [
        [
            row["net"],
            f"{row['cores']}",
            *(tables.number(1e6 * min(row[dtype]), 4) for dtype in DTYPES),
            f"{rate(row):.2f}",
            tables.percent(share_of_peak(row, limits)),
        ]
        for row in rows
    ]


def rate(row: dict[str, Any]) -> float:
    """Return steps of float64 in the time of one of float32: median over the pairs."""
    return statistics.median(a / b for a, b in zip(row["float32"], row["float64"], strict=True))


def share_of_peak(row: dict[str, Any], limits: Any) -> float | None:
    """Return what float64 did of what the cores can do in float64."""
    peak = limits[row["cores"]].float64 if row["cores"] in limits else None
    return peak and NETS[row["net"]].flops / min(row["float64"]) / peak


if __name__ == "__main__":
    alone.main("precision", __doc__, 1, ROUNDS, measure, HEADS, cells)
