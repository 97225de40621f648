"""Activations, each of them a layer: y = g(x), element by element (softmax: row by row)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastbp.checks import check_choice, check_number
from fastbp.configurable import lookup
from fastbp.engine.graph import Graph, Value
from fastbp.engine.plan import ACTIVATIONS
from fastbp.layer import Layer


class ActivationLayer(Layer):
    """Base of the activations: a kind that the engine knows, and its slope or scale."""

    kind: ClassVar[str]

    @property
    def alpha(self) -> float:
        """Slope or scale of the kinds that have one."""
        return 0.0

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y = g(x), and dx = dy · g'(x) computed from whichever of x and y the kind keeps."""
        kind, alpha = self.kind, self.alpha
        if kind == "linear":
            return x
        y = graph.tensor(x.columns)
        graph.emit("activation_forward", x=x, y=y, activation=kind, alpha=alpha)
        saved = y if ACTIVATIONS[kind] == "output" else x

        def backward(dy: Value) -> Value:
            dx = graph.delta(x.columns)
            graph.emit("activation_backward", saved=saved, dy=dy, dx=dx, activation=kind, alpha=alpha)
            return dx

        graph.backward(backward)
        return y


class Linear(ActivationLayer):
    """g(x) = x, which costs nothing."""

    key = kind = "linear"


class ReLU(ActivationLayer):
    """g(x) = max(x, 0); NaN stays NaN, and the derivative at 0 is 0."""

    key = kind = "relu"


class LeakyReLU(ActivationLayer):
    """g(x) = x for x > 0, negative_slope · x below.

    Parameters
    ----------
    negative_slope : float
        At least 0: with a negative slope the output would not tell on which side the input lay.
    name : str, optional
    """

    key = kind = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.negative_slope = check_number("negative_slope", negative_slope, "[0, inf)")

    @property
    def alpha(self) -> float:
        """The slope below 0."""
        return self.negative_slope


class ELU(ActivationLayer):
    """g(x) = x for x > 0, alpha · (exp(x) − 1) below (Clevert et al., 2016).

    Parameters
    ----------
    alpha : float
        At least 0; the output never goes below −alpha.
    name : str, optional
    """

    key = kind = "elu"

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self._alpha = check_number("alpha", alpha, "[0, inf)")

    @property
    def alpha(self) -> float:
        """The scale below 0."""
        return self._alpha


class SELU(ActivationLayer):
    """ELU with the scales that make mean 0 and variance 1 a fixed point (Klambauer et al., 2017)."""

    key = kind = "selu"


class GELU(ActivationLayer):
    """g(x) = x · Φ(x), Φ the normal distribution function (Hendrycks and Gimpel, 2016).

    Parameters
    ----------
    approximate : "none" or "tanh"
        "tanh": ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), the form of the first transformers.
    name : str, optional
    """

    key = "gelu"

    def __init__(self, approximate: str = "none", *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.approximate = check_choice("approximate", approximate, ("none", "tanh"))

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The engine's name of the form."""
        return "gelu" if self.approximate == "none" else "gelu_tanh"


class SiLU(ActivationLayer):
    """g(x) = x · sigmoid(x), also called swish."""

    key = kind = "silu"


class Mish(ActivationLayer):
    """g(x) = x · tanh(softplus(x)) (Misra, 2019)."""

    key = kind = "mish"


class Sigmoid(ActivationLayer):
    """g(x) = 1 / (1 + exp(−x)): the probability of yes. Fuses with binary cross-entropy."""

    key = kind = "sigmoid"


class Tanh(ActivationLayer):
    """g(x) = tanh(x)."""

    key = kind = "tanh"


class Softplus(ActivationLayer):
    """g(x) = log(1 + exp(x)), a smooth ReLU that is positive everywhere."""

    key = kind = "softplus"


class Exponential(ActivationLayer):
    """g(x) = exp(x), for outputs that are positive. Fuses with the Poisson deviance."""

    key = kind = "exponential"


class Softmax(ActivationLayer):
    """g(x)_i = exp(x_i) / Σ_j exp(x_j) over the features: probabilities. Fuses with cross-entropy."""

    key = kind = "softmax"

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y = softmax(x), and dx = y · (dy − Σ_j dy_j y_j)."""
        y = graph.tensor(x.columns)
        graph.emit("softmax_forward", x=x, y=y)

        def backward(dy: Value) -> Value:
            dx = graph.delta(x.columns)
            graph.emit("softmax_backward", y=y, dy=dy, dx=dx)
            return dx

        graph.backward(backward)
        return y


class Activation(Layer):
    """An activation by its name.

    Parameters
    ----------
    kind : str
        "relu", "gelu_tanh", … as in ``Dense(activation=...)``.
    name : str, optional

    Examples
    --------
    >>> Activation("relu")
    Activation('relu')
    """

    def __init__(self, kind: str, *, name: str | None = None) -> None:
        super().__init__(name=name)
        if not isinstance(kind, str):
            raise TypeError(f"kind must be the name of an activation, got {kind!r}")
        self.kind = kind
        self._layer = get(kind, "kind")

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit the activation's operations."""
        return self._layer.plan(graph, x)


_ALIASES: dict[str, Callable[[], ActivationLayer]] = {"gelu_tanh": lambda: GELU("tanh"), "swish": SiLU}


def get(value: str | Layer | Mapping[str, Any] | None, argument: str = "activation") -> ActivationLayer:
    """Return the activation that `value` stands for.

    Parameters
    ----------
    value : str, activation layer, dict or None
        A name, a layer such as ``LeakyReLU(0.2)``, what ``config()`` gave, or None for none.
    argument : str
        Name to blame.

    Raises
    ------
    TypeError, ValueError
        For an unknown name (the message lists the known ones) or another type.

    Examples
    --------
    >>> get("gelu_tanh")
    GELU(approximate='tanh')
    >>> get("rleu")
    Traceback (most recent call last):
    ValueError: activation 'rleu' is not known; did you mean 'relu'? Known: elu, exponential, ...
    """
    if value is None:
        return Linear()
    if isinstance(value, Activation):
        return value._layer
    return lookup(ActivationLayer, value, argument, _ALIASES)
