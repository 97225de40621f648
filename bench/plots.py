"""Plots of time per step, of scaling over cores, and of shares of the machine's peak."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.peers import PEERS
from bench.training import Row
from fastbp.benchmark import Limits
from fastbp.workloads import NETS


def times(path: Path, rows: Iterable[Row], title: str) -> None:
    """Draw the shortest time per step of each opponent, networks side by side, on a logarithmic scale."""
    values = {(net, peer): 1e6 * seconds for (net, peer, _), seconds in _least(rows).items()}
    figure, axes = _bars(values)
    axes.set_yscale("log")
    axes.set_ylabel("µs per training step, less is better")
    axes.set_title(title)
    _save(figure, path)


def shares(path: Path, rows: Iterable[Row], limits: dict[int, Limits]) -> None:
    """Draw the share of the FMA peak on the fewest cores that were measured."""
    cores = min(limits)
    values = {
        (net, peer): 100 * NETS[net].flops / seconds / limits[cores].float32
        for (net, peer, of), seconds in _least(rows).items()
        if of == cores
    }
    figure, axes = _bars(values)
    axes.set_ylim(0, 100)
    axes.set_ylabel("% of the FMA peak, more is better")
    axes.set_title(f"{cores} core{'s' * (cores > 1)}")
    _save(figure, path)


def scaling(path: Path, rows: Iterable[Row]) -> None:
    """Draw for each network how many times faster an opponent is with more cores than with the fewest."""
    seconds = _least(rows)
    nets, peers = _names(seconds)
    figure, all_axes = _figure(1, len(nets), (2.4 * len(nets) + 1.6, 3.2), sharey=True)
    for axes, net in zip(all_axes, nets, strict=True):
        for peer in peers:
            cores = sorted(c for n, p, c in seconds if (n, p) == (net, peer))
            if len(cores) > 1:
                first = seconds[net, peer, cores[0]]
                speedup = [first / seconds[net, peer, c] for c in cores]
                axes.plot(cores, speedup, "o-", label=peer, color=_color(peer))
        axes.set_title(net)
        axes.set_xlabel("cores")
        axes.set_xticks(sorted({c for _, _, c in seconds}))
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel("times faster")
    all_axes[0].set_ylim(bottom=0)
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside right upper")
    _save(figure, path)


def _least(rows: Iterable[Row]) -> dict[tuple[str, str, int], float]:
    """Shortest time by network, opponent and cores: the median where there are several runs."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        if not row.error:
            found.setdefault((row.net, row.peer, row.cores), []).append(row.least)
    return {key: statistics.median(times) for key, times in found.items()}


def _bars(values: dict[tuple[str, str], float]) -> tuple[Any, Any]:
    nets, peers = _names(values)
    figure, (axes,) = _figure(1, 1, (1.4 * len(nets) + 2.5, 4))
    width = 0.8 / len(peers)
    for number, peer in enumerate(peers):
        found = [n for n, net in enumerate(nets) if (net, peer) in values]
        places = [n + (number - (len(peers) - 1) / 2) * width for n in found]
        heights = [values[nets[n], peer] for n in found]
        axes.bar(places, heights, width, label=peer, color=_color(peer))
    axes.set_xticks(range(len(nets)), nets)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper")
    return figure, axes


def _names(keys: Iterable[tuple[Any, ...]]) -> tuple[list[str], list[str]]:
    """Networks and opponents in the order of their first appearance."""
    keys = list(keys)
    return list(dict.fromkeys(key[0] for key in keys)), list(dict.fromkeys(key[1] for key in keys))


def _color(peer: str) -> str:
    return f"C{list(PEERS).index(peer)}"


def _figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, list[Any]]:
    import matplotlib.figure  # no window, whatever the environment

    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=120)
