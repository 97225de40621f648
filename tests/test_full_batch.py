"""L-BFGS and Levenberg-Marquardt over a network."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fastbp as bp
from fastbp import full_batch
from fastbp.layers import Dense, Dropout
from fastbp.optimizers import LBFGS, LevenbergMarquardt

RNG = np.random.default_rng(6)
X = RNG.normal(size=(60, 2))
Y = np.stack([np.sin(X[:, 0]), X[:, 0] * X[:, 1]], axis=1)
WEIGHTS = RNG.uniform(0.2, 2, 60)
KINDS = {"lbfgs": LBFGS, "levenberg_marquardt": LevenbergMarquardt}


def network(optimizer, dtype="float64", loss="mse", layers=None, **options):
    layers = layers or [Dense(6, "tanh"), Dense(2)]
    return bp.Sequential(layers, loss, optimizer, input_size=2, dtype=dtype, seed=2, **options)


def least_squares(X, y, weights):
    """Weight and bias of a linear layer."""
    root = np.sqrt(weights)[:, np.newaxis]
    A = np.column_stack([X, np.ones(len(X))])
    solution = np.linalg.lstsq(root * A, root * y, rcond=None)[0]
    return solution[:-1].T, solution[-1]


@pytest.mark.parametrize("name", KINDS)
def test_the_linear_problem_is_solved_exactly(name):
    """However many blocks the samples make."""
    model = network(name, layers=[Dense(2)])
    model.fit(X, Y, sample_weight=WEIGHTS)
    weight, bias = least_squares(X, Y, WEIGHTS)
    tolerance = {"lbfgs": 1e-6, "levenberg_marquardt": 1e-9}[name]
    np.testing.assert_allclose(model.layers[0].weight, weight, atol=tolerance)
    np.testing.assert_allclose(model.layers[0].bias, bias, atol=tolerance)


@pytest.mark.parametrize("loss", ["mse", "half_squared_error"])
@pytest.mark.parametrize("name", KINDS)
def test_many_blocks_are_one_batch(name, loss, monkeypatch):
    models = [network(KINDS[name](max_iter=5), loss=loss) for _ in range(2)]
    losses = [models[0].fit(X, Y, sample_weight=WEIGHTS, shuffle=False).history["loss"][0]]
    monkeypatch.setattr(full_batch, "ROWS", 17)
    monkeypatch.setattr(full_batch, "JACOBIAN_ROWS", 13)
    losses.append(models[1].fit(X, Y, sample_weight=WEIGHTS, batch_size=7).history["loss"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert models[0].evaluate(X, Y, sample_weight=WEIGHTS)["loss"] == pytest.approx(losses[0], rel=1e-9)


@pytest.mark.parametrize(("name", "dtype"), [(name, t) for name in KINDS for t in ("float32", "float64")])
def test_a_small_fit_converges(name, dtype):
    model = network(name, dtype, metrics=["r2"])
    history = model.fit(X, Y, validation_data=(X, Y)).history
    assert history["loss"][0] < {"float32": 1e-3, "float64": 3e-4}[dtype]
    assert history["r2"][0] == pytest.approx(history["val_r2"][0], rel=1e-6)
    model.optimizer = KINDS[name](max_iter=20)
    again = model.fit(X, Y, epochs=2).history["loss"]
    assert max(again) <= history["loss"][0] * (1 + 1e-6)  # never worse than before


def test_the_jacobian_is_exact():
    model = network("levenberg_marquardt")
    squares = full_batch._Squares(model._network, model._samples(X, Y, WEIGHTS))
    flat, place = model.parameters, squares.place
    for output in range(2):
        jacobian, numeric = squares._jacobian(slice(0, 60), output), np.zeros((60, place.size))
        for column, index in enumerate(place):
            kept, residuals = flat[index], []
            for step in (1e-6, -1e-6):
                flat[index] = kept + step
                residuals.append(squares.residuals()[:, output])
            flat[index] = kept
            numeric[:, column] = (residuals[0] - residuals[1]) / 2e-6
        np.testing.assert_allclose(jacobian, numeric, atol=1e-9)


def test_lbfgs_takes_any_smooth_loss_with_penalties():
    labels = (X[:, 0] * X[:, 1] > 0).astype(int)
    layers = [Dense(8, "tanh", kernel_regularizer=bp.regularizers.L2(1e-4)), Dense(2, "softmax")]
    # the classes can be told apart: a long and flat way to the end
    optimizer = bp.optimizers.LBFGS(max_iter=20_000, tolerance_change=1e-18)
    model = network(optimizer, loss="cross_entropy", layers=layers, metrics=["accuracy"])
    history = model.fit(X, labels).history
    assert history["accuracy"][0] == 1
    model.forward(X)
    model.train_on_batch(X, labels)
    assert np.abs(model.gradients).max() < 1e-5  # at the end of both


@pytest.mark.parametrize("name", KINDS)
def test_the_same_bits_for_any_number_of_threads(name):
    before, results = bp.get_num_threads(), []
    native = bp.engine.backend.native()
    try:
        for size in (1, 2, 5, 16):
            bp.set_num_threads(size)
            if native:
                native.set_grain(0)
            model = network(KINDS[name](max_iter=3), layers=[Dense(33, "tanh"), Dense(2)])
            model.fit(X, Y)
            results.append(model.parameters.tobytes())
    finally:
        bp.set_num_threads(before)
        if native:
            native.set_grain(-1)
    assert len(set(results)) == 1


@pytest.mark.parametrize("name", KINDS)
def test_an_interruption_leaves_the_best_parameters(name, monkeypatch):
    model = network(name)
    start = model.evaluate(X, Y)["loss"]
    calls = []
    target, attribute = {
        "lbfgs": (full_batch, "_loss_and_gradient"),
        "levenberg_marquardt": (full_batch._Squares, "residuals"),
    }[name]
    original = getattr(target, attribute)

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(target, attribute, interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert model.evaluate(X, Y)["loss"] < start
    assert np.isfinite(model.parameters).all()


@pytest.mark.parametrize("name", KINDS)
def test_described_and_saved(name, tmp_path):
    model = network(KINDS[name](max_iter=3))
    model.fit(X, Y)
    model.save(tmp_path / "m.safetensors")
    loaded = bp.load(tmp_path / "m.safetensors")
    assert repr(loaded.optimizer) == f"{KINDS[name].__name__}(max_iter=3)"
    assert np.array_equal(loaded.predict(X), model.predict(X))
    assert not [op for op in model.plan.ops if op.phase == "update"]


# ---- what does not go ----


@pytest.mark.parametrize("name", KINDS)
def test_no_step_of_ones_own(name):
    model = network(name)
    model.forward(X)
    model.backward(np.ones((60, 2)))
    with pytest.raises(RuntimeError, match="makes no single step: use fit or train_on_batch"):
        model.step()


@pytest.mark.parametrize("name", KINDS)
def test_no_dropout(name):
    model = network(name, layers=[Dense(4), Dropout(0.5), Dense(2)])
    with pytest.raises(ValueError, match="needs the same loss each time"):
        model.fit(X, Y)


def test_levenberg_marquardt_needs_squares():
    with pytest.raises(
        ValueError, match="minimises mean_squared_error or half_squared_error, the loss is Hub"
    ):
        network("levenberg_marquardt", loss="huber").fit(X, Y)
    layers = [Dense(2, kernel_regularizer="l2")]
    with pytest.raises(ValueError, match="must have no regularizers"):
        network("levenberg_marquardt", layers=layers).fit(X, Y)


def test_levenberg_marquardt_is_for_small_networks():
    with pytest.raises(ValueError, match="takes at most 5000 parameters, this network has 6002: use LBFGS"):
        network("levenberg_marquardt", layers=[Dense(1200, "tanh"), Dense(2)]).fit(X, Y)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_to_train(name):
    model = network(name, layers=[bp.layers.Tanh()])
    assert model.fit(X, Y).history["loss"][0] == pytest.approx(model.evaluate(X, Y)["loss"])


@pytest.mark.parametrize("name", KINDS)
def test_nothing_left_to_gain(name):
    """A perfect fit stays one: no division by what is no longer there."""
    model = network(name, layers=[Dense(2)])
    model.layers[0].weight = np.eye(2)
    history = model.fit(X, X, epochs=2).history
    assert history["loss"] == [0, 0]
    assert np.array_equal(model.layers[0].weight, np.eye(2))


def test_lbfgs_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r'needs SciPy: pip install "fastbp\[scipy\]"'):
        network("lbfgs").fit(X, Y)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LBFGS(max_iter=0),
        lambda: LBFGS(tolerance_grad=-1.0),
        lambda: LBFGS(history_size=0),
        lambda: LevenbergMarquardt(damping=0.0),
        lambda: LevenbergMarquardt(tolerance_change=np.nan),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="must be a"):
        make()
