"""Every operation as a plan of its own: each engine gives what the reference gives, on any number of threads,
and writes nothing but its results."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.engine import reference
from fastbp.engine.layout import SLACK
from fastbp.engine.plan import ACTIVATIONS

HERE = Path(__file__).parent
CASE = runpy.run_path(str(HERE / "case.py"))
Case, GUARD, FLAT, EDGES, turned = (CASE[name] for name in ("Case", "GUARD", "FLAT", "EDGES", "turned"))

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
ALPHA = {"leaky_relu": 0.2, "elu": 1.5}
SEED = 2024
ROWS = 6  # of the operations whose rows have nothing to do with each other


@dataclass(frozen=True)
class Reference:
    """The engine that says what is right."""

    name = "reference"
    program = staticmethod(reference.Program)


# ---- cases ---------------------------------------------------------------------------------------


def gather(dtype, rng):
    for columns, rows in zip(EDGES, turned(7), strict=True):
        for arena in ("inputs", "targets", "output_gradients"):
            yield gather_case(dtype, arena, rng.normal(size=(rows, columns)))
    yield gather_case(dtype, "sample_weights", rng.normal(size=9))


def gather_case(dtype, arena, values, **options):
    case = Case("gather", dtype, len(values), phase="gather_targets", **options)
    out = case.take("out", arena, values, contiguous=arena == "sample_weights")
    case.operands = case.before.pop().operands
    case.give("outputs", out)
    return case


def scatter(dtype, rng):
    for columns, rows in zip(EDGES, turned(5), strict=True):
        case = Case("scatter", dtype, rows, phase="output_backward")
        source = case.take("source", "inputs", rng.normal(size=(rows, columns)))
        case.give("outputs", source)
        case.operands = case.after.pop().operands
        yield case


def dense_shapes():
    return zip(EDGES, turned(3), turned(8), strict=True)


def dense_forward(dtype, rng):
    shapes = [*dense_shapes(), *[(13, 9, 25)] * len(ACTIVATIONS), (14, 300, 300)]
    for number, (rows, inputs, outputs) in enumerate(shapes):
        kind = list(ACTIVATIONS)[number % len(ACTIVATIONS)]
        case = Case("dense_forward", dtype, rows, {"activation": kind, "alpha": ALPHA.get(kind, 0.0)})
        y = case.operands["y"] = case.workspace(outputs)
        x = case.take("x", "inputs", rng.normal(size=(rows, inputs)))
        case.dense("weight", "parameters", rng.normal(size=(inputs, outputs)) / np.sqrt(inputs))
        case.operands["bias"] = None
        if number % 3:
            case.dense("bias", "parameters", rng.normal(size=(1, outputs)))
        case.give("outputs", y)
        case.give("input_gradients", x)
        yield case


def dense_backward_weight(dtype, rng):
    shapes = [*dense_shapes(), (257, 300, 300), (513, 17, 33)]
    for number, (rows, inputs, outputs) in enumerate(shapes):
        case = Case("dense_backward_weight", dtype, rows, phase="backward")
        case.take("x", "inputs", rng.normal(size=(rows, inputs)))
        case.take("dy", "output_gradients", rng.normal(size=(rows, outputs)) / np.sqrt(rows))
        case.dense("weight_grad", "gradients", np.full((inputs, outputs), np.nan))
        case.operands["bias_grad"] = None
        if number % 3:
            case.dense("bias_grad", "gradients", np.full((1, outputs), np.nan))
        yield case


def dense_backward_input(dtype, rng):
    shapes = [*dense_shapes(), *[(13, 25, 9)] * len(ACTIVATIONS), (14, 300, 300)]
    for number, (rows, inputs, outputs) in enumerate(shapes):
        kind = list(ACTIVATIONS)[number % len(ACTIVATIONS)]
        case = Case("dense_backward_input", dtype, rows, phase="backward")
        case.attributes = {"activation": kind, "alpha": ALPHA.get(kind, 0.0)}
        dx = case.operands["dx"] = case.workspace(inputs)
        dy = case.take("dy", "output_gradients", rng.normal(size=(rows, outputs)) / np.sqrt(outputs))
        case.operands["saved"] = None
        if kind != "linear":
            case.take("saved", "inputs", saved_by(kind, rng, (rows, inputs)))
        case.dense("weight", "parameters", rng.normal(size=(inputs, outputs)))
        case.give("input_gradients", dx)
        case.give("outputs", dy)
        yield case


def saved_by(kind, rng, shape):
    """What the backward pass of an activation may find: its output, or its input."""
    values = rng.uniform(-0.99, 0.99, shape) if ACTIVATIONS[kind] == "output" else 3 * rng.normal(size=shape)
    values[0, 0] = 0
    return np.abs(values) if kind in ("sigmoid", "softplus") else values


def activation_forward(dtype, rng):
    for kind, columns in product(ACTIVATIONS, EDGES):
        case = Case("activation_forward", dtype, ROWS, {"activation": kind, "alpha": ALPHA.get(kind, 0.0)})
        y = case.operands["y"] = case.workspace(columns)
        x = case.take("x", "inputs", 3 * rng.normal(size=(ROWS, columns)))
        case.give("outputs", y)
        case.give("input_gradients", x)
        yield case


def activation_backward(dtype, rng):
    for number, (kind, columns) in enumerate(product(ACTIVATIONS, EDGES)):
        case = Case("activation_backward", dtype, ROWS, phase="backward")
        case.attributes = {"activation": kind, "alpha": ALPHA.get(kind, 0.0)}
        saved = saved_by(kind, rng, (ROWS, columns))
        backward(case, {"saved": ("inputs", saved)}, rng.normal(size=(ROWS, columns)), number % 2 == 1)
        yield case


def backward(case, others, dy, in_place):
    """Place dx, in front of dy or upon it, and the other operands behind both."""
    if not in_place:
        case.operands["dx"] = case.workspace(dy.shape[1])
    place = case.take("dy", "output_gradients", dy)
    dx = case.operands.setdefault("dx", place)
    for name, (arena, values) in others.items():
        place = case.take(name, arena, values)
    case.give("input_gradients", dx)
    case.give("outputs", place)


def softmax_forward(dtype, rng):
    for columns, rows in zip(EDGES, turned(2), strict=True):
        case = Case("softmax_forward", dtype, rows)
        y = case.operands["y"] = case.workspace(columns)
        x = case.take("x", "inputs", 5 * rng.normal(size=(rows, columns)))
        case.give("outputs", y)
        case.give("input_gradients", x)
        yield case


def softmax_backward(dtype, rng):
    for (columns, rows), in_place in product(zip(EDGES, turned(2), strict=True), (False, True)):
        case = Case("softmax_backward", dtype, rows, phase="backward")
        y = rng.dirichlet(np.ones(columns), rows)
        backward(case, {"y": ("inputs", y)}, rng.normal(size=(rows, columns)), in_place)
        yield case


def dropout_forward(dtype, rng):
    for (columns, rows), training in product(zip(EDGES, turned(4), strict=True), (True, False)):
        case = Case("dropout_forward", dtype, rows, {"rate": 0.3, "stream": columns}, training=training)
        y = case.operands["y"] = case.workspace(columns)
        x = case.take("x", "inputs", rng.normal(size=(rows, columns)))
        case.give("outputs", y)
        case.give("input_gradients", x)
        yield case


def dropout_backward(dtype, rng):
    for (columns, rows), training in product(zip(EDGES, turned(4), strict=True), (True, False)):
        case = Case("dropout_backward", dtype, rows, {"rate": 0.6, "stream": 1}, training=training)
        case.phase = "backward"
        backward(case, {}, rng.normal(size=(rows, columns)), in_place=columns % 2 == 1)
        yield case


CASES = {
    function.__name__: function
    for function in (
        gather, scatter, dense_forward, dense_backward_weight, dense_backward_input, activation_forward,
        activation_backward, softmax_forward, softmax_backward, dropout_forward, dropout_backward,
    )
}  # fmt: skip
for file in ("layer_cases.py", "step_cases.py"):
    CASES |= {kind: partial(cases, Case) for kind, cases in runpy.run_path(str(HERE / file))["CASES"].items()}

# ---- tests ---------------------------------------------------------------------------------------


def test_every_operation_is_here():
    assert set(CASES) == set(reference.schema())


def check_close(case, name, values, expected):
    """Guards to the bit; the rest relative to the largest magnitude."""
    where = expected == GUARD
    assert np.array_equal(values == GUARD, where), f"{case}: wrote beside its {name}"
    assert np.array_equal(np.isnan(values), np.isnan(expected)), f"{case}: {name} has other NaNs"
    scale = np.max(np.abs(expected[~where]), initial=0)
    error = np.max(np.abs(values - expected), initial=0)
    assert error <= TOLERANCE[case.dtype] * scale, f"{case}: {name} is off by {error:g}, magnitude {scale:g}"


def make_cases(kind, dtype):
    return list(CASES[kind](dtype, np.random.default_rng(SEED)))


@cache
def answers(kind, dtype):
    """Cases, and what the reference says to each; the same for all engines."""
    return [(case, case.run(Reference())) for case in make_cases(kind, dtype)]


def check_bits(case, results, expected, size):
    for name, values in results.items():
        assert values.tobytes() == expected[name].tobytes(), f"{case}: {name} differs on {size} threads"


@pytest.mark.parametrize("kind", CASES)
def test_operation(kind, engine, dtype):
    for number, (case, expected) in enumerate(answers(kind, dtype)):
        fastbp.set_num_threads(1)
        alone = case.run(engine)
        assert set(alone) == set(expected)
        for name, values in alone.items():
            check_close(case, name, values, expected[name])
        for size in engine.teams[1 + number % 2 :: 2]:  # two threads and four by turns
            fastbp.set_num_threads(size)
            check_bits(case, case.run(engine), alone, size)


@pytest.mark.parametrize("kind", CASES)
def test_results_are_shown(kind, dtype):
    """A case in which nothing changes would pass with any engine."""
    for case, results in answers(kind, dtype):
        before = {name: np.concatenate([flat, np.full(SLACK, GUARD)]) for name, flat in case.flat.items()}
        shown = [name for name, values in results.items() if not np.array_equal(values, before.get(name))]
        assert shown, case


FLAT_KINDS = {kind for kind, (operands, _) in reference.schema().items() if operands[0] in FLAT}


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind not in FLAT_KINDS])
def test_a_smaller_batch_uses_fewer_rows(kind, engine, dtype, monkeypatch):
    """Room for more rows than there are changes nothing, and nothing is written for them."""
    tight = answers(kind, dtype)[::7]
    monkeypatch.setattr(Case, "spare", 3)
    for (case, _), roomy in zip(tight, make_cases(kind, dtype)[::7], strict=True):
        for size in engine.teams[::2]:
            fastbp.set_num_threads(size)
            check_bits(roomy, roomy.run(engine), case.run(engine), size)


def test_order_and_position(engine, dtype, rng):
    """Samples are read in the given order; results lie at their positions; batches follow each other."""
    values = rng.normal(size=(20, 5)).astype(dtype)
    order = rng.permutation(20)
    for arena, ordered in (("inputs", True), ("targets", True), ("output_gradients", False)):
        case = gather_case(dtype, arena, values, batch=4)
        plan = case.plan()
        for size in engine.teams:
            fastbp.set_num_threads(size)
            empty = np.zeros(SLACK, dtype)
            program = engine.program(plan, empty, empty, empty, np.zeros(2, np.int64))
            outputs = np.full((20, 5), GUARD, dtype)
            program.run(("gather_targets", "output"), 3, 10, outputs=outputs, order=order, **{arena: values})
            expected = np.full((20, 5), GUARD, dtype)
            expected[3:13] = values[order[3:13]] if ordered else values[3:13]
            assert np.array_equal(outputs, expected), f"{arena} on {size} threads"
