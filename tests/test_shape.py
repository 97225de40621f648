"""Flatten and Reshape: samples of several axes go in and come out."""

import numpy as np
import pytest

import fastbp
from fastbp.layers import Dense, Flatten, Reshape


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(12, 4, 3))


def test_images_are_rows_of_pixels(images, tmp_path):
    model = fastbp.Sequential([Flatten(), Dense(2)], "mse", seed=0)
    twin = fastbp.Sequential([Dense(2)], "mse", seed=0)
    y = images[:, 0, :2]
    validation = (images, y)
    one = model.fit(images, y, epochs=3, validation_data=validation)
    two = twin.fit(images.reshape(12, 12), y, epochs=3, validation_data=(images.reshape(12, 12), y))
    assert one.history == two.history
    for X in (images, images.tolist(), images.reshape(12, 12), images.reshape(12, 2, 2, 3)):
        assert np.array_equal(model.predict(X), twin.predict(images.reshape(12, 12)))
    assert model.evaluate(images, y) == twin.evaluate(images.reshape(12, 12), y)
    model.save(tmp_path / "m.safetensors")
    assert np.array_equal(fastbp.load(tmp_path / "m.safetensors").predict(images), model.predict(images))


def test_without_flatten_the_message_says_what_to_do(images):
    with pytest.raises(
        ValueError, match=r"not shape \(12, 4, 3\): use X.reshape.* or begin the model with Flatten\(\)"
    ):
        fastbp.Sequential([Dense(2)], "mse").predict(images)


def test_the_wrong_number_of_pixels(images):
    model = fastbp.Sequential([Flatten(), Dense(2)], "mse", input_size=13)
    with pytest.raises(ValueError, match="X has 12 columns, expected 13"):
        model.predict(images)
    for ragged in ([[1, 2], [3]], np.zeros((0, 4, 3))):
        with pytest.raises(ValueError, match="X "):
            model.predict(ragged)


@pytest.mark.parametrize("shape", [(4, 3), (-1, 3), (2, 2, 3), (12,)])
def test_outputs_take_a_shape(shape, images, tmp_path):
    model = fastbp.Sequential([Flatten(), Dense(12), Reshape(shape)], "mse", dtype="float64", seed=0)
    final = model.layers[-1].shape(12) if model.built else tuple(12 // 3 if s == -1 else s for s in shape)
    y = images.reshape(12, *final)
    assert model.fit(images, y, epochs=200, batch_size=12).history["loss"][-1] < 1
    flat = fastbp.Sequential([Dense(12)], "mse", dtype="float64", seed=0)
    flat.fit(images.reshape(12, 12), images.reshape(12, 12), epochs=200, batch_size=12)
    outputs = model.predict(images)
    assert outputs.shape == (12, *final)
    assert np.array_equal(outputs.reshape(12, 12), flat.predict(images.reshape(12, 12)))
    assert model.forward(images).shape == (12, *final)
    assert model.backward(np.ones((12, *final))).shape == (12, 12)
    assert (
        model.evaluate(images, y)["loss"]
        == flat.evaluate(images.reshape(12, 12), images.reshape(12, 12))["loss"]
    )
    model.save(tmp_path / "m.safetensors")
    assert np.array_equal(fastbp.load(tmp_path / "m.safetensors").predict(images), outputs)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((), "target_shape must have axes"),
        ((-1, -1), "of which one may be -1"),
        ((0, 3), "target_shape must be a positive int, got 0"),
        (12, "target_shape must be a tuple of ints, got 12"),
        ("12", "target_shape must be a tuple of ints"),
    ],
)
def test_shapes_that_are_none(shape, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Reshape(shape)


@pytest.mark.parametrize("shape", [(5, 2), (-1, 5)])
def test_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="'reshape': 12 features do not fill the shape"):
        fastbp.Sequential([Reshape(shape), Dense(1)], input_size=12)
