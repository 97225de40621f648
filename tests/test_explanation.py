"""bp.explain: the textbook's example, and for any model the numbers that training has."""

import copy

import numpy as np
import pytest

import fastbp as bp
from fastbp.layers import Activation, CustomLayer, Dense, Dropout, Softmax, Tanh

pytestmark = pytest.mark.usefixtures("interpreter")
RNG = np.random.default_rng(0)
x, y = RNG.normal(size=3), RNG.normal(size=2)


class Scale(CustomLayer):
    def build(self, input_size):
        self.add_parameter("slope", (input_size,), bp.initializers.Constant(0.7))

    def forward(self, x):
        def backprop(dy):
            self.slope_grad = (dy * x).sum(axis=0)
            return dy * self.slope

        return x * self.slope, backprop


def fourth_power(y, y_hat):
    return ((y_hat - y) ** 4).sum(axis=1), 4 * (y_hat - y) ** 3


# ---- the textbook's example ----------------------------------------------------------------------


def one_node_per_layer(dtype):
    layers = [Dense(1, use_bias=False), Dense(1, activation="relu", use_bias=False)]
    optimizer = bp.optimizers.SGD(0.1)
    model = bp.Sequential(layers, "half_squared_error", optimizer, input_size=1, dtype=dtype)
    layers[0].weight, layers[1].weight = [[3]], [[0.5]]
    return model


def test_the_worked_example_to_the_last_digit():
    shown = bp.explain(one_node_per_layer("float64"), 2, 1)
    first, second = shown.layers
    assert (shown.x, shown.y, shown.y_hat, shown.loss) == (2, 1, 3, 2)
    assert (first.z, first.a, second.z, second.a) == (6, 6, 3, 3)
    assert (second.da, second.slope, second.delta) == (2, 1, 2)
    assert second.gradients["weight"] == 12
    assert (first.da, first.slope, first.delta) == (1, 1, 1)
    assert first.gradients["weight"] == 2
    assert shown.dx == 3 and shown.learning_rate == 0.1
    model = one_node_per_layer("float64")
    model.train_on_batch([[2]], [[1]])
    for stage, layer in zip(shown.layers, model.layers, strict=True):
        assert (stage.updated["weight"] == layer.weight).all()  # −0.7 and 2.8 up to the last bit of 0.1
    assert abs(second.updated["weight"] + 0.7) < 1e-15 and abs(first.updated["weight"] - 2.8) < 1e-15


def test_in_print_it_looks_as_in_the_textbook(dtype):
    text = str(bp.explain(one_node_per_layer(dtype), [2], [1]))
    expected = """
    z₁ = W₁ x = [6]
    z₂ = W₂ a₁ = [3]
    a₂ = relu(z₂) = [3]
    L = half_squared_error(y, ŷ) = 2
    ∂L/∂ŷ = [2]
    relu′(z₂) = [1]
    δ₂ = ∂L/∂ŷ ⊙ relu′(z₂) = [2]
    ∂L/∂W₂ = δ₂ a₁ᵀ = [[12]]
    δ₁ = W₂ᵀ δ₂ = [1]
    ∂L/∂W₁ = δ₁ xᵀ = [[2]]
    W₁ := W₁ − η ∂L/∂W₁ = [[2.8]]
    W₂ := W₂ − η ∂L/∂W₂ = [[-0.7]]"""
    lines = text.splitlines()
    places = [lines.index(line) for line in expected.splitlines()[1:]]
    assert places == sorted(places)


def test_ten_nodes_to_ten_nodes(dtype):
    """Small integers: every sum is exact."""
    rng = np.random.default_rng(0)
    W, b, a, target = (rng.integers(-4, 5, shape) for shape in ((10, 10), 10, 10, 10))
    layer = Dense(10)
    model = bp.Sequential([layer], "half_squared_error", bp.optimizers.SGD(0.125), input_size=10, dtype=dtype)
    layer.weight, layer.bias = W, b
    (stage,) = bp.explain(model, a, target).layers
    delta = W @ a + b - target
    assert (stage.z == W @ a + b).all() and (stage.delta == delta).all()
    assert (stage.gradients["weight"] == np.outer(delta, a)).all()
    assert (stage.gradients["bias"] == delta).all()
    assert (stage.updated["weight"] == W - 0.125 * np.outer(delta, a)).all()
    assert (stage.updated["bias"] == b - 0.125 * delta).all()


def test_hidden_deltas_are_those_of_the_textbook():
    layers = [Dense(4, activation="tanh"), Dense(3, activation="sigmoid"), Dense(2)]
    model = bp.Sequential(layers, "half_squared_error", "sgd", input_size=3, dtype="float64", seed=0)
    shown = bp.explain(model, x, y)
    one, two, three = shown.layers
    np.testing.assert_allclose(three.delta, shown.y_hat - y, 1e-13)
    np.testing.assert_allclose(two.slope, two.a * (1 - two.a), 1e-13)
    np.testing.assert_allclose(two.da, layers[2].weight.T @ three.delta, 1e-12)
    np.testing.assert_allclose(two.delta, (layers[2].weight.T @ three.delta) * two.slope, 1e-12)
    np.testing.assert_allclose(one.delta, (layers[1].weight.T @ two.delta) * (1 - one.a**2), 1e-12)
    np.testing.assert_allclose(two.gradients["weight"], np.outer(two.delta, one.a), 1e-12)
    np.testing.assert_allclose(shown.dx, layers[0].weight.T @ one.delta, 1e-12)


# ---- any model -----------------------------------------------------------------------------------

MODELS = {
    "a loss and its activation": ([Dense(5, "gelu"), Dense(2, "sigmoid")], "binary_cross_entropy", [0, 1]),
    "softmax": ([Dense(5, "relu"), Dense(2, "softmax")], "cross_entropy", 1),
    "probabilities of classes": ([Dense(5, "elu"), Dense(2, "softmax")], "cross_entropy", [0.25, 0.75]),
    "logits": ([Dense(5, "silu"), Dense(2)], bp.losses.CrossEntropy(from_logits=True), 0),
    "probabilities": ([Dense(2, "softmax")], "binary_cross_entropy", [0, 1]),
    "softmax without its loss": ([Dense(4), Dense(2, "softmax")], "mse", y),
    "activations of their own": (
        [Dense(5), Tanh(), Dense(4), Activation("gelu"), Dense(2), Softmax()],
        "mse",
        y,
    ),
    "an activation first": ([Tanh(), Dense(2)], "huber", y),
    "two activations": ([Dense(4, "relu"), Tanh(), Dense(2)], "mse", y),
    "a layer in Python": ([Dense(4, "tanh"), Scale(), Dense(2)], "mse", y),
    "layers in Python at the ends": ([Scale(), Dense(2), Scale()], fourth_power, y),
    "no parameters": ([Tanh()], "mse", [0, 0, 1]),
}


def scattered(layers, loss, optimizer, dtype):
    model = bp.Sequential(
        copy.deepcopy(layers), copy.copy(loss), optimizer, input_size=3, dtype=dtype, seed=0
    )
    model.parameters[...] += np.random.default_rng(1).normal(0, 0.2, model.parameters.shape)
    return model


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("layers", "loss", "target"), MODELS.values(), ids=MODELS)
def test_the_numbers_are_those_of_training(layers, loss, target, optimizer, dtype):
    model = scattered(layers, loss, optimizer, dtype)
    shown = bp.explain(model, x, target)
    tolerance = {"rtol": 1e-10, "atol": 1e-14} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(shown.y_hat, model.predict([x])[0], **tolerance)
    assert shown.loss == pytest.approx(model.train_on_batch([x], np.reshape(target, (1, -1))), rel=1e-5)
    parameters = 0
    for stage in shown.layers:
        layer = next(layer for layer in model.layers if layer.name == stage.name)
        for name, gradient in layer.gradients.items():
            np.testing.assert_allclose(stage.gradients[name], gradient, **tolerance)
            np.testing.assert_allclose(stage.updated[name], layer.parameters[name], **tolerance)
            parameters += 1
    assert parameters == sum(len(layer.parameters) for layer in model.layers)
    text = str(shown)
    assert f"L = {shown.loss_name}(y, ŷ) = {shown.loss:.6g}" in text
    assert ("a step of Adam()" if optimizer == "adam" else "− η ∂L/∂") in text or not parameters
    assert "None" not in text and "∂L/∂x = " in text


def test_the_model_stays_as_it_was(dtype):
    def trained():
        model = scattered([Dense(4, "tanh"), Dropout(0.5), Scale(), Dense(2)], "mse", "adam", dtype)
        model.fit([x, -x, 2 * x], [y, y, y], batch_size=2, epochs=2)
        return model

    model, untouched = trained(), trained()
    shown = bp.explain(model, x, y)
    assert (shown.layers[1].a == shown.layers[0].a).all()  # dropout is off
    assert (model.gradients == untouched.gradients).all()
    histories = [each.fit([x, -x], [y, y], epochs=2).history for each in (model, untouched)]
    assert histories[0] == histories[1]
    assert (model.parameters == untouched.parameters).all()


def test_an_optimizer_without_steps_shows_no_update():
    model = bp.Sequential([Dense(2)], "mse", "lbfgs", dtype="float64", seed=0)
    shown = bp.explain(model, x, y)
    assert shown.layers[0].gradients and not shown.layers[0].updated
    assert "update" not in str(shown)


def test_long_arrays_are_cut_short():
    model = bp.Sequential([Dense(100), Dense(2)], "mse", input_size=90, seed=0)
    text = str(bp.explain(model, np.arange(90), y))
    assert "..." in text and len(text) < 10000 and max(map(len, text.splitlines())) <= 110


def test_how_a_sample_may_come():
    model = bp.Sequential([Dense(2)], "mse", seed=0)  # not built yet
    expected = str(bp.explain(model, x, y))
    for sample in ((list(x), list(y)), ([x], [y]), (x[np.newaxis], y)):
        assert str(bp.explain(model, *sample)) == expected


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        (([x, x], [y, y]), ValueError, "x must be one sample, got 2"),
        ((x[:2], y), ValueError, "X has 2 columns, expected 3"),
        ((x, y[:1]), ValueError, r"y has shape \(1, 1\), expected \(1, 2\)"),
        ((x * np.nan, y), ValueError, "X holds 3 values that are NaN"),
        (("text", y), TypeError, "X"),
    ],
)
def test_samples_that_cannot_be(sample, error, message):
    with pytest.raises(error, match=message):
        bp.explain(bp.Sequential([Dense(2)], "mse", input_size=3), *sample)


def test_models_that_cannot_be():
    with pytest.raises(TypeError, match="model must be a Sequential"):
        bp.explain(Dense(2), x, y)
    with pytest.raises(ValueError, match="loss: the model has none"):
        bp.explain(bp.Sequential([Dense(2)]), x, y)
