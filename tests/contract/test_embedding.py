"""Embedding on every engine: look-up, gradients, steps that leave unused rows alone, wrong indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.layers import Branches, Dense, Embedding, Normalization
from fastbp.optimizers import SGD, Adam

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "layers.npz"
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
ROWS = 6


def table_net(**options):
    """Two categories, in columns 0 and 2, beside two numbers."""
    table = Branches([Embedding(7, 3), Embedding(4, 2), Normalization()], [[0], [2], [1, 3]])
    return fastbp.Sequential([table, Dense(5, "tanh"), Dense(2)], input_size=4, seed=0, **options)


def table(rng, rows=ROWS):
    x = rng.normal(size=(rows, 4))
    x[:, 0], x[:, 2] = rng.integers(7, size=rows), rng.integers(4, size=rows)
    return x


@pytest.mark.parametrize("kind", [int, "uint8", "float32", list])
def test_look_up(kind, engine, dtype):
    model = fastbp.Sequential([Embedding(5, 3)], input_size=2, dtype=dtype, seed=0)
    index = [[4, 0], [1, 1], [2, 3]]
    weight = model.layers[0].weight
    expected = [np.concatenate([weight[i], weight[j]]) for i, j in index]
    assert np.array_equal(model.predict(index if kind is list else np.array(index, kind)), expected)


def test_gradients(engine, rng):
    """Of tables and all the rest, against central differences."""
    model, x = table_net(dtype="float64"), table(rng)
    direction = rng.normal(size=(ROWS, 2))
    model.forward(x)
    dx = model.backward(direction)
    gradients = {name: g.copy() for layer in model.layers for name, g in layer.gradients.items()}
    for layer in model.layers:
        for name, view in layer.parameters.items():
            found = gradients[name] if layer is model.layers[0] else layer.gradients[name]
            expected = np.empty(view.shape)
            for place in np.ndindex(view.shape):
                kept = view[place]
                values = []
                for shift in (1e-5, -1e-5):
                    view[place] = kept + shift
                    values.append(float((model.predict(x) * direction).sum()))
                view[place] = kept
                expected[place] = (values[0] - values[1]) / 2e-5
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * max(1e-3, np.abs(expected).max()))
    assert not dx[:, [0, 2]].any()
    assert dx[:, [1, 3]].all()


@pytest.mark.parametrize(
    ("name", "optimizer"), [("sparse_adam", lambda: Adam(0.1, epsilon=1e-20)), ("sgd", lambda: SGD(0.1))]
)
def test_pytorch(name, optimizer, engine, dtype):
    """Adam on a table is SparseAdam, SGD is exact, step by step."""
    with np.load(VECTORS) as vectors:
        layer = Embedding(11, 4)
        model = fastbp.Sequential([layer], None, optimizer(), input_size=2, dtype=dtype)
        layer.weight = vectors[f"{name}.weight"]
        for step in range(20):
            model.forward(vectors[f"{name}.{step}.index"], training=True)
            model.backward(vectors[f"{name}.{step}.dy"])
            model.step()
            expected = vectors[f"{name}.{step}.weight"]
            np.testing.assert_allclose(
                layer.weight, expected, rtol=0, atol=4 * TOLERANCE[dtype], err_msg=str(step)
            )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_rows_that_are_not_used_stay(optimizer, engine, dtype, rng):
    """To the bit, weight decay included; and the bits do not depend on the number of threads."""
    x = table(rng, 64)
    x[:, 0] = rng.choice([1, 4, 5], 64)
    y = rng.normal(size=(64, 2))
    digests = set()
    for size in engine.teams:
        fastbp.set_num_threads(size)
        model = table_net(loss="mse", optimizer=optimizer, dtype=dtype)
        weight = model.layers[0].children[0].weight
        before = weight.copy()
        model.fit(x, y, epochs=3, batch_size=10)
        changed = (weight != before).any(axis=1)
        assert changed.tolist() == [number in (1, 4, 5) for number in range(7)]
        digests.add(model.parameters.tobytes())
    assert len(digests) == 1


def test_native_and_reference_train_the_same(engine, dtype, rng):
    x, y = table(rng, 50), rng.integers(2, size=50)

    def trained():
        loss = fastbp.losses.CrossEntropy(from_logits=True)
        model = table_net(loss=loss, optimizer="adam", dtype=dtype)
        model.fit(x, y, epochs=5, batch_size=8)
        return model.parameters.copy()

    found = trained()
    engine.select_reference()
    expected = trained()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 if dtype == "float64" else 1e-4)


def test_file_and_state(engine, dtype, rng, tmp_path):
    """What was saved goes on with the same bits: the optimizer's averages of every row are kept."""
    model, x, y = table_net(loss="mse", dtype=dtype), table(rng), rng.normal(size=(ROWS, 2))
    model.fit(x, y, epochs=3)
    model.save(tmp_path / "table.safetensors")
    copy = fastbp.load(tmp_path / "table.safetensors")
    for each in (model, copy):
        each.fit(x, y, epochs=3)
    assert copy.parameters.tobytes() == model.parameters.tobytes()


@pytest.mark.parametrize(("value", "shown"), [(7, "7"), (-1, "-1"), (2.5, "2.5"), (16777216, "16777216")])
def test_an_index_out_of_range_stops_before_anything_runs(value, shown, engine, rng):
    model, x = table_net(loss="mse"), table(rng)
    before = model.parameters.copy()
    x[3, 0] = value
    for use in (model.predict, model.forward, lambda x: model.fit(x, np.zeros((ROWS, 2)))):
        message = rf"whole numbers from 0 to 6 in column 0, .*'branches.embedding' .*is {shown} at row 3"
        with pytest.raises(ValueError, match=message):
            use(x)
    assert np.array_equal(model.parameters, before)


def test_only_columns_of_the_input_can_be_looked_up():
    with pytest.raises(ValueError, match="'embedding': an Embedding looks up columns of X"):
        fastbp.Sequential([Dense(2), Embedding(3, 2)], input_size=1)
    with pytest.raises(ValueError, match="input_dim must be at most 16777216"):
        Embedding(2**24 + 1, 1)


def test_a_run_of_many_batches_is_many_runs_of_one(engine, dtype, rng):
    """In a run the rows of the batch before are cleared, at its start the whole gradient: the same bits."""
    x, y = table(rng, 60), rng.normal(size=(60, 2))
    x[30:, 0] = 6  # the last batch uses one row
    long, short = (table_net(loss="mse", optimizer="adam", dtype=dtype) for _ in range(2))
    for layer in (long, short):
        layer.build(4)
        layer.gradients[...] = 3  # what anyone may have left there
    long.fit(x, y, epochs=2, batch_size=7, shuffle=False)
    for _ in range(2):
        for begin in range(0, 60, 7):
            short.train_on_batch(x[begin : begin + 7], y[begin : begin + 7])
    assert long.parameters.tobytes() == short.parameters.tobytes()
    gradient = long.layers[0].children[0].weight_grad
    assert np.flatnonzero(gradient.any(axis=1)).tolist() == [6]
    assert np.array_equal(gradient, short.layers[0].children[0].weight_grad)


def test_a_step_of_its_own_takes_all_gradients_that_are_there(engine, dtype):
    model = fastbp.Sequential([Embedding(5, 2)], None, SGD(1.0), input_size=1, dtype=dtype, seed=0)
    layer = model.layers[0]
    before = layer.weight.copy()
    model.forward([[3], [3]], training=True)
    model.backward([[1, 2], [3, 4]])
    layer.weight_grad[1] = 7
    model.step()
    moved = before - layer.weight
    np.testing.assert_allclose(moved, [[0, 0], [7, 7], [0, 0], [4, 6], [0, 0]], rtol=0, atol=1e-6)
    assert np.array_equal(moved[[0, 2, 4]], np.zeros((3, 2)))


def test_one_table_for_many_rows(engine, dtype, rng):
    """A table that is larger than any batch; every row is found and learns on its own."""
    model = fastbp.Sequential([Embedding(3000, 1)], "mse", SGD(1.0), input_size=1, dtype=dtype, seed=0)
    x = np.arange(3000).reshape(-1, 1)
    y = rng.normal(size=3000)
    model.fit(x, y, epochs=2, batch_size=2)  # half the gradient of a row: the first step gets there
    np.testing.assert_allclose(model.predict(x)[:, 0], y, atol=1e-5)
