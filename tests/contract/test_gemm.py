"""The matrix product on every engine: exact where it can be, bounded where it cannot, row by row the same."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import kernels
from fastbp.engine.plan import ACTIVATIONS
from fastbp.layers import Dense

TRANSPOSED = [(False, False), (False, True), (True, False), (True, True)]


def sizes(engine, dtype):
    """Triples (m, n, k) around the edges of vectors, tiles, column groups and blocks."""
    edge = engine.edges(dtype)
    vector, group, kc, mc, nc = (edge[name] for name in ("vector", "group", "kc", "mc", "nc"))
    around = sorted(
        {1, 2, 3, 4, *(size + d for size in (vector, 2 * vector, group) for d in (-1, 0, 1))} - {0}
    )
    for i, n in enumerate(around):
        for m in (1, 2, 11, 12, 13, 14, 15, 16, 17, 29):
            yield m, n, around[(i + m) % len(around)]
    for k in (kc - 1, kc, kc + 1, 2 * kc + 1):
        yield from ((5, group + 1, k), (29, 3, k), (30, 2 * group + 3, k))
    for m in (mc - 1, mc, mc + 1, 2 * mc + 5):
        yield from ((m, 5, 7), (m, 2 * group + 1, kc + 3))
    for n in (nc - 1, nc, nc + 1, nc + group + 2):
        yield from ((3, n, 9), (26, n, kc + 1))
    for n in (5 * vector - 1, 8 * vector - 1, 8 * vector, 8 * vector + 1, 11 * vector):
        yield from ((1, n, 9), (1, n, kc + 1))
    yield 257, 263, 131
    yield mc + 7, 8 * group + 1, 200  # columns of A are copied, and the last group is narrow
    yield 7, 9 * group, 194


def stored(matrix, transpose):
    return np.ascontiguousarray(matrix.T if transpose else matrix)


def product(a, b, transpose_a, transpose_b):
    """The product with its factors stored transposed, the result between guards."""
    m, n = a.shape[0], b.shape[1]
    memory = np.full(m * n + 64, -77, a.dtype)
    c = memory[32:-32].reshape(m, n)
    c[...] = np.nan
    kernels.matmul(
        stored(a, transpose_a),
        stored(b, transpose_b),
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        out=c,
    )
    assert np.all(memory[:32] == -77) and np.all(memory[-32:] == -77), f"wrote beside {(m, n)}"
    return c


@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSED)
def test_integers_are_exact(transpose_a, transpose_b, maker, engine, dtype, rng):
    for m, n, k in sizes(engine, dtype):
        a, b = rng.integers(-8, 9, (m, k)).astype(dtype), rng.integers(-8, 9, (k, n)).astype(dtype)
        expected = (a.astype(float) @ b.astype(float)).astype(dtype)  # below 2**24: exact
        found = product(a, b, transpose_a, transpose_b)
        assert np.array_equal(found, expected), f"({m}, {k}) times ({k}, {n})"


@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSED)
def test_error_is_bounded(transpose_a, transpose_b, engine, dtype, rng):
    """At most 16 eps Σ|a||b|, whatever the depth."""
    bound = 16 * np.finfo(dtype).eps
    for m, n, k in [(5, 7, 3), (13, 25, 64), (29, 33, 513), (6, 50, 3000)]:
        a = rng.normal(size=(m, k)).astype(dtype) * rng.choice([1e-3, 1, 1e3], (m, k)).astype(dtype)
        b = rng.normal(size=(k, n)).astype(dtype)
        wide_a, wide_b = a.astype(np.longdouble), b.astype(np.longdouble)
        found = product(a, b, transpose_a, transpose_b)
        error = np.abs(found - wide_a @ wide_b) / (np.abs(wide_a) @ np.abs(wide_b))
        assert error.max() <= bound, f"({m}, {k}) times ({k}, {n}): {error.max() / bound * 16:.1f} eps"


@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSED)
def test_any_number_of_threads(transpose_a, transpose_b, engine, dtype, rng):
    for m, n, k in list(sizes(engine, dtype))[::3]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        found = set()
        for size in (*engine.teams, 3 if engine.native else 1):
            fastbp.set_num_threads(size)
            found.add(product(a, b, transpose_a, transpose_b).tobytes())
        assert len(found) == 1, f"({m}, {k}) times ({k}, {n})"


@pytest.mark.parametrize("rows", [28, 61])
def test_columns_that_do_not_come_out_even(rows, maker, engine, dtype, rng):
    """Members share the rows of a vector that only some of them would have."""
    vector = engine.edges(dtype)["vector"]
    widths = (11, 5 * vector + 2, 7 * vector - 1, 9 * vector)
    x, dy = rng.normal(size=(rows, widths[0])), rng.normal(size=(rows, widths[-1]))
    found = set()
    for size in (*engine.teams, 3) if engine.native else (1, 1):
        fastbp.set_num_threads(size)
        model = fastbp.Sequential(
            [Dense(width, "tanh") for width in widths[1:]], input_size=widths[0], dtype=dtype, seed=0
        )
        y = model.forward(x)
        dx = model.backward(dy)
        found.add((y.tobytes(), dx.tobytes(), model.gradients.tobytes()))
    assert len(found) == 1


@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSED)
def test_nan_and_infinity_propagate(transpose_a, transpose_b, engine, dtype):
    for m, n, k in [(3, 5, 2), (13, 25, 9), (30, 49, 300)]:
        a, b = np.ones((m, k), dtype), np.ones((k, n), dtype)
        a[1, k - 1], a[2, 0], b[0, n - 1] = np.nan, np.inf, -np.inf
        found = product(a, b, transpose_a, transpose_b)
        expected = np.full((m, n), k, dtype)
        expected[:, -1] = -np.inf
        expected[1], expected[2], expected[2, -1] = np.nan, np.inf, -np.inf
        assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSED)
def test_the_maker_changes_no_bit(transpose_a, transpose_b, engine, dtype, rng):
    for m, n, k in list(sizes(engine, dtype))[1::3]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        found = set()
        for intel in (0, 1):
            if engine.native:
                engine.native.set_intel(intel)
            found.add(product(a, b, transpose_a, transpose_b).tobytes())
        assert len(found) == 1, f"({m}, {k}) times ({k}, {n})"


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_deltas_of_many_columns(activation, engine, dtype, rng):
    """A transposed weight is copied group by group, by the tiles of the group before if they are enough."""
    edge = engine.edges(dtype)
    widths = (5, 3 * edge["group"] + edge["vector"] + 3, 2 * edge["group"], 70, 2)
    model = fastbp.Sequential(
        [Dense(width, activation if width > 2 else None) for width in widths[1:]],
        input_size=widths[0],
        dtype=dtype,
        seed=0,
    )
    for rows in (1, 33, 60, 130, edge["mc"] + 60):
        x, delta = rng.normal(size=(rows, widths[0])), rng.normal(size=(rows, widths[-1]))
        outputs, wide = [x], delta
        for layer in model.layers[:-1]:
            z = outputs[-1] @ layer.weight.T.astype(float)
            outputs.append(np.maximum(z, 0) if activation == "relu" else np.tanh(z))
        for layer, y in zip(reversed(model.layers), reversed(outputs), strict=True):
            wide = wide @ layer.weight.astype(float)
            if layer is not model.layers[0]:
                wide = wide * ((y > 0) if activation == "relu" else 1 - y**2)
        found = []
        for intel in (0, 1):
            if engine.native:
                engine.native.set_intel(intel)
            model.forward(x.astype(dtype))
            found.append(model.backward(delta.astype(dtype)))
        bound = 200 * np.finfo(dtype).eps * np.abs(wide).max()
        np.testing.assert_allclose(found[0], wide, rtol=0, atol=bound)
        assert found[0].tobytes() == found[1].tobytes()


def test_largest_and_empty(engine, dtype):
    largest = np.finfo(dtype).max
    assert kernels.matmul(np.full((1, 2), largest, dtype), np.ones((2, 1), dtype)) == np.inf
    assert kernels.matmul(np.full((1, 1), largest, dtype), np.ones((1, 1), dtype)) == largest
    assert np.array_equal(kernels.matmul(np.ones((2, 0), dtype), np.ones((0, 3), dtype)), np.zeros((2, 3)))
    assert kernels.matmul(np.ones((0, 2), dtype), np.ones((2, 3), dtype)).shape == (0, 3)
    assert kernels.matmul(np.ones((2, 3), dtype), np.ones((3, 0), dtype)).shape == (2, 0)


# ---- dense layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
def test_dense_layers_of_integers_are_exact(narrow, bias, maker, engine, dtype, rng):
    """Forward, dX, dW and db of integers, with ReLU fused into the products."""
    edge = engine.edges(dtype)
    widths = (1, edge["vector"] + 1, edge["group"], 2 * edge["kc"] + 1)  # rows two pages apart
    if narrow:
        widths = (4, 2, 1, 3, edge["vector"] + 1, 4, edge["kc"] + 1)
    for rows in (1, 13, 33, 257):
        stack = [Dense(width, "relu", use_bias=bias) for width in widths[1:]] + [Dense(3, use_bias=bias)]
        model = fastbp.Sequential(stack, input_size=widths[0], dtype=dtype)
        sparsity = 0.6 if narrow else 0.2
        for layer in model.layers:
            for view in layer.parameters.values():
                view[...] = rng.integers(-2, 3, view.shape) * (rng.random(view.shape) < sparsity)
        x = rng.integers(-3, 4, (rows, widths[0])).astype(float)
        activations, logits = [x], []
        for layer in model.layers:
            logits.append(activations[-1] @ layer.weight.T.astype(float) + (layer.bias if bias else 0))
            activations.append(np.maximum(logits[-1], 0) if layer.activation.key == "relu" else logits[-1])
        assert np.array_equal(model.forward(x.astype(dtype)), activations[-1])
        delta = rng.integers(-2, 3, (rows, 3)).astype(float)
        dx = model.backward(delta.astype(dtype))
        for number in reversed(range(len(stack))):
            layer = stack[number]
            if layer.activation.key == "relu":
                delta = delta * (logits[number] > 0)
            assert np.abs(delta).T.max() * np.abs(activations[number]).max() * rows < 2**24
            assert np.array_equal(layer.weight_grad, delta.T @ activations[number]), f"{rows} rows, {layer!r}"
            if bias:
                assert np.array_equal(layer.bias_grad, delta.sum(axis=0)), f"{rows} rows, {layer!r}"
            delta = delta @ layer.weight.astype(float)
        assert np.array_equal(dx, delta)


@pytest.mark.parametrize("activation", ["relu", "gelu", "softmax"])
def test_a_row_does_not_depend_on_the_others(activation, engine, dtype, rng):
    model = fastbp.Sequential(
        [Dense(50, activation), Dense(300, "tanh"), Dense(13, activation)], input_size=29, dtype=dtype, seed=0
    )
    x = rng.normal(size=(301, 29)).astype(dtype)
    for size in engine.teams:
        fastbp.set_num_threads(size)
        together = model.predict(x)
        alone = np.vstack([model.predict(row[np.newaxis]) for row in x[::7]])
        parts = np.vstack([model.predict(part) for part in np.split(x, [3, 40, 140])])
        for found, expected in ((alone, together[::7]), (parts, together)):
            if engine.native:
                assert found.tobytes() == expected.tobytes(), f"{size} threads"
            else:  # BLAS takes another way for other shapes
                np.testing.assert_allclose(found, expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("terms", [1, 2, 3, 4])
def test_terms_of_zero_change_no_bit(terms, activation, engine, dtype, rng):
    """Few inputs, and few outputs in the delta, go another way than eight of which the others are 0."""
    for rows, width in [(1, 5), (14, 19), (130, 48), (301, 33)]:
        few, eight = (
            fastbp.Sequential(
                [Dense(width, activation), Dense(size, kernel_initializer="ones")],
                input_size=size,
                dtype=dtype,
            )
            for size in (terms, 8)
        )
        for layer, of_eight in zip(few.layers, eight.layers, strict=True):
            layer.weight[...] = rng.normal(size=layer.weight.shape)
            layer.bias[...] = rng.normal(size=layer.bias.shape)
            of_eight.weight[: layer.weight.shape[0], : layer.weight.shape[1]] = layer.weight
            of_eight.bias[: layer.bias.size] = layer.bias
        x, delta = (rng.normal(size=(rows, terms)).astype(dtype) for _ in range(2))
        nothing = np.zeros((rows, 8 - terms), dtype)
        y, y_of_eight = few.forward(x), eight.forward(np.hstack([x, nothing]))
        dx, dx_of_eight = few.backward(delta), eight.backward(np.hstack([delta, nothing]))
        hidden = (few.layers[0].bias_grad, eight.layers[0].bias_grad)
        for found, expected in ((y, y_of_eight[:, :terms]), (dx, dx_of_eight[:, :terms]), hidden):
            if engine.native:
                assert np.array_equal(found, expected), f"({rows}, {terms}) times ({terms}, {width})"
            else:  # BLAS takes another way for other shapes
                bound = 100 * np.finfo(dtype).eps * np.abs(expected).max()
                np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def test_relu_of_nan_is_nan_inside_a_layer(engine, dtype):
    model = fastbp.Sequential([Dense(33, "relu", kernel_initializer="ones")], input_size=2, dtype=dtype)
    model.layers[0].bias[7] = np.nan
    y = model.predict([[1.0, 2.0]] * 3)
    assert np.array_equal(np.isnan(y), np.arange(33) == np.full((3, 1), 7))
