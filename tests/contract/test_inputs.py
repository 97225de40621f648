"""Inputs of any element type, and sparse ones: every engine reads the same numbers on any team of threads."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp.engine import backend, planner
from fastbp.engine.plan import ELEMENTS, Op, Plan, Tensor
from fastbp.engine.sparse import SparseRows
from fastbp.layers import Dense

BATCH = 4
WIDTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 100)


def copies(columns, dtype):
    """A plan that does nothing but gather inputs and scatter them to the outputs."""
    stride = -(-columns // 16) * 16
    place = Tensor("workspace", 0, BATCH, columns, stride, per_row=True)
    source, out = (Tensor(arena, 0, BATCH, columns, columns, per_row=True) for arena in ("inputs", "outputs"))
    return Plan(
        ops=(
            Op("gather", "gather", {"source": source, "out": place}),
            Op("scatter", "output", {"source": place, "out": out}),
        ),
        dtype=dtype,
        batch_size=BATCH,
        sizes={"parameters": 64, "gradients": 64, "state": 64, "workspace": BATCH * stride + 64},
        columns={"inputs": columns, "outputs": columns, "targets": 1},
        parameters=(),
        slots=(),
        seed=0,
    )


def gathered(engine, inputs, dtype, count, order=None, first=0):
    """Rows of the inputs as the engine sees them."""
    flat = np.zeros(64, dtype)
    program = engine.program(copies(inputs.shape[1], dtype), flat, flat, flat, np.zeros(2, np.int64))
    outputs = np.full((first + count, inputs.shape[1]), 77, dtype)
    program.run(("gather", "output"), first, count, inputs=inputs, outputs=outputs, order=order)
    return outputs[first:]


def extremes(element, shape, rng):
    """Random numbers of an element type, the largest and the smallest among them."""
    kind = np.dtype(element)
    if kind.kind == "f":
        values = rng.normal(size=shape).astype(kind)
        values.flat[:4] = np.finfo(kind).max, np.finfo(kind).min, -0.0, np.inf
        return values
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    values = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, kind, endpoint=True)
    values.flat[:2] = np.iinfo(kind).min, np.iinfo(kind).max
    return values


@pytest.mark.parametrize("element", ELEMENTS)
def test_elements_become_numbers_of_the_model(element, engine, dtype, rng):
    for width in WIDTHS:
        inputs = extremes(element, (11, width), rng)
        order = rng.permutation(11)
        with np.errstate(over="ignore"):
            expected = inputs.astype(dtype)
        for size in engine.teams:
            fastbp.set_num_threads(size)
            got = gathered(engine, inputs, dtype, 7, first=4)
            assert got.tobytes() == expected[4:].tobytes()
            got = gathered(engine, inputs, dtype, 6, order=order, first=3)
            assert got.tobytes() == expected[order[3:9]].tobytes()


def test_every_number_of_float16(engine, dtype):
    inputs = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(1 << 6, -1)
    got = gathered(engine, inputs, dtype, len(inputs))
    np.testing.assert_array_equal(got, inputs.astype(dtype))
    assert np.array_equal(np.signbit(got), np.signbit(inputs))


def sparse_rows(element, width, rng):
    """Rows of different lengths, one of them empty, unsorted, with a column that occurs twice."""
    lengths = rng.integers(0, width + 1, 11)
    lengths[[2, 5]] = 0, width
    starts = np.concatenate([[3], 3 + np.cumsum(lengths)]).astype(
        np.int64
    )  # the first entries belong to none
    columns = [rng.permutation(width)[:n] for n in lengths]
    columns[5][-1] = columns[5][0]
    values = extremes(element, 3 + lengths.sum(), rng)
    return SparseRows(values, np.concatenate([[0] * 3, *columns]).astype(np.int32), starts, width)


@pytest.mark.parametrize("element", ELEMENTS)
def test_sparse_rows_become_dense(element, engine, dtype, rng):
    for width in WIDTHS:
        inputs = sparse_rows(element, width, rng)
        expected = np.zeros(inputs.shape, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for i, row in enumerate(expected):
                for entry in range(inputs.starts[i], inputs.starts[i + 1]):
                    row[inputs.columns[entry]] += inputs.values[entry].astype(dtype)
        order = rng.permutation(11)
        for size in engine.teams:
            fastbp.set_num_threads(size)
            np.testing.assert_array_equal(gathered(engine, inputs, dtype, 7, first=4), expected[4:])
            got = gathered(engine, inputs, dtype, 6, order=order, first=3)
            np.testing.assert_array_equal(got, expected[order[3:9]])
            np.testing.assert_array_equal(gathered(engine, inputs[2:9], dtype, 7), expected[2:9])


@pytest.mark.parametrize("element", ELEMENTS)
def test_a_layer_reads_sparse_rows_of_any_element(element, engine, dtype, rng):
    """Through the unit matrix: the numbers that a gather makes of them."""
    for width in WIDTHS:
        inputs = sparse_rows(element, width, rng)
        with np.errstate(over="ignore"):
            inputs.values[:] = np.where(np.isfinite(inputs.values.astype("f4")), inputs.values, 1)
        expected = inputs.dense(slice(None), np.dtype(dtype))
        order = rng.permutation(11)
        for size in engine.teams:
            fastbp.set_num_threads(size)
            got = multiplied(engine, inputs, dtype, 6, order=order, first=3)
            np.testing.assert_array_equal(got, expected[order[3:9]])
            np.testing.assert_array_equal(multiplied(engine, inputs[2:9], dtype, 7), expected[2:9])


def multiplied(engine, inputs, dtype, count, order=None, first=0):
    """Sparse rows times the unit matrix."""
    width = inputs.width
    plan = planner.build([Dense(width, use_bias=False)], width, dtype=dtype, batch_size=BATCH, sparse=True)
    (weight,) = plan.parameters
    parameters = np.zeros(plan.sizes["parameters"], dtype)
    weight.tensor.matrix(parameters)[...] = np.eye(width)
    state = np.zeros(plan.sizes["state"], dtype)
    program = engine.program(plan, parameters, parameters.copy(), state, np.zeros(2, np.int64))
    outputs = np.full((first + count, width), 77, dtype)
    phases = ("gather", "forward", "output")
    program.run(phases, first, count, inputs=inputs, outputs=outputs, order=order)
    with pytest.raises(TypeError, match="sparse rows only"):
        program.run(phases, 0, 1, inputs=np.ones((11, width), dtype), outputs=outputs)
    return outputs[first:]


def test_arrays_that_change_behind_the_engine_do_no_harm(engine, dtype):
    """Sparse inputs are checked when they come; whoever spoils them later gets other numbers, or an error."""
    for name, place, value in (
        ("columns", 1, -1),
        ("columns", 1, 2**31 - 1),
        ("starts", 1, 2**62),
        ("starts", 0, -(2**62)),
        ("starts", 2, 1 << 40),
    ):
        inputs = SparseRows(np.ones(4), np.array([0, 1, 2, 0], np.int32), np.array([0, 2, 3, 4]), 3)
        getattr(inputs, name)[place] = value
        for read in (gathered, multiplied):
            try:
                got = read(engine, inputs, dtype, 3)
            except (IndexError, ValueError):
                assert engine.name == "reference"
                continue
            assert got[2].tolist() == [1, 0, 0] or (name, place) == ("starts", 2)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 63, 64, 65, 1000, 70_001])
def test_one_number_that_is_not_finite_is_seen_anywhere(size, engine, dtype, rng):
    values = rng.uniform(-1, 1, size).astype(dtype) * np.finfo(dtype).max
    assert backend.all_finite(values)
    for place in {0, size // 2, size - 1} & set(range(size)):
        for number in (np.nan, np.inf, -np.inf):
            kept, values[place] = values[place], number
            assert not backend.all_finite(values)
            values[place] = kept
    assert backend.all_finite(values[::3])
    halves = np.full(size, 60_000, np.float16)  # their sum is infinite
    assert backend.all_finite(halves)
    halves[-1:] = np.inf
    assert backend.all_finite(halves) == (size == 0)
