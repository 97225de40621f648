"""The estimators: step by step like scikit-learn's, and what those refuse."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import subprocess
import sys
import threading
import warnings

import joblib
import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import fastbp as bp
import fastbp.sklearn
from fastbp.sklearn import MLPClassifier, MLPRegressor, epochs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAMES = ["MLPClassifier", "MLPRegressor"]
DIGITS, DIGIT = load_digits(return_X_y=True)
DIGITS, DIGIT = DIGITS[:400] / 16, DIGIT[:400]
PLANE, HEIGHT = make_regression(150, 6, n_targets=2, random_state=0)
HEIGHT = HEIGHT / 100
LABELLED = make_multilabel_classification(150, random_state=0)
COUNTS = np.random.default_rng(1).poisson(np.exp(HEIGHT[:, 0] / 3))
WEIGHTS = np.random.default_rng(0).uniform(0.2, 3, 400)


def both(name, **parameters):
    return getattr(sklearn.neural_network, name)(**parameters), getattr(fastbp.sklearn, name)(**parameters)


# ---- step by step --------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", [np.random.MT19937, np.random.PCG64])
def test_the_order_is_the_one_of_numpy(generator):
    ours, theirs = (np.random.RandomState(generator(5)) for _ in range(2))
    for size in (0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 1000, 70_000):
        found, expected = np.arange(size), np.arange(size)
        for _ in range(2):
            epochs.shuffle(found, ours)
            theirs.shuffle(expected)
        assert np.array_equal(found, expected)
    assert ours.randint(2**31) == theirs.randint(2**31)


SMALL = {"hidden_layer_sizes": (20,), "max_iter": 50}
CASES = {
    "adam": ({}, DIGITS, DIGIT, None),
    "adam, two hidden layers": ({"hidden_layer_sizes": (30, 20), "alpha": 0.1}, DIGITS, DIGIT, None),
    "adam, two classes": ({"activation": "tanh", "alpha": 1.0}, DIGITS, DIGIT > 4, None),
    "adam, other constants": ({"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-2}, DIGITS, DIGIT, None),
    "adam, weighted": ({"batch_size": 33, "alpha": 0.5}, DIGITS, DIGIT, WEIGHTS),
    "adam, labels": ({}, *LABELLED, None),
    "adam, no shuffling": ({"shuffle": False, "activation": "identity"}, DIGITS, DIGIT, None),
    "adam, early stopping": ({"early_stopping": True, "tol": 1e-3}, DIGITS, DIGIT > 4, None),
    "sgd": ({"solver": "sgd", "learning_rate_init": 0.1}, DIGITS, DIGIT, None),
    "sgd, no momentum": ({"solver": "sgd", "momentum": 0}, DIGITS, DIGIT, None),
    "sgd, momentum of 1": ({"solver": "sgd", "momentum": 1.0}, DIGITS, DIGIT, None),
    "sgd, weighted": ({"solver": "sgd", "nesterovs_momentum": False}, DIGITS, DIGIT, WEIGHTS),
    "sgd, falling rate": ({"solver": "sgd", "learning_rate": "invscaling"}, DIGITS, DIGIT, None),
    "sgd, adaptive rate": (
        {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.02},
        DIGITS,
        DIGIT,
        None,
    ),
    "sgd, logistic": ({"solver": "sgd", "activation": "logistic"}, DIGITS, DIGIT, None),
    "regression": ({}, PLANE, HEIGHT, None),
    "regression, weighted": ({"early_stopping": True, "activation": "tanh"}, PLANE, HEIGHT, WEIGHTS[:150]),
    "regression, sgd": ({"solver": "sgd"}, PLANE, HEIGHT[:, 0], None),
    "counts": ({"loss": "poisson"}, PLANE, COUNTS, None),
}


@pytest.mark.parametrize("case", CASES)
def test_fifty_epochs_like_scikit_learn(case):
    parameters, X, y, weight = CASES[case]
    regression = case.startswith(("regression", "counts"))
    theirs, ours = both(NAMES[regression], **SMALL | {"tol": 0, "random_state": 3} | parameters)
    theirs.fit(X, y, sample_weight=weight)
    ours.fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0, atol=1e-9)
    for name in ("coefs_", "intercepts_"):
        for found, expected in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    if theirs.validation_scores_ is not None:
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=0, atol=1e-9)
    assert (ours.n_iter_, ours.t_, ours.out_activation_) == (
        theirs.n_iter_,
        theirs.t_,
        theirs.out_activation_,
    )
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=0, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_lbfgs_like_scikit_learn(name, weighted):
    X, y = (DIGITS, DIGIT) if name == "MLPClassifier" else (PLANE, HEIGHT)
    weight = WEIGHTS[: len(y)] if weighted else None
    theirs, ours = both(name, solver="lbfgs", max_iter=20, alpha=0.1, random_state=0, hidden_layer_sizes=(9,))
    theirs.fit(X, y, sample_weight=weight)
    ours.fit(X, y, sample_weight=weight)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-9)


def test_lbfgs_computes_in_float64():
    """scikit-learn's gives float64 too, after it has computed in float32 on such rows."""
    theirs, ours = both("MLPRegressor", solver="lbfgs", max_iter=20, random_state=0)
    for estimator in (theirs, ours):
        estimator.fit(PLANE.astype(np.float32), HEIGHT)
        assert estimator.coefs_[0].dtype == np.float64
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-2)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_and_another_alpha_like_scikit_learn(solver):
    theirs, ours = both("MLPClassifier", solver=solver, random_state=np.random.RandomState(5))
    theirs.random_state = np.random.RandomState(5)
    for number, alpha in enumerate((1e-4, 1e-4, 2.0, 0.0)):
        part = slice(100 * number, 100 * number + 100)
        for estimator in (theirs, ours):
            estimator.set_params(alpha=alpha)
            estimator.partial_fit(DIGITS[part], DIGIT[part], classes=range(10))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=0, atol=1e-12)


def test_single_precision_learns_the_same():
    theirs, ours = both("MLPClassifier", **SMALL, random_state=0)
    X = DIGITS.astype(np.float32)
    np.testing.assert_allclose(ours.fit(X, DIGIT).loss_curve_, theirs.fit(X, DIGIT).loss_curve_, rtol=1e-4)
    assert ours.predict_proba(X).dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
def test_signature_begins_with_that_of_scikit_learn(name):
    theirs, ours = (list(inspect.signature(type(e)).parameters.values()) for e in both(name))
    for found, expected in zip(ours, theirs, strict=False):
        assert (found.name, found.kind, found.default) == (expected.name, expected.kind, expected.default)
    assert len(ours) > len(theirs)
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_fitted_attributes_of_scikit_learn_are_here(name, early_stopping):
    import pandas

    X = pandas.DataFrame(PLANE, columns=list("abcdef"))
    estimators = both(name, max_iter=3, early_stopping=early_stopping)
    theirs, ours = (e.fit(X, HEIGHT[:, 0] > 0) for e in estimators)
    expected = {n for n in vars(theirs) if n.endswith("_") and not n.startswith("_")}
    assert expected <= set(vars(ours))
    for attribute in expected - {"coefs_", "intercepts_"}:
        found, expected = getattr(ours, attribute), getattr(theirs, attribute)
        assert isinstance(found, float if isinstance(expected, float) else type(expected)), attribute
    assert ours.feature_names_in_.tolist() == list("abcdef")


def test_prints_what_scikit_learn_prints(capsys):
    printed = []
    parameters = {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "verbose": True}
    parameters |= {"tol": 0.1, "n_iter_no_change": 1, "random_state": 0, "early_stopping": True}
    parameters |= {"hidden_layer_sizes": (20,)}
    for estimator in both("MLPClassifier", **parameters):
        estimator.fit(DIGITS, DIGIT)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "Setting learning rate" in printed[0] and "Stopping" in printed[0]


def test_warnings_of_scikit_learn():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPRegressor(max_iter=2).fit(PLANE, HEIGHT)
    with pytest.warns(UserWarning, match="It is going to be clipped"):
        MLPRegressor(max_iter=2, batch_size=1000).fit(PLANE, HEIGHT)


# ---- data in and out -----------------------------------------------------------------------------


@pytest.mark.parametrize("container", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
@pytest.mark.parametrize("block", [2**26, 4000])
def test_sparse_rows_are_like_dense_ones(container, block, monkeypatch):
    """As one dense matrix, and, where that would be too large, block by block."""
    from fastbp.sklearn import base

    monkeypatch.setattr(epochs, "DENSE_BYTES", block)
    monkeypatch.setattr(base, "DENSE_BYTES", block)
    parameters = {"random_state": 0, "max_iter": 5, "batch_size": 37}
    expected = MLPClassifier(**parameters).fit(DIGITS, DIGIT, sample_weight=WEIGHTS)
    found = MLPClassifier(**parameters).fit(container(DIGITS), DIGIT, sample_weight=WEIGHTS)
    np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0], atol=1e-12)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, atol=1e-12)
    np.testing.assert_allclose(
        found.predict_proba(container(DIGITS)), expected.predict_proba(DIGITS), atol=1e-12
    )


COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "joblib": lambda net: joblib.load(io.BytesIO(_dumped(net))),
    "deepcopy": copy.deepcopy,
}


def _dumped(net):
    file = io.BytesIO()
    joblib.dump(net, file)
    return file.getvalue()


@pytest.mark.parametrize("way", COPIES)
def test_copies_go_on_with_the_same_bits(way):
    net = MLPClassifier(random_state=0).partial_fit(DIGITS, DIGIT, classes=range(10))
    twin = COPIES[way](net)
    assert np.array_equal(twin.predict_proba(DIGITS), net.predict_proba(DIGITS))
    for estimator in (net, twin):
        estimator.partial_fit(DIGITS, DIGIT)
    assert np.array_equal(twin.coefs_[0], net.coefs_[0])
    assert not np.shares_memory(twin.coefs_[0], net.coefs_[0])


def test_clone_and_parameters():
    net = MLPClassifier(5, dropout=0.2, solver=bp.optimizers.AdamW(0.1)).fit(DIGITS, DIGIT)
    fresh = clone(net)
    assert not hasattr(fresh, "coefs_")
    assert fresh.get_params()["dropout"] == 0.2
    assert repr(fresh.solver) == repr(net.solver)
    assert "MLPClassifier" in net._repr_html_()


def test_weights_are_live_and_may_be_replaced():
    net = MLPRegressor(hidden_layer_sizes=7, random_state=0, max_iter=3).fit(PLANE, HEIGHT)
    before = net.predict(PLANE)
    net.intercepts_[-1][...] += 1  # in place
    np.testing.assert_allclose(net.predict(PLANE), before + 1)
    net.coefs_[-1] = np.zeros((7, 2))  # another array
    np.testing.assert_allclose(net.predict(PLANE), np.tile(net.intercepts_[-1], (150, 1)))
    net.coefs_, net.intercepts_ = [np.ones((6, 3)), np.ones((3, 2))], [np.zeros(3), np.zeros(2)]
    hidden = np.maximum(PLANE.sum(axis=1), 0)
    np.testing.assert_allclose(net.predict(PLANE), np.tile(3 * hidden[:, np.newaxis], 2))
    assert pickle.loads(pickle.dumps(net)).coefs_[0].tolist() == np.ones((6, 3)).tolist()


def test_many_threads_may_predict_at_once():
    net = MLPClassifier(random_state=0, max_iter=3).fit(DIGITS, DIGIT)
    expected, found = net.predict_proba(DIGITS), []
    workers = [
        threading.Thread(target=lambda: found.extend(net.predict_proba(DIGITS) for _ in range(20)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    assert all(np.array_equal(p, expected) for p in found)


def test_number_of_threads_changes_no_bit_and_is_put_back():
    before = bp.get_num_threads()
    one, two = (MLPClassifier(random_state=0, max_iter=3, n_threads=n).fit(DIGITS, DIGIT) for n in (1, 2))
    if bp.engine.backend.native():
        assert np.array_equal(one.coefs_[0], two.coefs_[0])
    assert bp.get_num_threads() == before


# ---- in company ----------------------------------------------------------------------------------


def test_pipeline_of_columns_that_stay_frames():
    import pandas

    X = pandas.DataFrame(PLANE, columns=list("abcdef"))
    X["kind"] = np.where(COUNTS > 1, "many", "few")
    columns = make_column_transformer(
        (StandardScaler(), list("abc")), (OneHotEncoder(sparse_output=False), ["kind"])
    )
    net = make_pipeline(
        columns, MLPClassifier(5, max_iter=20, random_state=0, learning_rate_init=0.1)
    ).set_output(transform="pandas")
    net.fit(X, X["kind"])
    assert net[-1].feature_names_in_.tolist()[-1] == "onehotencoder__kind_many"
    assert net.score(X, X["kind"]) > 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.predict(X)


def test_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        net = MLPRegressor(hidden_layer_sizes=5, max_iter=5, random_state=0).set_fit_request(
            sample_weight=True, X_val=True
        )
        routed = make_pipeline(net).fit(PLANE, HEIGHT, sample_weight=WEIGHTS[:150])
        plain = clone(net).fit(PLANE, HEIGHT, sample_weight=WEIGHTS[:150])
    assert routed[-1].loss_curve_ == plain.loss_curve_


# ---- what scikit-learn refuses -------------------------------------------------------------------


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


def test_without_scikit_learn_the_message_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; import fastbp.sklearn"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "fastbp[sklearn]"' in result.stderr.splitlines()[-1]


BAD = {
    "an unknown activation": ({"activation": "rleu"}, "'activation' parameter of MLPClassifier must be"),
    "an unknown solver": ({"solver": "adamm"}, "'solver' parameter of MLPClassifier must be"),
    "an empty layer": ({"hidden_layer_sizes": (3, 0)}, r"hidden_layer_sizes must be > 0, got \[3, 0\]"),
    "all dropped": ({"dropout": 1.0}, "'dropout' parameter of MLPClassifier must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters(case):
    parameters, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**parameters).fit(DIGITS, DIGIT)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_every_parameter_is_documented_in_the_order_of_the_signature(kind):
    section = inspect.getdoc(kind).partition("Parameters\n----------\n")[2].partition("\n\nAttributes")[0]
    heads = [line.partition(" : ")[0] for line in section.splitlines() if not line.startswith(" ")]
    assert ", ".join(heads).split(", ") == list(inspect.signature(kind).parameters)
    assert "{" not in inspect.getdoc(kind).replace('{"', "")
