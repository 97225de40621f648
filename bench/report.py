"""Tables and pages of the measurements; ``python -m bench.report DIR FILE...`` makes one of several runs."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import accuracy, beside, footprint, goals, inference, plots, precision, tables, threads
from bench.runs import Run, Several, together, training_rows
from bench.tables import number, percent
from bench.training import TOLERANCE, Row, differences
from fastbp.benchmark import Limits

ALSO = {
    "inference": inference,
    "accuracy": accuracy,
    "footprint": footprint,
    "precision": precision,
    "threads": threads,
    "beside": beside,
}
"""The measurements beside training. Each module has ``measure(cores, libraries)``, whose rows tell in strings
and numbers what was measured and in lists what came out; TITLE, HEADS and ``cells(rows, limits)`` are its
table's."""

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


def training_cells(runs: Sequence[Run], cores: int) -> list[list[str]]:
    """Return the table of time per step: medians over the runs; opponents that failed are not in it."""
    table = []
    for (net, of_cores, peer), found in training_rows(runs).items():
        if of_cores != cores:
            continue
        least = Several(tuple(row.least for row, _ in found))
        of_peak = [limits.float32 and row.flops / row.least / limits.float32 for row, limits in found]
        of_memory = [limits.bandwidth and row.bytes / row.least / limits.bandwidth for row, limits in found]
        table.append(
            [
                net,
                peer,
                f"{statistics.median(row.start for row, _ in found):.2f}",
                number(1e6 * least.median, 4),
                number(1e6 * statistics.median(row.median for row, _ in found), 4),
                number(found[0][0].flops / least.median / 1e9),
                percent(middle(of_peak)),
                percent(middle(of_memory)),
                number(middle(row.ratio for row, _ in found)),
                *([percent(least.spread)] if len(runs) > 1 else []),
            ]
        )
    return table


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of those that are known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def training_heads(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the heads of that table."""
    return (*TRAINING_HEADS, "spread of min") if len(runs) > 1 else TRAINING_HEADS


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


def best_limits(runs: Iterable[Run]) -> dict[int, Limits]:
    """Return by number of cores the best that any run measured."""
    best: dict[int, Limits] = {}
    for run in runs:
        for cores, limits in run.limits.items():
            best[cores] = best[cores].or_better(limits) if cores in best else limits
    return best


def write(folder: Path, runs: Sequence[Run]) -> None:
    """Write README.md with the tables, and its plots, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = best_limits(runs)
    rows = [row for run in runs for row in run.training]
    facts = [[name, *(run.about[name] for run in runs)] for name in runs[0].about]
    pages = [
        "# Benchmark report",
        tables.markdown(["", *(f"run {n}" for n in range(1, len(runs) + 1))], facts),
        "Time per training step: forward pass, loss, backward pass and Adam in float32, as the mean over "
        "whole epochs with shuffling. [How it is measured, and what the columns mean](../benchmarks.md). "
        + ("Values are medians of the runs." if len(runs) > 1 else ""),
    ]
    if reached := goals.all_goals(runs):
        pages += ["## Goals", tables.markdown(goals.HEADS, goals.cells(reached))]
    for cores in limits:
        of_cores = [row for row in rows if row.cores == cores]
        name = f"time-{cores}.png"
        plots.times(folder / name, of_cores, cores_title(cores))
        pages += [
            f"## {cores_title(cores).capitalize()}",
            limits_text(limits[cores]),
            f"![Time per step]({name})",
            tables.markdown(training_heads(runs), training_cells(runs, cores)),
        ]
        pages += [f"Left out: {row.net}, {row.peer}: {row.error}" for row in of_cores if row.error]
    pages.append(verdict(rows))
    if len(limits) > 1:
        plots.scaling(folder / "scaling.png", rows)
        pages += ["## Over cores", "![Scaling](scaling.png)"]
    if any(of_cores.float32 for of_cores in limits.values()):
        plots.shares(folder / "peak.png", rows, limits)
        pages += ["## Share of the FMA peak", "![Share of the peak](peak.png)"]
    for name, module in ALSO.items():
        if found := together(runs, name):
            pages += [f"## {module.TITLE}", tables.markdown(module.HEADS, module.cells(found, limits))]
            pages += [f"Left out: {row['peer']}: {row['error']}" for row in found if row.get("error")]
    (folder / "README.md").write_text("\n\n".join(pages) + "\n", "utf-8")


def main() -> None:
    """Make one page of several runs."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="written by `python -m bench --json FILE`"
    )
    arguments = parser.parse_args()
    runs = [Run.load(path) for path in arguments.files]
    write(arguments.folder, runs)
    print(goals.text(runs))


if __name__ == "__main__":
    main()
