"""Normalization adapts to data and travels with the model; Rescaling."""

import copy
import pickle

import numpy as np
import pandas
import pytest
from scipy import sparse

import fastbp
from fastbp.layers import Branches, Dense, Flatten, Normalization, Rescaling

X = np.random.default_rng(0).normal((5, -100, 0), (2, 30, 0), size=(9001, 3))


def mapped(values):
    np.save("values.npy", values)
    return np.load("values.npy", mmap_mode="r")


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, pandas.DataFrame, lambda x: x.tolist()])
def test_numbers_of_the_data(kind):
    layer = Normalization()
    layer.adapt(kind(X))
    model = fastbp.Sequential([layer], dtype="float64")
    y = model.predict(X)
    close(y.mean(axis=0), 0)
    close(y.std(axis=0), [1, 1, 0])
    close(layer.mean, X.mean(axis=0))
    close(layer.variance, X.var(axis=0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [np.array, sparse.csr_array, pandas.DataFrame, mapped])
def test_scaling_in_the_gather_gives_the_bits_of_scaling_by_itself(make, dtype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (150, 33), np.uint8)
    for kind in (Normalization, lambda: Rescaling(1 / 255, -0.5)):
        one, other = (
            fastbp.Sequential([*front, Dense(7, "relu"), Dense(2)], "mse", "adam", dtype=dtype, seed=0)
            for front in ([kind()], [Branches([[]]), kind()])
        )
        for model in (one, other):
            layer = model.layers[-3]
            if kind is Normalization:
                layer.adapt(images)
            model.fit(make(images), images[:, :2] / 255, epochs=2, batch_size=16)
            assert (len(model.layers) == 3) == any(op.kind.startswith("gather_") for op in model.plan.ops)
        assert one.parameters.tobytes() == other.parameters.tobytes()
        assert np.array_equal(one.predict(make(images)), other.predict(make(images)))
        assert np.array_equal(one.predict(images), one.freeze()(images))


def test_images_are_rows_of_pixels():
    images = X[:9000].reshape(1000, 3, 9)
    layer = Normalization()
    layer.adapt(images)
    close(fastbp.Sequential([Flatten(), layer], dtype="float64").predict(images).mean(axis=0), 0)


def test_adapt_when_the_model_is_built():
    layer = Normalization()
    model = fastbp.Sequential([layer], input_size=3, dtype="float64")
    assert np.array_equal(model.predict(X), X)
    layer.adapt(X)
    close(model.predict(X)[:, :2], ((X - X.mean(axis=0)) / [*X.std(axis=0)[:2], 1])[:, :2])
    layer.adapt(X[:10])
    close(layer.mean, X[:10].mean(axis=0))


def test_training_does_not_move_them(tmp_path):
    layer = Normalization()
    layer.adapt(X[:, 1:2])
    layers = [Branches([layer, Rescaling(0.1)], [[1], [0]]), Dense(1)]
    model = fastbp.Sequential(layers, "mse", fastbp.optimizers.AdamW(), seed=0)
    model.fit(X, X[:, 1] / 100, epochs=2)
    np.testing.assert_allclose(layer.mean, X[:, 1].mean(), rtol=1e-6)
    model.save(tmp_path / "m.safetensors")
    others = fastbp.load(tmp_path / "m.safetensors"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for other in others:
        assert other.layers[0].branches[0][0].mean == layer.mean
        assert np.array_equal(other.predict(X), model.predict(X))


def test_a_layer_that_has_adapted_may_be_copied_before_it_is_used():
    layer = Normalization()
    layer.adapt(X)
    twin = copy.deepcopy(layer)
    fastbp.Sequential([twin], input_size=3)
    np.testing.assert_allclose(twin.mean, X.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1.0, 2.0], r"X must have shape \(n, features\)"),
        (np.zeros((0, 3)), "not be empty"),
        ([["a"]], "X must hold numbers, got elements of type <U1"),
        ([[np.nan]], "X must hold finite numbers"),
        ([[np.inf]], "X must hold finite numbers"),
    ],
)
def test_data_that_gives_no_numbers(data, message):
    with np.errstate(all="ignore"), pytest.raises((ValueError, TypeError), match=message):
        Normalization().adapt(data)


def test_data_of_another_width():
    layer = Normalization()
    layer.adapt(X)
    with pytest.raises(ValueError, match=r"normalization.mean must have shape \(2,\), got \(3,\)"):
        fastbp.Sequential([layer], input_size=2)
