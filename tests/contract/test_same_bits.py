"""The same bits for 1 to 16 threads in a hundred runs, and for one row as for all of them."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import optimizers, schedules
from fastbp.engine import backend
from fastbp.layers import Dense, Dropout

HERE = Path(__file__).parent
NETWORKS = runpy.run_path(str(HERE.parent / "networks.py"))
OPTIMIZERS = runpy.run_path(str(HERE / "test_optimizers.py"))["OPTIMIZERS"]
NATIVE = backend.native()
IN_USE = NATIVE.ISA if NATIVE else ""  # of the instruction sets

THREADS = range(1, 17)
# one of each kind, and what sweeps over gradients and parameters beside them
SOME = {type(optimizer): name for name, optimizer in OPTIMIZERS.items() if "accumulation" not in name}
NAMES = [*SOME.values(), "nesterov, decay", "clip norms", "clip norm"]
# rows and batch size for which the planner chooses this schedule; the last batch is ragged
SCHEDULES = {"together": (31, 16), "lanes": (3000, 2400)}


def threads_of_runs(engine):
    """A hundred runs on the instruction set that is in use, each number once on the others."""
    if not engine.native:
        return [1, 1]
    return [THREADS[n % 16] for n in range(100 if engine.name == IN_USE else 16)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_training(name, schedule, engine, dtype):
    """All that training leaves behind, from the same start in every run."""
    rows, batch_size = SCHEDULES[schedule]
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(rows, 7)), rng.integers(3, size=rows)
    model = fastbp.Sequential(
        [Dense(17, "tanh"), Dropout(0.2), Dense(3, "softmax")],
        "cross_entropy",
        optimizers.get(OPTIMIZERS[name].config()),
        input_size=7,
        dtype=dtype,
        seed=0,
    )
    network = model._network
    arrays = network.parameters, network.gradients, network.state, network.counters
    start = [array.copy() for array in arrays]
    found = {}
    for threads in threads_of_runs(engine):
        fastbp.set_num_threads(threads)
        for array, values in zip(arrays, start, strict=True):
            array[...] = values
        loss = model.fit(X, y, batch_size=batch_size, shuffle=False).history["loss"]
        found.setdefault(b"".join(np.asarray(a).tobytes() for a in (*arrays, loss)), []).append(threads)
    assert (model.plan.lanes > 1) == (schedule == "lanes")
    assert not np.array_equal(network.parameters, start[0])
    assert len(found) == 1, f"threads by what came out: {list(found.values())}"


# inputs and units of the first layer: sums of an odd number of terms; columns that do not come out even;
# fewer of them than a large team has use for
DEEP = {"odd": (301, 128), "uneven": (256, 300), "narrow": (700, 64)}


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("shape", DEEP)
def test_members_share_the_depth(shape, activation, engine, dtype):
    """Two members add up a part of each sum each; which of them is the first makes no difference."""
    inputs, units = DEEP[shape]
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, inputs)).astype(dtype), rng.integers(3, size=90)
    found = {}
    for intel in (0, 1):
        if engine.native:
            engine.native.set_intel(intel)
        for threads in (1, 2, 3, 4, 6, 16) if engine.native else (1,):
            fastbp.set_num_threads(threads)
            model = fastbp.Sequential(
                [Dense(units, activation), Dense(260, activation), Dense(70), Dense(3, "softmax")],
                "cross_entropy",
                "adam",
                input_size=inputs,
                dtype=dtype,
                seed=0,
            )
            loss = model.fit(X, y, batch_size=40, epochs=2).history["loss"]
            outputs = model.forward(X, training=True)
            arrays = model.parameters, outputs, model.backward(outputs), model.gradients, np.asarray(loss)
            found.setdefault(b"".join(a.tobytes() for a in arrays), []).append((intel, threads))
    assert len(found) == 1, f"makers and threads by what came out: {list(found.values())}"


if NATIVE:  # products of the reference are those of NumPy's BLAS, which round by their shape
    isas = [IN_USE] if os.environ.get("FASTBP_ISA") else NATIVE.isas()
    every_isa = pytest.mark.parametrize("engine", isas, indirect=True)

    @every_isa
    @pytest.mark.parametrize("name", NETWORKS["STACKS"])
    def test_a_row_alone(name, engine, dtype):
        """What predict, forward and a frozen model say of a row does not depend on the rows around it."""
        model, X = NETWORKS["make"](name, dtype)
        X = np.tile(X, (8, 1))  # more than two blocks of rows
        check_rows(model, X, (1, 2, 16))

    @every_isa
    def test_a_row_of_large_products(engine, dtype):
        """Products of many rows take another way through memory."""
        X = np.random.default_rng(0).normal(size=(600, 70)).astype(dtype)
        model = fastbp.Sequential(
            [Dense(530, "relu"), Dense(70, "tanh"), Dense(3)], input_size=70, dtype=dtype
        )
        check_rows(model, X, (1, 3))

    def check_rows(model, X, sizes):
        rows = np.split(X, len(X))
        frozen = model.freeze()
        expected = np.concatenate([model.predict(row) for row in rows]).tobytes()
        assert np.concatenate([frozen(row) for row in rows]).tobytes() == expected
        for threads in sizes:
            fastbp.set_num_threads(threads)
            for call in (model.predict, model.forward, frozen):
                assert call(X).tobytes() == expected, f"{call}, {threads} threads"


def test_trials_of_other_teams_change_no_bit(engine, dtype):
    """A team tries other sizes now and then, each on a few batches of a run: nothing says so but the time."""
    rng = np.random.default_rng(5)
    X, y, batch_size = rng.normal(size=(6000, 64)).astype(dtype), rng.integers(10, size=6000), 100
    if engine.native:
        engine.native.set_grain(-1)  # sizes are chosen, not forced
    found = set()
    for threads in (1, 2, 4) if engine.native else (1, 1):
        fastbp.set_num_threads(threads)
        model = fastbp.Sequential(
            [Dense(256, "relu"), Dropout(0.3), Dense(10, "softmax")],
            "cross_entropy",
            optimizers.Adam(schedules.ExponentialDecay(0.01, decay_steps=20, decay_rate=0.9)),
            input_size=64,
            dtype=dtype,
            seed=0,
        )
        network, losses = model._require_network(), np.empty((8, 60, 2))
        for losses_of_epoch in losses:
            network.train_batches(model._samples(X, y), np.arange(len(X)), 0, batch_size, losses_of_epoch)
        model.fit(X, y, epochs=8, batch_size=batch_size)  # runs of 1, 10, 49 and then of 60 batches
        arrays = network.parameters, network.gradients, network.state, network.counters, losses
        found.add((b"".join(array.tobytes() for array in arrays), str(model.history.history)))
    assert len(found) == 1
