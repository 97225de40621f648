"""bp.gradcheck: right gradients pass, wrong ones are found and named, and the model stays as it was."""

import re

import numpy as np
import pytest

import fastbp as bp
from fastbp.engine.plan import ACTIVATIONS
from fastbp.layers import CustomLayer, Dense, Dropout

pytestmark = pytest.mark.usefixtures("interpreter")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 2))
W = RNG.uniform(0.1, 2, 12)


class Scale(CustomLayer):
    """y = slope · x, with a gradient that is off where `wrong` says so."""

    def __init__(self, wrong="", **arguments):
        super().__init__(**arguments)
        self.wrong = wrong

    def build(self, input_size):
        self.add_parameter("slope", (input_size,), "ones")

    def forward(self, x):
        def backprop(dy):
            self.slope_grad = (dy * x).sum(axis=0)
            if self.wrong == "slope":
                self.slope_grad[2] += 1e-3
            if self.wrong == "forgotten":
                self.slope_grad = np.zeros_like(self.slope)
            factor = 1.001 if self.wrong == "dx" else 1
            return dy * self.slope * x.dtype.type(factor)

        return x * self.slope, backprop


def make(*middle, loss="mse", dtype="float32", last=None):
    layers = [Dense(5, activation="tanh"), *middle, Dense(2, activation=last)]
    return bp.Sequential(layers, loss=loss, dtype=dtype, seed=0)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "softmax"])
def test_every_activation(activation):
    check = bp.gradcheck(make(Dense(4, activation=activation)), X, Y, max_entries=10)
    assert check.ok, check


@pytest.mark.parametrize(
    ("loss", "last", "targets"),
    [
        *((loss, None, Y) for loss in ("mse", "half_squared_error", "mae", "huber", "quantile")),
        ("poisson", "softplus", np.abs(Y)),
        ("binary_cross_entropy", "sigmoid", (Y > 0).astype(float)),
        ("binary_cross_entropy", "softmax", (Y > 0).astype(float)),
        ("cross_entropy", "softmax", np.arange(12) % 2),
        (bp.losses.CrossEntropy(label_smoothing=0.1), "softmax", np.eye(2)[np.arange(12) % 2]),
        (bp.losses.CrossEntropy(from_logits=True), None, np.arange(12) % 2),
        (lambda y, y_hat: (((y_hat - y) ** 4).sum(axis=1), 4 * (y_hat - y) ** 3), None, Y),
    ],
)
@pytest.mark.parametrize("weights", [None, W])
def test_every_loss(loss, last, targets, weights):
    check = bp.gradcheck(
        make(Dropout(0.3), loss=loss, last=last), X, targets, sample_weight=weights, max_entries=10
    )
    assert check.ok, check
    assert list(check.comparisons) == ["dense.weight", "dense.bias", "dense_1.weight", "dense_1.bias", "X"]
    assert check.comparisons["dense_1.weight"].shape == (2, 5)


def test_the_numbers_are_those_of_the_model():
    model = make(dtype="float64")
    check = bp.gradcheck(model, X, Y, sample_weight=W)
    assert check.loss == pytest.approx(model.train_on_batch(X, Y, sample_weight=W), rel=1e-12)
    found = check.comparisons["dense.weight"]
    assert found.entries == [(i, j) for i in range(5) for j in range(3)]
    np.testing.assert_allclose(found.analytic.reshape(5, 3), model.layers[0].weight_grad, 1e-12, 1e-15)
    np.testing.assert_allclose(found.numeric, found.analytic, 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_stays_as_it_was(dtype):
    def trained():
        model = make(Dropout(0.3), Scale(), dtype=dtype)
        model.fit(X, Y, epochs=2, batch_size=5)
        return model

    model, untouched = trained(), trained()
    inputs, targets, weights = X.copy(), Y.copy(), W.copy()
    for training in (True, False):
        assert bp.gradcheck(model, inputs, targets, sample_weight=weights, training=training).ok
    assert (inputs == X).all() and (targets == Y).all() and (weights == W).all()
    assert model._require_network().counters.tolist() == untouched._require_network().counters.tolist()
    assert (model.gradients == untouched.gradients).all()
    assert model.history.history == untouched.history.history
    histories = [each.fit(X, Y, epochs=2, batch_size=5).history for each in (model, untouched)]
    assert histories[0] == histories[1]
    assert (model.parameters == untouched.parameters).all()


def test_a_model_that_was_not_built_is_built():
    model = make()
    assert bp.gradcheck(model, X, Y).ok
    assert model.input_size == 3


def test_a_wrong_gradient_is_found_and_named():
    check = bp.gradcheck(make(Scale("slope")), X, Y)
    assert not check.ok
    assert check.worst.name == "scale.slope" and check.worst.entries[check.worst.worst] == (2,)
    assert [bool(error < 1e-6) for error in check.worst.error] == [True, True, False, True, True]
    assert all(found.error.max() < 1e-6 for name, found in check.comparisons.items() if "scale" not in name)
    assert re.fullmatch(
        r"WRONG: the largest error is \S+ at scale.slope\[2\], allowed 1e-06", str(check).splitlines()[-1]
    )


def test_a_gradient_that_is_not_written_is_found():
    check = bp.gradcheck(make(Scale("forgotten")), X, Y)
    assert not check.ok and (check.comparisons["scale.slope"].error > 0.9).all()


def test_a_wrong_delta_is_found_in_front_of_its_layer():
    check = bp.gradcheck(make(Scale("dx")), X, Y)
    assert not check.ok
    wrong = {name for name, found in check.comparisons.items() if found.error.max() > 1e-6}
    assert wrong == {"dense.weight", "dense.bias", "X"}


def test_derivatives_that_are_not_finite_are_wrong():
    class Broken(CustomLayer):
        def forward(self, x):
            return x, lambda dy: dy * np.nan

    check = bp.gradcheck(make(Broken()), X, Y)
    assert not check.ok and check.worst.error.max() > 1e300


def test_random_numbers_are_the_same_in_all_evaluations():
    class Noise(CustomLayer):
        def forward(self, x, training, rng):
            factor = rng.normal(1, 0.5, x.shape) if training else np.ones_like(x)
            return x * factor, lambda dy: dy * factor

    model = make(Dropout(0.5), Noise())
    assert bp.gradcheck(model, X, Y).ok
    losses = [bp.gradcheck(model, X, Y, training=training).loss for training in (True, True, False)]
    assert losses[0] == losses[1] != losses[2]


def test_of_large_arrays_a_fixed_choice_is_checked():
    model = make(Dense(40), dtype="float64")
    check = bp.gradcheck(model, X, Y, max_entries=17)
    found = check.comparisons["dense_1.weight"]
    assert found.shape == (40, 5) and len(found.entries) == 17 == len(set(found.entries))
    assert bp.gradcheck(model, X, Y, max_entries=17).comparisons["dense_1.weight"].entries == found.entries
    assert "17 of 200" in str(check)


def test_inputs_can_be_left_out():
    assert "X" not in bp.gradcheck(make(), X, Y, inputs=False).comparisons
    model = bp.Sequential([Dropout(0.5)], loss="mse", seed=0)
    assert list(bp.gradcheck(model, X, X).comparisons) == ["X"]
    with pytest.raises(ValueError, match="there is nothing to check"):
        bp.gradcheck(model, X, X, inputs=False)


def test_the_table():
    check = bp.gradcheck(make(), X, Y)
    lines = str(check).splitlines()
    assert lines[0].startswith(f"gradients of the loss {check.loss:.9g}, in float64")
    assert lines[1].split() == ["shape", "checked", "worst", "at", "analytic", "numeric", "error"]
    assert re.match(r"dense.weight +\(5, 3\) +15 of 15 +\[\d, \d\] ", lines[2])
    assert lines[-1].startswith("ok: the largest error is")
    entries = str(check.comparisons["dense.weight"]).splitlines()
    assert entries[0].split() == ["dense.weight", "analytic", "numeric", "error"] and len(entries) == 16
    assert str(check.comparisons["X"]).splitlines()[-1] == "… and 16 with smaller errors"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epsilon": 0}, ValueError, "epsilon must be a number in"),
        ({"rtol": "small"}, TypeError, "rtol must be a number in"),
        ({"training": 1}, TypeError, "training must be True or False"),
        ({"max_entries": 0}, ValueError, "max_entries must be a positive int"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight"),
    ],
)
def test_arguments_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        bp.gradcheck(make(), X, Y, **arguments)


def test_what_cannot_be_checked():
    with pytest.raises(TypeError, match="model must be a Sequential"):
        bp.gradcheck(Dense(2), X, Y)
    with pytest.raises(ValueError, match="X holds a value that is NaN"):
        bp.gradcheck(make(), [[np.nan, 0, 0]], [[0, 0]])
    with pytest.raises(ValueError, match="loss: the model has none"):
        bp.gradcheck(bp.Sequential([Dense(2)]), X, Y)
