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


# ... and the first one if it has more floating-point operations than this.
OPERATIONS_PER_BATCH = 2e9


class Pace:
    """How many batches the next call of the engine may take, as the calls before it tell.

    Attributes
    ----------
    batches : int
    slow : bool
        Whether a batch takes long by itself.
    """

    def __init__(self) -> None:
        self.batches, self.slow = 1, False
        self._measured = False

    def expect(self, operations: float) -> None:
        """Guess from its floating-point operations whether a batch takes long, while none was measured."""
        if not self._measured:
            self.slow = operations > OPERATIONS_PER_BATCH

    def note(self, done: int, elapsed: float) -> None:
        """Learn from a call that did so many batches in so many seconds.

        At most ten times more than in a full call, for a short call is noise.
        """
        affordable = int(SECONDS_PER_CALL * done / max(elapsed, 1e-9))
        self.batches = max(1, min(affordable, 10 * done) if done >= self.batches else affordable)
        self.slow = elapsed > SECONDS_PER_BATCH * done
        self._measured = True


def run_in_chunks(
    run: Callable[[int, int, Sums], Sums],
    count: int,
    batch_size: int,
    progress: Callable[[int], None] = lambda batches: None,
    sums: Sums = (0.0, 0.0),
    finite: bool = False,
    pace: Pace | None = None,
    background: Background | None = None,
) -> Sums:
    """Call ``run(first, count, sums)`` over all positions, for a short time each, and return the last sums.

    With `finite` it ends when a sum is not finite any more. A `pace` carries over what calls for other
    positions have told. With `background` batches that take long run there.
    """
    first, pace = 0, pace or Pace()
    while first < count and (math.isfinite(sums[0]) or not finite):
        size = min(pace.batches * batch_size, count - first)
        begin = time.perf_counter()
        part = functools.partial(run, first, size, sums)
        sums = background.call(part) if background is not None and pace.slow else part()
        elapsed = time.perf_counter() - begin
        first += size
        done = -(-size // batch_size)
        progress(done)
        pace.note(done, elapsed)
    return sums
