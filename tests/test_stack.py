"""What a model is: construction, seeds, weights and gradients as views, loss, optimizer, copies, plan."""

import copy
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest

import fastbp as bp
from fastbp.layers import Dense, Dropout
from fastbp.optimizers import SGD, Adam

NETWORKS = runpy.run_path(str(Path(__file__).with_name("networks.py")))
regressor = NETWORKS["regressor"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
Y = RNG.normal(size=(24, 2))


# ---- construction ----


def test_weights_exist_at_once_with_an_input_size_and_else_from_the_first_use_on():
    assert regressor().built
    model = regressor(input_size=None)
    assert not model.built
    for use in (
        lambda: model.parameters,
        lambda: model.gradients,
        lambda: model.plan,
        lambda: model.input_size,
        lambda: model.output_size,
        lambda: model.step(),
        lambda: model.backward(Y),
        lambda: model.save("model.safetensors"),
    ):
        with pytest.raises(RuntimeError, match="no weights yet"):
            use()
    with pytest.raises(AttributeError, match="no weight yet"):
        _ = model.layers[0].weight
    assert model.predict(X).shape == (24, 2)
    assert (model.input_size, model.output_size) == (3, 2)


def test_a_model_is_built_for_one_input_size():
    model = regressor()
    model.build(3)
    with pytest.raises(ValueError, match="input_size is 3 for this model and cannot become 4"):
        model.build(4)
    with pytest.raises(ValueError, match="X has 4 columns, expected 3"):
        model.predict(np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": []}, ValueError, "layers must hold at least one layer"),
        ({"layers": Dense(1)}, TypeError, "layers must be a list of layers"),
        ({"layers": [Dense(1), "relu"]}, TypeError, r"layers\[1\] must be a Layer"),
        ({"loss": "mean_square_error"}, ValueError, "loss 'mean_square_error' is not known; did you mean"),
        ({"optimizer": "adan"}, ValueError, "optimizer 'adan' is not known; did you mean 'adam'"),
        ({"optimizer": Adam}, TypeError, r"optimizer must be an object: Adam\(\)"),
        ({"metrics": "accuracy"}, TypeError, "metrics must be a list"),
        ({"metrics": 3}, TypeError, "metrics must be a list"),
        ({"metrics": ["acuracy"]}, ValueError, "metric 'acuracy' is not known"),
        ({"input_size": 0}, ValueError, "input_size must be a positive int"),
        ({"input_size": 3.0}, TypeError, "input_size must be a positive int"),
        ({"dtype": "float16"}, ValueError, 'dtype must be "float32" or "float64", got \'float16\''),
        ({"dtype": None}, ValueError, "dtype must be"),
        ({"dtype": "real"}, ValueError, "dtype must be"),
        ({"seed": -1}, ValueError, "seed must be an int of at least 0"),
        ({"seed": "zero"}, TypeError, "seed must be an int of at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        bp.Sequential(**{"layers": [Dense(1)], **arguments})


def test_a_layer_occurs_once():
    layer = Dense(3)
    with pytest.raises(ValueError, match="is in the model already"):
        bp.Sequential([layer, layer])
    bp.Sequential([layer], input_size=3)
    with pytest.raises(ValueError, match="belongs to another model"):
        bp.Sequential([layer], input_size=3)


def test_the_last_activation_must_fit_the_loss():
    with pytest.raises(ValueError, match="cross_entropy needs probabilities, but the last activation"):
        bp.Sequential([Dense(3)], loss="cross_entropy", input_size=3)


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_a_dtype_may_be_a_name_or_an_object_of_numpy(dtype):
    model = regressor(dtype=dtype)
    assert model.dtype == "float32"
    assert model.parameters.dtype == model.predict(X).dtype == np.float32


def test_layers_cannot_be_changed_under_a_model():
    model = regressor()
    assert isinstance(model.layers, tuple)


# ---- seeds ----


@pytest.mark.parametrize("seed", [7, np.int64(7), np.random.SeedSequence(7)])
def test_the_same_seed_gives_the_same_bits(seed):
    losses = []
    for given in (7, seed):
        layers = [Dense(16, activation="relu"), Dropout(0.5), Dense(2)]
        model = bp.Sequential(layers, loss="mean_squared_error", seed=given)
        losses.append(model.fit(X, Y, epochs=3, batch_size=5).history["loss"])
    assert losses[0] == losses[1]


def test_a_generator_is_used_as_it_stands():
    rng = np.random.default_rng(7)
    first, second = regressor(seed=rng), regressor(seed=rng)
    assert (first.parameters == regressor(seed=7).parameters).all()
    assert (first.parameters != second.parameters).any()


@pytest.mark.parametrize("seeds", [(0, 1), (None, None)])
def test_different_seeds_differ(seeds):
    first, second = (regressor(seed=seed) for seed in seeds)
    assert (first.layers[0].weight != second.layers[0].weight).any()


def test_the_seed_covers_dropout():
    def outputs(seed):
        model = bp.Sequential([Dropout(0.5)], input_size=200, seed=seed)
        return model.forward(np.ones((1, 200)), training=True)

    assert (outputs(0) == outputs(0)).all()
    assert (outputs(0) != outputs(1)).any()


# ---- weights and gradients ----


def test_weights_have_the_shape_of_the_textbook_and_are_views():
    model = regressor()
    first, second = model.layers
    assert first.weight.shape == (5, 3) and first.bias.shape == (5,)
    assert second.weight.shape == (2, 5) and second.bias.shape == (2,)
    for layer in model.layers:
        for view, flat in (
            (layer.weight, model.parameters),
            (layer.bias, model.parameters),
            (layer.weight_grad, model.gradients),
            (layer.bias_grad, model.gradients),
        ):
            assert np.shares_memory(view, flat)


def test_writing_into_weights_changes_the_model():
    model = regressor()
    before = model.predict(X)
    model.layers[1].weight[...] = 0
    model.layers[1].bias = [1.0, -2.0]
    assert (model.predict(X) == [[1.0, -2.0]]).all()
    assert (before != model.predict(X)).any()
    model.parameters[...] = 0
    assert (model.predict(X) == 0).all()
    with pytest.raises(ValueError, match=r"weight must have shape \(2, 5\), got \(5, 2\)"):
        model.layers[1].weight = np.zeros((5, 2))


def test_predictions_are_those_of_the_formula():
    model = regressor()
    first, second = model.layers
    expected = np.tanh(X @ first.weight.T + first.bias) @ second.weight.T + second.bias
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-12)


def test_gradients_are_live_and_those_of_the_last_batch():
    model = regressor(optimizer=SGD(0.0))
    gradient = model.layers[0].weight_grad
    model.train_on_batch(X, Y)
    first = gradient.copy()
    model.train_on_batch(X, Y + 1)
    assert (gradient != first).any()
    model.train_on_batch(X, Y)
    assert (gradient == first).all()


def test_gradients_of_a_loss_agree_with_central_differences():
    model = regressor(optimizer=SGD(0.0))
    model.train_on_batch(X, Y)
    analytic = model.layers[0].weight_grad.copy()
    weight, step = model.layers[0].weight, 1e-6
    for index in np.ndindex(weight.shape):
        kept = weight[index]
        weight[index] = kept + step
        above = model.evaluate(X, Y)["loss"]
        weight[index] = kept - step
        below = model.evaluate(X, Y)["loss"]
        weight[index] = kept
        assert analytic[index] == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-9)


# ---- loss and optimizer ----


def test_without_a_loss_there_is_forward_and_backward_only():
    model = regressor(loss=None)
    model.forward(X)
    model.backward(Y)
    model.step()
    for use in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match="loss: the model has none"):
            use(X, Y)
    model.loss = "mean_squared_error"
    model.fit(X, Y)


def test_another_optimizer_starts_afresh():
    model = regressor()
    model.fit(X, Y, epochs=2)
    model.optimizer = SGD(0.1, momentum=0.9)
    fresh = regressor(optimizer=SGD(0.1, momentum=0.9))
    fresh.parameters[...] = model.parameters
    for _ in range(3):
        assert model.train_on_batch(X, Y) == fresh.train_on_batch(X, Y)
    assert (model.parameters == fresh.parameters).all()
    with pytest.raises(ValueError, match="optimizer 'adan' is not known"):
        model.optimizer = "adan"
    assert model.optimizer.momentum == 0.9


def test_another_loss_must_fit():
    model = regressor()
    expected = np.abs(model.predict(X) - Y).mean()
    with pytest.raises(ValueError, match="cross_entropy needs probabilities"):
        model.loss = "cross_entropy"
    assert model.loss.key == "mean_squared_error"
    model.loss = "mae"
    assert model.evaluate(X, Y)["loss"] == pytest.approx(expected)


def test_the_learning_rate_may_change_at_any_time():
    model = regressor(optimizer=SGD(0.1))
    model.optimizer.learning_rate = 0.0
    before = model.parameters.copy()
    model.train_on_batch(X, Y)
    model.fit(X, Y)
    assert (model.parameters == before).all()
    model.optimizer.learning_rate = 0.1
    model.train_on_batch(X, Y)
    assert (model.parameters != before).any()


def test_what_an_optimizer_was_made_with_stays_for_every_batch_size():
    model = regressor(optimizer=SGD(0.1))
    model.optimizer.weight_decay = 10.0
    model.layers[0].weight[...] = before = 1.0
    model.gradients[...] = 0
    model.forward(X)
    model.backward(0 * Y)
    model.step()
    assert (model.layers[0].weight == before).all()


# ---- copies ----


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_alike_and_apart(duplicate):
    layers = [Dense(8, activation="relu"), Dropout(0.5), Dense(2)]
    model = bp.Sequential(layers, loss="mse", metrics=[bp.metrics.r2], seed=0)
    unbuilt = duplicate(model)
    model.fit(X, Y, epochs=2, batch_size=5)
    model.metadata["note"] = "first"
    twin = duplicate(model)
    assert unbuilt.fit(X, Y, epochs=2, batch_size=5).history == model.history.history
    assert twin.history.history == model.history.history and twin.metadata == {"note": "first"}
    assert (twin.parameters == model.parameters).all() and (twin.gradients == model.gradients).all()
    assert not np.shares_memory(twin.parameters, model.parameters)
    assert np.shares_memory(twin.layers[0].weight, twin.parameters)
    assert model.fit(X, Y, epochs=2).history == twin.fit(X, Y, epochs=2).history
    assert (twin.parameters == model.parameters).all()


def test_flat_arrays_begin_at_a_cache_line():
    for model in (regressor(), pickle.loads(pickle.dumps(regressor()))):
        assert model.parameters.ctypes.data % 64 == model.gradients.ctypes.data % 64 == 0


# ---- showing ----


def test_summary_and_repr():
    model = regressor(input_size=None)
    assert "inputs not known yet" in model.summary()
    assert repr(model) == "<Sequential of 2 layers, MeanSquaredError(), Adam(), float64>"
    model.build(3)
    lines = model.summary().splitlines()
    assert lines[2].split() == ["dense", "Dense(5,", "activation='tanh')", "5", "20"]
    assert lines[3].split() == ["dense_1", "Dense(2)", "2", "12"]
    assert lines[-1] == "3 inputs, 32 parameters, float64, MeanSquaredError(), Adam()"


def test_the_plan_can_be_printed():
    model = regressor()
    assert "dense_forward" in str(model.plan)
    model.fit(X, Y, batch_size=8)
    assert model.plan.batch_size == 8
