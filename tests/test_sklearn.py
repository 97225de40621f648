"""The estimators: step by step like scikit-learn's, and what those refuse."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import runpy
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import fastbp as bp
import fastbp.sklearn
from fastbp.sklearn import MLPClassifier, MLPRegressor, epochs

DATA = runpy.run_path(str(Path(__file__).with_name("sklearn_data.py")))
DIGITS, DIGIT, PLANE, HEIGHT = DATA["DIGITS"], DATA["DIGIT"], DATA["PLANE"], DATA["HEIGHT"]
LABELLED, COUNTS, WEIGHTS = DATA["LABELLED"], DATA["COUNTS"], DATA["WEIGHTS"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAMES = ["MLPClassifier", "MLPRegressor"]


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
