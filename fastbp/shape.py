"""Flatten and Reshape: samples of several axes, such as images, in a network of rows of features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastbp.checks import check_count
from fastbp.engine.graph import Graph, Value
from fastbp.layer import Layer


class Flatten(Layer):
    """Takes samples of any shape as rows of features, the last axis running fastest.

    As the first layer of a model it lets X have more than two axes, (n, height, width) say. All other layers
    give rows of features anyway.

    Parameters
    ----------
    name : str, optional

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Flatten(), bp.layers.Dense(10)])
    >>> model.predict(np.zeros((5, 28, 28))).shape
    (5, 10)
    """

    key = "flatten"

    def plan(self, graph: Graph, x: Value) -> Value:
        """Return x: in memory a sample is a row already."""
        return x


class Reshape(Layer):
    """Gives the features of each sample a shape. As the last layer it is the shape of what predict returns.

    The targets may have it too. Anywhere else the layer only checks the number of features.

    Parameters
    ----------
    target_shape : sequence of int
        Of one sample; one of the numbers may be -1 for what is left.
    name : str, optional

    Raises
    ------
    TypeError, ValueError
        For something that is no shape; when the model is built, for features that do not fill it.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Flatten(), bp.layers.Dense(64), bp.layers.Reshape((8, 8))])
    >>> model.predict(np.zeros((5, 8, 8))).shape
    (5, 8, 8)
    """

    key = "reshape"

    def __init__(self, target_shape: Sequence[int], *, name: str | None = None) -> None:
        super().__init__(name=name)
        if isinstance(target_shape, str) or not isinstance(target_shape, Iterable):
            raise TypeError(f"target_shape must be a tuple of ints, got {target_shape!r}")
        self.target_shape = tuple(
            -1 if size == -1 else check_count("target_shape", size) for size in target_shape
        )
        if not self.target_shape or self.target_shape.count(-1) > 1:
            raise ValueError(f"target_shape must have axes, of which one may be -1, got {self.target_shape}")

    def plan(self, graph: Graph, x: Value) -> Value:
        """Return x, whose number of features must fit."""
        self.shape(x.columns)
        return x

    def shape(self, features: int) -> tuple[int, ...]:
        """Return the shape of a sample that has so many features."""
        known = math.prod(size for size in self.target_shape if size != -1)
        filled = features % known == 0 if -1 in self.target_shape else features == known
        if not filled:
            raise ValueError(
                f"layer {self.name!r}: {features} features do not fill the shape {self.target_shape}"
            )
        return tuple(features // known if size == -1 else size for size in self.target_shape)


def rows(values: Any) -> Any:
    """Return samples of several axes as a matrix of one row per sample; all else comes back as it is."""
    if not hasattr(values, "shape"):
        try:
            values = np.asarray(values)
        except ValueError:  # rows of different lengths: whoever reads the values says so
            return values
    shape = values.shape
    return values.reshape(shape[0], -1) if len(shape) > 2 and 0 not in shape else values
