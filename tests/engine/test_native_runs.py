"""Runs of the native interpreter: bad arrays and numbers are exceptions, whatever runs beside it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.engine import backend
from fastbp.engine.sparse import SparseRows
from fastbp.layers import Dense

NATIVE = backend.native()
PLANS = runpy.run_path(str(Path(__file__).with_name("plans.py")))
ROWS, INPUTS, OUTPUTS = PLANS["ROWS"], PLANS["INPUTS"], PLANS["OUTPUTS"]
make_plan, compiled = PLANS["make_plan"], PLANS["compiled"]


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
