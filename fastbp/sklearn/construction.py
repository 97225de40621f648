"""From an estimator's parameters to a model: layers, loss, optimizer, and the weights it starts from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp import activations, losses
from fastbp.layer import Layer
from fastbp.layers import BatchNormalization, Dense, Dropout, LayerNormalization
from fastbp.losses import Loss
from fastbp.model import Sequential
from fastbp.network import Array
from fastbp.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "exp": "exponential"}
"""scikit-learn's names, where fastbp has another one."""

LOSSES: dict[str, str] = {
    "squared_error": "half_squared_error",
    "absolute_error": "mean_absolute_error",
    "poisson": "poisson_deviance",
    "huber": "huber",
    "quantile": "quantile",
}
"""scikit-learn's names of losses of regression, and fastbp's."""


NORMALIZATIONS = {"batch": BatchNormalization, "layer": LayerNormalization}


def per_hidden_layer(argument: str, value: Any, layers: int) -> list[Any]:
    """Return one value for each hidden layer, out of one for all of them or a list.

    Raises
    ------
    ValueError
        For a list of another length.
    """
    if isinstance(value, str | float | int | Layer) or value is None:
        return [value] * layers
    values = list(value)
    if len(values) != layers:
        raise ValueError(
            f"{argument} must be one value, or a list of {layers}, one for each hidden layer; got {value!r}"
        )
    return values


def build_model(
    coefs: Sequence[Array],
    *,
    activation: Any,
    out_activation: str,
    normalization: str | None,
    dropout: Any,
    loss: Loss,
    optimizer: Optimizer,
    seed: int,
) -> Sequential:
    """Make a model whose dense layers have the shapes (inputs, outputs) and the dtype of `coefs`.

    Its weights are zeros; a hidden layer is a dense layer, its normalization, its activation, and dropout, as
    far as there are such.
    """
    hidden = len(coefs) - 1
    layers: list[Layer] = []
    kinds = per_hidden_layer("activation", activation, hidden)
    rates = per_hidden_layer("dropout", dropout, hidden)
    for coef, kind, rate in zip(coefs[:-1], kinds, rates, strict=True):
        g = _activation(kind)
        if normalization:
            layers.append(Dense(coef.shape[1], kernel_initializer="zeros"))
            layers += [NORMALIZATIONS[normalization](), g]
        else:
            layers.append(Dense(coef.shape[1], g, kernel_initializer="zeros"))
        if rate:
            layers.append(Dropout(rate))
    layers.append(Dense(coefs[-1].shape[1], _activation(out_activation), kernel_initializer="zeros"))
    return Sequential(
        layers, loss, optimizer, input_size=coefs[0].shape[0], dtype=coefs[0].dtype.name, seed=seed
    )


def _activation(kind: Any) -> Layer:
    """Make an activation layer of one's own for each model."""
    return copy.deepcopy(activations.get(ACTIVATIONS.get(kind, kind) if isinstance(kind, str) else kind))


def dense_layers(model: Sequential) -> list[Dense]:
    """Return the layers that hold ``coefs_`` and ``intercepts_``."""
    return [layer for layer in model.layers if isinstance(layer, Dense)]


def initial_weights(
    units: Sequence[int], activation: Any, dtype: Any, random_state: np.random.RandomState
) -> tuple[list[Array], list[Array]]:
    """Draw weights and biases uniformly, in scikit-learn's order.

    The bound is √(6 / (in + out)) of Glorot and Bengio (2010), for the logistic function √(2 / (in + out)).
    The output layer takes the one of the last hidden layer.
    """
    kinds = per_hidden_layer("activation", activation, len(units) - 2)
    kinds.append(kinds[-1] if kinds else activation)
    coefs, intercepts = [], []
    for fan_in, fan_out, kind in zip(units[:-1], units[1:], kinds, strict=True):
        bound = np.sqrt((2.0 if kind == "logistic" else 6.0) / (fan_in + fan_out))
        coefs.append(random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
        intercepts.append(random_state.uniform(-bound, bound, fan_out).astype(dtype))
    return coefs, intercepts


def make_loss(loss: str | Loss, quantile: float = 0.5, delta: float = 1.0) -> Loss:
    """Return the loss of a regressor."""
    if isinstance(loss, Loss):
        return loss
    if loss == "quantile":
        return losses.Quantile(quantile)
    if loss == "huber":
        return losses.Huber(delta)
    return losses.get(LOSSES[loss])


def make_optimizer(estimator: Any) -> Optimizer:
    """Return a fresh optimizer for an estimator's solver, with its penalty on the weights."""
    solver, rate = estimator.solver, float(estimator.learning_rate_init)
    moments = {"beta_1": estimator.beta_1, "beta_2": estimator.beta_2, "epsilon": estimator.epsilon}
    optimizer: Optimizer
    if isinstance(solver, Optimizer):
        if not solver.kind:
            raise ValueError(f"solver must make a step for each batch, but {solver!r} does not; try 'lbfgs'")
        optimizer = copy.deepcopy(solver)
    elif solver == "adam":
        optimizer = Adam(rate, **moments, epsilon_hat=True)
    elif solver == "adamw":
        optimizer = AdamW(rate, **moments, weight_decay=estimator.weight_decay)
    elif solver == "rmsprop":
        optimizer = RMSprop(rate)
    else:  # "sgd"; lbfgs makes no steps of the engine's
        momentum = float(estimator.momentum)
        optimizer = SGD(rate, momentum, nesterov=bool(estimator.nesterovs_momentum and momentum > 0))
    optimizer.l2_penalty = float(estimator.alpha)
    return optimizer
