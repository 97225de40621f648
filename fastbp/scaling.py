"""Rescaling and Normalization: inputs brought to a size that networks like, by the model itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastbp.checks import check_number
from fastbp.engine.graph import Graph, Value
from fastbp.initializers import Constant, Zeros
from fastbp.layer import Array, Layer, Live
from fastbp.shape import rows

BLOCK = 4096  # rows of which adapt makes float64 at a time


class Rescaling(Layer):
    """y = scale · x + offset, the same for all features.

    Parameters
    ----------
    scale : float
    offset : float
    name : str, optional

    Examples
    --------
    >>> import fastbp as bp
    >>> bp.Sequential([bp.layers.Rescaling(1 / 255)], input_size=2).predict([[0, 255]])
    array([[0., 1.]], dtype=float32)
    """

    key = "rescaling"

    def __init__(self, scale: float, offset: float = 0.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.scale = check_number("scale", scale, "(-inf, inf)")
        self.offset = check_number("offset", offset, "(-inf, inf)")

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y, and on the way back dx = scale · dy."""
        y = graph.tensor(x.columns)
        graph.emit("rescale", x=x, y=y, scale=self.scale, offset=self.offset)

        def backward(dy: Value) -> Value:
            dx = graph.delta(x.columns)
            graph.emit("rescale", x=dy, y=dx, scale=self.scale, offset=0.0)
            return dx

        graph.backward(backward)
        return y


class Normalization(Layer):
    """y = (x − mean) / max(√variance, 1e-7) for each feature, with the numbers of :meth:`adapt`.

    The numbers are taken from data once, travel with the model (saved, loaded, copied), and do not change in
    training. Until :meth:`adapt` is called, mean is 0 and variance 1: the layer passes its input on.

    Parameters
    ----------
    name : str, optional

    Attributes
    ----------
    mean, variance : ndarray, shape (features,)
        Live views, once the model is built.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as bp
    >>> X = np.array([[1.0, 10.0], [3.0, 10.0]])
    >>> layer = bp.layers.Normalization()
    >>> layer.adapt(X)
    >>> bp.Sequential([layer], input_size=2, dtype="float64").predict(X)
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    key = "normalization"
    mean = Live("mean", "statistics", "Mean of each feature, shape (features,).")
    variance = Live("variance", "statistics", "Biased variance of each feature, shape (features,).")

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self._adapted: dict[str, Array] = {}

    def adapt(self, X: ArrayLike) -> None:
        """Take mean and biased variance of each feature from data, before or after the model is built.

        Parameters
        ----------
        X : array_like, shape (n, features)
            The columns that the layer gets to see. Samples of several axes count as rows of features.

        Raises
        ------
        TypeError, ValueError
            When X is no such matrix, holds a value that is not finite, or has another number of features
            than the model.
        """
        values = np.asarray(rows(X))
        if values.dtype.kind not in "fiub":
            raise TypeError(f"X must hold numbers, got elements of type {values.dtype}")
        if values.ndim != 2 or not values.size:
            raise ValueError(f"X must have shape (n, features) and not be empty, got shape {values.shape}")
        # in float64, block by block, so that no copy of X is made
        mean = values.mean(axis=0, dtype=np.float64)
        variance = np.zeros_like(mean)
        for begin in range(0, len(values), BLOCK):
            variance += np.square(values[begin : begin + BLOCK] - mean).sum(axis=0)
        adapted = {"mean": mean, "variance": variance / len(values)}
        if not all(np.isfinite(numbers).all() for numbers in adapted.values()):
            raise ValueError("X must hold finite numbers whose variance is finite too")
        if self._statistics:
            self._take(adapted)
        self._adapted = adapted

    def initialize(self, rng: np.random.Generator) -> None:
        """Start from the numbers of :meth:`adapt`."""
        super().initialize(rng)
        self._take(self._adapted)

    def _take(self, adapted: dict[str, Array]) -> None:
        for name, numbers in adapted.items():
            setattr(self, name, numbers)

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y, and on the way back dx = dy / max(√variance, 1e-7)."""
        mean = graph.statistic("mean", x.columns, Zeros())
        variance = graph.statistic("variance", x.columns, Constant(1.0))
        y = graph.tensor(x.columns)
        graph.emit("normalize", x=x, mean=mean, variance=variance, y=y)

        def backward(dy: Value) -> Value:
            dx = graph.delta(x.columns)
            graph.emit("normalize", x=dy, mean=None, variance=variance, y=dx)
            return dx

        graph.backward(backward)
        return y

    def view(self, name: str, memory: Array) -> Array:
        """Return the numbers as (features,)."""
        vector: Array = memory[0]
        return vector
