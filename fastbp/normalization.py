"""BatchNormalization and LayerNormalization: features brought to mean 0 and variance 1 inside the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastbp import initializers
from fastbp.checks import check_flag, check_number
from fastbp.engine.graph import Graph, Value
from fastbp.initializers import InitializerFunction
from fastbp.layer import Array, Layer, Live


class _Normalizing(Layer):
    """y = γ x̂ + β, where x̂ has mean 0 and variance 1 in some direction."""

    gamma = Live("gamma", "parameters", "γ, shape (features,).")
    beta = Live("beta", "parameters", "β, shape (features,).")
    gamma_grad = Live("gamma", "gradients", "∂L/∂γ of the last backward pass, shape (features,).")
    beta_grad = Live("beta", "gradients", "∂L/∂β of the last backward pass, shape (features,).")

    def __init__(
        self,
        epsilon: float,
        center: bool,
        scale: bool,
        beta_initializer: str | InitializerFunction | Mapping[str, Any],
        gamma_initializer: str | InitializerFunction | Mapping[str, Any],
        name: str | None,
    ) -> None:
        super().__init__(name=name)
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)")
        self.center = check_flag("center", center)
        self.scale = check_flag("scale", scale)
        self.beta_initializer = initializers.get(beta_initializer, "beta_initializer")
        self.gamma_initializer = initializers.get(gamma_initializer, "gamma_initializer")

    def _declare(self, graph: Graph, features: int) -> tuple[Value | None, Value | None]:
        """γ and β, which lie with the biases: weight decay would pull γ towards a constant output."""
        gamma = beta = None
        if self.scale:
            gamma = graph.parameter("gamma", 1, features, self.gamma_initializer, decay=False)
        if self.center:
            beta = graph.parameter("beta", 1, features, self.beta_initializer, decay=False)
        return gamma, beta

    def view(self, name: str, memory: Array) -> Array:
        """Return every array as (features,)."""
        vector: Array = memory[0]
        return vector


class BatchNormalization(_Normalizing):
    """y = γ (x − μ) / √(σ² + ε) + β for each feature (Ioffe and Szegedy, 2015).

    In training μ and σ² are the mean and the biased variance (divided by n) of the feature over the batch,
    and the gradients go through both. Outside of training they are running averages, which each training
    pass moves by 1 − momentum towards those of its batch. A feature that does not vary gives β, never NaN;
    so does a batch of one row.

    The running variance is that of the biased variance, as in Keras. PyTorch's ``BatchNorm1d()`` is
    ``BatchNormalization(momentum=0.9, epsilon=1e-5, unbiased=True)``: its momentum counts the other way
    round, and its running variance is that of σ² n / (n − 1).

    Parameters
    ----------
    momentum : float
        In [0, 1]: how much of the running averages a training pass keeps.
    epsilon : float
        ε, positive.
    center, scale : bool
        Whether β, γ exist.
    beta_initializer, gamma_initializer : str, Initializer or callable
    unbiased : bool
        Whether the running variance averages σ² n / (n − 1).
    name : str, optional

    Attributes
    ----------
    gamma, beta, gamma_grad, beta_grad : ndarray, shape (features,)
        Live views. No weight decay acts on them.
    moving_mean, moving_variance : ndarray, shape (features,)
        The running averages: live views, saved with the model, not trained.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.BatchNormalization(momentum=0.9)], input_size=1, dtype="float64")
    >>> X = np.array([[1.0], [3.0]])
    >>> model.forward(X, training=True).ravel().round(2)
    array([-1.,  1.])
    >>> model.layers[0].moving_mean, model.layers[0].moving_variance
    (array([0.2]), array([1.]))
    """

    key = "batch_normalization"
    moving_mean = Live("moving_mean", "statistics", "Running average of μ, shape (features,).")
    moving_variance = Live("moving_variance", "statistics", "Running average of σ², shape (features,).")

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | InitializerFunction | Mapping[str, Any] = "zeros",
        gamma_initializer: str | InitializerFunction | Mapping[str, Any] = "ones",
        unbiased: bool = False,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(epsilon, center, scale, beta_initializer, gamma_initializer, name)
        self.momentum = check_number("momentum", momentum, "[0, 1]")
        self.unbiased = check_flag("unbiased", unbiased)

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y and the running averages.

        On the way back, with x̂ = (x − μ) / √(σ² + ε): dβ = Σ dy, dγ = Σ dy x̂ over the n rows, and in training
        dx = γ / √(σ² + ε) · (dy − dβ / n − x̂ dγ / n), else dx = γ / √(σ² + ε) · dy.
        """
        features = x.columns
        gamma, beta = self._declare(graph, features)
        moving_mean = graph.statistic("moving_mean", features, initializers.Zeros())
        moving_variance = graph.statistic("moving_variance", features, initializers.Constant(1.0))
        saved = graph.scratch(2, features)  # μ, and 1 / √(σ² + ε)
        y = graph.tensor(features)
        graph.emit(
            "batch_norm_forward",
            x=x,
            gamma=gamma,
            beta=beta,
            moving_mean=moving_mean,
            moving_variance=moving_variance,
            saved=saved,
            y=y,
            momentum=self.momentum,
            epsilon=self.epsilon,
            unbiased=self.unbiased,
        )

        def backward(dy: Value) -> Value:
            dx = graph.delta(features)
            graph.emit(
                "batch_norm_backward",
                x=x,
                gamma=gamma,
                saved=saved,
                dy=dy,
                gamma_grad=gamma.gradient if gamma else None,
                beta_grad=beta.gradient if beta else None,
                dx=dx,
            )
            return dx

        graph.backward(backward)
        return y


class LayerNormalization(_Normalizing):
    """y = γ (x − μ) / √(σ² + ε) + β for each sample (Ba, Kiros and Hinton, 2016).

    μ and σ² are the mean and the biased variance over the features of the sample, in training and outside:
    no sample knows of another one. A sample whose features are all the same gives β, never NaN. PyTorch's
    ``LayerNorm`` is ``LayerNormalization(epsilon=1e-5)``.

    Parameters
    ----------
    epsilon : float
        ε, positive.
    center, scale : bool
        Whether β, γ exist.
    beta_initializer, gamma_initializer : str, Initializer or callable
    name : str, optional

    Attributes
    ----------
    gamma, beta, gamma_grad, beta_grad : ndarray, shape (features,)
        Live views. No weight decay acts on them.

    Examples
    --------
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.LayerNormalization(epsilon=1e-5)], input_size=2, dtype="float64")
    >>> model.predict([[1, 3], [30, 10]]).round(2)
    array([[-1.,  1.],
           [ 1., -1.]])
    """

    key = "layer_normalization"

    def __init__(
        self,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | InitializerFunction | Mapping[str, Any] = "zeros",
        gamma_initializer: str | InitializerFunction | Mapping[str, Any] = "ones",
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(epsilon, center, scale, beta_initializer, gamma_initializer, name)

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit y.

        On the way back, with x̂ = (x − μ) / √(σ² + ε) and d = γ dy: dβ = Σ dy, dγ = Σ dy x̂ over the rows,
        dx = 1 / √(σ² + ε) · (d − mean d − x̂ mean(d x̂)), the means over the features.
        """
        features = x.columns
        gamma, beta = self._declare(graph, features)
        saved = graph.tensor(2)  # μ, and 1 / √(σ² + ε)
        y = graph.tensor(features)
        graph.emit("layer_norm_forward", x=x, gamma=gamma, beta=beta, saved=saved, y=y, epsilon=self.epsilon)

        def backward(dy: Value) -> Value:
            if gamma or beta:
                graph.emit(
                    "layer_norm_backward_parameters",
                    x=x,
                    saved=saved,
                    dy=dy,
                    gamma_grad=gamma.gradient if gamma else None,
                    beta_grad=beta.gradient if beta else None,
                )
            dx = graph.delta(features)
            graph.emit("layer_norm_backward_input", x=x, gamma=gamma, saved=saved, dy=dy, dx=dx)
            return dx

        graph.backward(backward)
        return y
