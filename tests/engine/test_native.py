"""The native interpreter refuses plans that it cannot run: an exception, never a crash."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastbp.engine import backend, planner
from fastbp.engine.plan import Tensor
from fastbp.layers import BatchNormalization, Branches, Dense, Embedding, LayerNormalization, PReLU, Residual
from fastbp.losses import MeanSquaredError
from fastbp.optimizers import Adam

NATIVE = backend.native()
PLANS = runpy.run_path(str(Path(__file__).with_name("plans.py")))
ROWS, INPUTS, OUTPUTS = PLANS["ROWS"], PLANS["INPUTS"], PLANS["OUTPUTS"]
make_plan, compiled = PLANS["make_plan"], PLANS["compiled"]


def changed(plan, which, *, operands=None, **fields):
    """The plan with its first operation of a kind changed."""
    number = next(number for number, op in enumerate(plan.ops) if op.kind == which)
    op = plan.ops[number]
    op = replace(op, operands=op.operands | (operands or {}), **fields)
    return replace(plan, ops=(*plan.ops[:number], op, *plan.ops[number + 1 :])), op


def operand(plan, kind, name):
    return next(op for op in plan.ops if op.kind == kind).operands[name]


def test_a_good_plan_is_taken():
    for dtype in ("float32", "float64"):
        for loss in (None, MeanSquaredError()):
            assert compiled(make_plan(dtype, loss)).plan.dtype == dtype


def test_what_the_core_knows_is_public():
    assert NATIVE.ISA in NATIVE.isas()
    for dtype in ("float32", "float64"):
        shape = NATIVE.tile_shape(dtype)
        assert shape["group"] % shape["vector"] == 0 and shape["nc"] % shape["group"] == 0
    with pytest.raises(TypeError, match="float16"):
        NATIVE.tile_shape("float16")


PLACES = {
    "behind the end": ("dense_forward", "weight", {"offset": 10**6}, "operand outside its arena"),
    "far behind the end": ("dense_forward", "weight", {"offset": 2**62}, "operand outside its arena"),
    "too many rows": ("dense_backward_weight", "bias_grad", {"rows": 10**9}, "operand outside its arena"),
    "rows so many that they overflow": ("dense_forward", "x", {"rows": 2**62}, "operand outside its arena"),
    "so wide that it overflows": ("dense_forward", "x", {"stride": 2**62}, "operand outside its arena"),
    "no room behind for a vector": (
        "adam",
        "parameters",
        {"columns": None, "stride": None},
        "outside its arena",
    ),
    "before the beginning": ("dense_forward", "bias", {"offset": -1}, "bad shape"),
    "no rows": ("dense_forward", "weight", {"rows": 0}, "bad shape"),
    "no columns": ("dense_forward", "x", {"columns": 0}, "bad shape"),
    "rows that overlap": ("dense_forward", "y", {"stride": 2}, "bad shape"),
    "fewer rows than the batch": ("dense_forward", "y", {"rows": ROWS - 1}, "fewer rows than the batch"),
    "other columns": ("dense_forward", "y", {"columns": 6}, "different shapes"),
    "other inputs": ("dense_backward_input", "weight", {"rows": 2}, "different shapes"),
    "other bias": ("dense_forward", "bias", {"columns": 3}, "different shapes"),
    "other gradient": ("dense_backward_weight", "weight_grad", {"rows": 2}, "different shapes"),
    "other target": ("softmax_cross_entropy_loss", "target", {"columns": 2, "stride": 2}, "different shapes"),
    "sample weights that are no vector": (
        "softmax_cross_entropy_loss",
        "sample_weight",
        {"stride": 2},
        "different shapes",
    ),
    "other state": ("adam", "v", {"columns": 3}, "different shapes"),
    "one row for all samples": ("dense_forward", "x", {"per_row": False}, "arena of the other kind"),
    "a weight for each sample": (
        "dense_forward",
        "weight",
        {"per_row": True, "rows": ROWS},
        "arena of the other kind",
    ),
    "inputs without a copy": (
        "dense_forward",
        "x",
        {"arena": "inputs", "offset": 0},
        "only gather and scatter",
    ),
    "offset into the inputs": ("gather", "source", {"offset": 1}, "offset into the caller's matrix"),
}


@pytest.mark.parametrize("case", PLACES)
def test_bad_places(case):
    kind, name, fields, message = PLACES[case]
    plan = make_plan()
    if case == "no room behind for a vector":
        fields = dict.fromkeys(fields, plan.sizes["parameters"] - 15)
    elif case == "inputs without a copy":
        fields = fields | {"stride": INPUTS}
    tensor = replace(operand(plan, kind, name), **fields)
    plan, op = changed(plan, kind, operands={name: tensor})
    with pytest.raises(ValueError, match=message) as raised:
        compiled(plan)
    assert f"({kind} of layer {op.layer!r})" in str(raised.value)


SHAPES = {
    "a table with padding": ("embedding_forward", "table", {"stride": 16}, "of different shapes"),
    "a narrow table": ("embedding_backward", "table_grad", {"columns": 1}, "of different shapes"),
    "one gamma for each sample": ("batch_norm_forward", "gamma", {"rows": 2}, "of different shapes"),
    "statistics of one row": ("batch_norm_forward", "saved", {"rows": 1}, "of different shapes"),
    "rows of statistics": (
        "batch_norm_backward",
        "saved",
        {"per_row": True, "rows": ROWS},
        "of different shapes",
    ),
    "a slope for all": ("prelu_backward", "alpha", {"columns": 1}, "of different shapes"),
}


def make_plan_of_layers():
    stack = [
        Branches([Embedding(4, 3), [PReLU()]], [[0], [1, 2]]),
        BatchNormalization(),
        Residual([LayerNormalization(), Dense(5)]),
    ]
    return planner.build(stack, 3, loss=MeanSquaredError(), optimizer=Adam(), batch_size=ROWS)


@pytest.mark.parametrize("case", SHAPES)
def test_bad_shapes(case):
    kind, name, fields, message = SHAPES[case]
    plan = make_plan_of_layers()
    compiled(plan)
    plan, _ = changed(plan, kind, operands={name: replace(operand(plan, kind, name), **fields)})
    with pytest.raises(ValueError, match=message):
        compiled(plan)


@pytest.mark.parametrize(
    "attributes", [{"begin": 1}, {"place": -1}, {"count": 0}, {"count": np.nan}, {"place": 1e30}]
)
def test_columns_outside_a_matrix(attributes):
    plan = make_plan_of_layers()
    op = next(op for op in plan.ops if op.kind == "copy_columns" and op.operands["source"].columns == 3)
    attributes = op.attributes | {"begin": 0, "place": 0, "count": 3} | attributes
    plan, _ = changed(
        plan, "copy_columns", operands=op.operands | {"out": op.operands["source"]}, attributes=attributes
    )
    with pytest.raises(ValueError, match="operands of different shapes"):
        compiled(plan)


def test_a_flat_array_serves_no_samples():
    """A matrix of parameters has no row for each sample, though it may be large enough for one batch."""
    plan = make_plan()
    weight = operand(plan, "dense_forward", "weight")
    plan, _ = changed(plan, "activation_forward", operands={"x": replace(weight, columns=6, stride=6)})
    with pytest.raises(ValueError, match="arena of the other kind"):
        compiled(plan)


def test_matrices_of_the_caller_have_the_width_of_the_plan():
    plan = make_plan()
    wide = Tensor("inputs", 0, ROWS, INPUTS, 1000, per_row=True)
    with pytest.raises(ValueError, match=r"gather.*stride 1000; the caller's matrix has 5 columns"):
        compiled(changed(plan, "gather", operands={"source": wide})[0])
    with pytest.raises(ValueError, match="the caller's matrix has 4 columns"):
        compiled(replace(plan, columns=plan.columns | {"inputs": 4}))


@pytest.mark.parametrize("arena", ["inputs", "targets", "output_gradients", "workspace"])
def test_copies_go_where_they_may(arena):
    """Samples are only read; a copy has the workspace at one end."""
    plan = make_plan()
    out = Tensor(arena, 0, ROWS, OUTPUTS, OUTPUTS, per_row=True)
    ops = tuple(op for op in plan.ops if op.kind == "scatter" and op.phase == "output")
    plan = replace(plan, ops=ops, columns={"inputs": OUTPUTS, "outputs": OUTPUTS, "targets": OUTPUTS})
    plan, _ = changed(plan, "scatter", operands={"out": out})
    with pytest.raises(ValueError, match="only read"):
        compiled(plan)
    other = replace(out, arena="outputs")
    plan, _ = changed(plan, "scatter", kind="gather", operands={"out": other})
    with pytest.raises(ValueError, match="gather leads to the workspace"):
        compiled(plan)


@pytest.mark.parametrize(
    ("arena", "message"), [("targets", "read the inputs"), ("workspace", "read the inputs")]
)
def test_sparse_operations_read_inputs_only(arena, message):
    plan = planner.build([Dense(3)], INPUTS, batch_size=ROWS, sparse=True)
    source = replace(operand(plan, "sparse_forward", "source"), arena=arena)
    plan = replace(plan, columns=plan.columns | {"targets": INPUTS})
    plan, _ = changed(plan, "sparse_forward", operands={"source": source})
    with pytest.raises(ValueError, match=message):
        compiled(plan)


def test_unknown_names():
    plan = make_plan()
    for fields in ({"kind": "convolution"}, {"phase": "afterwards"}):
        with pytest.raises((KeyError, ValueError)):
            compiled(changed(plan, "dense_forward", **fields)[0])
    for attributes in ({"activation": "step", "alpha": 0.0}, {"activation": -1, "alpha": 0.0}):
        with pytest.raises((KeyError, ValueError)):
            compiled(changed(plan, "dense_forward", attributes=attributes)[0])
    x = replace(operand(plan, "dense_forward", "x"), arena="attic")
    with pytest.raises(ValueError, match=r"attic|not in"):
        compiled(changed(plan, "dense_forward", operands={"x": x})[0])


def test_missing_and_spare_operands_and_attributes():
    plan = make_plan()
    names = r"takes operands \['x', 'weight', 'bias', 'y'\] and attributes \['activation', 'alpha'\]"
    for attributes in ({}, {"activation": "relu"}, {"activation": "relu", "alpha": 0.0, "beta": 1.0}):
        with pytest.raises(ValueError, match=names):
            compiled(changed(plan, "dense_forward", attributes=attributes)[0])
    with pytest.raises(ValueError, match=names):
        compiled(changed(plan, "dense_forward", operands={"z": None})[0])
    with pytest.raises(ValueError, match="missing operand"):
        compiled(changed(plan, "dense_forward", operands={"weight": None})[0])


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_nothing(batch_size):
    with pytest.raises(ValueError, match="batch_size: expected at least 1"):
        compiled(replace(make_plan(), batch_size=batch_size))


@pytest.mark.parametrize("size", [2**61, 2**62 + 64, -1])
def test_a_workspace_beyond_all_memory(size):
    plan = make_plan()
    with pytest.raises((MemoryError, ValueError)):
        compiled(replace(plan, sizes=plan.sizes | {"workspace": size}))
