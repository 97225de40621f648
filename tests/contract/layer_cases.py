"""Cases of test_ops.py for the layers beyond Dense; `new` makes a Case of an operation."""

from __future__ import annotations

import runpy
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from fastbp.engine.sparse import SparseRows

EDGES = runpy.run_path(str(Path(__file__).with_name("case.py")))["EDGES"]
SHAPES = tuple(zip(EDGES[5:] + EDGES[:5], EDGES, strict=True))  # (rows, columns)


def batch_norm_forward(new, dtype, rng):
    for number, (rows, columns) in enumerate([*SHAPES, (513, 40), (2, 70)]):
        attributes = {"momentum": 0.9, "epsilon": 1e-3, "unbiased": number % 2 == 1}
        case = new("batch_norm_forward", dtype, rows, attributes, training=number % 3 != 2)
        y, saved, _ = (
            case.workspace(columns) for _ in range(3)
        )  # saved has two rows however small the batch
        case.operands["y"] = y
        x = case.take("x", "inputs", rng.normal(3, 2, size=(rows, columns)))
        factors(case, rng, columns, number, ("gamma", "beta"), "parameters")
        case.dense("moving_mean", "parameters", rng.normal(size=(1, columns)))
        case.dense("moving_variance", "parameters", rng.uniform(1, 2, size=(1, columns)))
        case.operands["saved"] = replace(saved, rows=2, per_row=False)
        case.give("outputs", y)
        case.give("input_gradients", saved if number % 2 else x)
        yield case


def factors(case, rng, columns, number, names, arena):
    """Vectors of which both, either or none are there."""
    for bit, name in enumerate(names):
        case.operands[name] = None
        if not number >> bit & 1:
            case.dense(name, arena, rng.normal(size=(1, columns)))


def batch_norm_backward(new, dtype, rng):
    for number, (rows, columns) in enumerate([*SHAPES, (513, 40), (2, 70)]):
        if rows < 2:
            continue  # no room to give two rows of statistics
        case = new("batch_norm_backward", dtype, rows, phase="backward", training=number % 3 != 2)
        dx = case.operands["dx"] = case.workspace(columns)
        dy = case.take("dy", "output_gradients", rng.normal(size=(rows, columns)))
        case.take("x", "inputs", rng.normal(3, 2, size=(rows, columns)))
        statistics = np.vstack([rng.normal(3, 0.2, size=columns), rng.uniform(0.4, 0.6, columns)])
        saved = case.take("saved", "targets", np.vstack([statistics, np.zeros((rows - 2, columns))]))
        case.operands["saved"] = replace(saved, rows=2, per_row=False)
        factors(case, rng, columns, number, ("gamma",), "parameters")
        factors(case, rng, columns, number // 2, ("gamma_grad", "beta_grad"), "gradients")
        case.give("input_gradients", dx)
        case.give("outputs", dy)
        yield case


def layer_norm_forward(new, dtype, rng):
    for number, (rows, columns) in enumerate(SHAPES):
        case = new("layer_norm_forward", dtype, rows, {"epsilon": 1e-3})
        y = case.operands["y"] = case.workspace(columns)
        saved = case.operands["saved"] = case.workspace(2)
        x = case.take("x", "inputs", rng.normal(3, 2, size=(rows, columns)))
        factors(case, rng, columns, number, ("gamma", "beta"), "parameters")
        case.give("outputs", saved if columns == 2 or number % 3 == 0 else y)
        case.give("input_gradients", y if number % 3 == 0 else x)
        yield case


def row_statistics(rng, rows):
    return np.column_stack([rng.normal(3, 0.2, rows), rng.uniform(0.4, 0.6, rows)])


def layer_norm_backward_parameters(new, dtype, rng):
    for number, (rows, columns) in enumerate([*SHAPES, (513, 40)]):
        case = new("layer_norm_backward_parameters", dtype, rows, phase="backward")
        case.take("dy", "output_gradients", rng.normal(size=(rows, columns)))
        case.take("x", "inputs", rng.normal(3, 2, size=(rows, columns)))
        case.take("saved", "targets", row_statistics(rng, rows))
        factors(case, rng, columns, number % 3, ("gamma_grad", "beta_grad"), "gradients")
        yield case


def layer_norm_backward_input(new, dtype, rng):
    for number, (rows, columns) in enumerate(SHAPES):
        case = new("layer_norm_backward_input", dtype, rows, phase="backward")
        dx = case.operands["dx"] = case.workspace(columns)
        dy = case.take("dy", "output_gradients", rng.normal(size=(rows, columns)))
        case.take("x", "inputs", rng.normal(3, 2, size=(rows, columns)))
        case.take("saved", "targets", row_statistics(rng, rows))
        factors(case, rng, columns, number, ("gamma",), "parameters")
        case.give("input_gradients", dx)
        case.give("outputs", dy)
        yield case


def prelu_forward(new, dtype, rng):
    for rows, columns in SHAPES:
        case = new("prelu_forward", dtype, rows)
        yield column_wise(case, rng, rows, columns, alpha=rng.normal(size=columns))


def column_wise(case, rng, rows, columns, **vectors):
    """y from x and vectors of one element per column."""
    y = case.operands["y"] = case.workspace(columns)
    x = case.take("x", "inputs", rng.normal(size=(rows, columns)))
    for name, values in vectors.items():
        case.operands[name] = None
        if values is not None:
            case.dense(name, "parameters", values)
    case.give("outputs", y)
    case.give("input_gradients", x)
    return case


def prelu_backward(new, dtype, rng):
    for rows, columns in [*SHAPES, (513, 40)]:
        case = new("prelu_backward", dtype, rows, phase="backward")
        dx = case.operands["dx"] = case.workspace(columns)
        dy = case.take("dy", "output_gradients", rng.normal(size=(rows, columns)))
        x = rng.normal(size=(rows, columns))
        x[0, 0] = 0
        case.take("x", "inputs", x)
        case.dense("alpha", "parameters", rng.normal(size=columns))
        case.dense("alpha_grad", "gradients", np.full(columns, np.nan))
        case.give("input_gradients", dx)
        case.give("outputs", dy)
        yield case


def gaussian_noise(new, dtype, rng):
    for (rows, columns), training in product(SHAPES, (True, False)):
        attributes = {"stddev": 1.5, "stream": columns}
        case = new("gaussian_noise", dtype, rows, attributes, training=training)
        yield column_wise(case, rng, rows, columns)


def rescale(new, dtype, rng):
    for rows, columns in SHAPES:
        case = new("rescale", dtype, rows, {"scale": -1.7, "offset": 0.3})
        yield column_wise(case, rng, rows, columns)


def normalize(new, dtype, rng):
    for number, (rows, columns) in enumerate(SHAPES):
        variance = rng.uniform(0.5, 2, columns)
        mean = rng.normal(size=columns) if number % 2 else None
        yield column_wise(new("normalize", dtype, rows), rng, rows, columns, mean=mean, variance=variance)


def gather_rescale(new, dtype, rng):
    for rows, columns in SHAPES:
        case = new("gather_rescale", dtype, rows, {"scale": -1.7, "offset": 0.3}, phase="gather_targets")
        yield gathered(case, rng.normal(size=(rows, columns)))


def gather_normalize(new, dtype, rng):
    for rows, columns in SHAPES:
        case = new("gather_normalize", dtype, rows, phase="gather_targets")
        case.dense("mean", "parameters", rng.normal(size=columns))
        case.dense("variance", "parameters", rng.uniform(0.5, 2, columns))
        yield gathered(case, rng.normal(size=(rows, columns)))


def gathered(case, values):
    """The caller's rows, and where the operation leaves them."""
    out = case.take("out", "inputs", values)
    case.operands |= case.before.pop().operands
    case.give("outputs", out)
    return case


def sparse_rows(rng, rows, columns):
    """Rows of different lengths, unsorted, one with a column twice; counts of one byte at times."""
    lengths = rng.integers(0, min(columns, 300) + 1, rows)
    places = [rng.permutation(columns)[:n] for n in lengths]
    if lengths[-1] > 1:
        places[-1][-1] = places[-1][0]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = rng.normal(size=lengths.sum())
    values = rng.integers(0, 9, lengths.sum(), np.uint8) if rows % 2 else values / np.sqrt(columns)
    return SparseRows(values, np.concatenate(places).astype(np.int32), starts, columns)


SPARSE_SHAPES = [
    *zip(EDGES[5:] + EDGES[:5], EDGES, EDGES[9:] + EDGES[:9], strict=True),  # (rows, inputs, outputs)
    (9, 600, 300),
]
KINDS = ("linear", "relu", "tanh")


def sparse_forward(new, dtype, rng):
    for number, (rows, inputs, outputs) in enumerate(SPARSE_SHAPES):
        case = new("sparse_forward", dtype, rows, {"activation": KINDS[number % 3], "alpha": 0.0})
        y = case.operands["y"] = case.workspace(outputs)
        case.operands["source"] = read(case, sparse_rows(rng, rows, inputs))
        case.dense("weight", "parameters", rng.normal(size=(inputs, outputs)))
        case.operands["bias"] = None
        if number % 3:
            case.dense("bias", "parameters", rng.normal(size=(1, outputs)))
        case.give("outputs", y)
        yield case


def read(case, inputs):
    """Sparse inputs, which no gather takes to the workspace."""
    case.data["inputs"], case.columns["inputs"] = inputs, inputs.width
    return case._matrix("inputs", inputs.width)


def sparse_backward_weight(new, dtype, rng):
    for number, (rows, inputs, outputs) in enumerate(SPARSE_SHAPES):
        case = new("sparse_backward_weight", dtype, rows, phase="backward")
        case.operands["source"] = read(case, sparse_rows(rng, rows, inputs))
        case.take("dy", "output_gradients", rng.normal(size=(rows, outputs)))
        case.dense("weight_grad", "gradients", np.full((inputs, outputs), np.nan))
        case.operands["bias_grad"] = None
        if number % 3:
            case.dense("bias_grad", "gradients", np.full((1, outputs), np.nan))
        yield case


def copy_columns(new, dtype, rng):
    for (rows, columns), accumulate in product(SHAPES, (False, True)):
        begin, place, count = columns // 3, columns // 4, columns - columns // 3
        attributes = {"begin": begin, "place": place, "count": count, "accumulate": accumulate}
        case = new("copy_columns", dtype, rows, attributes)
        source = case.take("source", "inputs", rng.normal(size=(rows, columns)))
        out = case.take("out", "output_gradients", rng.normal(size=(rows, columns + 3)))
        case.give("outputs", out)
        case.give("input_gradients", source)
        yield case


def add(new, dtype, rng):
    for rows, columns in SHAPES:
        case = new("add", dtype, rows)
        out = case.operands["out"] = case.workspace(columns)
        a = case.take("a", "inputs", rng.normal(size=(rows, columns)))
        case.take("b", "targets", rng.normal(size=(rows, columns)))
        case.give("outputs", out)
        case.give("input_gradients", a)
        yield case


def clear(new, dtype, rng):
    for rows, columns in SHAPES:
        case = new("clear", dtype, rows, phase="backward")
        dx = case.take("dx", "inputs", rng.normal(size=(rows, columns)))
        beside = case.take("beside", "output_gradients", rng.normal(size=(rows, columns)))
        del case.operands["beside"]
        case.give("outputs", beside)
        case.give("input_gradients", dx)
        yield case


def table_shapes(rng, rows, number):
    """Columns of indices, rows and width of the table, and indices: some that name no row."""
    columns, table_rows, width = 1 + number % 3, (1, 2, 7, 40)[number % 4], EDGES[-2 - number % 20]
    index = rng.integers(table_rows, size=(rows, columns)).astype(float)
    if number % 5 == 0:
        index[0, 0] = (np.nan, -3, 1e30, np.inf)[number % 4]
    return columns, table_rows, width, index


def embedding_forward(new, dtype, rng):
    for number, rows in enumerate(EDGES):
        columns, table_rows, width, index = table_shapes(rng, rows, number)
        case = new("embedding_forward", dtype, rows)
        y = case.operands["y"] = case.workspace(columns * width)
        place = case.take("index", "inputs", index)
        case.dense("table", "parameters", rng.normal(size=(table_rows, width)))
        case.give("outputs", y)
        if number % 5:
            case.give("input_gradients", place)
        yield case


def embedding_backward(new, dtype, rng):
    for number, rows in enumerate(EDGES):
        columns, table_rows, width, index = table_shapes(rng, rows, number)
        case = new("embedding_backward", dtype, rows, phase="backward")
        case.take("index", "inputs", index)
        case.take("dy", "output_gradients", rng.normal(size=(rows, columns * width)))
        case.dense("table_grad", "gradients", np.full((table_rows, width), np.nan))
        yield case


CASES = {
    function.__name__: function
    for function in (
        batch_norm_forward, batch_norm_backward, layer_norm_forward, layer_norm_backward_parameters,
        layer_norm_backward_input, prelu_forward, prelu_backward, gaussian_noise, rescale, normalize,
        gather_rescale, gather_normalize, sparse_forward, sparse_backward_weight, copy_columns, add, clear,
        embedding_forward, embedding_backward,
    )
}  # fmt: skip
