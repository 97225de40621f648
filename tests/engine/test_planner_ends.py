"""The planner at the ends of a network: what reads the inputs, what becomes of outputs and losses."""

import runpy
from pathlib import Path

import pytest

from fastbp import layers, losses
from fastbp.layers import Dense, Dropout

PLANS = runpy.run_path(str(Path(__file__).with_name("plans.py")))
net, lines = PLANS["net"], PLANS["lines"]


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
