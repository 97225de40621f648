"""What fastbp is meant to reach, and what it reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median as middle
from typing import Any

from bench import beside, inference, precision, tables, threads
from bench.runs import Run, Several, training_rows
from bench.tables import percent
from fastbp.workloads import NETS

# times faster than jax-scan on one core, share of the FMA peak on one core, two cores over one
TRAINING: dict[str, tuple[float, float | None, float]] = {
    "tiny": (5.0, None, 1.0),
    "tabular": (2.0, 0.7, 1.0),
    "chain": (2.5, 0.6, 1.9),
    "mnist": (1.3, 0.85, 1.6),
    "higgs": (1.25, 0.88, 1.8),
    "deep": (1.25, 0.9, 1.85),
    "wide": (1.2, 0.93, 1.9),
}


@dataclass(frozen=True)
class Goal:
    """A quantity, what it should be at least (or at most), and what it was in each run."""

    what: str
    wanted: float
    reached: Several
    at_most: bool = False
    shown: Callable[[float], str] = "{:.2f}".format

    @property
    def met(self) -> bool:
        """Whether the median of the runs is there."""
        found = self.reached.median
        return found <= self.wanted if self.at_most else found >= self.wanted


def all_goals(runs: Sequence[Run]) -> list[Goal]:
    """Return the goals that something was measured for."""
    return [*training_goals(runs), *other_goals(runs)]


def training_goals(runs: Sequence[Run]) -> Iterator[Goal]:
    """Ratio to jax-scan, share of the peak, and scaling of each network."""
    rows = training_rows(runs)
    for net in NETS:
        faster, share, scaling = TRAINING[net]
        own, other = (rows.get((net, 1, peer)) for peer in ("fastbp", "jax-scan"))
        if own and other:
            ratios = [row.ratio for row, _ in other if row.ratio]
            if ratios:
                yield Goal(f"{net}: jax-scan / fastbp, 1 core", faster, Several(tuple(ratios)))
        if own and share:
            shares = [row.flops / row.least / limits.float32 for row, limits in own if limits.float32]
            if shares:
                yield Goal(
                    f"{net}: share of the FMA peak, 1 core", share, Several(tuple(shares)), shown=percent
                )
        gains = tuple(gains_of_two_cores(runs, net))
        if gains:
            yield Goal(f"{net}: 2 cores over 1", scaling, Several(gains))


def gains_of_two_cores(runs: Sequence[Run], net: str) -> Iterator[float]:
    """Time on one core over time on two, of each run that has both."""
    for run in runs:
        rows = training_rows([run])
        one, two = (rows.get((net, cores, "fastbp")) for cores in (1, 2))
        if one and two:
            yield one[0][0].least / two[0][0].least


def other_goals(runs: Sequence[Run]) -> Iterator[Goal]:
    """Those of the other measurements: one value of each run."""

    def of_runs(
        name: str, value: Callable[[dict[str, Any], Run], float | None], **which: Any
    ) -> Several | None:
        found = [
            value(row, run)
            for run in runs
            for row in run.also.get(name, ())
            if all(row[key] == wanted for key, wanted in which.items()) and not row.get("error")
        ]
        values = tuple(each for each in found if each is not None)
        return Several(values) if values else None

    def goal(what: str, wanted: float, reached: Several | None, **options: Any) -> Iterator[Goal]:
        if reached:
            yield Goal(what, wanted, reached, **options)

    def batch_share(row: dict[str, Any], run: Run) -> float | None:
        return inference.share_of_peak(row, run.limits)

    for net in NETS:
        reached = of_runs("precision", lambda row, _: precision.rate(row), net=net, cores=1)
        yield from goal(f"{net}: rate of float64 over float32, 1 core", 0.5, reached)
    for cores in (1, 2):
        reached = of_runs("inference", batch_share, case="batch", cores=cores, peer="fastbp, out=")
        text = f"freeze() on a batch of wide: share of the FMA peak, {cores} core{'s' * (cores > 1)}"
        yield from goal(text, 0.85, reached, shown=percent)
    reached = of_runs("inference", lambda row, _: 1e6 * min(row["seconds"]), case="one row", peer="fastbp")
    yield from goal("freeze() on one row of tabular, µs", 1.5, reached, at_most=True)
    for what, wanted, key, unit in (
        ("import over NumPy, ms", 40.0, "over_numpy_seconds", 1e3),
        ("memory over NumPy and data, MB", 40.0, "over_numpy_bytes", 1e-6),
    ):
        reached = of_runs(
            "footprint", lambda row, _, key=key, unit=unit: unit * middle(row[key]), peer="fastbp"
        )
        yield from goal(what, wanted, reached, at_most=True, shown="{:.0f}".format)
    ratios = [
        [threads.ratio(row, "full") for row in run.also.get("threads", ()) if row["cores"] > 1]
        for run in runs
    ]
    worst = [max(of_run) for of_run in ratios if of_run]
    if worst:
        text = "a thread a core over one thread, on any network"
        yield Goal(text, 1.05, Several(tuple(worst)), at_most=True)
    for order in beside.ORDERS:
        text = " then ".join(order)
        reached = of_runs("beside", lambda row, _: beside.ratio(row), order=text)
        yield from goal(f"beside PyTorch ({text}), over the sum", 1.3, reached, at_most=True)


HEADS = ("goal", "wanted", "reached", "spread of runs", "")


def cells(goals: Sequence[Goal]) -> list[list[str]]:
    """Return the table."""
    return [
        [
            goal.what,
            f"{'≤' if goal.at_most else '≥'} {goal.shown(goal.wanted)}",
            goal.shown(goal.reached.median),
            percent(goal.reached.spread) if len(goal.reached.values) > 1 else "-",
            "met" if goal.met else "missed",
        ]
        for goal in goals
    ]


def text(runs: Sequence[Run]) -> str:
    """Return the table for a terminal."""
    return tables.text(HEADS, cells(all_goals(runs)))
