"""``python -m bench.scaling``: what more cores would do, calculated from what two of them do.

A step on p threads takes S + (T(1) - S) / p + b c(p): S is what does not get shorter, b the number of
barriers, c(p) what one of them costs. docs/scaling.md explains the terms.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bench import tables, threads
from bench.processes import Worker
from fastbp.workloads import NETS

LINE = 60e-9
"""Seconds for a cache line to get to another core: assumed, each member more brings one to a barrier."""
CORES = (8, 16, 64)
PHASES = ("gather", "gather_targets", "forward", "loss", "backward", "update")
"""Of a training step."""
OPERATIONS, REPEATS = 1000, 20


def plan_of(name: str) -> Any:
    """Return the plan that trains a network."""
    from fastbp.benchmark import build

    net = NETS[name]
    model = build(net)
    model.fit(*net.samples(1), batch_size=net.batch, verbose=0)
    return model.plan


def barriers(plan: Any) -> int:
    """Return how often the team meets in a step: after each operation and at the end; with lanes 4 times."""
    return 4 if plan.lanes > 1 else 1 + sum(op.phase in PHASES for op in plan.ops)


def most_threads(plan: Any, limit: int) -> int:
    """Return how many threads the engine takes where it may take so many."""
    import fastbp as bp
    from fastbp.engine import backend

    native = backend.native()
    assert native is not None
    with bp.threads(limit):
        size: int = native.team_size(float(sum(op.flops for op in plan.ops if op.phase in PHASES)))
    return min(size, plan.lanes) if plan.lanes > 1 else size


def worker(cores: int) -> dict[str, Callable[..., Any]]:
    """Make what the process that measures a barrier answers with."""
    import fastbp as bp
    from fastbp.engine import backend

    native = backend.native()
    assert native is not None
    native.set_grain(0)  # a team however little there is to do
    model = bp.Sequential([bp.layers.Dense(1)], input_size=1, seed=0)
    model.forward(np.zeros((1, 1), np.float32))
    gather = next(op for op in model.plan.ops if op.phase == "gather")
    plan = replace(model.plan, ops=(gather,) * OPERATIONS)
    arrays = [
        np.zeros(size, plan.dtype) for size in (plan.sizes[n] for n in ("parameters", "gradients", "state"))
    ]
    program = native.Program(plan, *arrays, np.zeros(2, np.int64))
    x = np.zeros((1, 1), np.float32)

    def seconds(size: int) -> float:
        """The shortest run, divided by the operations."""
        times = []
        with bp.threads(size):
            for _ in range(REPEATS):
                begin = time.perf_counter()
                program.run(("gather",), 0, 1, inputs=x)
                times.append(time.perf_counter() - begin)
        return min(times) / OPERATIONS

    return {"barrier": lambda: seconds(cores) - seconds(1)}


def waiting(barrier: float, cores: int) -> float:
    """Return the seconds that a barrier of so many cores takes, from that of two."""
    return barrier + (cores - 2) * LINE


def serial_part(one: float, two: float, barrier: float, count: int) -> float:
    """Return the seconds of a step that more cores do not make shorter."""
    return min(one, max(0.0, 2 * two - one - 2 * count * barrier))


def estimate(one: float, two: float, barrier: float, count: int, cores: int) -> float:
    """Return the seconds of a step on so many cores."""
    if cores == 1:
        return one
    serial = serial_part(one, two, barrier, count)
    return serial + (one - serial) / cores + count * waiting(barrier, cores)


HEADS = ("net", "T(1) µs", "T(2) µs", "S µs", "b", *(f"T({p}) µs" for p in CORES), "times faster")


def cells(rows: list[dict[str, Any]], barrier: float) -> list[list[str]]:
    """Return the table."""
    table = []
    for row in rows:
        plan = plan_of(row["net"])
        one, two, count = min(row["one"]), min(row["full"]), barriers(plan)
        sizes = [most_threads(plan, cores) for cores in CORES]
        times = [estimate(one, two, barrier, count, size) for size in sizes]
        serial = serial_part(one, two, barrier, count) if max(sizes) > 1 else one
        table.append(
            [
                row["net"],
                tables.number(1e6 * one),
                tables.number(1e6 * two),
                tables.number(1e6 * serial),
                f"{count}",
                *(
                    tables.number(1e6 * t) + (f" ({size})" if size < cores else "")
                    for t, size, cores in zip(times, sizes, CORES, strict=True)
                ),
                ", ".join(tables.number(one / t, 2) for t in times),
            ]
        )
    return table


def main() -> None:
    """Measure on two cores, and print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=threads.ROUNDS)
    arguments = parser.parse_args()
    with Worker(2, worker, 2) as process:
        barrier = min(process.ask("barrier") for _ in range(arguments.rounds))
    rows = threads.measure([2], nets=NETS, rounds=arguments.rounds)
    print(f"A barrier of two cores: {1e6 * barrier:.2f} µs\n\n{tables.markdown(HEADS, cells(rows, barrier))}")


if __name__ == "__main__":
    main()
