"""``python -m bench``: microseconds per training step, opponent by opponent.

Each opponent runs in a process of its own, pinned to the cores that are asked for. Rounds are interleaved: an
epoch of each opponent in turn, so that a machine that slows down slows all of them. The first epochs, with
imports, compilation and caches, are reported in a column of their own.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics

from bench.measure import measure
from bench.nets import NETS

PEERS = {"fastbp": "fastbp", "numpy": "numpy", "torch": "torch"}
"""Opponent to the package that it needs."""


def main() -> None:
    """Measure and print a table for each number of cores."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--cores", default="1", help="core counts, such as 1,2")
    parser.add_argument("--nets", default=",".join(NETS), help=f"of {', '.join(NETS)}")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a measured epoch")
    arguments = parser.parse_args()
    names, peers = arguments.nets.split(","), arguments.peers.split(",")
    for name, known in [(n, NETS) for n in names] + [(p, PEERS) for p in peers]:
        if name not in known:
            parser.error(f"{name!r} is not one of {', '.join(known)}")
    for peer in [p for p in peers if importlib.util.find_spec(PEERS[p]) is None]:
        print(f"{peer}: {PEERS[peer]} is not installed, left out")
        peers.remove(peer)

    for cores in map(int, arguments.cores.split(",")):
        print(f"\n{cores} core{'s' * (cores > 1)}: microseconds per step")
        heads = f"{'warm-up':>10}{'min':>10}{'median':>10}{'GFLOP/s':>9}{'peer / fastbp':>15}"
        print(f"{'net':9}{'peer':8}{heads}")
        for name in names:
            net = NETS[name]
            times = measure(net, peers, cores, arguments.rounds, arguments.seconds)
            for peer, (warm, *measured) in times.items():
                ratio = ""
                if peer != "fastbp" and "fastbp" in times:
                    pairs = zip(measured, times["fastbp"][1:], strict=True)
                    ratio = f"{statistics.median(theirs / ours for theirs, ours in pairs):.2f}"
                best, median = min(measured), statistics.median(measured)
                print(
                    f"{name:9}{peer:8}{warm * 1e6:10.0f}{best * 1e6:10.1f}{median * 1e6:10.1f}"
                    f"{net.flops / best / 1e9:9.1f}{ratio:>15}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
