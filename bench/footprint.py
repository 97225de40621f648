"""``python -m bench.footprint``: what a library costs beside its work: time to import, and memory.

Memory is the peak resident size of a process that trains the network "mnist" for an epoch, over that of a
bare process with NumPy, less the samples.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Container, Iterable
from typing import Any

from bench import tables
from bench.peers import PEERS
from bench.processes import environment
from fastbp.workloads import NETS

NET = NETS["mnist"]
REPEATS = 5
LEFT_OUT = ("jax-step", "torch-compile")  # the libraries of other rows

PEAK = """
def peak():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:  # macOS counts in bytes; Windows does not tell
        import importlib.util
        if importlib.util.find_spec("resource") is None:
            return float("nan")
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""
TRAIN = """
from bench.peers import PEERS
from fastbp.workloads import NETS
net = NETS["{net}"]
X, y = net.samples()
PEERS["{peer}"].make(net, X, y, 1, shuffle=True)(1)
"""


def run(program: str) -> tuple[str, float]:
    """Run Python in a process of its own; return its output and the seconds from start to exit."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled, a clone by its first run
    begin = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, text=True, check=True, env=environ
    )
    return result.stdout, time.perf_counter() - begin


def peak_memory(program: str = "") -> float:
    """Bytes of a process with NumPy that runs a program; NaN where the system does not tell."""
    return float(run(f"import numpy\n{program}\n{PEAK}\nprint(peak())")[0].splitlines()[-1])


def measure(
    cores: Iterable[int] = (1,), libraries: Container[str] | None = None, repeats: int = REPEATS
) -> list[dict[str, Any]]:
    """Measure each library that is installed, on one core."""
    peers = {
        name: p
        for name, p in PEERS.items()
        if p.installed and name not in LEFT_OUT and (libraries is None or p.imported_as in libraries)
    }
    peers["numpy"] = PEERS["numpy"]  # what the others are compared with
    arrays = sum(array.nbytes for array in NET.samples())
    with environment(1):
        imports = {name: f"import numpy, {peer.imported_as}" for name, peer in peers.items()}
        for program in imports.values():
            run(program)  # compiles to bytecode what is not yet
        times: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(repeats):
            for name, program in imports.items():
                times[name].append(run(program)[1])
        bare = peak_memory()
        peaks = {name: peak_memory(TRAIN.format(net=NET.name, peer=name)) for name in peers}
    return [
        {
            "peer": name,
            "over_numpy_seconds": [o - n for o, n in zip(times[name], times["numpy"], strict=True)],
            "process_seconds": times[name],
            "peak_bytes": [peaks[name]],
            "over_numpy_bytes": [peaks[name] - bare - arrays],
        }
        for name in peers
    ]


TITLE = "Import and memory"
HEADS = ("opponent", "import over NumPy, ms", "process, ms", "peak, MB", "over NumPy and data, MB")


def cells(rows: list[dict[str, Any]], limits: Any) -> list[list[str]]:
    """Return the table of medians."""
    return [
        [
            row["peer"],
            f"{1e3 * statistics.median(row['over_numpy_seconds']):.0f}",
            f"{1e3 * statistics.median(row['process_seconds']):.0f}",
            tables.number(statistics.median(row["peak_bytes"]) / 1e6),
            tables.number(statistics.median(row["over_numpy_bytes"]) / 1e6),
        ]
        for row in rows
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.footprint", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="imports of each library")
    print(tables.text(HEADS, cells(measure(repeats=parser.parse_args().repeats), {})))


if __name__ == "__main__":
    main()
