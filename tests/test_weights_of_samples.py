"""Sample and class weights: the loss and its gradient are weighted means."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import fastbp as bp
from fastbp.layers import Dense
from fastbp.optimizers import SGD

NETWORKS = runpy.run_path(str(Path(__file__).with_name("networks.py")))
regressor, classifier = NETWORKS["regressor"], NETWORKS["classifier"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
Y = RNG.normal(size=(30, 2))
LABELS = np.arange(30) % 3


def assert_same_model(first, second, rtol=1e-12):
    np.testing.assert_allclose(first.parameters, second.parameters, rtol, atol=1e-14)


def test_a_sample_of_weight_two_is_a_sample_that_comes_twice():
    weights = RNG.integers(0, 4, 30)
    weighted, repeated = regressor(), regressor()
    loss = weighted.train_on_batch(X, Y, sample_weight=weights)
    assert loss == pytest.approx(
        repeated.train_on_batch(np.repeat(X, weights, axis=0), np.repeat(Y, weights, axis=0)), rel=1e-12
    )
    np.testing.assert_allclose(weighted.gradients, repeated.gradients, rtol=1e-10, atol=1e-14)


def test_a_sample_of_weight_zero_is_absent():
    present = np.arange(30) % 3 > 0
    weighted, fewer = regressor(), regressor()
    weighted.train_on_batch(X, Y, sample_weight=present)
    fewer.train_on_batch(X[present], Y[present])
    assert_same_model(weighted, fewer)


def test_only_the_ratios_of_weights_count():
    weights = RNG.uniform(1, 2, 30)
    first, second = regressor(), regressor()
    a = first.fit(X, Y, sample_weight=weights, epochs=3, batch_size=8).history["loss"]
    b = second.fit(X, Y, sample_weight=1000 * weights, epochs=3, batch_size=8).history["loss"]
    assert a == pytest.approx(b, rel=1e-9)


def test_weights_follow_the_order_of_the_samples():
    weights = RNG.uniform(0, 2, 30)
    model = regressor(optimizer=SGD(0.0), metrics=["mae"])
    scores = model.evaluate(X, Y, sample_weight=weights)
    history = model.fit(X, Y, sample_weight=weights, batch_size=7).history
    assert history["loss"] == [pytest.approx(scores["loss"], rel=1e-12)]
    assert history["mae"] == [pytest.approx(scores["mae"], rel=1e-12)]


def test_a_batch_whose_samples_all_weigh_zero_changes_nothing():
    model = regressor(optimizer=SGD(0.1))
    weights = np.repeat([1.0, 0.0, 0.0], 10)
    model.fit(X, Y, sample_weight=weights, batch_size=10, shuffle=False)
    once = regressor(optimizer=SGD(0.1))
    once.train_on_batch(X[:10], Y[:10])
    assert_same_model(model, once)
    assert np.isfinite(model.history.history["loss"]).all()


@pytest.mark.parametrize("labels", [LABELS, np.eye(3)[LABELS]], ids=["labels", "one-hot"])
def test_class_weights_are_sample_weights(labels):
    first, second = classifier(), classifier()
    first.fit(X, labels, class_weight={0: 2.0, 2: 0.5})
    second.fit(X, labels, sample_weight=np.array([2.0, 1.0, 0.5])[LABELS])
    assert (first.parameters == second.parameters).all()


def test_class_weights_multiply_sample_weights():
    own = RNG.uniform(1, 2, 30)
    first, second = classifier(), classifier()
    first.train_on_batch(X, LABELS, sample_weight=own, class_weight={0: 2.0, 2: 0.5})
    second.train_on_batch(X, LABELS, sample_weight=own * np.array([2.0, 1.0, 0.5])[LABELS])
    assert (first.parameters == second.parameters).all()


def test_balanced_classes_count_the_same():
    labels = np.repeat([0, 1, 2], [20, 8, 2])
    first, second = classifier(), classifier()
    first.train_on_batch(X, labels, class_weight="balanced")
    second.train_on_batch(X, labels, sample_weight=(30 / (3 * np.array([20, 8, 2])))[labels])
    assert_same_model(first, second)


def test_class_weights_of_two_classes_with_one_output():
    model = bp.Sequential([Dense(1, activation="sigmoid")], loss="binary_cross_entropy", seed=0)
    twin = bp.Sequential([Dense(1, activation="sigmoid")], loss="binary_cross_entropy", seed=0)
    labels = LABELS % 2
    model.fit(X, labels, class_weight={1: 3.0})
    twin.fit(X, labels, sample_weight=1 + 2 * labels)
    assert (model.parameters == twin.parameters).all()


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ({3: 1.0}, ValueError, "class_weight names class 3, expected classes from 0 to 2"),
        ({0: -1.0}, ValueError, r"class_weight\[0\] must be a number in"),
        ({0: 0, 1: 0, 2: 0}, ValueError, "class_weight must give some sample a positive weight"),
        ("even", TypeError, "class_weight must be a dict of class to weight or 'balanced'"),
        ([1, 2, 3], TypeError, "class_weight must be a dict"),
    ],
)
def test_bad_class_weights_are_named(class_weight, error, message):
    with pytest.raises(error, match=message):
        classifier().fit(X, LABELS, class_weight=class_weight)


def test_class_weights_need_classes():
    with pytest.raises(ValueError, match="class_weight needs one class per sample"):
        regressor().fit(X, Y, class_weight={0: 1.0})
    several = bp.Sequential([Dense(2, activation="sigmoid")], loss="binary_cross_entropy")
    with pytest.raises(ValueError, match="class_weight needs one class per sample"):
        several.fit(X, Y > 0, class_weight={0: 1.0})


def test_weights_that_leave_nothing_are_refused():
    model = classifier()
    with pytest.raises(ValueError, match="sample_weight and class_weight must leave some sample"):
        model.fit(X, LABELS, sample_weight=LABELS == 0, class_weight={0: 0.0})
    for side, weights in (("in front of", np.arange(30) >= 15), ("behind", np.arange(30) < 15)):
        with pytest.raises(ValueError, match=f"sample_weight {side} validation_split must leave some sample"):
            model.fit(X, LABELS, sample_weight=weights, validation_split=0.5)


def test_class_weights_are_those_of_the_training_alone():
    """As in Keras: what is held out keeps its own weights, and does not count for "balanced"."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), np.repeat([0, 1, 0, 1], [25, 5, 2, 8])
    models = [
        bp.Sequential([bp.layers.Dense(2, "softmax")], "cross_entropy", metrics=["accuracy"], seed=0)
        for _ in range(2)
    ]
    split = models[0].fit(X, y, epochs=2, validation_split=0.25, class_weight="balanced")
    weights = np.where(y[:30] == 0, 30 / 50, 30 / 10)
    given = models[1].fit(X[:30], y[:30], epochs=2, sample_weight=weights, validation_data=(X[30:], y[30:]))
    for name, values in split.history.items():
        assert values == pytest.approx(given.history[name], rel=1e-6), name
