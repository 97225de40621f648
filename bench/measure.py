"""Interleaved rounds of opponents, each in a process of its own."""

from __future__ import annotations

import importlib
import multiprocessing as mp
import os
import time
from multiprocessing.connection import Connection

from bench.nets import Net


def serve(pipe: Connection, peer: str, net: Net, cores: list[int]) -> None:
    """Answer (steps) with (seconds, loss) in a process of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    epoch = importlib.import_module(f"bench.peers.{peer}_peer").make(net, len(cores))
    while True:
        steps = pipe.recv()
        begin = time.perf_counter()
        loss = epoch(steps)
        pipe.send((time.perf_counter() - begin, loss))


def measure(net: Net, peers: list[str], cores: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return for each peer the seconds per step: the warm-up first, then one value per round."""
    context = mp.get_context("spawn")
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores))
    pipes: dict[str, Connection] = {}
    processes = []
    for peer in peers:
        pipes[peer], theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, peer, net, available[:cores]), daemon=True)
        process.start()
        processes.append(process)

    def ask(peer: str, steps: int) -> float:
        pipes[peer].send(steps)
        return float(pipes[peer].recv()[0]) / steps

    times = {peer: [ask(peer, 4) * 4] for peer in peers}
    steps = {peer: max(4, min(20000, int(seconds / ask(peer, 4)))) for peer in peers}
    for peer in peers:  # the data of the measured epochs is made here
        ask(peer, steps[peer])
    for _ in range(rounds):
        for peer in peers:
            times[peer].append(ask(peer, steps[peer]))
    for process in processes:
        process.kill()
    return times
