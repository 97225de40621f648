"""A run of the benchmark as plain data, its file, and what several runs say together."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.training import Row
from fastbp.benchmark import Limits


@dataclasses.dataclass
class Run:
    """What was measured from one start of the program to its end."""

    about: dict[str, str]
    limits: dict[int, Limits] = dataclasses.field(default_factory=dict)
    """By number of cores."""
    training: list[Row] = dataclasses.field(default_factory=list)
    also: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    """Rows of the other measurements, by name: measured values are lists, everything else says of what."""

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what :meth:`save` wrote."""
        content = json.loads(path.read_text("utf-8"))
        return cls(
            content["about"],
            {int(cores): Limits(**limits) for cores, limits in content["limits"].items()},
            [Row(**row) for row in content["training"]],
            content["also"],
        )


@dataclasses.dataclass(frozen=True)
class Several:
    """The same quantity in several runs."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """From the smallest to the largest, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median


def training_rows(runs: Iterable[Run]) -> dict[tuple[str, int, str], list[tuple[Row, Limits]]]:
    """Return the rows that did not fail by network, cores and opponent, each with the limits of its run."""
    found: dict[tuple[str, int, str], list[tuple[Row, Limits]]] = {}
    for run in runs:
        for row in run.training:
            if not row.error:
                found.setdefault((row.net, row.cores, row.peer), []).append((row, run.limits[row.cores]))
    return found


def together(runs: Sequence[Run], name: str) -> list[dict[str, Any]]:
    """Return the rows of another measurement, the values of all runs in one list."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        for row in run.also.get(name, ()):
            what = {key: value for key, value in row.items() if not isinstance(value, list)}
            merged = found.setdefault(json.dumps(what), dict(what))
            for key, value in row.items():
                if isinstance(value, list):
                    merged[key] = merged.get(key, []) + value
    return list(found.values())
