"""The reference: every operation as a plan of its own, beside other formulas and central differences."""

import re
import runpy
import warnings
from pathlib import Path

import mpmath
import numpy as np
import pytest

from fastbp.engine import reference
from fastbp.engine.plan import ACTIVATIONS, ROW_OPERATIONS, Op, Plan, Tensor
from fastbp.engine.random import random_halves

SINGLE = runpy.run_path(str(Path(__file__).with_name("single.py")))
ROWS, run_op = SINGLE["ROWS"], SINGLE["run_op"]
differences, assert_gradient = SINGLE["differences"], SINGLE["assert_gradient"]
ALPHA = {"leaky_relu": 0.2, "elu": 1.5}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


OPS_DEF = (Path(__file__).parents[2] / "csrc" / "ops.def").read_text()


def ops_def():
    """{name: (operands, attributes)}, read from the text."""
    lines = re.findall(r'^(?:ROW_)?OP\((\w+),\s*"([^"]*)",\s*"([^"]*)"\)', OPS_DEF, re.MULTILINE)
    return {
        name: (tuple(operands.split()), tuple(attributes.split())) for name, operands, attributes in lines
    }


SCHEMA = ops_def()


def test_schema_is_that_of_ops_def():
    assert len(SCHEMA) > 10
    assert reference.schema() == SCHEMA


def test_the_same_operations_take_rows_block_by_block():
    assert set(re.findall(r"^ROW_OP\((\w+)", OPS_DEF, re.MULTILINE)) == ROW_OPERATIONS


# ---- dropout ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kind", "x", "y"), [("dropout_forward", "x", "y"), ("dropout_backward", "dy", "dx")]
)
@pytest.mark.parametrize("in_place", [False, True])
def test_dropout(kind, x, y, in_place, dtype, rng):
    values, rate = rng.normal(size=(ROWS, 9)).astype(dtype), 0.3
    where = {y: x} if in_place else None

    def drop(training):
        return run_op(
            kind, {x: values}, {y: 9}, None, {"rate": rate, "stream": 2}, in_place=where, training=training
        )[y]

    np.testing.assert_array_equal(drop(False), values)
    dropped = 19661  # of 2^16: 19660.8
    kept = random_halves(2**40 + 5, 4, 2, ROWS, 9) >= dropped
    assert 0 < kept.sum() < kept.size
    scale = values.dtype.type(2**16 / (2**16 - dropped))
    np.testing.assert_array_equal(drop(True), np.where(kept, values * scale, 0))


# ---- dense -----------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
def test_dense_and_its_gradients(bias, activation, rng):
    x, weight = rng.normal(size=(ROWS, 4)), rng.normal(size=(4, 3))
    b, dy = rng.normal(size=(1, 3)), rng.normal(size=(ROWS, 3))
    attributes = {"activation": activation, "alpha": 0.0}

    def forward(x=x, weight=weight, b=b):
        flat = {"weight": ("parameters", weight)} | ({"bias": ("parameters", b)} if bias else {})
        return run_op("dense_forward", {"x": x}, {"y": 3}, flat, attributes)["y"]

    g = {"linear": lambda z: z, "tanh": np.tanh, "relu": lambda z: z * (z > 0)}[activation]
    np.testing.assert_allclose(forward(), g(x @ weight + (b if bias else 0)), rtol=1e-14)
    if activation != "linear":
        return
    grads = {"weight_grad": ("gradients", np.zeros((4, 3)))}
    if bias:
        grads["bias_grad"] = ("gradients", np.zeros((1, 3)))
    found = run_op("dense_backward_weight", {"x": x, "dy": dy}, None, grads)
    assert_gradient(found["weight_grad"], lambda weight: np.sum(forward(weight=weight) * dy), weight)
    if bias:
        assert_gradient(found["bias_grad"], lambda b: np.sum(forward(b=b) * dy), b)
    flat = {"weight": ("parameters", weight)}
    dx = run_op("dense_backward_input", {"dy": dy}, {"dx": 4}, flat, attributes)["dx"]
    assert_gradient(dx, lambda x: np.sum(forward(x=x) * dy), x)
    saved = np.tanh(x)  # the derivative of the layer below becomes part of the product
    dx = run_op(
        "dense_backward_input",
        {"dy": dy, "saved": saved},
        {"dx": 4},
        flat,
        {"activation": "tanh", "alpha": 0.0},
    )["dx"]
    assert_gradient(dx, lambda x: np.sum(forward(x=np.tanh(x)) * dy), x)


# ---- activations -----------------------------------------------------------------------


def textbook(kind, z, alpha):
    """An activation in 60 digits."""
    z = mpmath.mpf(float(z))
    scale, selu_alpha = mpmath.mpf("1.0507009873554804934"), mpmath.mpf("1.6732632423543772848")
    cdf = mpmath.erfc(-z / mpmath.sqrt(2)) / 2
    formulas = {
        "linear": lambda: z,
        "relu": lambda: max(z, 0),
        "leaky_relu": lambda: z if z > 0 else alpha * z,
        "elu": lambda: z if z > 0 else alpha * mpmath.expm1(z),
        "selu": lambda: scale * (z if z > 0 else selu_alpha * mpmath.expm1(z)),
        "sigmoid": lambda: 1 / (1 + mpmath.exp(-z)),
        "tanh": lambda: mpmath.tanh(z),
        "softplus": lambda: mpmath.log1p(mpmath.exp(z)),
        "exponential": lambda: mpmath.exp(z),
        "gelu": lambda: z * cdf,
        "gelu_tanh": lambda: z / (1 + mpmath.exp(-2 * mpmath.sqrt(2 / mpmath.pi) * (z + 0.044715 * z**3))),
        "silu": lambda: z / (1 + mpmath.exp(-z)),
        "mish": lambda: z * mpmath.tanh(mpmath.log1p(mpmath.exp(z))),
    }
    with mpmath.workdps(60):
        return float(formulas[kind]())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations(kind, dtype):
    z = [-700, -90, -37, -20, -5, -1, -0.1, -1e-5, 0, 1e-5, 0.1, 0.5, 1, 5, 20, 37, 90, 700, 1e30]
    x = np.resize(np.array(z, dtype), (ROWS, 4))
    alpha = ALPHA.get(kind, 0.0)
    attributes = {"activation": kind, "alpha": alpha}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = run_op("activation_forward", {"x": x}, {"y": 4}, None, attributes)["y"]
        in_place = run_op("activation_forward", {"x": x}, {"y": 4}, None, attributes, in_place={"y": "x"})[
            "y"
        ]
    np.testing.assert_array_equal(in_place, y)
    with np.errstate(over="ignore"):
        expected = np.vectorize(lambda v: textbook(kind, v, alpha))(x).astype(dtype)
    accuracy = {"float32": 2e-6, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(y, expected, rtol=accuracy, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_at_the_ends(kind):
    x = np.resize(np.array([-np.inf, np.inf, np.nan]), (ROWS, 3))
    alpha = ALPHA.get(kind, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attributes = {"activation": kind, "alpha": alpha}
        y = run_op("activation_forward", {"x": x}, {"y": 3}, None, attributes)["y"][0]
    low = {"linear": -np.inf, "leaky_relu": -np.inf, "elu": -1.5, "tanh": -1.0}
    low["selu"] = -1.0507009873554805 * 1.6732632423543773
    assert y[0] == pytest.approx(low.get(kind, 0.0), rel=1e-15)
    assert y[1] == {"sigmoid": 1, "tanh": 1}.get(kind, np.inf)
    assert np.isnan(y[2])


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_derivatives_of_activations(kind, in_place, rng):
    x, dy = rng.normal(scale=2, size=(ROWS, 4)), rng.normal(size=(ROWS, 4))
    attributes = {"activation": kind, "alpha": ALPHA.get(kind, 0.0)}

    def forward(x):
        return run_op("activation_forward", {"x": x}, {"y": 4}, None, attributes)["y"]

    saved = x if ACTIVATIONS[kind] == "input" else forward(x)
    where = {"dx": "dy"} if in_place else None
    dx = run_op(
        "activation_backward", {"saved": saved, "dy": dy}, {"dx": 4}, None, attributes, in_place=where
    )["dx"]
    assert_gradient(dx, lambda x: np.sum(forward(x) * dy), x)


@pytest.mark.parametrize("in_place", [False, True])
def test_softmax(in_place, rng):
    x, dy = rng.normal(scale=3, size=(ROWS, 4)), rng.normal(size=(ROWS, 4))
    x[0] += 1000

    def forward(x):
        return run_op("softmax_forward", {"x": x}, {"y": 4}, in_place={"y": "x"} if in_place else None)["y"]

    exact = np.exp(x - x.mean(axis=1, keepdims=True))
    y = forward(x)
    np.testing.assert_allclose(y, exact / exact.sum(axis=1, keepdims=True), rtol=1e-13)
    where = {"dx": "dy"} if in_place else None
    dx = run_op("softmax_backward", {"y": y, "dy": dy}, {"dx": 4}, in_place=where)["dx"]
    np.testing.assert_allclose(dx, differences(lambda x: np.sum(forward(x) * dy), x), rtol=1e-6, atol=1e-9)


# ---- the program -----------------------------------------------------------------------


def test_batches_order_and_counters(rng):
    rows, size = 7, 3
    x = Tensor("workspace", 0, size, 2, 2, per_row=True)
    sources = [Tensor(arena, 0, size, 2, 2, per_row=True) for arena in ("inputs", "outputs")]
    flat = Tensor("parameters", 0, 1, 1, 1)
    ops = (
        Op("gather", "gather", {"source": sources[0], "out": x}),
        Op("dropout_forward", "forward", {"x": x, "y": x}, {"rate": 0.0, "stream": 0}),
        Op("scatter", "output", {"source": x, "out": sources[1]}),
        Op(
            "sgd",
            "update",
            {"parameters": flat, "gradients": Tensor("gradients", 0, 1, 1, 1), "momentum_buffer": None},
            {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        ),
    )
    sizes = {"parameters": 1, "gradients": 1, "state": 0, "workspace": size * 2}
    plan = Plan(ops, "float64", size, sizes, {"inputs": 2, "outputs": 2, "targets": 0}, (), (), 0)
    parameters, counters = np.zeros(1), np.array([10, 20])
    program = reference.Program(plan, parameters, np.ones(1), np.zeros(0), counters)
    inputs, outputs, order = rng.normal(size=(rows, 2)), np.zeros((rows, 2)), rng.permutation(rows)
    phases = ("gather", "forward", "output", "update")
    arrays = {"inputs": inputs, "outputs": outputs, "order": order}
    sums = program.run(phases, 1, 6, **arrays, learning_rates=np.array([0.5, 0.25]), training=True)
    assert sums == (0, 0)
    np.testing.assert_array_equal(outputs[1:], inputs[order[1:]])  # results lie at their positions
    assert not outputs[0].any()
    assert parameters[0] == -0.75
    assert counters.tolist() == [12, 22]
    program.run(("gather", "forward"), 0, 7, inputs=inputs)
    assert counters.tolist() == [12, 22]  # no training, no draw
    with pytest.raises(ValueError, match="learning_rates: needed by the phase 'update'"):
        program.run(("update",), 0, 1)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (Op("nothing", "forward", {}), "unknown operation"),
        (Op("softmax_forward", "forward", {"x": None}), "takes operands"),
        (Op("softmax_forward", "forward", {"x": None, "y": None}), "missing operand 'x'"),
        (
            Op("softmax_forward", "forward", dict.fromkeys("xy", Tensor("workspace", 1, 2, 2, 2))),
            "operand outside its arena",
        ),
    ],
)
def test_plans_are_checked(op, message):
    sizes = {"parameters": 0, "gradients": 0, "state": 0, "workspace": 4}
    plan = Plan((op,), "float64", 2, sizes, {"inputs": 1, "outputs": 1, "targets": 1}, (), (), 0)
    with pytest.raises(ValueError, match=message):
        reference.Program(plan, *np.zeros((3, 0)), np.zeros(2, np.int64))


@pytest.mark.parametrize("name", ["inputs", "targets", "sample_weights"])
def test_matrices_have_a_row_for_each_position(name):
    sizes = {"parameters": 0, "gradients": 0, "state": 0, "workspace": 0}
    plan = Plan((), "float64", 2, sizes, {"inputs": 1, "outputs": 1, "targets": 1}, (), (), 0)
    program = reference.Program(plan, *np.zeros((3, 0)), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match=f"{name}: expected 3 rows of 1 columns, got 2$"):
        program.run(("gather",), 0, 3, **{name: np.zeros((2, 1))})
