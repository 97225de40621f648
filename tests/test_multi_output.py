"""Several outputs: regression of vectors, and several labels for one sample."""

import numpy as np
import pandas as pd
import pytest

import fastbp as bp
from fastbp.layers import Dense

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
TARGETS = np.abs(X[:, :3]) + 0.1
LABELS = (X[:, :3] > 0).astype(int)
W = RNG.uniform(0.5, 2, 120)
LOSSES = {
    "mean_squared_error": None,
    "half_squared_error": None,
    "mean_absolute_error": None,
    "huber": None,
    "quantile": None,
    "poisson": "softplus",
    "binary_cross_entropy": "sigmoid",
}


def make(loss, outputs=3, **arguments):
    layers = [Dense(8, activation="tanh"), Dense(outputs, activation=LOSSES[loss])]
    return bp.Sequential(
        layers, loss=loss, optimizer=bp.optimizers.Adam(1e-2), dtype="float64", seed=0, **arguments
    )


def targets_of(loss):
    return LABELS if loss == "binary_cross_entropy" else TARGETS


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_takes_several_outputs(loss):
    model = make(loss)
    y = targets_of(loss)
    history = model.fit(X, y, epochs=30, batch_size=10, sample_weight=W, validation_split=0.25).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert model.predict(X).shape == (120, 3)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_several_outputs_is_made_of_those_of_each(loss):
    """Their mean, or for half_squared_error their sum."""
    model, y = make(loss, input_size=4), targets_of(loss)
    scores = []
    for column in range(3):
        single = make(loss, outputs=1, input_size=4)
        single.layers[0].weight[...] = model.layers[0].weight
        single.layers[1].weight[...] = model.layers[1].weight[column : column + 1]
        scores.append(single.evaluate(X, y[:, column], sample_weight=W)["loss"])
    expected = np.sum(scores) if loss == "half_squared_error" else np.mean(scores)
    assert model.evaluate(X, y, sample_weight=W)["loss"] == pytest.approx(expected, rel=1e-12)


def test_metrics_of_several_outputs():
    model = make("mean_squared_error", metrics=["mae", "mse", "rmse", "r2", "max_error"])
    model.fit(X, TARGETS, epochs=3, validation_split=0.25)
    scores = model.evaluate(X, TARGETS)
    error = np.abs(model.predict(X) - TARGETS)
    assert scores["mae"] == pytest.approx(error.mean())
    assert scores["mse"] == pytest.approx(scores["loss"])
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert scores["max_error"] == pytest.approx(error.max())
    each = 1 - np.sum(error**2, axis=0) / np.sum((TARGETS - TARGETS.mean(axis=0)) ** 2, axis=0)
    assert scores["r2"] == pytest.approx(each.mean())


@pytest.mark.parametrize("kind", [np.asarray, lambda y: y.astype(bool), lambda y: y.tolist(), pd.DataFrame])
def test_accuracy_of_several_labels_counts_each(kind):
    """No class is the largest one where there are several: all may be right, or none."""
    model = make("binary_cross_entropy", metrics=["accuracy", "binary_accuracy"])
    history = model.fit(X, kind(LABELS), epochs=20, batch_size=10).history
    scores = model.evaluate(X, kind(LABELS))
    right = ((model.predict(X) > 0.5) == (LABELS == 1)).mean()
    assert scores["accuracy"] == scores["binary_accuracy"] == pytest.approx(right)
    assert history["accuracy"] == history["binary_accuracy"]
    assert right > 0.9


def test_accuracy_of_one_label_and_of_classes_is_as_before(tmp_path):
    model = make("binary_cross_entropy", outputs=1, metrics=["accuracy"])
    model.fit(X, LABELS[:, 0], epochs=20, batch_size=10)
    right = ((model.predict(X)[:, 0] > 0.5) == (LABELS[:, 0] == 1)).mean()
    assert model.evaluate(X, LABELS[:, 0])["accuracy"] == pytest.approx(right)
    model.save(tmp_path / "model.safetensors")
    assert bp.load(tmp_path / "model.safetensors").evaluate(X, LABELS[:, 0])["accuracy"] == pytest.approx(
        right
    )
    classes = LABELS[:, 0] + LABELS[:, 1]
    model = bp.Sequential(
        [Dense(3, activation="softmax")], loss="cross_entropy", metrics=["accuracy"], seed=0
    )
    model.fit(X, classes, epochs=5)
    right = (model.predict(X).argmax(axis=1) == classes).mean()
    assert model.evaluate(X, classes)["accuracy"] == pytest.approx(right)


def test_classes_have_weights_only_where_a_sample_has_one_class():
    for weights in ({0: 1, 1: 2}, "balanced"):
        with pytest.raises(ValueError, match=r"class_weight needs one class per sample, .* with 3 outputs"):
            make("binary_cross_entropy").fit(X, LABELS, class_weight=weights)
    with pytest.raises(ValueError, match="must lie between 0 and 1, but is"):
        make("binary_cross_entropy").fit(X, LABELS + 2)
    with pytest.raises(ValueError, match=r"y has shape \(120, 2\), expected \(120, 3\)"):
        make("binary_cross_entropy", input_size=4).fit(X, LABELS[:, :2])
