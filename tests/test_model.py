"""What a model does: loops of one's own, prediction, evaluation; and inputs that cannot be right."""

import runpy
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest

import fastbp as bp
from fastbp.engine import backend
from fastbp.layers import Dense, Dropout, Softmax
from fastbp.optimizers import SGD

NETWORKS = runpy.run_path(str(Path(__file__).with_name("networks.py")))
regressor, classifier = NETWORKS["regressor"], NETWORKS["classifier"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
Y = RNG.normal(size=(24, 2))
LABELS = RNG.integers(0, 3, 24)


# ---- forward, backward, step ----


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loop_of_ones_own_gives_the_bits_of_train_on_batch(optimizer, dtype):
    """32 elements in the mean: the loss gradient is exact, whichever way it is scaled."""

    def layers():
        return [Dense(7, activation="tanh"), Dropout(0.25), Dense(4)]

    arguments = {"loss": "mean_squared_error", "dtype": dtype, "seed": 3, "optimizer": optimizer}
    whole, own = (bp.Sequential(layers(), **arguments) for _ in range(2))
    x, y = X[:8].astype(dtype), np.round(RNG.normal(size=(8, 4)), 2).astype(dtype)
    for _ in range(3):
        whole.train_on_batch(x, y)
        prediction = own.forward(x, training=True)
        own.backward((prediction - y) * 2 / y.size)
        own.step()
        assert (whole.gradients == own.gradients).all()
        assert (whole.parameters == own.parameters).all()


def test_backward_returns_the_derivative_by_the_inputs():
    model = regressor()
    delta = RNG.normal(size=(24, 2))
    model.forward(X)
    dX = model.backward(delta)
    first, second = model.layers
    hidden = np.tanh(X @ first.weight.T + first.bias)
    np.testing.assert_allclose(dX, (delta @ second.weight * (1 - hidden**2)) @ first.weight, rtol=1e-10)


def test_backward_goes_through_the_softmax_that_the_loss_takes_over():
    model, plain = classifier(), classifier(loss=None)
    delta = RNG.normal(size=(24, 3))
    results = []
    for each in (model, plain):
        each.forward(X)
        results.append((each.backward(delta), each.gradients.copy()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-12, atol=1e-15)


def test_backward_twice_gives_the_same():
    model = classifier()
    model.forward(X, training=True)
    delta = RNG.normal(size=(24, 3))
    first = model.backward(delta).copy(), model.gradients.copy()
    assert (model.backward(delta) == first[0]).all() and (model.gradients == first[1]).all()


def test_backward_needs_the_forward_pass_right_before_it():
    model = regressor()
    with pytest.raises(RuntimeError, match="needs a forward pass right before it"):
        model.backward(Y)
    for other in (
        lambda: model.predict(X),
        lambda: model.evaluate(X, Y),
        lambda: model.train_on_batch(X, Y),
        lambda: model.fit(X, Y),
    ):
        model.forward(X)
        other()
        with pytest.raises(RuntimeError, match="needs a forward pass right before it"):
            model.backward(Y)
    model.forward(X)
    model.forward(X[:3])  # the one that counts
    with pytest.raises(ValueError, match=r"dY has shape \(24, 2\), expected \(3, 2\)"):
        model.backward(Y)
    assert model.backward(Y[:3]).shape == (3, 3)


@pytest.mark.parametrize(
    ("dY", "error", "message"),
    [
        (np.zeros((24, 3)), ValueError, r"dY has shape \(24, 3\), expected \(24, 2\)"),
        (np.zeros(24), ValueError, "dY must have 2 dimensions"),
        (np.full((24, 2), np.nan), ValueError, "dY holds 48 values that are NaN"),
        ("delta", TypeError, "dY"),
    ],
)
def test_backward_checks_its_argument(dY, error, message):
    model = regressor()
    model.forward(X)
    with pytest.raises(error, match=message):
        model.backward(dY)
    model.backward(Y)


def test_a_step_uses_the_gradients_as_they_are():
    model = regressor(optimizer=SGD(0.5))
    before = model.parameters.copy()
    model.step()
    assert (model.parameters == before).all()
    model.gradients[...] = 2
    model.layers[0].weight_grad[...] = 4
    model.step()
    first = model.layers[0]
    assert first.bias == pytest.approx(np.full(5, -1.0))
    np.testing.assert_allclose(first.weight, regressor().layers[0].weight - 2)


def test_forward_drops_in_training_only():
    model = bp.Sequential([Dropout(0.5)], input_size=100, seed=0)
    ones = np.ones((2, 100))
    assert (model.forward(ones) == 1).all()
    assert (model.predict(ones) == 1).all()
    dropped = model.forward(ones, training=True)
    assert set(dropped.ravel()) == {0.0, 2.0}
    assert (model.backward(ones) == dropped).all()
    with pytest.raises(TypeError, match="training must be True or False"):
        model.forward(ones, training="yes")


def test_batches_of_any_size_in_any_order():
    """NumPy's matrix product, which the reference calls, rounds differently for different sizes."""
    model, many = regressor(), np.tile(X, (30, 1))
    tolerance = 0 if backend.NAME == "native" else 1e-13
    expected = model.predict(many)
    for rows in (1, 300, 33, 7, 64, 720, 2):
        np.testing.assert_allclose(model.predict(many[:rows]), expected[:rows], tolerance)
        np.testing.assert_allclose(model.forward(many[:rows]), expected[:rows], tolerance)


def test_a_model_without_parameters_works():
    model = bp.Sequential([Softmax()], input_size=3)
    assert model.predict(X) == pytest.approx(np.exp(X) / np.exp(X).sum(1, keepdims=True), rel=1e-6)
    model.forward(X)
    model.backward(np.zeros((24, 3)))
    model.step()


# ---- predict and evaluate ----


def test_evaluate_gives_loss_and_metrics():
    model = classifier(metrics=["accuracy", bp.metrics.max_error])
    one_hot = np.eye(3)[LABELS]
    scores = model.evaluate(X, one_hot)
    prediction = model.predict(X)
    assert set(scores) == {"loss", "accuracy", "max_error"}
    assert scores["loss"] == pytest.approx(-np.log(prediction[range(24), LABELS]).mean())
    assert scores["accuracy"] == np.mean(prediction.argmax(axis=1) == LABELS)
    assert scores["max_error"] == np.abs(prediction - one_hot).max()


def test_labels_and_one_hot_rows_are_the_same():
    first, second = classifier(metrics=["accuracy"]), classifier(metrics=["accuracy"])
    a = first.fit(X, LABELS, epochs=3).history
    b = second.fit(X, np.eye(3)[LABELS], epochs=3).history
    assert a["accuracy"] == b["accuracy"]
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-12)


def test_evaluate_weighs_samples():
    model = regressor(metrics=["mae"])
    weights = np.arange(24.0)
    scores = model.evaluate(X, Y, sample_weight=weights)
    errors = model.predict(X) - Y
    assert scores["loss"] == pytest.approx(np.average((errors**2).mean(axis=1), weights=weights))
    assert scores["mae"] == pytest.approx(np.average(np.abs(errors).mean(axis=1), weights=weights))


@pytest.mark.parametrize("library", [pandas, polars], ids=["pandas", "polars"])
def test_frames_keep_their_column_names(library):
    frame = library.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]})
    model = regressor(input_size=None)
    assert model.feature_names is None
    model.fit(frame, Y, validation_data=(frame, Y))
    assert model.feature_names == ("a", "b", "c")
    assert (model.predict(frame) == model.predict(X)).all()
    other = frame[["b", "a", "c"]]
    with pytest.raises(ValueError, match="X has the column 'b' at position 0, expected 'a' as in training"):
        model.predict(other)
    with pytest.raises(ValueError, match="X has 2 columns, expected 3"):
        model.predict(frame[["a", "b"]])
    model.fit(X, Y)  # plain numbers take nothing back
    assert model.feature_names == ("a", "b", "c")


def test_validation_frames_must_have_the_columns_of_the_training():
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = regressor()
    with pytest.raises(ValueError, match="validation X has the column 'b' at position 0, expected 'a'"):
        model.fit(frame, Y, validation_data=(frame[["b", "a", "c"]], Y))
    assert model.feature_names is None


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (X[:, 0], ValueError, "X must have 2 dimensions"),
        (np.zeros((0, 3)), ValueError, "X is empty"),
        (np.full((2, 3), np.inf), ValueError, "X holds 6 values that are NaN, infinite"),
        ([["a", "b", "c"]], TypeError, "X holds text"),
        (None, TypeError, "X is None"),
        (X.astype(complex), TypeError, "X holds complex"),
    ],
)
def test_bad_inputs_are_named(value, error, message):
    model = regressor()
    for use in (model.predict, model.forward, lambda x: model.fit(x, Y), lambda x: model.evaluate(x, Y)):
        with pytest.raises(error, match=message):
            use(value)


@pytest.mark.parametrize(
    ("make", "target", "error", "message"),
    [
        (regressor, Y[:5], ValueError, "y has 5 rows, expected 24"),
        (regressor, Y[:, 0], ValueError, r"y has shape \(24,\), expected \(24, 2\)"),
        (regressor, np.full((24, 2), np.nan), ValueError, "y holds 48 values that are NaN"),
        (regressor, None, TypeError, "y is None"),
        (classifier, LABELS + 1, ValueError, "y must hold integer labels from 0 to 2"),
        (classifier, LABELS + 0.5, ValueError, "y must hold integer labels"),
        (classifier, np.ones((24, 3)), ValueError, "y must hold probabilities of 3 classes that sum to 1"),
        (classifier, ["yes"] * 24, TypeError, "y holds text"),
    ],
)
def test_bad_targets_are_named(make, target, error, message):
    model = make()
    for use in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(error, match=message):
            use(X, target)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(5), ValueError, "sample_weight has 5 rows, expected 24"),
        (np.ones((24, 2)), ValueError, r"sample_weight has shape \(24, 2\)"),
        (np.zeros(24), ValueError, "sample_weight must have a positive sum"),
        (-np.ones(24), ValueError, "sample_weight must not be negative"),
        (np.full(24, np.nan), ValueError, "sample_weight holds"),
        ("heavy", TypeError, "sample_weight"),
    ],
)
def test_bad_sample_weights_are_named(weights, error, message):
    model = regressor()
    for use in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(error, match=message):
            use(X, Y, sample_weight=weights)
