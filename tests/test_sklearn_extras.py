"""What fastbp's estimators can do that scikit-learn's refuse."""

from __future__ import annotations

import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

import fastbp as bp
import fastbp.sklearn
from fastbp.sklearn import MLPClassifier, MLPRegressor

DATA = runpy.run_path(str(Path(__file__).with_name("sklearn_data.py")))
DIGITS, DIGIT, PLANE, HEIGHT = DATA["DIGITS"], DATA["DIGIT"], DATA["PLANE"], DATA["HEIGHT"]
LABELLED, WEIGHTS = DATA["LABELLED"], DATA["WEIGHTS"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_class_weights_are_sample_weights():
    weights = {n: 1.0 + n for n in range(10)}
    parameters = {"random_state": 0, "max_iter": 5}
    net = MLPClassifier(class_weight=weights, **parameters).fit(DIGITS, DIGIT, sample_weight=WEIGHTS)
    same = MLPClassifier(**parameters).fit(DIGITS, DIGIT, sample_weight=WEIGHTS * (1.0 + DIGIT))
    assert net.loss_curve_ == same.loss_curve_
    rare = np.r_[np.arange(100), np.flatnonzero(DIGIT == 0)]
    balanced = MLPClassifier(class_weight="balanced", **parameters).fit(DIGITS[rare], DIGIT[rare])
    assert balanced.loss_curve_ != MLPClassifier(**parameters).fit(DIGITS[rare], DIGIT[rare]).loss_curve_
    with pytest.raises(ValueError, match="partial_fit sees some of them"):
        clone(balanced).partial_fit(DIGITS, DIGIT, classes=range(10))


def test_activations_of_single_layers():
    kinds = ["gelu", bp.layers.LeakyReLU(0.3), "logistic"]
    net = MLPRegressor(hidden_layer_sizes=(5, 4, 3), activation=kinds, max_iter=5).fit(PLANE, HEIGHT)
    a = PLANE
    functions = [
        lambda z: bp.kernels.activation("gelu", z),
        lambda z: np.where(z > 0, z, 0.3 * z),
        lambda z: 1 / (1 + np.exp(-z)),
        lambda z: z,
    ]
    for g, W, b in zip(functions, net.coefs_, net.intercepts_, strict=True):
        a = g(a @ W + b)
    np.testing.assert_allclose(net.predict(PLANE), a, atol=1e-12)
    clone(net).fit(PLANE, HEIGHT)  # an activation object serves several models
    with pytest.raises(ValueError, match="a list of 3, one for each hidden layer"):
        MLPRegressor(hidden_layer_sizes=(5, 4, 3), activation=["relu"]).fit(PLANE, HEIGHT)
    with pytest.raises(ValueError, match="activation 'rleu' is not known; did you mean 'relu'"):
        MLPRegressor(activation=["rleu"]).fit(PLANE, HEIGHT)


def test_another_activation_after_training():
    net = MLPRegressor(hidden_layer_sizes=5, max_iter=5, random_state=0).fit(PLANE, HEIGHT)
    net.set_params(activation="identity")
    expected = (PLANE @ net.coefs_[0] + net.intercepts_[0]) @ net.coefs_[1] + net.intercepts_[1]
    np.testing.assert_allclose(net.predict(PLANE), expected)


def test_dropout():
    parameters = {"hidden_layer_sizes": (20, 20), "random_state": 0, "max_iter": 10}
    one, two = (MLPClassifier(dropout=[0.0, 0.5], **parameters).fit(DIGITS, DIGIT) for _ in range(2))
    assert one.loss_curve_ == two.loss_curve_
    assert one.loss_curve_ != MLPClassifier(**parameters).fit(DIGITS, DIGIT).loss_curve_
    assert np.array_equal(one.predict_proba(DIGITS), one.predict_proba(DIGITS))
    with pytest.raises(ValueError, match="dropout needs a stochastic solver"):
        MLPClassifier(dropout=0.1, solver="lbfgs").fit(DIGITS, DIGIT)


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_normalization(kind):
    parameters = {"hidden_layer_sizes": (20,), "random_state": 0, "max_iter": 20, "normalization": kind}
    net = MLPClassifier(activation="tanh", early_stopping=True, **parameters).fit(DIGITS, DIGIT)
    name = {"batch": "BatchNormalization()", "layer": "LayerNormalization()"}[kind]
    assert [repr(layer) for layer in net.model_.layers][1:3] == [name, "Tanh()"]
    twin = pickle.loads(pickle.dumps(net))
    assert np.array_equal(twin.predict_proba(DIGITS), net.predict_proba(DIGITS))
    if kind == "batch":
        with pytest.raises(ValueError, match="batch normalization needs a stochastic solver"):
            net.set_params(solver="lbfgs").fit(DIGITS, DIGIT)
    else:
        parameters |= {"normalization": None}
        plain = MLPClassifier(solver="lbfgs", **parameters).fit(DIGITS, DIGIT)
        assert net.set_params(solver="lbfgs").fit(DIGITS, DIGIT).loss_ != plain.loss_


LOSSES = {
    "absolute_error": (bp.losses.MeanAbsoluteError(), {}),
    "huber": (bp.losses.Huber(0.3), {"huber_delta": 0.3}),
    "quantile": (bp.losses.Quantile(0.9), {"quantile": 0.9}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_regression(name):
    loss, parameters = LOSSES[name]
    named, given = (
        MLPRegressor(form, (8,), max_iter=30, random_state=0, alpha=0, learning_rate_init=0.01, **parameters)
        for form in (name, loss)
    )
    assert named.fit(PLANE, HEIGHT).loss_curve_ == given.fit(PLANE, HEIGHT).loss_curve_
    assert named.loss_curve_[-1] < 0.9 * named.loss_curve_[0]
    named.model_.optimizer.learning_rate = 0
    assert named.model_.evaluate(PLANE, HEIGHT)["loss"] < named.loss_curve_[-1]


def test_poisson_needs_counts():
    with pytest.raises(ValueError, match="y of at least 0"):
        MLPRegressor("poisson").fit(PLANE, HEIGHT)


@pytest.mark.parametrize(
    "solver", ["adamw", "rmsprop", bp.optimizers.SGD(0.05, momentum=0.8), bp.optimizers.Adam(0.01)]
)
def test_other_optimizers(solver):
    net = MLPClassifier(solver=solver, random_state=0, max_iter=40).fit(DIGITS, DIGIT)
    assert net.score(DIGITS, DIGIT) > 0.95
    assert solver != "adamw" or net.model_.optimizer.weight_decay == 0.01


def test_schedules_clipping_and_averages_come_with_an_optimizer():
    steps = 2 * 5  # of an epoch and its half
    fading = bp.optimizers.SGD(bp.schedules.CosineDecay(0.1, decay_steps=steps), global_clipnorm=0.5)
    net = MLPClassifier(solver=fading, random_state=0, max_iter=8, batch_size=80).fit(DIGITS, DIGIT)
    assert net.loss_curve_[3] == pytest.approx(net.loss_curve_[-1], rel=1e-2)  # the rate has come to 0
    assert net.loss_curve_[0] > 1.01 * net.loss_curve_[3]
    averaging = bp.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
    net = MLPClassifier(solver=averaging, random_state=0, max_iter=20).fit(DIGITS, DIGIT)
    assert np.array_equal(net.model_.parameters, net.model_._network._slot("average"))
    with pytest.raises(ValueError, match="make a step for each batch"):
        MLPClassifier(solver=bp.optimizers.LBFGS()).fit(DIGITS, DIGIT)


def test_validation_rows_of_ones_own():
    X, y, X_val, y_val = DIGITS[:300], DIGIT[:300], DIGITS[300:], DIGIT[300:]
    net = MLPClassifier(random_state=0, max_iter=60).fit(X, y, X_val=X_val, y_val=y_val)
    same = MLPClassifier(random_state=0, max_iter=60).fit(X, y)
    np.testing.assert_allclose(net.loss_curve_, same.loss_curve_, atol=1e-12)  # to look on changes nothing
    assert len(net.validation_loss_curve_) == net.n_iter_
    p = net.predict_proba(X_val)[np.arange(100), y_val]
    assert net.validation_loss_curve_[-1] == pytest.approx(-np.log(p).mean())
    stopped = MLPClassifier(random_state=0, max_iter=300, early_stopping=True, n_iter_no_change=3)
    stopped.fit(X, y, X_val=X_val, y_val=y_val)
    assert stopped.n_iter_ < 300 and stopped.t_ == 300 * stopped.n_iter_
    assert stopped.score(X_val, y_val) == stopped.best_validation_score_ == max(stopped.validation_scores_)
    with pytest.raises(ValueError, match=r"y_val has classes that y has not: \[11\]"):
        MLPClassifier().fit(X, y, X_val=X_val, y_val=y_val * 0 + 11)
    weighted = MLPRegressor(max_iter=2).fit(
        PLANE, HEIGHT, X_val=PLANE, y_val=HEIGHT, sample_weight_val=np.r_[1, np.zeros(149)]
    )
    error = weighted.predict(PLANE[:1]) - HEIGHT[:1]
    assert weighted.validation_loss_curve_[-1] == pytest.approx(np.mean(error**2) / 2)


def test_partial_fit_with_early_stopping_ends_with_the_best_weights():
    net = MLPClassifier(random_state=0, early_stopping=True, n_iter_no_change=3, learning_rate_init=0.02)
    for _call in range(200):
        net.partial_fit(DIGITS[:300], DIGIT[:300], classes=range(10), X_val=DIGITS[300:], y_val=DIGIT[300:])
        if hasattr(net, "stopped_"):
            break
    assert net.stopped_ and len(net.validation_scores_) < 200
    assert net.score(DIGITS[300:], DIGIT[300:]) == net.best_validation_score_ == max(net.validation_scores_)
    before = net.coefs_[0].copy()
    assert np.array_equal(net.partial_fit(DIGITS, DIGIT).coefs_[0], before)
    held_out = MLPClassifier(early_stopping=True).partial_fit(DIGITS, DIGIT, classes=range(10))
    assert held_out.t_ == 360 and len(held_out.validation_scores_) == 1


def test_partial_fit_of_several_labels():
    X, y = LABELLED
    net = MLPClassifier(random_state=0, learning_rate_init=0.01)
    for _ in range(150):
        net.partial_fit(X, y, classes=range(y.shape[1]))
    assert net.predict(X).shape == y.shape
    assert net.score(X, y) > 0.9


class Watch(bp.callbacks.Callback):
    def __init__(self, stop_at=None, error=None):
        self.stop_at, self.error, self.seen = stop_at, error, []

    def on_epoch_end(self, epoch, logs):
        self.seen.append(logs)
        if epoch == self.stop_at:
            if self.error:
                raise self.error
            self.model.stop_training = True


def test_callbacks():
    watch = Watch(stop_at=4)
    net = MLPClassifier(callbacks=[watch], early_stopping=True, n_iter_no_change=50).fit(DIGITS, DIGIT)
    assert net.n_iter_ == 5 and watch.model is net.model_
    assert [logs["loss"] for logs in watch.seen] == net.loss_curve_
    assert [logs["val_score"] for logs in watch.seen] == net.validation_scores_
    with pytest.raises(TypeError, match=r"callbacks\[0\] must be a Callback object"):
        MLPClassifier(callbacks=[print]).fit(DIGITS, DIGIT)


def test_interruption_leaves_what_was_learned():
    net = MLPClassifier(callbacks=[Watch(stop_at=2, error=KeyboardInterrupt())])
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        net.fit(DIGITS, DIGIT)
    assert net.n_iter_ == len(net.loss_curve_) == 3
    assert net.predict(DIGITS).shape == (400,)


def test_progress_bar(capsys):
    MLPClassifier(max_iter=3, progress_bar=True).fit(DIGITS, DIGIT)
    assert "3/3" in capsys.readouterr().err


def test_network_behind_it(tmp_path):
    net = MLPClassifier(5, random_state=0, max_iter=3).fit(DIGITS, DIGIT)
    net.model_.save(tmp_path / "net.safetensors")
    found = bp.load(tmp_path / "net.safetensors").predict(DIGITS)
    np.testing.assert_allclose(found, net.predict_proba(DIGITS), atol=1e-14)
