"""A pass over samples in chunks: calls of the engine that Ctrl-C can part."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import TypeAlias

from fastbp.background import Background

Sums: TypeAlias = tuple[float, float]  # over samples: weight times loss, and weight

# The engine is called for as many batches as take about this long. Between the calls Python sees Ctrl-C,
# and the progress bar moves.
SECONDS_PER_CALL = 0.05
# A batch that takes longer than this runs in another thread, so that Ctrl-C need not wait for its end ...
SECONDS_PER_BATCH = 0.1


def paced(batches: int, done: int, elapsed: float) -> int:
    """Return how many batches the next call may take: `done`, of the `batches` of the last one, took so long.

    At most ten times more than in a full call, for a short call is noise.
    """
    affordable = int(SECONDS_PER_CALL * done / max(elapsed, 1e-9))
    return max(1, min(affordable, 10 * done) if done == batches else affordable)


def run_in_chunks(
    run: Callable[[int, int, Sums], Sums],
    count: int,
    batch_size: int,
    progress: Callable[[int], None] = lambda batches: None,
    sums: Sums = (0.0, 0.0),
    finite: bool = False,
    background: tuple[Background, bool] | None = None,
) -> Sums:
    """Call ``run(first, count, sums)`` over all positions, for a short time each, and return the last sums.

    With `finite` it ends when a sum is not finite any more. With `background` batches that take long run
    there, and the first one if it is said to take long.
    """
    batches, first = 1, 0
    thread, slow = background or (None, False)
    while first < count and (math.isfinite(sums[0]) or not finite):
        size = min(batches * batch_size, count - first)
        begin = time.perf_counter()
        part = functools.partial(run, first, size, sums)
        sums = thread.call(part) if thread is not None and slow else part()
        elapsed = time.perf_counter() - begin
        first += size
        done = -(-size // batch_size)
        progress(done)
        batches = paced(batches, done, elapsed)
        slow = elapsed > SECONDS_PER_BATCH * done
    return sums
