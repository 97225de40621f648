"""The native interpreter refuses what it cannot run: an exception, never a crash."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.engine import backend, planner
from fastbp.engine.plan import Tensor
from fastbp.engine.sparse import SparseRows
from fastbp.layers import (
    BatchNormalization,
    Branches,
    Dense,
    Dropout,
    Embedding,
    LayerNormalization,
    PReLU,
    Residual,
)
from fastbp.losses import CrossEntropy, MeanSquaredError
from fastbp.optimizers import Adam

NATIVE = backend.native()
ROWS, INPUTS, OUTPUTS = 8, 5, 3


def make_plan(dtype="float32", loss=None):
    stack = [Dense(7, "tanh"), Dropout(0.5), Dense(6, "gelu"), Dense(OUTPUTS, "softmax")]
    return planner.build(
        stack, INPUTS, loss=loss or CrossEntropy(), optimizer=Adam(), dtype=dtype, batch_size=ROWS
    )


def compiled(plan, **arrays):
    """A program over arrays of zeros, unless given."""
    given = {
        name: np.zeros(plan.sizes[name], plan.dtype) for name in ("parameters", "gradients", "state")
    } | {"counters": np.zeros(2, np.int64)}
    return NATIVE.Program(plan, *(given | arrays).values())


def changed(plan, which, *, operands=None, **fields):
    """The plan with its first operation of a kind changed."""
    number = next(number for number, op in enumerate(plan.ops) if op.kind == which)
    op = plan.ops[number]
    op = replace(op, operands=op.operands | (operands or {}), **fields)
    return replace(plan, ops=(*plan.ops[:number], op, *plan.ops[number + 1 :])), op


def operand(plan, kind, name):
    return next(op for op in plan.ops if op.kind == kind).operands[name]


# ---- plans ---------------------------------------------------------------------------------------


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


# ---- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parameters", "gradients", "state"])
def test_flat_arrays_must_fit(name):
    plan = make_plan()
    size = plan.sizes[name]
    with pytest.raises(TypeError, match=f"{name}: expected elements of type 'f', got 'd'"):
        compiled(plan, **{name: np.zeros(size)})
    with pytest.raises(ValueError, match="operand outside its arena"):
        compiled(plan, **{name: np.zeros(size // 2, np.float32)})
    with pytest.raises((BufferError, ValueError)):
        compiled(plan, **{name: np.zeros(2 * size, np.float32)[::2]})
    fixed = np.zeros(size, np.float32)
    fixed.flags.writeable = False
    with pytest.raises((BufferError, ValueError)):
        compiled(plan, **{name: fixed})
    with pytest.raises(TypeError):
        compiled(plan, **{name: [0.0] * size})


def test_counters_must_fit():
    with pytest.raises(ValueError, match="counters: expected 2 elements"):
        compiled(make_plan(), counters=np.zeros(3, np.int64))
    with pytest.raises(TypeError, match="counters"):
        compiled(make_plan(), counters=np.zeros(2))


FORWARD = ("gather", "forward", "output")
TRAIN = ("gather", "gather_targets", "forward", "loss", "backward", "update")


def arguments(**changes):
    """What a training run over 20 samples takes."""
    rng = np.random.default_rng(0)
    return {
        "inputs": rng.normal(size=(20, INPUTS)).astype(np.float32),
        "targets": rng.integers(OUTPUTS, size=(20, 1)).astype(np.float32),
        "sample_weights": np.ones(20, np.float32),
        "order": np.arange(20),
        "learning_rates": np.full(3, 0.1),
        "training": True,
    } | changes


def sparse(**changes):
    """Sparse inputs of 20 rows with an entry each."""
    fields = {
        "values": np.ones(20, np.float32),
        "columns": np.zeros(20, np.int32),
        "starts": np.arange(21),
        "width": INPUTS,
    }
    return SparseRows(**fields | changes)


BAD_ARGUMENTS = {
    "complex inputs": ({"inputs": np.zeros((20, INPUTS), "c16")}, TypeError, "inputs: expected elements"),
    "swapped inputs": ({"inputs": np.zeros((20, INPUTS), ">f4")}, TypeError, "inputs: expected elements"),
    "targets of another dtype": ({"targets": np.zeros((20, 1))}, TypeError, "targets: expected elements"),
    "sparse inputs of another width": (
        {"inputs": sparse(width=INPUTS + 1)},
        ValueError,
        "inputs: expected rows of 5 columns, got 6",
    ),
    "sparse columns of int64": (
        {"inputs": sparse(columns=np.zeros(20, np.int64))},
        TypeError,
        "columns of inputs: expected elements of type 'i'",
    ),
    "too few sparse rows": (
        {"inputs": sparse(starts=np.arange(20))},
        ValueError,
        "order: expected numbers of 19 samples",
    ),
    "too few outputs": (
        {"outputs": np.zeros((19, OUTPUTS), np.float32)},
        ValueError,
        "outputs: expected 20 rows of 3",
    ),
    "no samples": (
        {"inputs": np.zeros((0, INPUTS), np.float32)},
        ValueError,
        "order: expected numbers of 0 samples",
    ),
    "too few samples": (
        {"inputs": np.zeros((19, INPUTS), np.float32)},
        ValueError,
        "order: expected numbers of 19 samples, got 19",
    ),
    "too few targets": (
        {"targets": np.zeros((19, 1), np.float32)},
        ValueError,
        "order: expected numbers of 19",
    ),
    "too few weights": (
        {"sample_weights": np.ones(7, np.float32)},
        ValueError,
        "order: expected numbers of 7",
    ),
    "too few samples in their order": (
        {"inputs": np.zeros((19, INPUTS), np.float32), "order": None},
        ValueError,
        "inputs: expected 20 rows of 5",
    ),
    "short order": ({"order": np.arange(19)}, ValueError, "order: expected at least 20 elements, got 19"),
    "order beyond the samples": ({"order": np.arange(1, 21)}, ValueError, "got 20"),
    "order before the samples": ({"order": np.arange(-1, 19)}, ValueError, "got -1"),
    "order of floats": ({"order": np.arange(20.0)}, TypeError, "order: expected elements of type 'q'"),
    "order of small integers": (
        {"order": np.arange(20, dtype=np.int32)},
        TypeError,
        "order: expected elements",
    ),
    "too few learning rates": (
        {"learning_rates": np.ones(2)},
        ValueError,
        "learning_rates: expected one for each",
    ),
    "no learning rates": ({"learning_rates": None}, ValueError, "learning_rates: needed by"),
    "narrow learning rates": ({"learning_rates": np.ones(3, np.float32)}, TypeError, "learning_rates"),
    "strided inputs": (
        {"inputs": np.zeros((20, 9), np.float32)[:, :INPUTS]},
        (BufferError, ValueError),
        None,
    ),
    "outputs that are only read": ({"outputs": b"0" * 400}, (BufferError, ValueError, TypeError), None),
    "no array": ({"inputs": 3}, TypeError, None),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_of_a_run(case):
    changes, error, message = BAD_ARGUMENTS[case]
    program = compiled(make_plan())
    phases = TRAIN if "outputs" not in changes else (*TRAIN[:3], "output", *TRAIN[3:])
    with pytest.raises(error, match=message):
        program.run(phases, 0, 20, **arguments(**changes))
    assert program.run(TRAIN, 0, 20, **arguments())[1] == 20  # still usable


@pytest.mark.parametrize(
    ("first", "count"), [(-1, 5), (0, -5), (15, 6), (2**62, 2**62), (2**62, 5), (-(2**63), 1)]
)
def test_positions_outside(first, count):
    with pytest.raises(ValueError, match=r"first, count|order: expected at least"):
        compiled(make_plan()).run(TRAIN, first, count, **arguments())


def test_positions_that_are_no_numbers():
    program = compiled(make_plan())
    for first in (2**64, "0", None):
        with pytest.raises((TypeError, OverflowError)):
            program.run(TRAIN, first, 5, **arguments())
    with pytest.raises(ValueError, match=r"afterwards|not in"):
        program.run(("afterwards",), 0, 5, **arguments())


def test_nothing_to_do():
    program = compiled(make_plan())
    assert program.run(TRAIN, 5, 0, **arguments()) == (0, 0)
    assert program.run((), 0, 20) == (0, 0)
    program.run(FORWARD, 0, 20)  # neither inputs nor outputs: nothing is copied
    assert program.counters.tolist() == [0, 0]


# ---- threads and processes -----------------------------------------------------------------------


def test_a_model_in_two_threads_at_once(monkeypatch):
    """A program that is running says so; whatever wins, nothing crashes."""
    before = fastbp.get_num_threads()
    monkeypatch.setattr(NATIVE, "ISA", NATIVE.isas()[-1])
    NATIVE.set_grain(0)
    fastbp.set_num_threads(2)
    X = np.random.default_rng(0).normal(size=(3000, 40)).astype(np.float32)
    model = fastbp.Sequential([Dense(64, "relu"), Dense(4)], "mse", input_size=40, seed=0)
    unexpected, done = [], []

    def work(use):
        for _ in range(6):
            try:
                use()
                done.append(1)
            except RuntimeError as error:
                if "running in another thread" not in str(error):
                    unexpected.append(error)
            except BaseException as error:
                unexpected.append(error)

    uses = [
        lambda: model.predict(X),
        lambda: model.predict(X),
        lambda: model.fit(X, X[:, :4], batch_size=64),
        lambda: model.evaluate(X, X[:, :4]),
    ]
    workers = [threading.Thread(target=work, args=(use,)) for use in uses]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    NATIVE.set_grain(-1)
    fastbp.set_num_threads(before)
    assert not any(worker.is_alive() for worker in workers)
    assert done and not unexpected


def run_python(code, folder, **variables):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FASTBP_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=plain | {"PYTHONPATH": str(Path(fastbp.__file__).parents[1])} | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("isa", sorted({"x86_v4", "neon", "x86_v3", "sse", "X86_V2"} - set(NATIVE.isas())))
def test_instruction_sets_that_this_machine_lacks(isa, tmp_path):
    done = run_python("import fastbp", tmp_path, FASTBP_ISA=isa)
    assert done.returncode == 1
    assert f"FASTBP_ISA='{isa}' is not available: this build on this machine can run" in done.stderr
    assert ", ".join(NATIVE.isas()) in done.stderr


def test_interpreters_that_there_are_not(tmp_path):
    done = run_python("import fastbp", tmp_path, FASTBP_BACKEND="gpu")
    assert done.returncode == 1
    assert "FASTBP_BACKEND must be 'native' or 'reference', not 'gpu'" in done.stderr


# ---- workspaces ----------------------------------------------------------------------------------


def test_programs_can_share_a_workspace():
    """Forward in one program, output from another: the activations lie where both of them look."""
    plan = make_plan()
    workspace = np.zeros(plan.sizes["workspace"], plan.dtype)
    arrays = {
        name: np.full(plan.sizes[name], 0.1, plan.dtype) for name in ("parameters", "gradients", "state")
    }
    first, second = (compiled(plan, **arrays, workspace=workspace) for _ in range(2))
    alone = compiled(plan, **arrays)
    inputs = np.ones((ROWS, INPUTS), plan.dtype)
    outputs, expected = np.zeros((2, ROWS, OUTPUTS), plan.dtype)
    first.run(("gather", "forward"), 0, ROWS, inputs=inputs)
    second.run(("output",), 0, ROWS, outputs=outputs)
    alone.run(("gather", "forward", "output"), 0, ROWS, inputs=inputs, outputs=expected)
    assert (outputs == expected).all() and expected.any()
    del first, second  # the workspace is not theirs to free
    assert workspace.any()


def test_a_workspace_that_does_not_fit():
    plan = make_plan()
    size = plan.sizes["workspace"]
    with pytest.raises(ValueError, match=f"workspace: expected {size} elements, got {size - 1}"):
        compiled(plan, workspace=np.zeros(size - 1, plan.dtype))
    with pytest.raises(TypeError, match="workspace: expected elements of type 'f', got 'd'"):
        compiled(plan, workspace=np.zeros(size, np.float64))
