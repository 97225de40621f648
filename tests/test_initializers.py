"""Initializers: shapes, dtypes, distributions, names."""

import math

import numpy as np
import pytest

from fastbp import initializers
from fastbp.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    Orthogonal,
    Zeros,
)

ALL = [Zeros(), Constant(0.5), GlorotUniform(), GlorotNormal(), HeUniform(), HeNormal(), Orthogonal(gain=2.0)]


@pytest.mark.parametrize("initializer", ALL, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 3), (3, 5), (16, 16)])
def test_shape_dtype_and_seed(initializer, dtype, shape):
    first, second = (initializer(np.random.default_rng(3), *shape, dtype) for _ in range(2))
    assert first.shape == shape
    assert first.dtype == dtype
    np.testing.assert_array_equal(first, second)
    other = initializer(np.random.default_rng(3), *shape, "float64")
    np.testing.assert_array_equal(first, other.astype(dtype))


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (GlorotUniform(), 2 / (300 + 200)),
        (GlorotNormal(), 2 / (300 + 200)),
        (HeUniform(), 2 / 300),
        (HeNormal(), 2 / 300),
        (Orthogonal(), 1 / 300),
    ],
    ids=repr,
)
def test_mean_and_variance(initializer, variance):
    values = initializer(np.random.default_rng(0), 200, 300, "float64")
    assert abs(values.mean()) < 4 * math.sqrt(variance / values.size)
    assert values.var() == pytest.approx(variance, rel=0.03)
    if "Uniform" in repr(initializer):
        limit = math.sqrt(3 * variance)
        assert 0.999 * limit < np.abs(values).max() <= limit
    elif "Normal" in repr(initializer):  # tails are not cut off at two standard deviations
        assert np.mean(np.abs(values) > 2 * math.sqrt(variance)) == pytest.approx(0.0455, rel=0.1)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 5)])
def test_orthogonal(shape):
    values = Orthogonal(gain=3.0)(np.random.default_rng(1), *shape, "float64")
    small = values @ values.T if shape[0] <= shape[1] else values.T @ values
    np.testing.assert_allclose(small, 9 * np.eye(min(shape)), atol=1e-13)


def test_orthogonal_depends_on_no_convention_of_signs():
    rng = np.random.default_rng(0)
    corners = [Orthogonal()(rng, 3, 3, "float64")[0, 0] for _ in range(2000)]
    assert abs(np.mean(corners)) < 0.05  # uniform on the sphere, a coordinate of which has variance 1/3
    assert np.var(corners) == pytest.approx(1 / 3, rel=0.1)


def test_names():
    for key in (
        "zeros",
        "constant",
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "orthogonal",
    ):
        assert initializers.get(key).key == key
    assert initializers.get("ones") == Constant(1.0)
    assert initializers.get("HeNormal") == HeNormal()
    with pytest.raises(
        ValueError, match=r"initializer 'he_norml' is not known; did you mean 'he_normal'\? Known: "
    ):
        initializers.get("he_norml")
    with pytest.raises(
        TypeError, match="kernel_initializer must be a name or an object of Initializer, got 3"
    ):
        initializers.get(3, "kernel_initializer")
    with pytest.raises(TypeError, match=r"must be an object: HeNormal\(\), not the class HeNormal"):
        initializers.get(HeNormal)


def test_a_function_is_an_initializer():
    def identity(rng, out_features, in_features, dtype):
        return np.eye(out_features, in_features, dtype=dtype)

    assert initializers.get(identity) is identity


@pytest.mark.parametrize("initializer", ALL, ids=repr)
def test_description(initializer):
    assert eval(repr(initializer)) == initializer
    assert Initializer.from_config(initializer.config()) == initializer
    assert type(initializer).from_config(initializer.config()) == initializer
    assert initializers.get(initializer.config()) == initializer


def test_bad_values():
    with pytest.raises(ValueError, match=r"value must be a number in \(-inf, inf\), got nan"):
        Constant(math.nan)
    with pytest.raises(TypeError, match="gain must be a number"):
        Orthogonal("1")
    with pytest.raises(ValueError, match="Constant has no argument 'gain'"):
        Initializer.from_config({"class": "Constant", "gain": 1})
    with pytest.raises(ValueError, match="class 'Adam' is no Initializer"):
        Initializer.from_config({"class": "Adam"})
