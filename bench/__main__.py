"""``python -m bench``: time per training step, opponent by opponent, beside what the machine can do at most.

Each opponent runs in a process of its own, pinned to the cores that are asked for. Rounds are interleaved:
some epochs of each opponent in turn, so that a machine that slows down slows all of them. docs/benchmarks.md
explains the columns.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import accuracy, footprint, latency, report, tables, training
from bench.about import about
from bench.peers import PEERS
from bench.processes import Failure, Worker
from fastbp.benchmark import Limits
from fastbp.threads import available_cores
from fastbp.workloads import NETS

ALSO = ("accuracy", "latency", "footprint")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; names that nobody knows end the program."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--cores", default="1", metavar="1,2", help="core counts to go through (default: 1)")
    parser.add_argument("--nets", default=",".join(NETS), help=f"of {', '.join(NETS)} (default: all)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a round (default: 0.3)")
    parser.add_argument("--also", default="", help=f"of {', '.join(ALSO)}, the other measurements")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a page with plots there")
    arguments = parser.parse_args(argv)
    for option, known in (("nets", NETS), ("peers", PEERS), ("also", ALSO)):
        names = [name for name in getattr(arguments, option).split(",") if name]
        for name in names:
            if name not in known:
                parser.error(f"--{option}: {name!r} is not one of {', '.join(known)}")
        setattr(arguments, option, names)
    try:
        arguments.cores = [int(text) for text in arguments.cores.split(",")]
    except ValueError:
        parser.error(f"--cores: expected numbers such as 1,2, got {arguments.cores!r}")
    if not 1 <= min(arguments.cores) <= max(arguments.cores) <= available_cores():
        parser.error(f"--cores: expected numbers from 1 to the {available_cores()} of this machine")
    if arguments.rounds < 1:
        parser.error("--rounds: expected at least 1")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the files; 1 if the opponents did not do the same work."""
    arguments = parse(argv)
    for peer in arguments.peers:
        if not PEERS[peer].installed:
            print(f"{peer}: {PEERS[peer].package} is not installed, left out")
    peers = [peer for peer in arguments.peers if PEERS[peer].installed]
    result: dict[str, Any] = {"about": about(peers, argv), "limits": {}, "training": []}
    for folder in filter(None, (arguments.report, arguments.json and arguments.json.parent)):
        folder.mkdir(parents=True, exist_ok=True)  # now, not when all is measured
    print(report.introduction(result["about"]))
    for cores in arguments.cores:
        rows, result["limits"][cores] = measure_training(arguments, peers, cores)
        result["training"] += rows
    same = all(apart <= training.TOLERANCE for _, apart in training.differences(result["training"]))
    print(f"\n{report.verdict(result['training'])}", file=sys.stdout if same else sys.stderr)
    measure_others(arguments, result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, default=dataclasses.asdict, indent=1) + "\n", "utf-8")
    if arguments.report:
        report.write(arguments.report, result)
        print(f"\nreport in {arguments.report}")
    return 0 if same else 1


def measure_training(
    arguments: argparse.Namespace, peers: list[str], cores: int
) -> tuple[list[training.Row], Limits]:
    """Measure all networks on some cores, print each as it is done, and return what the machine can do."""
    print(f"\n{report.cores_title(cores)}\n")
    machine = Worker(cores, training.limits, cores)
    found: list[training.Row] = []
    least = max(map(len, arguments.nets)), max(map(len, peers), default=0)
    best = Limits(None, None, None)
    try:
        for name in arguments.nets:
            best = best.or_better(machine.ask("measure"))
            rows = training.measure(NETS[name], peers, cores, arguments.rounds, arguments.seconds)
            best = best.or_better(machine.ask("measure"))
            found += rows
            table = tables.text(report.TRAINING_HEADS, report.training_cells(rows, best), least)
            print(table if name == arguments.nets[0] else table.partition("\n")[2], flush=True)
            for row in rows:
                if row.error:
                    print(f"{row.net}: {row.peer} is left out: {row.error}", flush=True)
    finally:
        machine.stop()
    print(f"\n{report.limits_text(best)}", flush=True)
    return found, best


def measure_others(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Measure what is asked for beside training, and print it."""
    for name in arguments.also:
        module = {"accuracy": accuracy, "latency": latency, "footprint": footprint}[name]
        try:
            if name == "accuracy":
                rows = [r for c in arguments.cores for r in accuracy.measure(accuracy.FOLDER, c, seeds=3)]
            else:
                rows = module.measure()
        except (Failure, OSError, subprocess.SubprocessError) as error:
            print(f"\n{name} is left out: {error}")
            continue
        result[name] = rows
        print(f"\n{name}\n\n{tables.text(module.HEADS, module.cells(rows))}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
