"""Time per training step of the opponents, in interleaved rounds, and whether all do the same work."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.peers import PEERS
from bench.processes import Failure, Worker, settle
from fastbp.benchmark import Limits
from fastbp.workloads import Net

CHECK_BATCHES, CHECK_EPOCHS = 10, 2
"""The work is the same if the loss is, over the last 10 of 20 steps. More of them, over fewer batches, would
let roundings grow: large networks learn a few batches by heart."""
TOLERANCE = 1e-3


@dataclass
class Row:
    """What one opponent did on one network with some cores."""

    net: str
    cores: int
    peer: str
    flops: int
    """Of a step, as all other numbers here."""
    bytes: int
    start: float = 0.0
    """Seconds for compilation and caches: from the import to the end of the first epoch, less another one."""
    seconds: list[float] = field(default_factory=list)
    """One for each round."""
    ratios: list[float] = field(default_factory=list)
    """Over fastbp in the same round."""
    loss: float = 0.0
    """Mean over the second epoch of a few batches, in their order."""
    error: str = ""

    @property
    def least(self) -> float:
        """Shortest time of a step."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Median time of a step."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float | None:
        """How many times longer than fastbp it takes: median over the pairs."""
        return statistics.median(self.ratios) if self.ratios else None


def trainer(peer: str, net: Net, cores: int) -> dict[str, Callable[..., Any]]:
    """Make what the process of an opponent answers with."""
    X, y = net.samples()
    PEERS[peer].load()
    begin = time.perf_counter()
    train = PEERS[peer].make(net, X, y, cores, shuffle=True)
    train(1)
    start = time.perf_counter() - begin

    def seconds(epochs: int) -> float:
        """Not of the first epoch: caches and threads are as the process left them when it was stopped."""
        train(1)
        begin = time.perf_counter()
        train(epochs)
        return time.perf_counter() - begin

    def loss() -> float:
        """On arrays of the same size, where that is possible: what was compiled for them serves again."""
        data = (X, y) if net.batches >= CHECK_BATCHES else net.samples(CHECK_BATCHES)
        return PEERS[peer].make(net, *data, cores, shuffle=False, batches=CHECK_BATCHES)(CHECK_EPOCHS)

    return {"start": lambda: start, "seconds": seconds, "loss": loss}


def measure(net: Net, peers: Iterable[str], cores: int, rounds: int, seconds: float) -> list[Row]:
    """Measure one network with each opponent, a round of each in turn.

    Parameters
    ----------
    net : Net
    peers : iterable of str
    cores : int
    rounds : int
    seconds : float
        Rough length of a round, in whole epochs.
    """
    rows = {peer: Row(net.name, cores, peer, net.flops, net.bytes) for peer in peers}
    workers = {peer: Worker(cores, trainer, peer, net, cores) for peer in rows}

    def ask(peer: str, question: str, *arguments: Any) -> float:
        """Return the answer; an opponent that fails is out from then on."""
        settle()
        try:
            return workers[peer].ask(question, *arguments)
        except Failure as failure:
            rows[peer].error = str(failure)
            workers.pop(peer).stop()
            return math.nan

    try:
        epochs = {}
        for peer, row in rows.items():
            row.start = ask(peer, "start")
            if peer in workers:
                epoch = ask(peer, "seconds", 1)
                row.start = max(0.0, row.start - epoch)
                epochs[peer] = max(1, round(seconds / epoch)) if peer in workers else 0
        for _ in range(rounds):
            for peer in list(workers):
                steps = epochs[peer] * net.batches
                rows[peer].seconds.append(ask(peer, "seconds", epochs[peer]) / steps)
        for peer in list(workers):
            rows[peer].loss = ask(peer, "loss")
    finally:
        for worker in workers.values():
            worker.stop()
    if "fastbp" in workers:
        own = rows["fastbp"].seconds
        for peer in workers:
            rows[peer].ratios = [theirs / ours for theirs, ours in zip(rows[peer].seconds, own, strict=True)]
    return list(rows.values())


def differences(rows: Iterable[Row]) -> list[tuple[Row, float]]:
    """Return for each row how far its loss is from the median of those on the same network.

    Relatively, but losses below 1 as they are: near 0 roundings decide.
    """
    rows = [row for row in rows if not row.error]
    found = []
    for row in rows:
        losses = [other.loss for other in rows if other.net == row.net]
        median = statistics.median_low(math.inf if math.isnan(loss) else loss for loss in losses)
        found.append((row, abs(row.loss - median) / max(1.0, abs(median))))
    return found


def limits_of(cores: int) -> Limits:
    """Measure what some cores can do, in a process of its own."""
    with Worker(cores, limits, cores) as machine:
        found: Limits = machine.ask("measure")
        return found


def limits(cores: int) -> dict[str, Callable[..., Any]]:
    """Make what the process that measures the machine answers with."""
    import fastbp as bp

    bp.set_num_threads(cores)
    return {"measure": Limits.measure}
