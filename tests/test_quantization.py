"""Dense layers in eight bits: how near they come, and where they cannot work."""

import numpy as np
import pytest

import fastbp as bp
from fastbp import inference, quantization
from fastbp.layers import Dense


def quantized(model, x):
    traced = inference.trace(model)
    return traced, quantization.quantize(traced, x.astype(np.float32))


def test_one_layer_is_as_near_as_its_steps_allow():
    rng = np.random.default_rng(0)
    model = bp.Sequential([Dense(5)], input_size=30, seed=0)
    model.layers[0].bias = rng.normal(size=5)
    x = rng.uniform(-1, 3, size=(50, 30))
    traced, dense = quantized(model, x)
    (layer,) = dense.values()
    weight = model.layers[0].weight
    step = 1 / layer.rate
    assert step == pytest.approx((x.max() - x.min()) / 255, rel=1e-5)
    units = layer.scale / step
    np.testing.assert_allclose(layer.weight * units[:, None], weight, atol=units.max() / 2 * 1.001)
    assert (np.abs(layer.weight).max(axis=1) == 127).all()
    # half a step of each input and each weight, and of the bias
    bound = (np.abs(weight).sum(axis=1) * step + np.abs(x).max() * 30 * units + units * step) / 2
    got = quantization.run(traced, x, dense)
    assert (np.abs(got - model.predict(x)) <= bound * 1.01).all()
    assert np.abs(got - model.predict(x)).max() > 0


def test_integers_are_exact():
    """Weights and inputs that are levels already come out as they are, zero points and biases included."""
    rng = np.random.default_rng(0)
    model = bp.Sequential([Dense(4)], input_size=9, seed=0)
    weight = rng.integers(-126, 127, size=(4, 9))
    weight[:, 0] = 127
    model.layers[0].weight, model.layers[0].bias = weight, [1, -2, 3, 1000]
    x = rng.integers(-100, 156, size=(20, 9)).astype(float)
    x[0, :2] = -100, 155
    traced, dense = quantized(model, x)
    np.testing.assert_array_equal(quantization.run(traced, x, dense), model.predict(x))


def test_values_outside_of_the_range_are_the_nearest_in_it():
    model = bp.Sequential([Dense(1, use_bias=False)], input_size=1)
    model.layers[0].weight[...] = 1
    traced, dense = quantized(model, np.array([[-1.0], [1.0]]))
    got = quantization.run(traced, np.array([[-50.0], [0.0], [50.0]]), dense)
    np.testing.assert_allclose(got.ravel(), [-1, 0, 1], atol=0.01)


def test_layers_without_anything_in_them():
    model = bp.Sequential([Dense(2)], input_size=3)
    model.layers[0].weight[...] = 0
    model.layers[0].bias = [0, 1e-3]
    traced, dense = quantized(model, np.zeros((4, 3)))
    got = quantization.run(traced, np.zeros((4, 3)), dense)
    assert np.isfinite(got).all()


def test_sums_that_leave_32_bits_are_refused():
    model = bp.Sequential([Dense(1)], input_size=2)
    model.layers[0].weight[...] = 1e-6
    model.layers[0].bias[...] = 1e6
    with pytest.raises(
        ValueError, match="layer 'dense': its sums do not fit into 32 bits; export it as float32"
    ):
        quantized(model, np.ones((2, 2)))
