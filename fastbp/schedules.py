"""Schedules: learning rates that change from step to step. Names and formulas are Keras' or PyTorch's.

A schedule is a function of the number of steps done so far, counted from 0, and of nothing else: training
that goes on after a pause goes on with the same rates. With gradient accumulation, steps are the optimizer's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.checks import check_choice, check_count, check_flag, check_number
from fastbp.configurable import Configurable

Rates = NDArray[np.float64]
Steps = NDArray[np.int64]


class Schedule(Configurable):
    """Base of all schedules, for ``learning_rate=`` of any optimizer. A subclass gives :meth:`at`.

    Examples
    --------
    >>> import fastbp as bp
    >>> rate = bp.schedules.ExponentialDecay(0.1, decay_steps=1000, decay_rate=0.5)
    >>> rate(0), rate(2000)
    (0.1, 0.025)
    >>> bp.optimizers.SGD(learning_rate=rate)
    SGD(learning_rate=ExponentialDecay(0.1, 1000, 0.5))
    """

    def at(self, steps: Steps) -> Rates:
        """Return the learning rate after each of these numbers of steps."""
        raise NotImplementedError

    def rates(self, steps: Steps) -> Rates:
        """Return :meth:`at`, which must give finite numbers that are not negative, one for each step.

        Raises
        ------
        ValueError
            When it does not: naming the step.
        """
        rates = np.ascontiguousarray(self.at(steps), np.float64)
        if rates.shape != steps.shape:
            raise ValueError(
                f"{self!r} must give one rate for each of {steps.shape} steps, got {rates.shape}"
            )
        if not (good := np.isfinite(rates) & (rates >= 0)).all():
            bad = int(np.argmin(good))
            raise ValueError(f"{self!r} gives the learning rate {rates[bad]} at step {steps[bad]}")
        return rates

    def __call__(self, step: int) -> float:
        """Return the learning rate after `step` steps."""
        return float(self.rates(np.array([check_count("step", step, at_least=0)]))[0])


class ExponentialDecay(Schedule):
    """η₀ · decay_rate^(step / decay_steps).

    Parameters
    ----------
    initial_learning_rate : float
        η₀.
    decay_steps : int
        Steps in which the rate is multiplied by `decay_rate` once.
    decay_rate : float
        Positive.
    staircase : bool
        Round step / decay_steps down: the rate changes once every `decay_steps` steps (PyTorch's StepLR).
    """

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_count("decay_steps", decay_steps)
        self.decay_rate = check_number("decay_rate", decay_rate, "(0, inf)")
        self.staircase = check_flag("staircase", staircase)

    def at(self, steps: Steps) -> Rates:
        """Return the rates."""
        return self.initial_learning_rate * self.decay_rate ** _periods(
            steps, self.decay_steps, self.staircase
        )


class InverseTimeDecay(Schedule):
    """η₀ / (1 + decay_rate · step / decay_steps).

    Parameters
    ----------
    initial_learning_rate : float
        η₀.
    decay_steps : int
    decay_rate : float
        Not negative.
    staircase : bool
        Round step / decay_steps down.
    """

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_count("decay_steps", decay_steps)
        self.decay_rate = check_number("decay_rate", decay_rate, "[0, inf)")
        self.staircase = check_flag("staircase", staircase)

    def at(self, steps: Steps) -> Rates:
        """Return the rates."""
        periods = _periods(steps, self.decay_steps, self.staircase)
        return self.initial_learning_rate / (1 + self.decay_rate * periods)


class PolynomialDecay(Schedule):
    """(η₀ − η₁) (1 − step / decay_steps)^power + η₁ up to `decay_steps`, then η₁.

    Parameters
    ----------
    initial_learning_rate : float
        η₀.
    decay_steps : int
    end_learning_rate : float
        η₁.
    power : float
        Positive; 1 is linear.
    cycle : bool
        After `decay_steps`, go on with the least multiple of them that is not below step.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 1e-4,
        power: float = 1.0,
        cycle: bool = False,
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_count("decay_steps", decay_steps)
        self.end_learning_rate = _rate("end_learning_rate", end_learning_rate)
        self.power = check_number("power", power, "(0, inf)")
        self.cycle = check_flag("cycle", cycle)

    def at(self, steps: Steps) -> Rates:
        """Return the rates."""
        length = (
            self.decay_steps * np.maximum(1, -(-steps // self.decay_steps))
            if self.cycle
            else self.decay_steps
        )
        left = 1 - np.minimum(steps / length, 1)
        return (
            self.initial_learning_rate - self.end_learning_rate
        ) * left**self.power + self.end_learning_rate


class CosineDecay(Schedule):
    """A linear warm-up, then η (½ (1 − α) (1 + cos(π x)) + α), x from 0 to 1 in `decay_steps`; then η α.

    Parameters
    ----------
    initial_learning_rate : float
        Where the warm-up starts; without one, η.
    decay_steps : int
        Steps after the warm-up.
    alpha : float
        α: the last rate as a fraction of η.
    warmup_target : float, optional
        η, where the warm-up ends; None for no warm-up.
    warmup_steps : int
        Its length.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_count("decay_steps", decay_steps)
        self.alpha = check_number("alpha", alpha, "[0, inf)")
        self.warmup_target = None if warmup_target is None else _rate("warmup_target", warmup_target)
        self.warmup_steps = check_count("warmup_steps", warmup_steps, at_least=0)

    def at(self, steps: Steps) -> Rates:
        """Return the rates."""
        start, top, length = self.initial_learning_rate, self.warmup_target, self.warmup_steps
        if top is None:
            return start * _cosine(np.minimum(steps / self.decay_steps, 1), self.alpha)
        decayed = top * _cosine(np.clip((steps - length) / self.decay_steps, 0, 1), self.alpha)
        return np.where(steps < length, start + (top - start) * steps / max(length, 1), decayed)


class CosineDecayRestarts(Schedule):
    """Cosine decay that starts again and again (SGDR, Loshchilov and Hutter, 2017).

    Parameters
    ----------
    initial_learning_rate : float
    first_decay_steps : int
        Length of the first decay.
    t_mul : float
        Each decay is so many times longer than the one before; at least 1.
    m_mul : float
        Each one starts so many times higher.
    alpha : float
        The last rate of the first decay as a fraction of `initial_learning_rate`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = check_count("first_decay_steps", first_decay_steps)
        self.t_mul = check_number("t_mul", t_mul, "[1, inf)")
        self.m_mul = check_number("m_mul", m_mul, "(0, inf)")
        self.alpha = check_number("alpha", alpha, "[0, inf)")

    def at(self, steps: Steps) -> Rates:
        """Return the rates."""
        done = steps / self.first_decay_steps  # in units of the first decay
        if self.t_mul == 1:
            number = np.floor(done)
            part = done - number
        else:
            number = np.floor(np.log1p(done * (self.t_mul - 1)) / math.log(self.t_mul))
            number += (
                self._start(number + 1) <= done
            )  # the logarithm is rounded: it may miss a restart by one
            number -= self._start(number) > done
            part = (done - self._start(number)) / self.t_mul**number
        return self.initial_learning_rate * _cosine(part, self.alpha, self.m_mul**number)

    def _start(self, number: Rates) -> Rates:
        """Where a decay begins."""
        start: Rates = (self.t_mul**number - 1) / (self.t_mul - 1)
        return start


class PiecewiseConstantDecay(Schedule):
    """``values[i]`` up to and with step ``boundaries[i]``, the last value from then on.

    Parameters
    ----------
    boundaries : sequence of int
        Ascending.
    values : sequence of float
        One more than boundaries.

    Examples
    --------
    >>> rate = PiecewiseConstantDecay([100, 200], [0.1, 0.03, 0.01])
    >>> rate(100), rate(101), rate(1000)
    (0.1, 0.03, 0.01)
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]) -> None:
        self.boundaries = [check_count("boundaries", boundary, at_least=0) for boundary in boundaries]
        self.values = [_rate("values", value) for value in values]
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ValueError(f"boundaries must ascend, got {self.boundaries}")
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"values must be one more than boundaries, got {len(self.values)} for {len(self.boundaries)}"
            )

    def at(self, steps: Steps) -> Rates:
        """Return the rates."""
        return np.array(self.values)[np.searchsorted(np.array(self.boundaries, np.int64), steps)]


class OneCycle(Schedule):
    """One cycle (Smith and Topin, 2018), with PyTorch's formula and defaults: up to a maximum, then far down.

    Parameters
    ----------
    max_learning_rate : float
    total_steps : int
        Length of the cycle, at least 2; after it the rate stays the last one.
    pct_start : float
        Fraction of the cycle in which the rate rises, in (0, 1).
    anneal_strategy : {"cos", "linear"}
    div_factor : float
        The first rate is the maximum divided by it.
    final_div_factor : float
        The last rate is the first one divided by it.
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.max_learning_rate = _rate("max_learning_rate", max_learning_rate)
        self.total_steps = check_count("total_steps", total_steps, at_least=2)
        self.pct_start = check_number("pct_start", pct_start, "(0, 1)")
        self.anneal_strategy = check_choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.div_factor = check_number("div_factor", div_factor, "(0, inf)")
        self.final_div_factor = check_number("final_div_factor", final_div_factor, "(0, inf)")

    def at(self, steps: Steps) -> Rates:
        """Return the rates."""
        first = self.max_learning_rate / self.div_factor
        top, end = self.pct_start * self.total_steps - 1, self.total_steps - 1
        step = np.minimum(steps, end)
        rising = self._between(first, self.max_learning_rate, step / top) if top > 0 else first
        falling = self._between(
            self.max_learning_rate, first / self.final_div_factor, (step - top) / (end - top)
        )
        return np.where(step <= top, rising, falling)

    def _between(self, start: float, end: float, part: Rates) -> Rates:
        if self.anneal_strategy == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2 * (1 + np.cos(np.pi * part))


def get(value: object) -> Schedule | None:
    """Return the schedule that a learning rate is (or describes, as a dict), None for a number."""
    if isinstance(value, Mapping):
        config: Mapping[str, Any] = value
        return Schedule.from_config(config)
    return value if isinstance(value, Schedule) else None


def _rate(argument: str, value: object) -> float:
    return check_number(argument, value, "[0, inf)")


def _periods(steps: Steps, length: int, staircase: bool) -> Rates:
    return np.floor(steps / length) if staircase else steps / length


def _cosine(part: Rates, alpha: float, height: float | Rates = 1.0) -> Rates:
    """From `height` to 0, and α of the way back up to 1."""
    return (1 - alpha) * height * (1 + np.cos(np.pi * part)) / 2 + alpha
