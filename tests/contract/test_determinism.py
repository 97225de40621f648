"""The same bits for any number of threads, in every run, in a forked child; dropout by the counters alone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import fastbp
from fastbp.engine import backend
from fastbp.engine.random import dropped_share
from fastbp.layers import (
    BatchNormalization,
    Branches,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    LayerNormalization,
    PReLU,
    Residual,
    Softmax,
)
from fastbp.optimizers import AdamW


def digest(model, *more):
    found = hashlib.sha256(model.parameters.tobytes())
    for array in more:
        found.update(np.asarray(array).tobytes())
    return found.hexdigest()


# rows and batch size for which the planner chooses this schedule
SCHEDULES = {"together": (75, 32), "lanes": (2500, 1300)}


def trained(dtype, schedule="together"):
    """Train a net with every kind of operation, and return the digest of all that came out."""
    rng = np.random.default_rng(3)
    rows, batch_size = SCHEDULES[schedule]
    X, y = rng.normal(size=(rows, 19)), rng.integers(5, size=rows)
    X[:, 0] = rng.integers(30, size=rows)
    whole_batch = schedule == "together"
    model = fastbp.Sequential(
        [
            Branches([Embedding(30, 7) if whole_batch else [], GaussianNoise(0.1)], [[0], range(1, 19)]),
            Dense(24, "relu", kernel_regularizer="l1_l2"),
            Dropout(0.3),
            BatchNormalization() if whole_batch else LayerNormalization(),
            Residual([LayerNormalization(), Dense(24), PReLU()]),
            Dense(27, "gelu"),
            Softmax(),
            Dense(5, "softmax"),
        ],
        "cross_entropy",
        AdamW(0.01),
        dtype=dtype,
        seed=4,
    )
    model.optimizer.l2_penalty = 0.01
    weights = rng.uniform(0.5, 2, rows)
    model.fit(X, y, epochs=3, batch_size=batch_size, sample_weight=weights)
    assert (model.plan.lanes > 1) == (schedule == "lanes")
    return digest(model, model.predict(X), model.evaluate(X, y)["loss"])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_any_number_of_threads(schedule, engine, dtype):
    """Every kind of operation; test_same_bits.py has the optimizers, and many runs."""
    found = {}
    for size in (1, 2, 3, 4, 8, 16, 1, 2) if engine.native else (1, 1):
        fastbp.set_num_threads(size)
        found.setdefault(trained(dtype, schedule), []).append(size)
    assert len(found) == 1, f"digests by threads: {found}"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_any_number_of_threads_on_sparse_rows(schedule, engine, dtype):
    rows, batch_size = SCHEDULES[schedule]
    X = sparse.random_array((rows, 61), density=0.1, format="csr", rng=np.random.default_rng(0))
    found = set()
    for size in engine.teams:
        fastbp.set_num_threads(size)
        model = fastbp.Sequential([Dense(33, "tanh"), Dense(2)], "mse", "adam", dtype=dtype, seed=0)
        model.fit(X, X[:, :2].toarray(), epochs=2, batch_size=batch_size)
        assert "sparse_forward" in str(model.plan)
        assert (model.plan.lanes > 1) == (schedule == "lanes")
        found.add(digest(model, model.predict(X)))
    assert len(found) == 1


def test_team_by_the_work(engine, dtype):
    """With the usual rule small nets take one thread: the same bits again."""
    expected = trained(dtype)
    if engine.native:
        engine.native.set_grain(-1)
    fastbp.set_num_threads(4)
    assert trained(dtype) == expected


def test_the_seed_makes_the_difference(engine):
    def weights(seed):
        return digest(fastbp.Sequential([Dense(9)], input_size=5, seed=seed))

    assert weights(1) == weights(1) != weights(2)


# ---- dropout -------------------------------------------------------------------------------------


def dropped(columns, *rates, dtype="float64", seed=0):
    """A model of nothing but dropout: ones come out as the scale or as 0."""
    return fastbp.Sequential([Dropout(rate) for rate in rates], input_size=columns, dtype=dtype, seed=seed)


def test_masks_are_the_same_everywhere(engine, dtype):
    x = np.ones((37, 53))
    engine.select_reference()
    model = dropped(53, 0.3, dtype=dtype)
    expected = [model.forward(x, training=True) for _ in range(3)]
    engine.select()
    for size in engine.teams:
        fastbp.set_num_threads(size)
        model = dropped(53, 0.3, dtype=dtype)
        for number, mask in enumerate(expected):
            y = model.forward(x, training=True)
            assert y.tobytes() == mask.tobytes(), f"draw {number}, {size} threads"
            assert model.backward(x).tobytes() == mask.tobytes(), f"back {number}, {size} threads"


def test_a_mask_does_not_depend_on_the_batch(engine):
    """Rows of a larger batch, and columns of a wider one, are those of the smaller."""
    large = dropped(53, 0.3).forward(np.ones((37, 53)), training=True)
    assert np.array_equal(dropped(53, 0.3).forward(np.ones((5, 53)), training=True), large[:5])
    assert np.array_equal(dropped(10, 0.3).forward(np.ones((37, 10)), training=True), large[:, :10])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate(rate, engine, dtype):
    x = np.ones((400, 250), dtype)
    y = dropped(250, rate, dtype=dtype).forward(x, training=True)
    kept = y != 0
    scale = 2**16 / (2**16 - dropped_share(rate))  # the mean stays what it is
    assert np.all(y[kept] == np.dtype(dtype).type(scale)) and abs(scale * (1 - rate) - 1) < 1e-4
    for share, count in ((kept.mean(), x.size), *((part, 400) for part in kept.mean(axis=0)[:20])):
        assert abs(share - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / count)
    # neighbours, below and beside, know nothing of each other
    centred = kept - kept.mean()
    for one, other in ((centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1])):
        assert abs(np.mean(one * other)) < 5 * rate * (1 - rate) / np.sqrt(one.size)


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 16, 31, 33, 200, 2047, 2049, 4100])
def test_any_rows_of_any_width(columns, engine, dtype):
    """Few blocks of random numbers in a row and many; teams and row numbers that begin anywhere."""
    x = np.ones((70, columns))
    engine.select_reference()
    expected = dropped(columns, 0.4, dtype=dtype).forward(x, training=True)
    engine.select()
    for size in engine.teams:
        fastbp.set_num_threads(size)
        assert dropped(columns, 0.4, dtype=dtype).forward(x, training=True).tobytes() == expected.tobytes()


def noise(columns, stddev=1.0, dtype="float64"):
    return fastbp.Sequential([GaussianNoise(stddev)], input_size=columns, dtype=dtype, seed=0)


def test_noise_is_the_same_everywhere(engine, dtype):
    """To rounding in both interpreters and dtypes, to the bit on any number of threads and in any batch."""
    x = np.zeros((37, 53))
    engine.select_reference()
    expected = noise(53).forward(x, training=True)
    engine.select()
    digests = set()
    for size in engine.teams:
        fastbp.set_num_threads(size)
        y = noise(53, dtype=dtype).forward(x, training=True)
        np.testing.assert_allclose(y, expected, rtol=0, atol=3e-6 if dtype == "float32" else 1e-13)
        digests.add(y.tobytes())
        assert np.array_equal(noise(53, dtype=dtype).forward(x[:5], training=True), y[:5])
        assert np.array_equal(noise(9, dtype=dtype).forward(x[:, :9], training=True), y[:, :9])
    assert len(digests) == 1


def test_noise_is_normal(engine, dtype):
    """Moments and tails of many numbers; neighbours, below and beside, know nothing of each other."""
    model = noise(250, 2.0, dtype)
    x = np.full((400, 250), 3.0)
    z = (model.forward(x, training=True).astype(float) - 3) / 2
    bound = 5 / np.sqrt(z.size)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert abs(np.mean(z**power) - moment) < bound * np.sqrt(96)
    for level, share in ((1, 0.317311), (2, 0.0455003), (3, 0.0026998)):
        assert abs(np.mean(np.abs(z) > level) - share) < 5 * np.sqrt(share / z.size)
    for one, other in ((z[1:], z[:-1]), (z[:, 1:], z[:, :-1])):
        assert abs(np.mean(one * other)) < bound
    assert not np.array_equal(model.forward(x, training=True), 3 + 2 * z)
    assert np.array_equal(model.predict(x), x)
    model.forward(x, training=True)
    assert np.array_equal(model.backward(z), z.astype(dtype))


def test_masks_differ_by_step_layer_and_seed(engine):
    x = np.ones((50, 40))
    model = dropped(40, 0.5)
    masks = [model.forward(x, training=True) != 0 for _ in range(3)]
    masks.append(dropped(40, 0.5, seed=1).forward(x, training=True) != 0)
    both = dropped(40, 0.5, 0.5).forward(x, training=True)
    masks.append(both != 0)
    # of two layers each keeps its own half, so that a quarter is left, at four times the value
    assert abs(np.mean(both != 0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / x.size)
    assert set(np.unique(both)) == {0, 4}
    for number, mask in enumerate(masks):
        for other in masks[:number]:
            assert 0.2 < np.mean(mask == other) < 0.8


def test_counters_and_prediction(engine):
    """Only training draws; predicting and evaluating in between change nothing."""
    x = np.ones((8, 6))
    model = dropped(6, 0.5)
    first = model.forward(x, training=True)
    assert np.array_equal(model.forward(x), x) and np.array_equal(model.predict(x), x)
    assert model._network.counters.tolist() == [0, 1]
    second = model.forward(x, training=True)
    model._network.counters[1] = 0
    assert np.array_equal(model.forward(x, training=True), first)
    assert np.array_equal(model.forward(x, training=True), second)


# ---- processes -----------------------------------------------------------------------------------


def test_subnormal_numbers_are_back_after_a_run(engine, dtype):
    """The engine treats them as zero while it works; NumPy must not notice."""
    info = np.finfo(dtype)
    tiny = np.full(4, info.tiny)
    for size in engine.teams:
        fastbp.set_num_threads(size)
        trained(dtype)
        fastbp.kernels.matmul(np.ones((40, 40), dtype), np.ones((40, 40), dtype))
        assert np.all(tiny / 2 > 0), "results are flushed to zero"
        assert np.all(tiny / 2 * 2 == tiny), "arguments are taken as zero"


FORK = """
import os, sys
import numpy as np
import fastbp
from fastbp.engine import backend
from fastbp.layers import Dense, Dropout

if backend.native():
    backend.native().set_grain(0)
fastbp.set_num_threads(4)

def train():
    X = np.random.default_rng(0).normal(size=(64, 20))
    model = fastbp.Sequential([Dense(30, "tanh"), Dropout(0.2), Dense(2)], "mse", "adam", seed=0)
    model.fit(X, X[:, :2], epochs=3, batch_size=16)
    return model.parameters.tobytes()

expected = train()
for generation in range(2):  # a child, and its child
    child = os.fork()
    if child == 0:
        if train() != expected:
            os._exit(3)
        continue
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if train() != expected:
        code = code or 4
    os._exit(code)
os._exit(0)
"""


def environment(engine):
    """That of a process of its own on this engine."""
    here = Path(fastbp.__file__).parents[1]
    chosen = {"FASTBP_ISA": engine.name} if engine.native else {"FASTBP_BACKEND": "reference"}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FASTBP_")}
    return plain | chosen | {"PYTHONPATH": str(here)}


if hasattr(os, "fork"):

    def test_forked_children_train_alike(engine, tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", FORK], env=environment(engine), cwd=tmp_path, timeout=60, check=False
        )
        assert done.returncode == 0, {3: "other bits in a child", 4: "other bits in a parent"}.get(
            done.returncode
        )


def test_another_process_gives_the_same_bits(engine, tmp_path):
    code = (
        "import fastbp, sys; sys.path.insert(0, sys.argv[1]); import test_determinism as t;"
        "fastbp.set_num_threads(2); print(t.trained('float32'))"
    )
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        env=environment(engine),
        cwd=tmp_path,
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == trained("float32")
    assert ("native" if engine.native else "reference") == backend.NAME
