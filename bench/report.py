"""Tables and pages of the measurements."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import accuracy, footprint, latency, plots, tables
from bench.tables import number, percent
from bench.training import TOLERANCE, Row, differences
from fastbp.benchmark import Limits

TRAINING_HEADS = (
    "net",
    "opponent",
    "warm-up s",
    "min µs",
    "median µs",
    "GFLOP/s",
    "of FMA peak",
    "of memory",
    "opponent / fastbp",
)


def training_cells(rows: Iterable[Row], limits: Limits) -> list[list[str]]:
    """Return the table of time per step; opponents that failed are not in it."""
    return [
        [
            row.net,
            row.peer,
            f"{row.start:.2f}",
            number(1e6 * row.least, 4),
            number(1e6 * row.median, 4),
            number(row.flops / row.least / 1e9),
            percent(limits.float32 and row.flops / row.least / limits.float32),
            percent(limits.bandwidth and row.bytes / row.least / limits.bandwidth),
            number(row.ratio),
        ]
        for row in rows
        if not row.error
    ]


def verdict(rows: Iterable[Row]) -> str:
    """Say whether the opponents did the same work."""
    same, apart = "over the last 10 of the same 20 steps from the same weights", differences(rows)
    wrong = [(row, difference) for row, difference in apart if not difference <= TOLERANCE]
    if not wrong:
        largest = max((difference for _, difference in apart), default=0.0)
        return f"The same work: {same} no loss is further than {largest:.1e} from the others' median."
    lines = [f"{r.net} on {cores_title(r.cores)}: {r.peer} {r.loss:.6f}, off by {d:.1e}" for r, d in wrong]
    return "\n".join([f"NOT THE SAME WORK: {same} losses differ from the others' median.", *lines])


def limits_text(limits: Limits) -> str:
    """Say what the machine can do."""
    if limits.float32 is None or limits.float64 is None or limits.bandwidth is None:
        return "The limits of the machine are unknown: only the compiled engine can measure them."
    return (
        f"FMA peak {limits.float32 / 1e9:.1f} GFLOP/s in float32, {limits.float64 / 1e9:.1f} in float64; "
        f"memory {limits.bandwidth / 1e9:.1f} GB/s, read and written."
    )


def cores_title(cores: int) -> str:
    """Return a heading."""
    return f"{cores} core{'s' * (cores > 1)}"


def introduction(facts: dict[str, str]) -> str:
    """Return the facts, one a line."""
    return "\n".join(f"{name:12} {value}" for name, value in facts.items())


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write README.md with the tables, and its plots, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = result["training"]
    pages = [
        "# Benchmark report",
        tables.markdown(("", ""), [[name, f"{value}"] for name, value in result["about"].items()]),
        "Time per training step: forward pass, loss, backward pass and Adam in float32, as the mean over "
        "whole epochs with shuffling. [How it is measured, and what the columns mean](../benchmarks.md).",
    ]
    for cores, limits in result["limits"].items():
        of_cores = [row for row in rows if row.cores == cores]
        name = f"time-{cores}.png"
        plots.times(folder / name, of_cores, cores_title(cores))
        pages += [
            f"## {cores_title(cores).capitalize()}",
            limits_text(limits),
            f"![Time per step]({name})",
            tables.markdown(TRAINING_HEADS, training_cells(of_cores, limits)),
        ]
        pages += [f"Left out: {row.net}, {row.peer}: {row.error}" for row in of_cores if row.error]
    pages.append(verdict(rows))
    if len(result["limits"]) > 1:
        plots.scaling(folder / "scaling.png", rows)
        pages += ["## Over cores", "![Scaling](scaling.png)"]
    if any(limits.float32 for limits in result["limits"].values()):
        plots.shares(folder / "peak.png", rows, result["limits"])
        pages += ["## Share of the FMA peak", "![Share of the peak](peak.png)"]
    titles = {
        "accuracy": (
            accuracy,
            f"Time to a test accuracy of {accuracy.TARGET} on Fashion-MNIST, whole processes",
        ),
        "latency": (latency, "One row through 30-64-64-2 from Python, one core"),
        "footprint": (footprint, "Import and memory"),
    }
    for name, (module, title) in titles.items():
        if name in result:
            table: str = tables.markdown(module.HEADS, module.cells(result[name]))
            pages += [f"## {title}", table]
    (folder / "README.md").write_text("\n\n".join(pages) + "\n", "utf-8")
