"""Initializers: the values that parameters start from.

An initializer is called as ``initializer(rng, out_features, in_features, dtype)`` and returns an array of
shape (out_features, in_features); any function of that kind will do in its place. Random values are drawn
in float64 and then rounded, so that a seed gives the same network in both dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp.checks import check_number
from fastbp.configurable import Configurable, lookup

# A text, because numpy.random is not loaded before it is used.
InitializerFunction: TypeAlias = "Callable[[np.random.Generator, int, int, DTypeLike], NDArray[np.floating]]"


class Initializer(Configurable):
    """Base of all initializers. A subclass gives :meth:`draw`."""

    def draw(self, rng: np.random.Generator, out_features: int, in_features: int) -> NDArray[np.float64]:
        """Return values of shape (out_features, in_features)."""
        raise NotImplementedError

    def __call__(
        self, rng: np.random.Generator, out_features: int, in_features: int, dtype: DTypeLike
    ) -> NDArray[np.floating]:
        """Return values of shape (out_features, in_features) in `dtype`."""
        return self.draw(rng, out_features, in_features).astype(dtype)

    # Two initializers that do the same are the same, so that plans can be compared.
    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class Constant(Initializer):
    """The same value everywhere.

    Parameters
    ----------
    value : float
    """

    key = "constant"

    def __init__(self, value: float = 0.0) -> None:
        self.value = check_number("value", value, "(-inf, inf)")

    def draw(self, rng: np.random.Generator, out_features: int, in_features: int) -> NDArray[np.float64]:
        """Return an array full of the value."""
        return np.full((out_features, in_features), self.value)


class Zeros(Initializer):
    """Zeros."""

    key = "zeros"

    def draw(self, rng: np.random.Generator, out_features: int, in_features: int) -> NDArray[np.float64]:
        """Return zeros."""
        return np.zeros((out_features, in_features))


class RandomUniform(Initializer):
    """Uniform on [minval, maxval), the same for all shapes.

    Parameters
    ----------
    minval, maxval : float
    """

    key = "random_uniform"

    def __init__(self, minval: float = -0.05, maxval: float = 0.05) -> None:
        self.minval = check_number("minval", minval, "(-inf, inf)")
        self.maxval = check_number("maxval", maxval, "(-inf, inf)")
        if minval > maxval:
            raise ValueError(f"minval must not be above maxval, got {minval} and {maxval}")

    def draw(self, rng: np.random.Generator, out_features: int, in_features: int) -> NDArray[np.float64]:
        """Return values between the two."""
        return rng.uniform(self.minval, self.maxval, (out_features, in_features))


class _Uniform(Initializer):
    """Uniform on [-limit, limit), whose variance is limit² / 3."""

    def variance(self, out_features: int, in_features: int) -> float:
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, out_features: int, in_features: int) -> NDArray[np.float64]:
        limit = math.sqrt(3.0 * self.variance(out_features, in_features))
        return rng.uniform(-limit, limit, (out_features, in_features))


class _Normal(Initializer):
    """A plain normal distribution as in PyTorch; Keras cuts off its tails at two standard deviations."""

    def variance(self, out_features: int, in_features: int) -> float:
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, out_features: int, in_features: int) -> NDArray[np.float64]:
        deviation = math.sqrt(self.variance(out_features, in_features))
        return rng.normal(0.0, deviation, (out_features, in_features))


class _Glorot:
    def variance(self, out_features: int, in_features: int) -> float:
        return 2.0 / (in_features + out_features)


class _He:
    def variance(self, out_features: int, in_features: int) -> float:
        return 2.0 / in_features


class GlorotUniform(_Glorot, _Uniform):
    """Uniform with variance 2 / (in + out): the limit is sqrt(6 / (in + out)).

    Keeps the variance of activations and deltas about equal from layer to layer of a linear or tanh network
    (Glorot and Bengio, 2010).
    """

    key = "glorot_uniform"


class GlorotNormal(_Glorot, _Normal):
    """Normal with variance 2 / (in + out) (Glorot and Bengio, 2010).

    A plain normal distribution as in PyTorch; Keras cuts off its tails.
    """

    key = "glorot_normal"


class HeUniform(_He, _Uniform):
    """Uniform with variance 2 / in: the limit is sqrt(6 / in).

    Makes up for the half of the variance that ReLU takes away (He et al., 2015).
    """

    key = "he_uniform"


class HeNormal(_He, _Normal):
    """Normal with variance 2 / in (He et al., 2015).

    A plain normal distribution as in PyTorch; Keras cuts off its tails.
    """

    key = "he_normal"


class Orthogonal(Initializer):
    """Orthonormal rows (or columns, where there are fewer of them), uniformly distributed, times a gain.

    The Q of a normal matrix, its columns turned by the signs of R's diagonal: without the signs the
    distribution would hang on the QR routine (Mezzadri, 2007). For deep networks: Saxe et al. (2014).

    Parameters
    ----------
    gain : float
        Factor of the result.
    """

    key = "orthogonal"

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number("gain", gain, "(-inf, inf)")

    def draw(self, rng: np.random.Generator, out_features: int, in_features: int) -> NDArray[np.float64]:
        """Return gain times a matrix with orthonormal rows or columns."""
        tall = (max(out_features, in_features), min(out_features, in_features))
        q, r = np.linalg.qr(rng.normal(size=tall))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * (q if out_features >= in_features else q.T)


_ALIASES: dict[str, Callable[[], Initializer]] = {"ones": lambda: Constant(1.0), "uniform": RandomUniform}


def get(
    value: str | InitializerFunction | Mapping[str, Any], argument: str = "initializer"
) -> InitializerFunction:
    """Return the initializer that `value` stands for.

    Parameters
    ----------
    value : str, Initializer, callable or dict
        A name such as "he_normal" (Keras' spelling), an object, any function of
        (rng, out_features, in_features, dtype), or what :meth:`Initializer.config` gave.
    argument : str
        Name to blame.

    Raises
    ------
    TypeError, ValueError
        For an unknown name (the message lists the known ones) or another type.

    Examples
    --------
    >>> get("he_normal")
    HeNormal()
    >>> get("ones")(np.random.default_rng(0), 1, 3, "float32")
    array([[1., 1., 1.]], dtype=float32)
    """
    if callable(value) and not isinstance(value, type):
        return value
    return lookup(Initializer, value, argument, _ALIASES)
