"""Every operation as a plan of its own: each engine gives what the reference gives, on any number of threads,
and writes nothing but its results."""

from __future__ import annotations

import runpy
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import fastbp
from fastbp.engine import reference
from fastbp.engine.layout import SLACK, round_up
from fastbp.engine.plan import ACTIVATIONS, LOSSES, Op, Plan, Tensor

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
GUARD = -77.25  # what must not be written over
EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 33, 47, 49, 257)
ALPHA = {"leaky_relu": 0.2, "elu": 1.5}
SEED = 2024
ROWS = 6  # of the operations whose rows have nothing to do with each other


def turned(by: int) -> tuple[int, ...]:
    """The edges in another order, so that pairs of them differ."""
    return EDGES[by:] + EDGES[:by]


@dataclass
class Case:
    """One operation with its operands, which are gathered before it and scattered after it.

    An operand that is only read lies right behind the result, and is scattered too: a kernel that writes past
    the padding of a row spoils it.
    """

    spare: ClassVar[int] = 0  # rows that a batch has room for beyond those it has
    kind: str
    dtype: str
    rows: int
    attributes: dict = field(default_factory=dict)
    batch: int = 0  # capacity; rows and what is spare, unless given
    phase: str = "forward"
    training: bool = False
    data: dict = field(default_factory=dict)
    flat: dict = field(default_factory=dict)
    operands: dict = field(default_factory=dict)
    columns: dict = field(default_factory=lambda: {"inputs": 1, "outputs": 1, "targets": 1})
    before: list = field(default_factory=list)
    after: list = field(default_factory=list)
    end: int = 0  # of the workspace so far

    def __post_init__(self):
        self.batch = self.batch or self.rows + self.spare

    def __str__(self):
        shapes = ", ".join(f"{name} {tensor}" for name, tensor in self.operands.items() if tensor)
        options = ", ".join(f"{name}={value}" for name, value in self.attributes.items())
        return f"{self.kind}({options}) of {self.rows} rows in {self.dtype}: {shapes}"

    # ---- places ----

    def workspace(self, columns, contiguous=False):
        stride = columns if contiguous else round_up(columns)
        tensor = Tensor("workspace", self.end, self.batch, columns, stride, per_row=True)
        self.end += round_up(self.batch * stride)
        return tensor

    def take(self, name, arena, values, contiguous=False):
        """Place an operand whose rows come from a matrix of the caller."""
        values = np.ascontiguousarray(values, self.dtype)
        self.data[arena] = values
        source = self._matrix(arena, values.shape[-1] if values.ndim == 2 else 1)
        place = self.operands[name] = self.workspace(source.columns, contiguous)
        self.before.append(Op("gather", "gather", {"source": source, "out": place}))
        return place

    def give(self, arena, place):
        """Show what lies in a place of the workspace at the end."""
        self.after.append(
            Op("scatter", "output", {"source": place, "out": self._matrix(arena, place.columns)})
        )
        self.data[arena] = np.zeros((self.rows, place.columns), self.dtype)

    def dense(self, name, arena, values):
        """Place an operand in a flat array, between guards."""
        values = np.atleast_2d(np.asarray(values, self.dtype))
        before = self.flat.get(arena, np.full(16, GUARD, self.dtype))
        tensor = Tensor(arena, before.size, *values.shape, values.shape[1])
        guard = np.full(16 + -values.size % 16, GUARD, self.dtype)
        self.flat[arena] = np.concatenate([before, values.ravel(), guard])
        self.operands[name] = tensor
        return tensor

    def _matrix(self, arena, columns):
        kind = {"input_gradients": "inputs", "output_gradients": "outputs"}.get(arena, arena)
        if kind in self.columns:
            assert self.columns[kind] in (1, columns)
            self.columns[kind] = columns
        return Tensor(arena, 0, self.batch, columns, columns, per_row=True)

    # ---- running ----

    def plan(self):
        op = Op(self.kind, self.phase, self.operands, self.attributes, "layer")
        sizes = {name: self.flat[name].size + SLACK if name in self.flat else SLACK for name in FLAT}
        return Plan(
            ops=(*self.before, op, *self.after),
            dtype=self.dtype,
            batch_size=self.batch,
            sizes=sizes | {"workspace": self.end + SLACK},
            columns=self.columns,
            parameters=(),
            slots=(),
            seed=11,
        )

    def run(self, engine, **options):
        """Return {name: values} of all that the operation may have changed."""
        slack = np.full(SLACK, GUARD, self.dtype)
        flat = {name: np.concatenate([self.flat.get(name, slack[:0]), slack]) for name in FLAT}
        counters = np.array([2, 5])
        program = engine.program(self.plan(), *flat.values(), counters)
        data = dict(self.data)
        guarded = {}
        for name in ("outputs", "input_gradients"):
            if name in data:
                guarded[name] = np.full(data[name].size + 2 * SLACK, GUARD, self.dtype)
                data[name] = guarded[name][SLACK:-SLACK].reshape(data[name].shape)
        phases = ("gather", self.phase, "output")
        loss = program.run(phases, 0, self.rows, **data, **{"training": self.training} | options)
        results = {"loss": np.array(loss)} if self.phase == "loss" else {}
        results |= {name: flat[name] for name in self.flat}
        return results | guarded


FLAT = ("parameters", "gradients", "state")


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


def loss_case(kind, dtype, rng, attributes, prediction, target, weighted):
    """weighted: sample weights given, planned but not given, or not even planned."""
    case = Case(kind, dtype, len(prediction), attributes, phase="loss")
    delta = case.operands["delta"] = case.workspace(prediction.shape[1])
    place = case.take("prediction", "inputs", prediction)
    case.take("target", "targets", target)
    case.operands["sample_weight"] = None
    if weighted != "unplanned":
        case.take(
            "sample_weight", "sample_weights", rng.integers(0, 4, len(prediction)) + 0.25, contiguous=True
        )
    if weighted == "absent":
        del case.data["sample_weights"]
    case.give("outputs", delta)
    case.give("input_gradients", place)
    return case


WEIGHTED = ("given", "absent", "unplanned")


def elementwise_loss(dtype, rng):
    parameter = {"huber": 0.7, "quantile": 0.3}
    for loss, (number, columns) in product(LOSSES, enumerate(EDGES)):
        shape = turned(6)[number], columns
        prediction, target = rng.normal(size=shape), rng.normal(size=shape)
        if loss == "poisson":
            prediction, target = rng.uniform(0.1, 5, shape), rng.poisson(2, shape)
        elif loss == "binary_cross_entropy":
            prediction, target = rng.uniform(0.01, 0.99, shape), rng.choice([0, 0.3, 1], shape)
        elif loss == "sigmoid_binary_cross_entropy":
            prediction, target = 5 * prediction, rng.choice([0, 0.3, 1], shape)
        attributes = {"loss": loss, "parameter": parameter.get(loss, 0.0)}
        yield loss_case("elementwise_loss", dtype, rng, attributes, prediction, target, WEIGHTED[number % 3])


def cross_entropy(kind, dtype, rng):
    for (number, columns), labels, smoothing in product(enumerate(EDGES), (True, False), (0.0, 0.1)):
        if columns == 1 and not labels:
            continue  # one column of targets means labels
        rows = turned(6)[number]
        target = rng.integers(columns, size=(rows, 1)) if labels else rng.dirichlet(np.ones(columns), rows)
        prediction = rng.dirichlet(np.full(columns, 5), rows) if kind == "cross_entropy_loss" else None
        if prediction is None:
            prediction = 5 * rng.normal(size=(rows, columns))
        attributes = {"label_smoothing": smoothing}
        yield loss_case(kind, dtype, rng, attributes, prediction, target, WEIGHTED[number % 3])


def cross_entropy_loss(dtype, rng):
    yield from cross_entropy("cross_entropy_loss", dtype, rng)


def softmax_cross_entropy_loss(dtype, rng):
    yield from cross_entropy("softmax_cross_entropy_loss", dtype, rng)


TABLES = ((2, 5), (7, 16), (40, 3))  # of which a step leaves alone the rows without a gradient


def update(kind, dtype, rng, size, attributes, **slots):
    """Three steps with three learning rates. slots: whether each is there."""
    case = Case(kind, dtype, 3, attributes, batch=1, phase="update")
    case.dense("parameters", "parameters", rng.normal(size=size))
    gradients = rng.normal(size=size)
    if np.ndim(gradients) == 2:
        gradients[::3] = 0
    case.dense("gradients", "gradients", gradients)
    for name, there in slots.items():
        case.operands[name] = case.dense(name, "state", rng.uniform(1, 2, size)) if there else None
    case.data["learning_rates"] = np.array([0.1, 0.05, 0.2])
    return case


def sgd(dtype, rng):
    for size, (momentum, nesterov), decay in product(
        (*EDGES, 1000, *TABLES), ((0.0, False), (0.9, False), (0.8, True)), (0.0, 0.1)
    ):
        attributes = {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay}
        yield update("sgd", dtype, rng, size, attributes, momentum_buffer=momentum > 0)


def adam(dtype, rng):
    for size, decay, decoupled in product((*EDGES, 1000, *TABLES), (0.0, 0.1), (False, True)):
        attributes = {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-8, "weight_decay": decay}
        yield update("adam", dtype, rng, size, attributes | {"decoupled": decoupled}, m=True, v=True)


def rmsprop(dtype, rng):
    for size, momentum, decay, centered in product((*EDGES, 1000), (0.0, 0.7), (0.0, 0.1), (False, True)):
        attributes = {"rho": 0.9, "momentum": momentum, "epsilon": 1e-8, "weight_decay": decay}
        slots = {"v": True, "momentum_buffer": momentum > 0, "gradient_average": centered}
        case = update("rmsprop", dtype, rng, size, attributes, **slots)
        if centered:  # the square of a mean is not above the mean of the squares
            place = case.operands["gradient_average"]
            case.flat["state"][place.offset : place.offset + size] /= 4
        yield case


CASES = {
    function.__name__: function
    for function in (
        gather, scatter, dense_forward, dense_backward_weight, dense_backward_input, activation_forward,
        activation_backward, softmax_forward, softmax_backward, dropout_forward, dropout_backward,
        elementwise_loss, cross_entropy_loss, softmax_cross_entropy_loss, sgd, adam, rmsprop,
    )
}  # fmt: skip
LAYER_CASES = runpy.run_path(str(Path(__file__).with_name("layer_cases.py")))["CASES"]
CASES |= {kind: partial(cases, Case) for kind, cases in LAYER_CASES.items()}

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


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind not in ("sgd", "adam", "rmsprop")])
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
