"""The planner: which operations, in which order."""

import re
import runpy
from pathlib import Path

import pytest

from fastbp import layers, losses, optimizers
from fastbp.engine.layout import SLACK
from fastbp.engine.plan import ACTIVATIONS, PHASES
from fastbp.layers import Dense, Dropout

net = runpy.run_path(str(Path(__file__).with_name("plans.py")))["net"]

CSRC = Path(__file__).parents[2] / "csrc"


def definitions(file, macro):
    """The arguments of each line of an X-macro list, quotes removed."""
    lines = re.findall(rf"^(?:ROW_)?{macro}\((.*)\)$", (CSRC / file).read_text(), re.MULTILINE)
    return [[field.strip().strip('"') for field in line.split(",")] for line in lines]


SCHEMA = {
    name: ([word.rstrip("?") for word in operands.split()], attributes.split())
    for name, operands, attributes in definitions("ops.def", "(?:ROW_)?OP")
}


def lines(plan, *phases):
    """Operations as short texts: kind, layer, and the activation or loss if there is one."""
    found = []
    for op in plan.ops:
        if not phases or op.phase in phases:
            extra = op.attributes.get("activation", op.attributes.get("loss", "linear"))
            found.append(" ".join(filter(None, [op.kind, op.layer, extra if extra != "linear" else ""])))
    return found


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
        "dense_backward_weight dense_1",
        "dense_backward_input dense_1 relu",
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
        "dense_backward_weight dense_1",
        "dense_backward_input dense_1",
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
        "dense_backward_weight dense_1",
        "dense_backward_input dense_1 tanh",
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
        "dense_backward_weight dense_1",
        "dense_backward_input dense_1 relu",
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


# ---- losses and outputs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "activation", "operation"),
    [
        ("cross_entropy", "softmax", "softmax_cross_entropy_loss"),
        ("binary_cross_entropy", "sigmoid", "elementwise_loss sigmoid_binary_cross_entropy"),
    ],
)
def test_the_loss_takes_its_activation_together_with_itself(loss, activation, operation):
    plan = net(Dense(3, activation), loss=loss)
    z = plan.ops[3].operands["y"]
    assert lines(plan, "forward") == ["dense_forward dense"]
    assert lines(plan, "loss") == [operation]
    loss_op = next(op for op in plan.ops if op.phase == "loss")
    output, scatter = (op for op in plan.ops if op.phase == "output")
    gather, back = (op for op in plan.ops if op.phase == "output_backward")
    first = next(op for op in plan.ops if op.phase == "backward")
    assert loss_op.operands["prediction"] == z == output.operands["x"]
    assert output.operands["y"] == scatter.operands["source"]
    # both ways in lead to the delta of the logits
    delta = loss_op.operands["delta"]
    assert (
        delta == gather.operands["out"] == back.operands["dy"] == back.operands["dx"] == first.operands["dy"]
    )


@pytest.mark.parametrize(
    ("loss", "operation"),
    [
        (losses.CrossEntropy(from_logits=True), "softmax_cross_entropy_loss"),
        (losses.BinaryCrossEntropy(from_logits=True), "elementwise_loss sigmoid_binary_cross_entropy"),
    ],
)
def test_logits_as_outputs(loss, operation):
    plan = net(Dense(3), loss=loss)
    assert lines(plan, "forward", "output", "loss") == ["dense_forward dense", "scatter", operation]
    assert lines(plan, "output_backward") == ["gather"]


def test_a_loss_without_stable_form_leaves_the_activation_in_place():
    plan = net(Dense(3, "softmax"), loss="mse")
    assert lines(plan, "forward") == ["dense_forward dense", "softmax_forward dense"]
    loss_op = next(op for op in plan.ops if op.phase == "loss")
    gather = next(op for op in plan.ops if op.phase == "output_backward")
    first = next(op for op in plan.ops if op.phase == "backward")
    assert first.kind == "softmax_backward"
    assert loss_op.operands["delta"] == gather.operands["out"] == first.operands["dy"]
    assert lines(net(Dense(3, "softmax"), loss="binary_cross_entropy"), "loss") == [
        "elementwise_loss binary_cross_entropy"
    ]


@pytest.mark.parametrize(
    ("stack", "loss", "message"),
    [
        (
            [Dense(3, "relu")],
            "cross_entropy",
            r"last activation is 'relu'.*activation='softmax'.*from_logits=True",
        ),
        ([Dense(3)], "cross_entropy", r"last activation is 'linear'.*softmax"),
        ([Dense(3, "softmax"), Dropout(0.5)], "cross_entropy", "softmax"),
        ([Dense(1, "softmax")], "cross_entropy", "binary_cross_entropy"),
        ([Dense(1)], "binary_cross_entropy", r"activation='sigmoid'.*from_logits=True"),
        ([Dense(3, "softmax")], losses.CrossEntropy(from_logits=True), "takes logits.*'softmax'"),
        ([Dense(3, "sigmoid")], losses.BinaryCrossEntropy(from_logits=True), "takes logits.*'sigmoid'"),
    ],
)
def test_outputs_that_the_loss_cannot_take(stack, loss, message):
    with pytest.raises(ValueError, match=message):
        net(*stack, loss=loss)


def test_a_first_layer_that_scales_is_part_of_the_gather():
    rescaling, normalization = layers.Rescaling(0.5, 1), layers.Normalization()
    plan = net(rescaling, normalization, Dense(3))
    assert lines(plan, "gather", "forward") == [
        "gather_rescale rescaling",
        "normalize normalization",
        "dense_forward dense",
    ]
    assert plan.ops[0].attributes == {"scale": 0.5, "offset": 1}
    assert lines(plan, "input_gradient")[1:] == ["normalize normalization", "rescale rescaling", "scatter"]
    plan = net(layers.Flatten(), layers.Normalization(name="first"), Dense(3))
    assert lines(plan, "gather", "forward") == ["gather_normalize first", "dense_forward dense"]
    assert "gather_normalize" in str(plan)


def test_a_first_layer_reads_sparse_inputs_itself():
    plan = net(Dense(4, "relu"), Dense(3), loss="mse", sparse=True)
    assert lines(plan, "gather", "forward") == ["sparse_forward dense relu", "dense_forward dense_1"]
    assert lines(plan, "backward")[-1] == "sparse_backward_weight dense"
    assert plan.reads_sparse and not net(Dense(4)).reads_sparse
    forward = next(op for op in plan.ops if op.phase == "forward")
    assert forward.operands["source"].arena == "inputs"
    for stack in ([Dropout(0.5), Dense(3)], [layers.Residual([Dense(5)])], [layers.Rescaling(2), Dense(3)]):
        assert net(*stack, sparse=True) == net(*stack)


@pytest.mark.parametrize(
    "stack", [[layers.Residual([layers.Rescaling(2)])], [layers.Branches([[layers.Rescaling(2)], []])]]
)
def test_inputs_that_others_read_too_are_scaled_by_themselves(stack):
    assert lines(net(*stack), "gather") == ["gather"]


def test_target_columns():
    classifier = {"loss": "cross_entropy"}
    assert net(Dense(3, "softmax"), **classifier).columns["targets"] == 1
    assert net(Dense(3, "softmax"), target_columns=3, **classifier).columns["targets"] == 3
    with pytest.raises(ValueError, match=r"targets must have 1 or 3 columns for CrossEntropy\(\), got 2"):
        net(Dense(3, "softmax"), target_columns=2, **classifier)
    with pytest.raises(ValueError, match="targets must have 3 columns"):
        net(Dense(3), target_columns=1, loss="mse")


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
