"""``python -m bench``: time per training step, opponent by opponent, beside what the machine can do at most.

Each opponent runs in a process of its own, pinned to the cores that are asked for. Rounds are interleaved:
some epochs of each opponent in turn, so that a machine that slows down slows all of them. docs/benchmarks.md
explains the columns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import goals, report, tables, training
from bench.about import about
from bench.peers import PEERS
from bench.processes import Failure, Worker
from bench.report import ALSO
from bench.runs import Run
from fastbp.benchmark import Limits
from fastbp.threads import available_cores
from fastbp.workloads import NETS


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; names that nobody knows end the program."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--cores", default="1", metavar="1,2", help="core counts to go through (default: 1)")
    parser.add_argument("--nets", default=",".join(NETS), help=f"of {', '.join(NETS)} (default: all)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=4, help="(default: 4)")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a round (default: 0.1)")
    parser.add_argument("--also", default=",".join(ALSO), help=f"of {', '.join(ALSO)} (default: all)")
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
    run = Run(about(peers, argv))
    for folder in filter(None, (arguments.report, arguments.json and arguments.json.parent)):
        folder.mkdir(parents=True, exist_ok=True)  # now, not when all is measured
    print(report.introduction(run.about))
    for cores in arguments.cores:
        measure_training(arguments, peers, cores, run)
    same = all(apart <= training.TOLERANCE for _, apart in training.differences(run.training))
    print(f"\n{report.verdict(run.training)}", file=sys.stdout if same else sys.stderr)
    measure_others(arguments, run)
    if goals.all_goals([run]):
        print(f"\n{goals.text([run])}")
    if arguments.json:
        run.save(arguments.json)
    if arguments.report:
        report.write(arguments.report, [run])
        print(f"\nreport in {arguments.report}")
    return 0 if same else 1


def measure_training(arguments: argparse.Namespace, peers: list[str], cores: int, run: Run) -> None:
    """Measure all networks on some cores, and what these can do at most; print each as it is done."""
    print(f"\n{report.cores_title(cores)}\n")
    machine = Worker(cores, training.limits, cores)
    least = max(map(len, arguments.nets)), max(map(len, peers), default=0)
    best = Limits(None, None, None)
    try:
        for name in arguments.nets:
            best = best.or_better(machine.ask("measure"))
            rows = training.measure(NETS[name], peers, cores, arguments.rounds, arguments.seconds)
            best = best.or_better(machine.ask("measure"))
            run.training += rows
            of_net = Run({}, {cores: best}, rows)
            table = tables.text(report.TRAINING_HEADS, report.training_cells([of_net], cores), least)
            print(table if name == arguments.nets[0] else table.partition("\n")[2], flush=True)
            for row in rows:
                if row.error:
                    print(f"{row.net}: {row.peer} is left out: {row.error}", flush=True)
    finally:
        machine.stop()
    run.limits[cores] = best
    print(f"\n{report.limits_text(best)}", flush=True)


def measure_others(arguments: argparse.Namespace, run: Run) -> None:
    """Measure what is asked for beside training, and print it."""
    everyone = arguments.peers == list(PEERS)
    libraries = None if everyone else {PEERS[peer].imported_as for peer in arguments.peers}
    for name in arguments.also:
        module = ALSO[name]
        try:
            rows = module.measure(arguments.cores, libraries)
        except (Failure, OSError, subprocess.SubprocessError) as error:
            print(f"\n{name} is left out: {error}")
            continue
        run.also[name] = rows
        if rows:
            print(
                f"\n{module.TITLE}\n\n{tables.text(module.HEADS, module.cells(rows, run.limits))}", flush=True
            )


if __name__ == "__main__":
    sys.exit(main())
