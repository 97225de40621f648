"""Schedules: the published formulas, one step after the other; and what a training makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastbp as bp
from fastbp import schedules
from fastbp.layers import Dense
from fastbp.optimizers import SGD
from fastbp.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    OneCycle,
    PiecewiseConstantDecay,
    PolynomialDecay,
    Schedule,
)

# ---- the formulas as they are published, for one step: Keras' documentation, PyTorch's OneCycleLR ----


def exponential(s, step):
    exponent = step // s.decay_steps if s.staircase else step / s.decay_steps
    return s.initial_learning_rate * s.decay_rate**exponent


def inverse_time(s, step):
    periods = step // s.decay_steps if s.staircase else step / s.decay_steps
    return s.initial_learning_rate / (1 + s.decay_rate * periods)


def polynomial(s, step):
    length = s.decay_steps
    if s.cycle:
        length *= max(1, math.ceil(step / s.decay_steps))
    left = 1 - min(step, length) / length
    return (s.initial_learning_rate - s.end_learning_rate) * left**s.power + s.end_learning_rate


def cosine(s, step):
    start = s.initial_learning_rate
    if s.warmup_target is not None:
        if step < s.warmup_steps:
            return start + step / s.warmup_steps * (s.warmup_target - start)
        start, step = s.warmup_target, step - s.warmup_steps
    step = min(step, s.decay_steps)
    decayed = 0.5 * (1 + math.cos(math.pi * step / s.decay_steps))
    return start * ((1 - s.alpha) * decayed + s.alpha)


def restarts(s, step):
    length, height = float(s.first_decay_steps), 1.0
    while step >= length:
        step, length, height = step - length, length * s.t_mul, height * s.m_mul
    decayed = 0.5 * height * (1 + math.cos(math.pi * step / length))
    return s.initial_learning_rate * ((1 - s.alpha) * decayed + s.alpha)


def piecewise(s, step):
    for boundary, value in zip(s.boundaries, s.values, strict=False):
        if step <= boundary:
            return value
    return s.values[-1]


def one_cycle(s, step):
    first = s.max_learning_rate / s.div_factor
    last = first / s.final_div_factor
    middle, end = s.pct_start * s.total_steps - 1, s.total_steps - 1

    def between(a, b, part):
        if s.anneal_strategy == "linear":
            return (b - a) * part + a
        return b + (a - b) / 2 * (math.cos(math.pi * part) + 1)

    if step <= middle:
        return between(first, s.max_learning_rate, step / middle)
    return between(s.max_learning_rate, last, (min(step, end) - middle) / (end - middle))


CASES = [
    (ExponentialDecay(0.1, 30, 0.5), exponential),
    (ExponentialDecay(0.1, 30, 0.5, staircase=True), exponential),
    (InverseTimeDecay(0.1, 30, 0.5), inverse_time),
    (InverseTimeDecay(0.1, 30, 0.5, staircase=True), inverse_time),
    (PolynomialDecay(0.1, 50), polynomial),
    (PolynomialDecay(0.1, 50, 0.01, 2.0), polynomial),
    (PolynomialDecay(0.1, 50, 0.01, 0.5, cycle=True), polynomial),
    (CosineDecay(0.1, 60), cosine),
    (CosineDecay(0.1, 60, 0.1), cosine),
    (CosineDecay(0.0, 60, 0.1, 0.2, 25), cosine),
    (CosineDecay(0.3, 60, 0.0, 0.2, 0), cosine),
    (CosineDecayRestarts(0.1, 10), restarts),
    (CosineDecayRestarts(0.1, 10, 1.0, 0.5, 0.1), restarts),
    (CosineDecayRestarts(0.1, 7, 3.0, 0.8, 0.2), restarts),
    (PiecewiseConstantDecay([10, 20, 100], [0.1, 0.5, 0.2, 0.0]), piecewise),
    (PiecewiseConstantDecay([], [0.1]), piecewise),
    (OneCycle(0.1, 100), one_cycle),
    (OneCycle(0.1, 120, 0.25, "linear", 10.0, 100.0), one_cycle),
]


@pytest.mark.parametrize(("schedule", "formula"), CASES)
def test_formula(schedule, formula):
    expected = [formula(schedule, step) for step in range(300)]
    np.testing.assert_allclose(schedule.at(np.arange(300)), expected, rtol=1e-12, atol=1e-15)
    assert schedule(17) == pytest.approx(expected[17], rel=1e-12)


def test_every_schedule_is_here():
    known = {kind for kind in vars(schedules).values() if isinstance(kind, type)}
    assert {type(case) for case, _ in CASES} == {k for k in known if issubclass(k, Schedule)} - {Schedule}


def test_restarts_are_not_missed_by_rounding():
    starts = 3 * (3 ** np.arange(20) - 1) // 2
    assert np.array_equal(CosineDecayRestarts(1.0, 3, 3.0).at(starts), np.ones(20))


@pytest.mark.parametrize(("schedule", "_"), CASES)
def test_json_and_back(schedule, _):
    optimizer = bp.optimizers.get(SGD(schedule).config())
    assert optimizer.learning_rate.config() == schedule.config()
    assert repr(optimizer.learning_rate) == repr(schedule)


# ---- in training ----


def model(rate, **options):
    dense = Dense(1, kernel_initializer="zeros", use_bias=False)
    optimizer = SGD(rate, **options)
    return bp.Sequential([dense], "mse", optimizer, input_size=1, dtype="float64", seed=0)


X, Y = np.ones((24, 1)), np.arange(24.0)


def test_each_step_has_its_rate():
    rate = ExponentialDecay(0.1, 2, 0.5)
    fitted, w = model(rate), 0.0
    fitted.fit(X, Y, batch_size=4, shuffle=False)
    for step, batch in enumerate(np.split(Y, 6)):
        w -= rate(step) * 2 * (w - batch.mean())
    assert fitted.layers[0].weight.item() == pytest.approx(w)
    fitted.train_on_batch(X[:4], Y[:4])  # the seventh step
    assert fitted.layers[0].weight.item() == pytest.approx(w - rate(6) * 2 * (w - Y[:4].mean()))


def test_a_saved_model_goes_on_with_its_rates(tmp_path):
    rate = CosineDecayRestarts(0.1, 4)
    whole, halves = model(rate), model(rate)
    whole.fit(X, Y, batch_size=4, epochs=4)
    halves.fit(X, Y, batch_size=4, epochs=2)
    halves.save(tmp_path / "half.safetensors")
    halves = bp.load(tmp_path / "half.safetensors")
    halves.fit(X, Y, batch_size=4, epochs=2)
    assert np.array_equal(whole.parameters, halves.parameters)


def test_accumulated_steps_count_once():
    rate = PiecewiseConstantDecay([0], [0.1, 0.0])  # one step, then none
    fitted = model(rate, gradient_accumulation_steps=3)
    fitted.fit(X, Y, batch_size=4, shuffle=False)
    assert fitted.layers[0].weight.item() == pytest.approx(0.1 * 2 * Y[:12].mean())


def test_a_rate_may_become_a_schedule_and_a_number_again():
    fitted = model(0.1)
    fitted.optimizer.learning_rate = ExponentialDecay(0.0, 1, 1.0)
    fitted.fit(X, Y)
    assert fitted.layers[0].weight.item() == 0
    fitted.optimizer.learning_rate = 0.1
    fitted.fit(X, Y)
    assert fitted.layers[0].weight.item() != 0


# ---- bad input ----


class Given(Schedule):
    """Rates as they were given."""

    def __init__(self, values):
        self.values = values

    def at(self, steps):
        return self.values


@pytest.mark.parametrize("rate", [np.nan, np.inf, -0.1])
def test_rates_that_are_none(rate):
    with pytest.raises(ValueError, match=r"gives the learning rate .* at step 0"):
        model(Given([rate])).train_on_batch(X, Y)


def test_too_few_rates():
    with pytest.raises(ValueError, match="must give one rate for each"):
        Given([0.1]).rates(np.arange(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExponentialDecay(-0.1, 1, 0.5),
        lambda: ExponentialDecay(0.1, 0, 0.5),
        lambda: ExponentialDecay(0.1, 1, 0.0),
        lambda: InverseTimeDecay(0.1, 1, -1.0),
        lambda: PolynomialDecay(0.1, 10, power=0.0),
        lambda: CosineDecay(0.1, 10, alpha=-1.0),
        lambda: CosineDecay(0.1, 10, 0.0, 0.1, -1),
        lambda: CosineDecayRestarts(0.1, 10, t_mul=0.5),
        lambda: PiecewiseConstantDecay([1, 2], [0.1, 0.2]),
        lambda: PiecewiseConstantDecay([2, 1], [0.1, 0.2, 0.3]),
        lambda: OneCycle(0.1, 1),
        lambda: OneCycle(0.1, 10, pct_start=1.0),
        lambda: OneCycle(0.1, 10, anneal_strategy="cosine"),
        lambda: ExponentialDecay(0.1, 1, 0.5)(-1),
        lambda: schedules.get({"class": "Nothing"}),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"must|class"):
        make()


def test_a_rate_is_a_number_or_a_schedule():
    with pytest.raises(TypeError, match="learning_rate must be a number"):
        SGD(learning_rate="fast")
