"""What the machine can do at most, measured with the engine's own kernels and threads."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import numpy as np

from fastbp.engine import backend

# Array of a sweep: several times what caches of one processor hold.
SWEEP_BYTES = 128 * 2**20
# Of multiply-adds: 2 to 4 ms on any processor, beside which the start of the threads is nothing.
ROUNDS = 500_000


def fma_peak(dtype: str = "float32", seconds: float = 0.05) -> float | None:
    """Measure the rate of fused multiply-adds of the instruction set and all threads in use.

    The operands stay in registers, in more chains than the units of a core can take at a time, so that no
    program of this instruction set gets past it. A multiply-add counts as two operations.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    seconds : float
        How long to try; the best of the short runs counts, for other programs only ever slow one down.

    Returns
    -------
    float or None
        Floating-point operations per second; None on the reference interpreter, which cannot tell.

    Examples
    --------
    >>> from fastbp import machine
    >>> peak = machine.fma_peak("float64", seconds=0.01)
    >>> peak is None or peak > 1e8
    True
    """
    native = backend.native()
    if native is None:
        return None
    operations = float(native.multiply_adds(dtype, ROUNDS))
    return operations / _best_seconds(lambda: native.multiply_adds(dtype, ROUNDS), seconds)


def memory_bandwidth(seconds: float = 0.1) -> float | None:
    """Measure how fast all threads in use read memory and write it back, as an optimizer does.

    Parameters
    ----------
    seconds : float
        How long to try; the best of the runs counts.

    Returns
    -------
    float or None
        Bytes per second, read and written bytes both counted; None on the reference interpreter.

    Examples
    --------
    >>> from fastbp import machine
    >>> bandwidth = machine.memory_bandwidth(seconds=0.01)
    >>> bandwidth is None or bandwidth > 1e8
    True
    """
    native = backend.native()
    if native is None:
        return None
    x = np.empty(SWEEP_BYTES // 4, np.float32)
    native.sweep(x)  # each thread is the first to touch its own part, which brings it to the nearest memory
    return 2 * x.nbytes / _best_seconds(lambda: native.sweep(x), seconds)


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _best_seconds(call: Callable[[], object], seconds: float) -> float:
    """Return the shortest run of those that fit into so many seconds, of at least three."""
    runs: list[float] = []
    while len(runs) < 3 or sum(runs) < seconds:
        begin = time.perf_counter()
        call()
        runs.append(time.perf_counter() - begin)
    return min(runs)
