"""The planner: which operations, in which order."""

import re
import runpy
from pathlib import Path

import pytest

from fastbp import layers, optimizers
from fastbp.engine.layout import SLACK
from fastbp.engine.plan import ACTIVATIONS, PHASES
from fastbp.layers import Dense, Dropout

PLANS = runpy.run_path(str(Path(__file__).with_name("plans.py")))
net, lines = PLANS["net"], PLANS["lines"]

CSRC = Path(__file__).parents[2] / "csrc"


def definitions(file, macro):
    """The arguments of each line of an X-macro list, quotes removed."""
    lines = re.findall(rf"^(?:ROW_)?{macro}\((.*)\)$", (CSRC / file).read_text(), re.MULTILINE)
    return [[field.strip().strip('"') for field in line.split(",")] for line in lines]


SCHEMA = {
    name: ([word.rstrip("?") for word in operands.split()], attributes.split())
    for name, operands, attributes in definitions("ops.def", "(?:ROW_)?OP")
}


# ---- which operations ----------------------------------------------------------------------------


def test_classifier():
    plan = net(Dense(4, "relu"), Dense(3, "softmax"), loss="cross_entropy", optimizer="adam")
    assert lines(plan) == [
        "gather",
        "gather",
        "gather",
        "dense_forward dense relu",
        "dense_forward dense_1",
        "softmax_forward dense_1",
        "scatter",
        "softmax_cross_entropy_loss",
        "gather",
        "softmax_backward dense_1",
        "dense_backward_input dense_1 relu",
        "dense_backward_weight dense_1",
        "dense_backward_weight dense",
        "dense_backward_input dense",
        "scatter",
        "adam",
    ]
    phases = [op.phase for op in plan.ops]
    assert phases == sorted(phases, key=PHASES.index)
    assert [phases.count(phase) for phase in PHASES] == [1, 2, 2, 2, 1, 2, 3, 2, 1]
    assert plan.columns == {"inputs": 5, "outputs": 3, "targets": 1}
    assert [op.operands["source"].arena for op in plan.ops if op.kind == "gather"] == [
        "inputs",
        "targets",
        "sample_weights",
        "output_gradients",
    ]


def test_regression_with_dropout_and_an_activation_that_keeps_its_input():
    plan = net(Dense(7, "gelu"), Dropout(0.5), Dense(2, "tanh"), loss="mse", optimizer="sgd")
    assert lines(plan, "forward", "output", "loss") == [
        "dense_forward dense",
        "activation_forward dense gelu",
        "dropout_forward dropout",
        "dense_forward dense_1 tanh",
        "scatter",
        "elementwise_loss mean_squared_error",
    ]
    assert lines(plan, "output_backward", "backward", "input_gradient") == [
        "gather",
        "activation_backward dense_1 tanh",
        "dense_backward_input dense_1",
        "dense_backward_weight dense_1",
        "dropout_backward dropout",
        "activation_backward dense gelu",
        "dense_backward_weight dense",
        "dense_backward_input dense",
        "scatter",
    ]
    gelu = next(op for op in plan.ops if op.kind == "activation_backward" and op.layer == "dense")
    z = next(op for op in plan.ops if op.kind == "dense_forward").operands["y"]
    assert gelu.operands["saved"] == z
    tanh = next(op for op in plan.ops if op.kind == "activation_backward" and op.layer == "dense_1")
    assert tanh.operands["saved"] == next(op for op in plan.ops if op.layer == "dense_1").operands["y"]


def test_without_loss_and_optimizer_the_other_phases_remain():
    plan = net(Dense(4, "relu"), Dense(3, "softmax"))
    assert {op.phase for op in plan.ops} == set(PHASES) - {"gather_targets", "loss", "update"}
    assert "softmax_forward dense_1" in lines(plan, "forward")
    assert lines(plan, "backward")[0] == "softmax_backward dense_1"
    assert plan.columns["targets"] == 0
    assert plan.slots == ()
    assert plan.sizes["state"] == 0


def test_what_lies_below_the_lowest_parameters_is_no_work_for_training():
    plan = net(layers.Sigmoid(), Dropout(0.1), layers.ReLU(), Dense(3), loss="mse", optimizer="sgd")
    assert lines(plan, "backward") == ["dense_backward_weight dense"]
    assert lines(plan, "input_gradient") == [
        "dense_backward_input dense relu",
        "dropout_backward dropout",
        "activation_backward sigmoid sigmoid",
        "scatter",
    ]


def test_no_parameters_at_all():
    plan = net(Dropout(0.5), layers.Tanh(), loss="mse", optimizer="adam")
    assert lines(plan, "forward") == ["dropout_forward dropout", "activation_forward tanh tanh"]
    assert lines(plan, "backward", "update") == []
    assert lines(plan, "input_gradient") == [
        "activation_backward tanh tanh",
        "dropout_backward dropout",
        "scatter",
    ]
    assert plan.parameters == ()
    assert plan.sizes["parameters"] == SLACK


@pytest.mark.parametrize("stack", [(), (layers.Linear(), Dropout(0.0))])
def test_nothing_to_do(stack):
    plan = net(*stack)
    assert lines(plan) == ["gather", "scatter", "gather", "scatter"]
    assert plan.ops[0].operands["out"] == plan.ops[1].operands["source"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_argument_and_activation_layer_are_the_same(name):
    def plain(plan):
        return [(op.kind, op.phase, op.operands, op.attributes, op.flops) for op in plan.ops]

    inside = net(Dense(6, name), Dense(1, name), loss="mse", optimizer="rmsprop")
    outside = net(
        Dense(6), layers.Activation(name), Dense(1), layers.Activation(name), loss="mse", optimizer="rmsprop"
    )
    assert plain(inside) == plain(outside)
    fused = name != "linear" and ACTIVATIONS[name] == "output"
    assert lines(inside, "forward").count("dense_forward dense" + (f" {name}" if fused else "")) == 1


def test_the_slope_travels_with_its_activation():
    plan = net(Dense(3, layers.LeakyReLU(0.25)), Dense(3, layers.ELU(2.0)), Dense(1), loss="mse")
    found = {
        op.attributes["activation"]: op.attributes["alpha"] for op in plan.ops if "alpha" in op.attributes
    }
    assert found == {"linear": 0.0, "leaky_relu": 0.25, "elu": 2.0}


def test_an_activation_of_an_activation_is_fused_once():
    plan = net(Dense(3), layers.ReLU(), layers.Tanh(), Dense(1), loss="mse")
    assert lines(plan, "forward") == [
        "dense_forward dense relu",
        "activation_forward tanh tanh",
        "dense_forward dense_1",
    ]
    assert lines(plan, "backward") == [
        "dense_backward_input dense_1 tanh",
        "dense_backward_weight dense_1",
        "activation_backward relu relu",
        "dense_backward_weight dense",
    ]


def test_every_operation_has_the_operands_and_attributes_of_the_list():
    plans = [
        net(
            Dense(4, "silu"),
            Dropout(0.1),
            Dense(3, "softmax", use_bias=False),
            loss=loss,
            optimizer=optimizer,
        )
        for loss in ("cross_entropy", "mse", "binary_cross_entropy", "huber")
        for optimizer in (
            "sgd",
            "adam",
            "adamw",
            optimizers.RMSprop(momentum=0.9),
            optimizers.RMSprop(centered=True),
        )
    ]
    plans.append(net(Dense(1, "sigmoid"), loss="binary_cross_entropy", optimizer="sgd"))
    others = ("adagrad", "adadelta", "adamax", "nadam", "radam", "lion", "rprop")
    plans += [net(Dense(1), loss="mse", optimizer=name) for name in others]
    decaying = optimizers.SGD()
    decaying.l2_penalty = 0.1
    plans.append(net(Dense(1), loss="mse", optimizer=decaying))
    options = {"gradient_accumulation_steps": 2, "use_ema": True}
    dense = Dense(1, kernel_regularizer="l2", kernel_constraint="max_norm")
    for clip in ("clipvalue", "clipnorm", "global_clipnorm"):
        plans.append(net(dense, loss="mse", optimizer=optimizers.SGD(**options, **{clip: 1.0})))
    plans.append(
        net(
            layers.Branches(
                [layers.Embedding(3, 2), [layers.Normalization(), layers.Rescaling(0.5)]], [[0], [1, 1]]
            ),
            layers.Residual([layers.LayerNormalization(), layers.PReLU()]),
            layers.BatchNormalization(),
            layers.GaussianNoise(0.1),
        )
    )
    plans += [net(layers.Rescaling(0.5), Dense(1)), net(layers.Normalization(), Dense(1))]
    plans.append(net(Dense(1), sparse=True))
    seen = set()
    for op in (op for plan in plans for op in plan.ops):
        operands, attributes = SCHEMA[op.kind]
        assert list(op.operands) == operands
        assert list(op.attributes) == attributes
        seen.add(op.kind)
    assert seen == set(SCHEMA) - {"cross_entropy_loss"}  # on probabilities: for eager use only


def test_what_is_not_used_has_no_operation():
    off = {"kernel_regularizer": None, "bias_regularizer": None, "kernel_constraint": None}
    optimizer = optimizers.Adam(
        weight_decay=0.0,
        amsgrad=False,
        clipvalue=None,
        clipnorm=None,
        global_clipnorm=None,
        gradient_accumulation_steps=None,
        use_ema=False,
    )
    between = Dropout(0.0), layers.GaussianNoise(0.0)
    everything = Dense(4, "relu", **off), *between, Dense(3, "softmax", **off)
    plain = net(Dense(4, "relu"), Dense(3, "softmax"), loss="cross_entropy", optimizer="adam")
    assert str(net(*everything, loss="cross_entropy", optimizer=optimizer)) == str(plain)
    assert lines(plain, "gather", "forward", "loss", "backward", "update") == [
        "gather",
        "dense_forward dense relu",
        "dense_forward dense_1",
        "softmax_cross_entropy_loss",
        "dense_backward_input dense_1 relu",
        "dense_backward_weight dense_1",
        "dense_backward_weight dense",
        "adam",
    ]


def test_dropout_streams_count_the_dropout_layers():
    plan = net(Dropout(0.1), Dropout(0.0), Dense(2), Dropout(0.3))
    streams = {op.layer: op.attributes["stream"] for op in plan.ops if op.kind.startswith("dropout")}
    assert streams == {"dropout": 0, "dropout_2": 2}


def test_what_a_table_looks_up_is_known_by_its_column():
    inner = layers.Branches([layers.Embedding(9, 1), layers.Embedding(5, 1)], [[1], [0]])
    plan = net(layers.Branches([[layers.Flatten(), inner], layers.Embedding(7, 2)], [[3, 0], [2, 4]]))
    assert {(index.column, index.count) for index in plan.indices} == {(0, 9), (3, 5), (2, 7), (4, 7)}


# ---- networks and arguments ----------------------------------------------------------------------


def test_equal_networks_have_equal_plans():
    def plan():
        return net(Dense(4, "relu", kernel_initializer="he_normal"), Dense(1), loss="mse", optimizer="adam")

    assert plan() == plan()
    stack = [Dense(4, "relu", kernel_initializer="he_normal"), Dense(1)]
    assert net(*stack) == net(*stack)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": 0}, ValueError, "input_size must be a positive int, got 0"),
        ({"inputs": 2.0}, TypeError, "input_size must be a positive int, got 2.0"),
        ({"batch_size": 0}, ValueError, "batch_size must be a positive int, got 0"),
        ({"batch_size": True}, TypeError, "batch_size must be a positive int, got True"),
        ({"dtype": "float16"}, ValueError, "dtype must be one of 'float32', 'float64', got 'float16'"),
        ({"seed": -1}, ValueError, "seed must be an int of at least 0, got -1"),
        ({"seed": 2**63}, ValueError, r"seed must be less than 2\*\*63"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        net(Dense(3), **arguments)


def test_bad_layers():
    dense = Dense(3)
    with pytest.raises(TypeError, match=r"layers\[1\] must be a Layer, such as Dense\(10\), got 'relu'"):
        net(dense, "relu")
    with pytest.raises(ValueError, match=r"layers\[1\], Dense\(3\), is in the model already"):
        net(dense, dense)
    with pytest.raises(ValueError, match=r"layers\[1\] must have a name of its own, but 'a' is taken"):
        net(Dense(3, name="a"), Dense(3, name="a"))
