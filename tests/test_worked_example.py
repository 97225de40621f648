"""The textbook's examples, digit by digit, through the public interface and on both interpreters."""

import math
from fractions import Fraction

import numpy as np
import pytest

import fastbp as bp
from fastbp.engine import backend

pytestmark = pytest.mark.usefixtures("interpreter")


def one_node_per_layer(dtype):
    """z1 = m1 x, z2 = m2 z1, ŷ = ReLU(z2), with m1 = 3 and m2 = 0.5."""
    m1 = bp.layers.Dense(1, use_bias=False)
    m2 = bp.layers.Dense(1, activation="relu", use_bias=False)
    model = bp.Sequential(
        [m1, m2], loss="half_squared_error", optimizer=bp.optimizers.SGD(0.1), input_size=1, dtype=dtype
    )
    m1.weight[...], m2.weight[...] = 3, 0.5
    return model, m1, m2


def same(dtype, value, expected):
    """To the last bit in float64, to six digits in float32."""
    value = np.asarray(value).item()
    return value == expected if dtype == "float64" else f"{value:.6g}" == f"{expected:.6g}"


def updated(dtype, weight, before, gradient):
    """before − 0.1 · gradient but for the last bit: the product may be rounded, or fused with the sum."""
    if dtype == "float32":
        return f"{weight.item():.6g}" == f"{before - 0.1 * gradient:.6g}"
    error = Fraction(weight.item()) - (Fraction(before) - Fraction(0.1) * gradient)
    return abs(error) <= np.finfo(float).eps * max(before, 0.1 * gradient)


def test_the_interpreter_is_the_one_asked_for(interpreter):
    model, _, _ = one_node_per_layer("float32")
    program = backend.compile(
        model.plan, model.parameters, model.gradients, np.zeros(0, "float32"), np.zeros(2, np.int64)
    )
    assert (
        type(program).__module__
        == {
            "native": "fastbp.engine._native",
            "reference": "fastbp.engine.reference",
        }[interpreter]
    )


def test_forward_loss_gradients_and_update(dtype):
    model, m1, m2 = one_node_per_layer(dtype)
    assert same(dtype, model.predict([[2]]), 3.0)
    assert model.evaluate([[2]], [1]) == {"loss": 2.0}
    assert model.train_on_batch([[2]], [1]) == 2.0
    assert same(dtype, m2.weight_grad, 12.0)  # 2 · 1 · a1
    assert same(dtype, m1.weight_grad, 2.0)  # 2 · 1 · m2 · x
    assert updated(dtype, m2.weight, 0.5, 12)
    assert updated(dtype, m1.weight, 3, 2)
    assert f"{m2.weight.item():.6g}" == "-0.7" and f"{m1.weight.item():.6g}" == "2.8"


def test_on_the_second_step_the_unit_is_dead(dtype):
    model, m1, m2 = one_node_per_layer(dtype)
    model.train_on_batch([[2]], [1])
    before = m1.weight.item(), m2.weight.item()
    assert model.predict([[2]]).item() == 0
    assert model.train_on_batch([[2]], [1]) == 0.5
    assert m1.weight_grad.item() == m2.weight_grad.item() == 0
    assert (m1.weight.item(), m2.weight.item()) == before
    history = model.fit([[2]], [1], epochs=3)
    assert history.history["loss"] == [0.5, 0.5, 0.5]
    assert (m1.weight.item(), m2.weight.item()) == before


def test_the_same_in_a_loop_of_ones_own(dtype):
    model, m1, m2 = one_node_per_layer(dtype)
    prediction = model.forward([[2]], training=True)
    dx = model.backward(prediction - 1)
    assert same(dtype, m2.weight_grad, 12.0) and same(dtype, m1.weight_grad, 2.0)
    assert same(dtype, dx, 2 * 1 * 0.5 * 3)
    model.step()
    assert updated(dtype, m2.weight, 0.5, 12) and updated(dtype, m1.weight, 3, 2)


def test_the_same_through_fit(dtype):
    model, m1, m2 = one_node_per_layer(dtype)
    history = model.fit([[2]], [1], epochs=2)
    assert history.history["loss"] == [2.0, 0.5]
    assert updated(dtype, m2.weight, 0.5, 12) and updated(dtype, m1.weight, 3, 2)


def test_ten_nodes_to_ten_nodes(dtype):
    """Small integers, so that every sum is exact in whatever order it is taken."""
    rng = np.random.default_rng(0)
    W, b = rng.integers(-4, 5, (10, 10)), rng.integers(-4, 5, 10)
    a, y = rng.integers(-4, 5, 10), rng.integers(-4, 5, 10)
    rate = 0.125
    layer = bp.layers.Dense(10)
    model = bp.Sequential(
        [layer], loss="half_squared_error", optimizer=bp.optimizers.SGD(rate), input_size=10, dtype=dtype
    )
    layer.weight[...], layer.bias[...] = W, b

    z = [sum(int(W[i, j]) * int(a[j]) for j in range(10)) + int(b[i]) for i in range(10)]
    delta = [z[i] - int(y[i]) for i in range(10)]
    assert model.predict([a]).tolist() == [z]
    assert model.train_on_batch([a], [y]) == sum(d * d for d in delta) / 2
    for i in range(10):
        assert layer.bias_grad[i] == delta[i]
        assert layer.bias[i] == b[i] - rate * delta[i]
        for j in range(10):
            assert layer.weight_grad[i, j] == delta[i] * a[j]
            assert layer.weight[i, j] == W[i, j] - rate * delta[i] * a[j]


def test_ten_nodes_to_ten_nodes_sums_over_a_batch(dtype):
    rng = np.random.default_rng(1)
    W, A, D = (rng.integers(-4, 5, shape) for shape in ((10, 10), (16, 10), (16, 10)))
    layer = bp.layers.Dense(10)
    model = bp.Sequential([layer], input_size=10, dtype=dtype)
    layer.weight[...], layer.bias[...] = W, 0
    assert (model.forward(A) == A @ W.T).all()
    assert (model.backward(D) == D @ W).all()
    assert (layer.weight_grad == sum(np.outer(D[n], A[n]) for n in range(16))).all()
    assert (layer.bias_grad == D.sum(axis=0)).all()


def test_binary_cross_entropy_after_a_sigmoid(dtype):
    """L = −y log ŷ − (1 − y) log(1 − ŷ): the delta at the logit is ŷ − y."""
    layer = bp.layers.Dense(1, activation="sigmoid")
    model = bp.Sequential(
        [layer],
        loss="binary_cross_entropy",
        optimizer=bp.optimizers.SGD(0.5),
        input_size=2,
        dtype=dtype,
    )
    w, b, x, y = [0.5, -0.25], 0.125, [1.0, 2.0], 1.0
    layer.weight[...], layer.bias[...] = [w], [b]
    probability = 1 / (1 + math.exp(-(w[0] * x[0] + w[1] * x[1] + b)))
    tolerance = 1e-14 if dtype == "float64" else 1e-6
    assert model.predict([x]).item() == pytest.approx(probability, rel=tolerance)
    loss = model.train_on_batch([x], [y])
    assert loss == pytest.approx(-math.log(probability), rel=tolerance)
    delta = probability - y
    assert layer.weight_grad[0] == pytest.approx([delta * x[0], delta * x[1]], rel=tolerance)
    assert layer.bias_grad == pytest.approx([delta], rel=tolerance)
    assert layer.weight[0] == pytest.approx(
        [w[0] - 0.5 * delta * x[0], w[1] - 0.5 * delta * x[1]], rel=tolerance
    )
    assert layer.bias == pytest.approx([b - 0.5 * delta], rel=tolerance)


def test_hidden_deltas_are_those_of_the_textbook(dtype):
    """δ_L = ŷ − y, δ_l = (W_{l+1}ᵀ δ_{l+1}) ⊙ g′(z_l), ∂L/∂W_l = δ_l a_{l−1}ᵀ, ∂L/∂b_l = δ_l."""
    hidden, out = bp.layers.Dense(3, activation="tanh"), bp.layers.Dense(2)
    model = bp.Sequential(
        [hidden, out], loss="half_squared_error", optimizer="sgd", input_size=4, dtype=dtype, seed=0
    )
    x, y = np.array([0.5, -1.0, 2.0, 0.25]), np.array([1.0, -1.0])
    (W1, b1), (W2, b2) = ((layer.weight.astype(float), layer.bias.astype(float)) for layer in (hidden, out))
    a1 = np.tanh(W1 @ x + b1)
    delta2 = W2 @ a1 + b2 - y
    delta1 = (W2.T @ delta2) * (1 - a1**2)
    model.train_on_batch([x], [y])
    rtol, atol = (1e-13, 1e-15) if dtype == "float64" else (1e-5, 1e-7)
    np.testing.assert_allclose(out.weight_grad, np.outer(delta2, a1), rtol, atol)
    np.testing.assert_allclose(out.bias_grad, delta2, rtol, atol)
    np.testing.assert_allclose(hidden.weight_grad, np.outer(delta1, x), rtol, atol)
    np.testing.assert_allclose(hidden.bias_grad, delta1, rtol, atol)
