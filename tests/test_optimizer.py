"""What every optimizer can do before and after its step, and regularizers and constraints of layers."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastbp as bp
from fastbp.layers import Dense
from fastbp.optimizers import SGD, Adam, AdamW, Lion, Rprop

RATE = 0.1


def network(optimizer=None, **dense):
    """Two layers in float64, whose gradients a test writes itself or lets come from a loss."""
    layers = [Dense(5, "tanh", **dense), Dense(2)]
    return bp.Sequential(layers, "mse", optimizer or SGD(RATE), input_size=3, dtype="float64", seed=3)


def parameters_of(model):
    return np.concatenate([p.ravel() for layer in model.layers for p in layer.parameters.values()])


def random_gradients(rng, scale=1.0):
    """One for each parameter, layer by layer."""
    return [scale * rng.normal(size=shape) for shape in ((5, 3), 5, (2, 5), 2)]


def flat(parts):
    return np.concatenate([part.ravel() for part in parts])


def step_with(model, gradients):
    for number, layer in enumerate(model.layers):
        layer.weight_grad[...], layer.bias_grad[...] = gradients[2 * number], gradients[2 * number + 1]
    model.step()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def data(rng):
    X = rng.normal(size=(40, 3))
    return X, np.stack([X[:, 0] * X[:, 1], X.sum(axis=1)], axis=1)


# ---- clipping ----


def test_clipvalue(rng):
    model, gradients = network(SGD(RATE, clipvalue=0.5)), random_gradients(rng)
    start = parameters_of(model)
    step_with(model, gradients)
    np.testing.assert_allclose(parameters_of(model), start - RATE * np.clip(flat(gradients), -0.5, 0.5))


def test_clipnorm_is_that_of_each_parameter(rng):
    model, gradients = network(SGD(RATE, clipnorm=2.0)), random_gradients(rng)
    start, norms = parameters_of(model), [np.linalg.norm(part) for part in gradients]
    assert min(norms) < 2 < max(norms)
    step_with(model, gradients)
    clipped = [part * min(1, 2 / norm) for part, norm in zip(gradients, norms, strict=True)]
    np.testing.assert_allclose(parameters_of(model), start - RATE * flat(clipped), rtol=1e-13)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_global_clipnorm(rng, scale):
    model, gradients = network(SGD(RATE, global_clipnorm=1.0)), flat(random_gradients(rng, scale))
    start = parameters_of(model)
    step_with(model, unflatten(gradients))
    factor = min(1, 1 / np.linalg.norm(gradients))
    np.testing.assert_allclose(parameters_of(model), start - RATE * gradients * factor, rtol=1e-13)


def unflatten(values):
    a, b, c, d = np.split(values, [15, 20, 30])
    return [a.reshape(5, 3), b, c.reshape(2, 5), d]


def test_one_kind_of_clipping():
    with pytest.raises(ValueError, match="only one of clipvalue, clipnorm, global_clipnorm can be given"):
        SGD(clipvalue=1.0, clipnorm=1.0)


# ---- weight decay ----


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, Lion])
def test_biases_may_be_left_out_of_the_decay(kind, rng):
    gradients = random_gradients(rng)
    models = [
        network(kind(RATE, weight_decay=decay, decay_biases=biases))
        for decay, biases in ((0.2, False), (0.2, True), (0.0, True))
    ]
    for model in models:
        for layer in model.layers:
            layer.bias = np.arange(1, layer.bias.size + 1)
        for _ in range(3):
            step_with(model, gradients)
    weights_only, everything, nothing = models
    for chosen, full, none in zip(weights_only.layers, everything.layers, nothing.layers, strict=True):
        assert np.array_equal(chosen.weight, full.weight)
        assert np.array_equal(chosen.bias, none.bias)
        assert not np.array_equal(chosen.bias, full.bias)


# ---- accumulation ----


def test_accumulation_is_a_step_with_the_mean(data):
    X, y = data
    small, large = network(Adam(0.01, gradient_accumulation_steps=5)), network(Adam(0.01))
    small.fit(X, y, batch_size=4, epochs=6, shuffle=False)
    large.fit(X, y, batch_size=20, epochs=6, shuffle=False)
    np.testing.assert_allclose(parameters_of(small), parameters_of(large), rtol=1e-12)


def test_what_is_left_over_waits_for_the_next_epoch_and_survives_a_file(data, tmp_path):
    X, y = data

    def fresh():
        return network(SGD(RATE, momentum=0.9, gradient_accumulation_steps=4))

    whole, halves = fresh(), fresh()
    whole.fit(X, y, batch_size=6, epochs=5)  # seven batches an epoch
    halves.fit(X, y, batch_size=6, epochs=2)
    halves.save(tmp_path / "m.safetensors")
    halves = bp.load(tmp_path / "m.safetensors")
    halves.fit(X, y, batch_size=6, epochs=3)
    assert np.array_equal(whole.parameters, halves.parameters)


def test_steps_of_ones_own_are_accumulated_too(rng):
    model = network(SGD(RATE, gradient_accumulation_steps=2))
    first, second = random_gradients(rng), random_gradients(rng)
    start = parameters_of(model)
    step_with(model, first)
    assert np.array_equal(parameters_of(model), start)
    step_with(model, second)
    mean = (flat(first) + flat(second)) / 2
    np.testing.assert_allclose(parameters_of(model), start - RATE * mean, rtol=1e-13)


# ---- moving average ----


def test_moving_average(rng):
    model, average = network(SGD(RATE, use_ema=True, ema_momentum=0.8)), None
    for _ in range(4):
        step_with(model, random_gradients(rng))
        raw = parameters_of(model)
        average = raw if average is None else 0.8 * average + 0.2 * raw
    with model.averaged_weights():
        np.testing.assert_allclose(parameters_of(model), average, rtol=1e-13)
    assert np.array_equal(parameters_of(model), raw)


def test_fit_ends_with_the_average(data):
    X, y = data
    seen = []
    callback = bp.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(parameters_of(model)))
    model = network(SGD(RATE, use_ema=True, ema_momentum=0.5))
    model.fit(X, y, batch_size=40, epochs=3, callbacks=[callback])
    average = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]
    np.testing.assert_allclose(parameters_of(model), average, rtol=1e-13)


def test_what_is_saved_within_averaged_weights_is_the_average(data, tmp_path):
    model = network(SGD(RATE, use_ema=True, ema_momentum=0.5))
    for _ in range(3):
        model.train_on_batch(*data)
    raw = parameters_of(model)
    with model.averaged_weights():
        average = parameters_of(model)
        model.save(tmp_path / "average.safetensors", optimizer=False)
        loss = model.evaluate(*data)["loss"]
    assert not np.allclose(raw, average)
    loaded = bp.load(tmp_path / "average.safetensors")
    assert np.array_equal(parameters_of(loaded), average)
    assert loaded.evaluate(*data)["loss"] == loss


@pytest.mark.parametrize("options", [{}, {"use_ema": True}])
def test_there_is_no_average_yet(options):
    with pytest.raises(RuntimeError, match="no moving average"), network(SGD(**options)).averaged_weights():
        pass


# ---- regularizers ----


@pytest.mark.parametrize(
    ("regularizer", "l1", "l2"),
    [("l1", 0.01, 0), ("l2", 0, 0.01), (bp.regularizers.L1L2(0.1, 0.2), 0.1, 0.2)],
)
def test_penalty_in_loss_and_gradient(data, regularizer, l1, l2):
    plain = network()
    model = network(kernel_regularizer=regularizer, bias_regularizer=bp.regularizers.L2(0.3))
    for each in (plain, model):
        each.layers[0].bias = np.arange(5)
    layer = model.layers[0]
    weight, bias = layer.weight.copy(), layer.bias.copy()
    value = l1 * np.abs(weight).sum() + l2 * (weight**2).sum() + 0.3 * (bias**2).sum()
    assert model.evaluate(*data)["loss"] == pytest.approx(plain.evaluate(*data)["loss"] + value)
    assert model.train_on_batch(*data) == pytest.approx(plain.train_on_batch(*data) + value)
    expected = plain.layers[0].weight_grad + l1 * np.sign(weight) + 2 * l2 * weight
    np.testing.assert_allclose(layer.weight_grad, expected, rtol=1e-12)
    np.testing.assert_allclose(layer.bias_grad, plain.layers[0].bias_grad + 0.6 * bias, rtol=1e-12)
    assert np.array_equal(model.layers[1].weight_grad, plain.layers[1].weight_grad)


def test_the_loss_of_an_epoch_has_the_penalty_of_each_batch(data):
    X, y = data
    weights = np.linspace(0.5, 2, 40)
    model, by_hand = network(kernel_regularizer="l2"), network(kernel_regularizer="l2")
    batches = [slice(0, 16), slice(16, 32), slice(32, 40)]
    losses = [by_hand.train_on_batch(X[b], y[b], sample_weight=weights[b]) for b in batches]
    expected = np.average(losses, weights=[weights[b].sum() for b in batches])
    history = model.fit(X, y, batch_size=16, shuffle=False, sample_weight=weights)
    assert history.history["loss"][0] == pytest.approx(expected)


def test_the_gradient_is_that_of_the_loss(data):
    model = network(SGD(0.0), kernel_regularizer=bp.regularizers.L1L2(0.03, 0.05))
    model.train_on_batch(*data)
    weight, gradient = model.layers[0].weight, model.layers[0].weight_grad.copy()
    for place in ((0, 0), (4, 2), (2, 1)):
        losses, kept = [], weight[place]
        for step in (1e-6, -1e-6):
            weight[place] = kept + step
            losses.append(model.evaluate(*data)["loss"])
        weight[place] = kept
        assert gradient[place] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-6)


def test_penalties_of_tall_batches(rng):
    """Whose rows would go through the network in blocks without it: a penalty counts once."""
    X = rng.normal(size=(2600, 3))
    Y = np.stack([X[:, 0] * X[:, 1], X.sum(axis=1)], axis=1)
    model = network(SGD(0.0, global_clipnorm=1e9), kernel_regularizer=bp.regularizers.L1L2(0.3, 0.4))
    loss = model.evaluate(X, Y)["loss"]
    history = model.fit(X, Y, batch_size=1300, shuffle=False, epochs=2)
    np.testing.assert_allclose(history.history["loss"], loss, rtol=1e-12)
    gradient = model.layers[0].weight_grad.copy()
    model.train_on_batch(X[1300:], Y[1300:])
    np.testing.assert_allclose(gradient, model.layers[0].weight_grad, rtol=1e-10)


def test_backward_has_the_penalty_too(data):
    model = network(kernel_regularizer="l2")
    model.forward(data[0])
    model.backward(np.zeros((40, 2)))
    np.testing.assert_allclose(model.layers[0].weight_grad, 0.02 * model.layers[0].weight, rtol=1e-13)


# ---- max-norm ----


def test_max_norm(data):
    model, free = network(SGD(1.0), kernel_constraint=bp.constraints.MaxNorm(0.65)), network(SGD(1.0))
    model.layers[0].weight = free.layers[0].weight = 0.3 * free.layers[0].weight
    model.train_on_batch(*data)
    free.train_on_batch(*data)
    norms = np.linalg.norm(free.layers[0].weight, axis=1, keepdims=True)
    assert norms.min() < 0.65 < norms.max()
    expected = free.layers[0].weight * np.minimum(1, 0.65 / norms)
    np.testing.assert_allclose(model.layers[0].weight, expected, rtol=1e-12)
    assert np.array_equal(model.layers[1].weight, free.layers[1].weight)


# ---- plans and descriptions ----


def test_unused_options_cost_nothing():
    plan = network(Adam()).plan
    assert [op.kind for op in plan.ops if op.phase == "update"] == ["adam"]
    assert plan.slots == ("m", "v")
    assert plan.sizes["state"] == 2 * plan.sizes["parameters"]


def test_what_is_asked_for_is_in_the_plan_in_its_order():
    optimizer = Adam(clipvalue=1.0, gradient_accumulation_steps=2, use_ema=True)
    plan = network(optimizer, kernel_regularizer="l2", kernel_constraint="max_norm").plan
    kinds = [op.kind for op in plan.ops if op.phase == "update"]
    assert kinds == ["accumulate", "clip_value", "adam", "max_norm", "moving_average"]
    assert plan.slots == ("m", "v", "accumulated_gradient", "average")
    assert [op.kind for op in plan.ops if op.phase == "loss"] == ["elementwise_loss", "penalty"]


def test_options_are_described_and_saved(tmp_path):
    optimizer = Adam(0.1, clipnorm=1.5, gradient_accumulation_steps=3, use_ema=True)
    shown = "Adam(learning_rate=0.1, clipnorm=1.5, gradient_accumulation_steps=3, use_ema=True)"
    assert repr(optimizer) == shown
    model = network(optimizer, kernel_regularizer="l1", kernel_constraint=bp.constraints.MaxNorm(3))
    model.save(tmp_path / "m.safetensors")
    loaded = bp.load(tmp_path / "m.safetensors")
    assert repr(loaded.optimizer) == shown
    assert repr(loaded.layers[0]) == repr(model.layers[0])
    assert "gradient_accumulation_steps" in inspect.signature(Adam).parameters


class Plain(SGD):
    """An optimizer of a user, with fewer arguments."""

    key = ""

    def __init__(self, learning_rate=0.5):
        super().__init__(learning_rate)


def test_an_optimizer_of_ones_own_has_its_own_arguments():
    assert list(inspect.signature(Plain).parameters) == ["learning_rate"]
    assert Plain().config() == {"class": "custom.Plain", "learning_rate": 0.5}
    assert network(Plain(0.1)).optimizer.learning_rate == 0.1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD(clipvalue=0.0), ValueError, "clipvalue must be a number in"),
        (lambda: SGD(clipnorm=-1.0), ValueError, "clipnorm must be a number in"),
        (lambda: SGD(global_clipnorm="1"), TypeError, "global_clipnorm must be a number in"),
        (lambda: SGD(gradient_accumulation_steps=0), ValueError, "gradient_accumulation_steps must be a"),
        (lambda: SGD(use_ema=1), TypeError, "use_ema must be True or False"),
        (lambda: SGD(ema_momentum=1.0), ValueError, "ema_momentum must be a number in"),
        (lambda: SGD(decay_biases=None), TypeError, "decay_biases must be True or False"),
        (lambda: SGD(decay=0.1), TypeError, "SGD has no argument 'decay'"),
        (lambda: Rprop(weight_decay=0.1), TypeError, "Rprop has no argument 'weight_decay'"),
        (lambda: Rprop(step_size_min=1.0, step_size_max=0.1), ValueError, "step_size_min must not be above"),
        (lambda: bp.regularizers.L2(-1.0), ValueError, "l2 must be a number in"),
        (lambda: Dense(1, kernel_regularizer=0.1), TypeError, "kernel_regularizer must be a name or"),
        (lambda: Dense(1, kernel_constraint="l2"), ValueError, "kernel_constraint 'l2' is not known"),
        (lambda: bp.constraints.MaxNorm(0.0), ValueError, "max_value must be a number in"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
