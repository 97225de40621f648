"""The layers that a network is made of: Dense, Dropout, GaussianNoise, and those of other files.

The formulas follow z = W a + b for one sample; a batch stacks samples as rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from fastbp import activations, constraints, initializers, regularizers
from fastbp.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    Exponential,
    LeakyReLU,
    Linear,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastbp.checks import check_count, check_flag, check_number
from fastbp.constraints import Constraint
from fastbp.custom_layer import CustomLayer
from fastbp.embedding import Embedding
from fastbp.engine.graph import Graph, Value
from fastbp.initializers import InitializerFunction
from fastbp.layer import Array, Layer, name_layers
from fastbp.normalization import BatchNormalization, LayerNormalization
from fastbp.prelu import PReLU
from fastbp.regularizers import Regularizer
from fastbp.scaling import Normalization, Rescaling
from fastbp.shape import Flatten, Reshape
from fastbp.structure import Branches, Residual

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "BatchNormalization",
    "Branches",
    "CustomLayer",
    "Dense",
    "Dropout",
    "Embedding",
    "Exponential",
    "Flatten",
    "GaussianNoise",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Linear",
    "Mish",
    "Normalization",
    "PReLU",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "name_layers",
]


class Dense(Layer):
    """Fully connected layer: a = g(W x + b).

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str, activation layer or None
        g, such as "relu", "softmax" or ``LeakyReLU(0.2)``; None for none.
    use_bias : bool
        Whether b exists.
    kernel_initializer, bias_initializer : str, Initializer or callable
        Where W and b start; see :mod:`fastbp.initializers`.
    kernel_regularizer, bias_regularizer : str or Regularizer, optional
        Penalty of W and b that is added to the loss; see :mod:`fastbp.regularizers`.
    kernel_constraint : str or Constraint, optional
        What holds for W after each step; see :mod:`fastbp.constraints`.
    name : str, optional
        Unique within a model.

    Raises
    ------
    TypeError, ValueError
        For arguments out of their range, at once.

    Examples
    --------
    >>> Dense(128, activation="relu", kernel_initializer="he_normal")
    Dense(128, activation='relu', kernel_initializer='he_normal')
    """

    key = "dense"

    def __init__(
        self,
        units: int,
        activation: str | Layer | Mapping[str, Any] | None = None,
        use_bias: bool = True,
        kernel_initializer: str | InitializerFunction | Mapping[str, Any] = "glorot_uniform",
        bias_initializer: str | InitializerFunction | Mapping[str, Any] = "zeros",
        kernel_regularizer: str | Regularizer | Mapping[str, Any] | None = None,
        bias_regularizer: str | Regularizer | Mapping[str, Any] | None = None,
        kernel_constraint: str | Constraint | Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.units = check_count("units", units)
        self.activation = activations.get(activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.kernel_regularizer = regularizers.get(kernel_regularizer, "kernel_regularizer")
        self.bias_regularizer = regularizers.get(bias_regularizer, "bias_regularizer")
        self.kernel_constraint = constraints.get(kernel_constraint, "kernel_constraint")

    def output_size(self, input_size: int) -> int:
        """Return the number of units."""
        return self.units

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit Z = X Wᵀ + b and then g; on the way back dW = dZᵀ X, db = Σ over rows of dZ, dX = dZ W."""
        # W lies in memory as its transpose, (in, out): the forward pass and dW then need no packing.
        weight = graph.parameter(
            "weight",
            x.columns,
            self.units,
            self.kernel_initializer,
            penalty=_penalty(self.kernel_regularizer),
            max_norm=None if self.kernel_constraint is None else self.kernel_constraint.max_value,
        )
        bias = None
        if self.use_bias:
            penalty = _penalty(self.bias_regularizer)
            bias = graph.parameter("bias", 1, self.units, self.bias_initializer, decay=False, penalty=penalty)
        z = graph.tensor(self.units)
        plain: dict[str, str | float] = {"activation": "linear", "alpha": 0.0}
        graph.emit("dense_forward", x=x, weight=weight, bias=bias, y=z, **plain)

        def backward(dz: Value) -> Value:
            dw, db = weight.gradient, bias.gradient if bias else None
            dx = graph.delta(x.columns)
            # first what reads the weight: the product of its gradient may make the step at once
            graph.emit("dense_backward_input", dy=dz, weight=weight, saved=None, dx=dx, **plain)
            graph.emit("dense_backward_weight", x=x, dy=dz, weight_grad=dw, bias_grad=db)
            return dx

        graph.backward(backward)
        return self.activation.plan(graph, z)

    def view(self, name: str, memory: Array) -> Array:
        """Return the weight as (out, in), the bias as (out,)."""
        return memory.T if name == "weight" else memory[0]

    @property
    def weight(self) -> Array:
        """W, shape (units, inputs): a live view. ``layer.weight = array`` copies the array in.

        Raises
        ------
        AttributeError
            Before the model is built.
        ValueError
            When an array of another shape is assigned.
        """
        return self._get(self._parameters, "weight")

    @weight.setter
    def weight(self, values: ArrayLike) -> None:
        self._set("weight", values)

    @property
    def bias(self) -> Array | None:
        """b, shape (units,): a live view like :attr:`weight`; None with ``use_bias=False``."""
        return self._get(self._parameters, "bias") if self.use_bias else None

    @bias.setter
    def bias(self, values: ArrayLike) -> None:
        if not self.use_bias:
            raise AttributeError(f"layer {self.name!r} has no bias: it was made with use_bias=False")
        self._set("bias", values)

    @property
    def weight_grad(self) -> Array:
        """∂L/∂W of the last backward pass, shape (units, inputs): a live view."""
        return self._get(self._gradients, "weight")

    @property
    def bias_grad(self) -> Array | None:
        """∂L/∂b of the last backward pass, shape (units,): a live view; None with ``use_bias=False``."""
        return self._get(self._gradients, "bias") if self.use_bias else None


def _penalty(regularizer: Regularizer | None) -> tuple[float, float]:
    return (0.0, 0.0) if regularizer is None else (regularizer.l1, regularizer.l2)


class Dropout(Layer):
    """In training, sets each feature to 0 with probability `rate` and divides the others by 1 − rate.

    The expected value stays the same, so that nothing needs scaling at prediction (Srivastava et al., 2014).
    Which features are dropped follows from the model's seed and the number of the training step alone, by 16
    random bits for each: the rate in use, in the divisor too, is the multiple of 2⁻¹⁶ nearest to `rate`.

    Parameters
    ----------
    rate : float
        In [0, 1).
    name : str, optional

    Examples
    --------
    >>> Dropout(0.2)
    Dropout(0.2)
    """

    key = "dropout"

    def __init__(self, rate: float, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.rate = check_number("rate", rate, "[0, 1)")

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y = x · mask / (1 − rate), and the same on the delta."""
        rate, stream = self.rate, graph.stream()
        if rate == 0:
            return x
        # Out of place: the backward pass of the activation before wants its undropped output.
        y = graph.tensor(x.columns)
        graph.emit("dropout_forward", x=x, y=y, rate=rate, stream=stream)

        def backward(dy: Value) -> Value:
            dx = graph.delta(x.columns)
            graph.emit("dropout_backward", dy=dy, dx=dx, rate=rate, stream=stream)
            return dx

        graph.backward(backward)
        return y


class GaussianNoise(Layer):
    """In training, adds normal random numbers of mean 0 and deviation `stddev` to each feature.

    The numbers follow from the model's seed and the number of the training step alone (Box and Muller, 1958,
    on counter-based uniform ones), so that both interpreters and any number of threads draw the same.

    Parameters
    ----------
    stddev : float
        At least 0.
    name : str, optional

    Examples
    --------
    >>> GaussianNoise(0.1)
    GaussianNoise(0.1)
    """

    key = "gaussian_noise"

    def __init__(self, stddev: float, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.stddev = check_number("stddev", stddev, "[0, inf)")

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y = x + noise; the delta passes as it is."""
        stream = graph.stream()
        if self.stddev == 0:
            return x
        y = graph.tensor(x.columns)
        graph.emit("gaussian_noise", x=x, y=y, stddev=self.stddev, stream=stream)
        return y
