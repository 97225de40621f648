"""Losses in Python: per sample or as a mean, with weights, and what is wrong with them."""

import traceback

import numpy as np
import pytest

import fastbp as bp
from fastbp.layers import Dense
from fastbp.losses import CustomLoss, FunctionLoss

pytestmark = pytest.mark.usefixtures("interpreter")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(45, 3)), RNG.normal(size=(45, 2))
W = RNG.uniform(0, 2, 45)
W[3] = 0
LABELS = np.arange(45) % 3


def squared(y, y_hat):
    return ((y_hat - y) ** 2).mean(axis=1), (y_hat - y) * (2 / y.shape[1])


def mean_squared(y, y_hat):
    return ((y_hat - y) ** 2).mean(), (y_hat - y) * (2 / y.size)


class Power(CustomLoss):
    """Σ |ŷ − y|^p."""

    def __init__(self, p=2.0):
        self.p = p

    def __call__(self, y, y_hat):
        error = y_hat - y
        size = np.abs(error)
        return (size**self.p).sum(axis=1), self.p * size ** (self.p - 1) * np.sign(error)


class Likelihood(CustomLoss):
    """−log of the probability of the right class."""

    target_kind = "classes"

    def __call__(self, y, y_hat):
        right = np.arange(y_hat.shape[1]) == y
        return -np.log(y_hat[right]), -(right / y_hat)


def make(loss, dtype="float64", **arguments):
    layers = [Dense(5, activation="tanh"), bp.layers.Dropout(0.2), Dense(2)]
    return bp.Sequential(layers, loss=loss, dtype=dtype, **({"seed": 0} | arguments))


@pytest.mark.parametrize("loss", [squared, FunctionLoss(squared), lambda y, y_hat: squared(y, y_hat)])
@pytest.mark.parametrize("weights", [None, W])
def test_a_loss_per_sample_is_weighted_like_a_native_one(loss, weights, dtype):
    models = make(loss, dtype), make("mse", dtype)
    histories = [
        model.fit(X, Y, epochs=3, batch_size=16, sample_weight=weights, validation_data=(X, Y, W)).history
        for model in models
    ]
    rel = 1e-12 if dtype == "float64" else 1e-5
    for name in ("loss", "val_loss"):
        assert histories[0][name] == pytest.approx(histories[1][name], rel=rel)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(models[0].parameters, models[1].parameters, 0, tolerance)
    scores = [model.evaluate(X, Y, sample_weight=weights)["loss"] for model in models]
    assert scores[0] == pytest.approx(scores[1], rel=rel)


def test_the_mean_of_a_batch_is_a_loss_too(dtype):
    models = make(mean_squared, dtype), make("mse", dtype)
    losses = [model.fit(X, Y, epochs=3, batch_size=16).history["loss"] for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12 if dtype == "float64" else 1e-5)
    np.testing.assert_allclose(models[0].parameters, models[1].parameters, 0, 1e-5)
    with pytest.raises(ValueError, match=r"loss 'mean_squared' must return one value per sample.*weights"):
        models[0].fit(X, Y, sample_weight=W)


def test_a_batch_of_weight_zero_teaches_nothing():
    models = [make(squared, optimizer=bp.optimizers.SGD(0.1)) for _ in range(2)]
    weights = (np.arange(45) < 15).astype(float)
    models[0].fit(X[:15], Y[:15], batch_size=15, shuffle=False)
    models[1].fit(X, Y, batch_size=15, sample_weight=weights, shuffle=False)
    np.testing.assert_allclose(models[0].parameters, models[1].parameters, rtol=0, atol=1e-12)


def test_with_arguments_and_back_from_a_file(tmp_path):
    model = make(Power(4.0), input_size=3)
    model.fit(X, Y)
    assert repr(model.loss) == "Power(p=4.0)"
    model.save(tmp_path / "model.safetensors")
    loaded = bp.load(tmp_path / "model.safetensors")
    assert loaded.loss.p == 4.0
    assert loaded.evaluate(X, Y) == model.evaluate(X, Y)


def test_a_function_comes_back_from_a_file_when_it_is_passed(tmp_path):
    path = tmp_path / "model.safetensors"
    model = make(squared, input_size=3)
    model.save(path)
    with pytest.raises(
        ValueError, match=r"'squared' is not known here: pass it with custom_objects=\{'squared': squared\}"
    ):
        bp.load(path)
    loaded = bp.load(path, custom_objects={"squared": squared})
    assert loaded.evaluate(X, Y) == model.evaluate(X, Y)
    model.loss = lambda y, y_hat: squared(y, y_hat)
    with pytest.raises(TypeError, match="has no name and cannot be saved"):
        model.save(path)


def test_any_object_that_can_be_called():
    class Weighed:
        def __call__(self, y, y_hat):
            return squared(y, y_hat)

    model = make(Weighed(), input_size=3)
    assert repr(model.loss) == "FunctionLoss(Weighed)"
    assert model.evaluate(X, Y) == make(squared, input_size=3).evaluate(X, Y)


@pytest.mark.parametrize("targets", [LABELS, LABELS.reshape(-1, 1)])
def test_class_labels(targets, dtype):
    def classifier(loss):
        layers = [Dense(5, activation="tanh"), Dense(3, activation="softmax")]
        return bp.Sequential(layers, loss=loss, dtype=dtype, seed=0, metrics=["accuracy"])

    models = classifier(Likelihood()), classifier("cross_entropy")
    histories = [
        model.fit(X, targets, epochs=3, batch_size=16, class_weight="balanced").history for model in models
    ]
    assert histories[0]["loss"] == pytest.approx(
        histories[1]["loss"], rel=1e-10 if dtype == "float64" else 1e-5
    )
    assert histories[0]["accuracy"] == histories[1]["accuracy"]
    with pytest.raises(ValueError, match="labels from 0 to 2"):
        models[0].fit(X, targets + 1)


@pytest.mark.parametrize("loss", [squared, mean_squared])
def test_penalties_of_weights_are_part_of_it(loss, dtype):
    def make_penalized(loss):
        layers = [Dense(5, activation="tanh", kernel_regularizer="l2"), Dense(2)]
        return bp.Sequential(layers, loss=loss, dtype=dtype, seed=0)

    models = make_penalized(loss), make_penalized("mse")
    losses = [model.fit(X, Y, epochs=2, batch_size=16).history["loss"] for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12 if dtype == "float64" else 1e-5)
    assert bp.gradcheck(models[0], X, Y).ok


def test_another_loss_can_be_assigned():
    model = make("mse")
    model.fit(X, Y)
    model.loss = squared
    losses = model.evaluate(X, Y)
    model.loss = "mse"
    assert model.evaluate(X, Y)["loss"] == pytest.approx(losses["loss"], rel=1e-12)


MISTAKES = {
    "only a value": (
        lambda y, y_hat: 1.0,
        TypeError,
        r"loss '<lambda>' must return \(value, gradient\), got float",
    ),
    "values of another shape": (
        lambda y, y_hat: ((y - y_hat) ** 2, y_hat),
        ValueError,
        r"the value must have shape \(45,\), one per sample, or be their mean, .*; got shape \(45, 2\)",
    ),
    "text": (lambda y, y_hat: ("much", y_hat), TypeError, "the value must be numbers, got str"),
    "gradient of another shape": (
        lambda y, y_hat: (0.0, y_hat[:, :1]),
        ValueError,
        r"the gradient must have shape \(45, 2\), got \(45, 1\)",
    ),
    "gradient of another dtype": (
        lambda y, y_hat: (0.0, y_hat.astype(np.float16)),
        TypeError,
        "the gradient must have dtype float64, the model's, got float16",
    ),
    "no gradient": (lambda y, y_hat: (0.0, None), TypeError, "the gradient must be an array .* NoneType"),
    "writing": (lambda y, y_hat: y_hat.fill(0), ValueError, "read-only"),
}


@pytest.mark.parametrize(("loss", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_returned_is_checked(loss, error, message):
    model = make(loss, input_size=3)
    before = model.parameters.copy()
    with pytest.raises(error, match=message):
        model.train_on_batch(X, Y)
    assert (model.parameters == before).all()
    model.loss = squared
    assert np.isfinite(model.train_on_batch(X, Y))


def test_what_users_code_raises_comes_with_its_own_traceback():
    def failing(y, y_hat):
        raise ZeroDivisionError("mine")

    model = make(failing)
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        model.evaluate(X, Y)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "failing"
    assert caught.value.__notes__ == ["(in loss 'failing', loss)"]


def test_what_is_no_loss():
    with pytest.raises(TypeError, match="must be a name or an object"):
        make(3)
    with pytest.raises(TypeError, match=r"loss must be an object: Power\(\), not the class Power"):
        make(Power)
    with pytest.raises(NotImplementedError, match="CustomLoss must define __call__"):
        make(CustomLoss()).fit(X, Y)


def test_values_that_are_not_finite_end_the_training():
    model = make(lambda y, y_hat: (np.full(len(y), np.nan), y_hat))
    with pytest.warns(RuntimeWarning, match="diverged"):
        history = model.fit(X, Y, epochs=5)
    assert len(history.epoch) == 1
