"""How fast this machine trains the networks of :mod:`fastbp.workloads`, beside what it could do at most.

The command ``fastbp bench`` prints it. Comparisons with other libraries are in the source tree:
``python -m bench``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import fastbp as bp
from fastbp import machine
from fastbp.workloads import Net

ROUNDS = 3


@dataclass(frozen=True)
class Limits:
    """What a number of threads can do at most; None where the interpreter cannot tell.

    Attributes
    ----------
    float32, float64 : float or None
        Operations per second of fused multiply-adds.
    bandwidth : float or None
        Bytes per second, read and written.
    """

    float32: float | None = None
    float64: float | None = None
    bandwidth: float | None = None

    @classmethod
    def measure(cls) -> Limits:
        """Measure with the threads that are in use."""
        return cls(machine.fma_peak("float32"), machine.fma_peak("float64"), machine.memory_bandwidth())

    def or_better(self, other: Limits) -> Limits:
        """Return the larger of each: other programs only ever make a measurement smaller."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Limits(*(max((v for v in pair if v is not None), default=None) for pair in pairs))


@dataclass(frozen=True)
class Step:
    """How long a training step of a network took with some threads.

    Attributes
    ----------
    net : Net
    threads : int
    seconds : float
        Of the fastest round.
    """

    net: Net
    threads: int
    seconds: float

    def share_of_peak(self, limits: Limits) -> float | None:
        """Return the floating-point operations over what the machine could have done in that time."""
        return None if limits.float32 is None else self.net.flops / self.seconds / limits.float32


def build(net: Net, dtype: str = "float32") -> bp.Sequential:
    """Make the model of a network, with the weights that all opponents start from."""
    *hidden, last = net.sizes[1:]
    layers = [bp.layers.Dense(units, activation=net.hidden) for units in hidden]
    layers.append(bp.layers.Dense(last, activation="softmax" if net.classes else None))
    loss = "cross_entropy" if net.classes else "mean_squared_error"
    model = bp.Sequential(layers, loss=loss, optimizer="adam", input_size=net.sizes[0], dtype=dtype, seed=0)
    for layer, (weight, bias) in zip(layers, net.weights(), strict=True):
        layer.parameters["weight"][...] = weight.T
        layer.parameters["bias"][...] = bias
    return model


def thread_counts(most: int) -> list[int]:
    """Return 1, 2, 4, … and `most`."""
    return sorted({min(1 << power, most) for power in range(most.bit_length() + 1)})


def measure(nets: Sequence[Net], counts: Sequence[int], seconds: float) -> Iterator[list[Step]]:
    """Time training steps through ``model.fit`` with shuffling; yield those of one network after the other.

    Parameters
    ----------
    nets : sequence of Net
    counts : sequence of int
        Numbers of threads, measured in turn, round after round.
    seconds : float
        Rough length of the whole measurement; every combination runs at least three epochs.
    """
    share = seconds / len(nets)
    for net in nets:
        end = time.perf_counter() + share
        training = _Training(net)
        epochs = {}
        for threads in counts:
            training.seconds(threads, 1)  # touches the data, plans, starts the threads
            epoch = training.seconds(threads, 1) * net.batches
            epochs[threads] = max(1, round(share / (ROUNDS * len(counts)) / epoch))
        rounds: list[list[float]] = []
        while not rounds or (len(rounds) < ROUNDS and time.perf_counter() < end):
            rounds.append([training.seconds(threads, epochs[threads]) for threads in counts])
        best = [min(times) for times in zip(*rounds, strict=True)]
        yield [Step(net, threads, fastest) for threads, fastest in zip(counts, best, strict=True)]


class _Training:
    """A model of a network and its data."""

    def __init__(self, net: Net) -> None:
        self.net, self.model = net, build(net)
        self.X, self.y = net.samples()

    def seconds(self, threads: int, epochs: int) -> float:
        """Train and return the time of a step."""
        with bp.threads(threads):
            begin = time.perf_counter()
            self.model.fit(self.X, self.y, epochs=epochs, batch_size=self.net.batch, verbose=0)
            return (time.perf_counter() - begin) / (epochs * self.net.batches)


def check_plot(path: str | os.PathLike[str]) -> None:
    """Make sure, before the work, that :func:`plot` can write that kind of file.

    Raises
    ------
    ValueError
        Without matplotlib, and for a file name with an ending that it does not know.
    """
    known = _new_figure().canvas.get_supported_filetypes()
    if os.path.splitext(path)[1][1:].lower() not in known:
        raise ValueError(
            f"--plot {os.fspath(path)}: the name must end in one of .{', .'.join(sorted(known))}"
        )


def plot(path: str | os.PathLike[str], steps: Sequence[Step], limits: Mapping[int, Limits]) -> None:
    """Draw the share of the FMA peak, and times over threads, into an image file.

    Parameters
    ----------
    path : path
    steps : sequence of Step
    limits : mapping of int to Limits
        By number of threads.
    """
    figure = _new_figure()
    shares, scaling = figure.subplots(1, 2)
    nets = list(dict.fromkeys(step.net.name for step in steps))
    width = 0.8 / len(limits)
    for number, (threads, limit) in enumerate(limits.items()):
        heights = [100 * (step.share_of_peak(limit) or 0) for step in steps if step.threads == threads]
        places = [net + number * width for net in range(len(nets))]
        shares.bar(places, heights, width, align="edge", label=_threads(threads))
    shares.set_xticks([net + 0.4 for net in range(len(nets))], nets)
    shares.set_ylabel("% of the FMA peak")
    shares.legend()
    for name in nets:
        seconds = {step.threads: step.seconds for step in steps if step.net.name == name}
        speed_up = [seconds[min(seconds)] / s for s in seconds.values()]
        scaling.plot(list(seconds), speed_up, "o-", label=name)
    scaling.set_xticks(list(limits))
    scaling.set_xlabel("threads")
    scaling.set_ylabel(f"times faster than {_threads(min(limits))}")
    scaling.set_ylim(bottom=0)
    scaling.legend()
    figure.savefig(path, dpi=120)


def _new_figure() -> Any:
    try:
        from matplotlib.figure import Figure  # no window, whatever the environment
    except ModuleNotFoundError:
        raise ValueError('a plot needs matplotlib: pip install "fastbp[plot]"') from None
    return Figure(figsize=(11, 4), layout="constrained")


def _threads(count: int) -> str:
    return f"{count} thread" + ("" if count == 1 else "s")
