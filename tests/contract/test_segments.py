"""Plans with Python in them on every engine: the same numbers as without, and as on the reference."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp.engine import segments
from fastbp.layers import CustomLayer, Dense, Dropout

ROWS = 61
X = np.random.default_rng(0).normal(size=(ROWS, 5))
Y = np.random.default_rng(1).normal(size=(ROWS, 3))
WEIGHTS = np.random.default_rng(2).uniform(0, 2, ROWS)


class Scale(CustomLayer):
    def build(self, input_size):
        self.add_parameter("slope", (input_size,), "ones")

    def forward(self, x):
        def backprop(dy):
            self.slope_grad = (dy * x).sum(axis=0)
            return dy * self.slope

        return x * self.slope, backprop


def half_squared(y, y_hat):
    return ((y_hat - y) ** 2).sum(axis=1) / 2, y_hat - y


def make(dtype, loss=half_squared):
    layers = [Dense(33, "tanh"), Scale(), Dropout(0.3), Dense(17, "gelu"), Scale(), Scale(), Dense(3)]
    return fastbp.Sequential(layers, loss=loss, dtype=dtype, seed=0)


EPOCHS = 6


def trained(dtype, loss=half_squared, threads=1):
    """A model after 30 steps of fit and 3 steps of a loop of its own, with all that it showed on the way."""
    model = make(dtype, loss)
    with fastbp.threads(threads):
        history = model.fit(X, Y, epochs=EPOCHS, batch_size=13, sample_weight=WEIGHTS, validation_data=(X, Y))
        for _ in range(3):
            model.backward(model.forward(X, training=True) - Y)
            model.step()
        shown = [*history.history["loss"], *history.history["val_loss"], model.train_on_batch(X, Y)]
    return model, np.array(shown)


@pytest.mark.parametrize("loss", [half_squared, "half_squared_error"])
def test_trains_as_on_the_reference(engine, dtype, loss):
    model, losses = trained(dtype, loss)
    assert all(isinstance(p, segments.Program) for p in model._require_network()._programs.values())
    engine.select_reference()
    reference, expected = trained(dtype, loss)
    tolerance = 1e-12 if dtype == "float64" else 2e-4
    np.testing.assert_allclose(model.parameters, reference.parameters, 0, tolerance)
    np.testing.assert_allclose(losses, expected, tolerance)


def test_a_loss_in_python_is_worth_a_native_one(engine, dtype):
    (model, losses), (native, expected) = (
        trained(dtype, loss) for loss in (half_squared, "half_squared_error")
    )
    tolerance = 1e-12 if dtype == "float64" else 2e-4
    np.testing.assert_allclose(model.parameters, native.parameters, 0, tolerance)
    np.testing.assert_allclose(losses, expected, tolerance)


def test_the_same_bits_for_any_number_of_threads(engine, dtype):
    model, losses = trained(dtype)
    for threads in engine.teams[1:2]:
        other, others = trained(dtype, threads=threads)
        assert (other.parameters == model.parameters).all()
        assert (others[EPOCHS:] == losses[EPOCHS:]).all()  # those of an epoch are added up call by call


def test_gradients_are_those_of_the_loss(engine):
    for loss in (half_squared, "huber"):
        check = fastbp.gradcheck(
            make("float32", loss), X[:7], Y[:7], sample_weight=WEIGHTS[:7], max_entries=15
        )
        assert check.ok, check
