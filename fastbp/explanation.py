"""One step of backpropagation with a model's own numbers, in the textbook's notation."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastbp import activations
from fastbp.activations import Activation, ActivationLayer, Linear
from fastbp.engine.plan import function_name
from fastbp.layer import Layer
from fastbp.layers import Dense
from fastbp.losses import FunctionLoss, Loss
from fastbp.model import Sequential
from fastbp.network import Array
from fastbp.samples import Samples, dense
from fastbp.second_order import FullBatchOptimizer

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(eq=False, repr=False)
class Stage:
    """Layer l of the network: a dense layer with its activation g, or any other layer.

    Attributes
    ----------
    number : int
        l, from 1.
    name, description : str
        Of the layer.
    parameters, gradients, updated : dict of str to ndarray
        W_l and so on, ∂L/∂W_l, and W_l after the step; the latter is empty if the optimizer makes none.
    a, da : ndarray
        a_l, what the layer gives, and ∂L/∂a_l: None where loss and activation are derived as one.
    z, delta : ndarray or None
        Of a dense layer: z_l = W_l a_{l−1} + b_l, and δ_l = ∂L/∂z_l.
    activation : str
        Of a dense layer: the name of g.
    slope : ndarray or None
        Of a dense layer: g′(z_l); None for softmax, whose derivative is a matrix.
    """

    number: int
    name: str
    description: str
    parameters: dict[str, Array]
    a: Array
    da: Array | None = None
    z: Array | None = None
    delta: Array | None = None
    activation: str = ""
    slope: Array | None = None
    gradients: dict[str, Array] = field(default_factory=dict)
    updated: dict[str, Array] = field(default_factory=dict)

    def symbol(self, name: str) -> str:
        """Return the letter for one of this layer's quantities, with its number."""
        letter = {"weight": "W", "bias": "b", "delta": "δ"}.get(name, name)
        return letter + str(self.number).translate(_SUBSCRIPTS)


@dataclass(eq=False, repr=False)
class Explanation:
    """What :func:`explain` found; print it.

    Attributes
    ----------
    x, y, y_hat : ndarray
        Input, target and prediction.
    loss : float
    loss_name : str
    layers : list of Stage
        First to last.
    dx : ndarray
        ∂L/∂x.
    learning_rate : float
        η.
    optimizer : str
        "" where the step is W := W − η ∂L/∂W.
    """

    x: Array
    y: Array
    y_hat: Array
    loss: float
    loss_name: str
    layers: list[Stage]
    dx: Array
    learning_rate: float
    optimizer: str

    def __repr__(self) -> str:
        """Show every quantity, with the formula that it comes from."""
        lines = [_line("x", self.x), _line("y", self.y), "forward"]
        for stage in self.layers:
            lines += [f"  layer {stage.number}, {stage.name}: {stage.description}", *self._forward(stage)]
        lines += ["loss", _line("ŷ", self.y_hat, self.layers[-1].symbol("a"))]
        lines += [f"    L = {self.loss_name}(y, ŷ) = {self.loss:.6g}", "backward"]
        for stage in reversed(self.layers):
            lines += [f"  layer {stage.number}, {stage.name}", *self._backward(stage)]
        if any(stage.updated for stage in self.layers):
            lines.append(f"update, η = {self.learning_rate:g}")
        for stage in self.layers:
            for name, values in stage.updated.items():
                symbol = stage.symbol(name)
                formula = f"a step of {self.optimizer}" if self.optimizer else f"{symbol} − η ∂L/∂{symbol}"
                lines.append(_line(symbol, values, formula, sign=":="))
        return "\n".join(lines)

    def _before(self, stage: Stage) -> str:
        return "x" if stage.number == 1 else self.layers[stage.number - 2].symbol("a")

    def _forward(self, stage: Stage) -> Iterator[str]:
        for name, values in stage.parameters.items():
            yield _line(stage.symbol(name), values)
        a, z, before = stage.symbol("a"), stage.symbol("z"), self._before(stage)
        if stage.z is None:
            yield _line(a, stage.a, f"{stage.name}({before})")
        else:
            bias = f" + {stage.symbol('bias')}" if "bias" in stage.parameters else ""
            yield _line(z, stage.z, f"{stage.symbol('weight')} {before}{bias}")
            yield _line(a, stage.a, z if stage.activation == "linear" else f"{stage.activation}({z})")

    def _backward(self, stage: Stage) -> Iterator[str]:
        """δ_l = ∂L/∂a_l ⊙ g′(z_l), where ∂L/∂a_l is W_{l+1}ᵀ δ_{l+1} if a dense layer lies above."""
        above = self.layers[stage.number] if stage.number < len(self.layers) else None
        below = "∂L/∂x" if stage.number == 1 else f"∂L/∂{self._before(stage)}"
        dense_above = above is not None and above.delta is not None
        da = "∂L/∂ŷ" if above is None else f"∂L/∂{stage.symbol('a')}"
        source = f"{above.symbol('weight')}ᵀ {above.symbol('delta')}" if above and dense_above else da
        if stage.da is not None and (above is None or (dense_above and stage.delta is None)):
            yield _line(da, stage.da, source if dense_above else "")
        formulas = {}
        if stage.delta is not None:
            delta, z = stage.symbol("delta"), stage.symbol("z")
            slope = f"{stage.activation}′({z})"
            formula = f"({source}) ⊙ {slope}" if dense_above else f"{source} ⊙ {slope}"
            if stage.da is None:
                formula = f"∂L/∂{z}, {self.loss_name} and {stage.activation} as one"
            elif stage.activation == "linear":
                formula = source
            elif stage.slope is None:
                formula = f"{slope}ᵀ ({source})"
            else:
                yield _line(slope, stage.slope)
            yield _line(delta, stage.delta, formula)
            formulas = {"weight": f"{delta} {self._before(stage)}ᵀ", "bias": delta}
        for name, values in stage.gradients.items():
            yield _line(f"∂L/∂{stage.symbol(name)}", values, formulas.get(name, ""))
        if stage.delta is None:
            da_below = self.dx if stage.number == 1 else self.layers[stage.number - 2].da
            yield _line(below, da_below, f"back through {stage.name}")
        elif stage.number == 1:
            yield _line(below, self.dx, f"{stage.symbol('weight')}ᵀ {stage.symbol('delta')}")


def _line(symbol: str, values: Array | None, formula: str = "", sign: str = "=") -> str:
    head = f"    {symbol} {sign} " + (f"{formula} = " if formula else "")
    array = np.asarray(values)
    width = max((len(f"{value:.6g}") for value in array.flat), default=0) if array.ndim > 1 else 0
    formatter: Any = {"float_kind": lambda value: f"{value:{width}.6g}"}
    return head + np.array2string(array, 100, threshold=64, formatter=formatter, prefix=head)


def explain(model: Sequential, x: ArrayLike, y: ArrayLike) -> Explanation:
    """Show one step of backpropagation on one sample: every quantity by its name in the textbook.

    z_l = W_l a_{l−1} + b_l, a_l = g_l(z_l), with a_0 = x and ŷ the last a; δ_L = ∂L/∂ŷ ⊙ g′(z_L),
    δ_l = (W_{l+1}ᵀ δ_{l+1}) ⊙ g′_l(z_l); ∂L/∂W_l = δ_l a_{l−1}ᵀ, ∂L/∂b_l = δ_l; W_l := W_l − η ∂L/∂W_l, or
    whatever step the optimizer does. The engine computes all of it, layer by layer, in the model's dtype and
    with dropout off. The model stays as it is.

    Parameters
    ----------
    model : Sequential
        With a loss. Layers that are not dense appear as one function each.
    x : array_like, shape (input_size,)
    y : array_like, shape (output_size,), or a single number or class label

    Returns
    -------
    Explanation
        Its ``layers`` hold the arrays; printed it is the calculation, with long arrays cut short.

    Raises
    ------
    TypeError, ValueError
        As :meth:`Sequential.fit` does for what cannot be right, and for more than one sample.

    Examples
    --------
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Dense(1, use_bias=False)], loss="half_squared_error",
    ...                       optimizer=bp.optimizers.SGD(0.1), input_size=1, dtype="float64")
    >>> model.layers[0].weight = [[3]]
    >>> bp.explain(model, [2], [4])
        x = [2]
        y = [4]
    forward
      layer 1, dense: Dense(1, use_bias=False)
        W₁ = [[3]]
        z₁ = W₁ x = [6]
        a₁ = z₁ = [6]
    loss
        ŷ = a₁ = [6]
        L = half_squared_error(y, ŷ) = 2
    backward
      layer 1, dense
        ∂L/∂ŷ = [2]
        δ₁ = ∂L/∂ŷ = [2]
        ∂L/∂W₁ = δ₁ xᵀ = [[4]]
        ∂L/∂x = W₁ᵀ δ₁ = [6]
    update, η = 0.1
        W₁ := W₁ − η ∂L/∂W₁ = [[2.6]]
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model must be a Sequential, got {model!r}")
    sample = model._samples(_row(x), _row(y))  # complains about what came, and builds the model
    if len(sample) != 1:
        raise ValueError(f"x must be one sample, got {len(sample)}")
    assert model.loss is not None
    steps: list[_Step] = []
    a = inputs = dense(sample.inputs, model.dtype).copy()
    tensors = model._require_network().tensors(optimizer=False)
    for number, (layer, function, activation) in enumerate(_stages(model.layers), start=1):
        own = {name: values for name, values in tensors.items() if name.startswith(f"{layer.name}.")}
        steps.append(_Step(number, layer, function, activation, own, a))
        a = steps[-1].stage.a[np.newaxis]
    loss, dx = _go_back(steps, model.loss, sample.targets)
    function_of_user = model.loss.function if isinstance(model.loss, FunctionLoss) else None
    rate, plain = _update(model, steps)
    return Explanation(
        x=inputs[0],
        y=sample.targets[0],
        y_hat=a[0],
        loss=loss,
        loss_name=function_name(function_of_user) if function_of_user else model.loss.key or repr(model.loss),
        layers=[step.stage for step in steps],
        dx=dx[0],
        learning_rate=rate,
        optimizer="" if plain else repr(model.optimizer),
    )


def _row(values: ArrayLike) -> Any:
    """One sample as a matrix of one row; what is no sample is left to the model to complain about."""
    array = np.asarray(values)
    return array.reshape(1, -1) if array.ndim < 2 else values


def _stages(layers: tuple[Layer, ...]) -> Iterator[tuple[Layer, Layer, ActivationLayer | None]]:
    """Each layer, what it is without its activation, and that activation: None but for dense layers."""
    waiting = list(layers)
    while waiting:
        layer = waiting.pop(0)
        if not isinstance(layer, Dense):
            yield layer, layer, None
            continue
        plain, activation = copy.deepcopy(layer), layer.activation
        plain.activation = Linear()
        if activation.kind == "linear" and waiting and isinstance(waiting[0], ActivationLayer | Activation):
            activation = activations.get(waiting.pop(0))
        yield layer, plain, activation


class _Step:
    """A stage, and models of its parts alone, which have run forward."""

    def __init__(
        self,
        number: int,
        layer: Layer,
        function: Layer,
        activation: ActivationLayer | None,
        tensors: dict[str, Array],
        x: Array,
    ) -> None:
        self.layer, self.activation = layer, activation
        self.function = _alone(function, x)
        views = self.function._require_network().tensors(optimizer=False)
        for view, values in zip(views.values(), tensors.values(), strict=True):
            view[...] = values
        y = self.function.forward(x)
        parameters = {name: view.copy() for name, view in layer.parameters.items()}
        self.stage = Stage(number, layer.name, repr(layer), parameters, y[0])
        if activation is not None:
            self.gate = _alone(activation, y)
            self.stage.z, self.stage.a = y[0], self.gate.forward(y)[0]
            self.stage.activation = activation.kind
            if activation.kind != "softmax":
                self.stage.slope = self.gate.backward(np.ones_like(y))[0]


def _alone(layer: Layer, x: Array, loss: Loss | None = None) -> Sequential:
    """A model of a copy of one layer."""
    parts = copy.deepcopy(layer), copy.deepcopy(loss)
    return Sequential([parts[0]], parts[1], input_size=x.shape[1], dtype=x.dtype, seed=0)


def _go_back(steps: list[_Step], loss: Loss, targets: Array) -> tuple[float, Array]:
    """Fill in what the way back gives; return the loss and ∂L/∂x."""
    last = steps[-1]
    y_hat = last.stage.a[np.newaxis]

    def derivative(layer: Layer, x: Array) -> tuple[float, Array]:
        network = _alone(layer, x, loss)._require_network()
        return network.differentiate(Samples(x, targets, None), training=False)

    z, activation = last.stage.z, last.activation
    if z is not None and activation is not None and activation.kind != "linear" and loss.link is not None:
        value, incoming = derivative(activation, z[np.newaxis])
        last.stage.delta = incoming[0]
    else:
        value, incoming = derivative(Linear(), y_hat)
    for step in reversed(steps):
        stage = step.stage
        if stage.delta is None:
            stage.da = incoming[0]
            if step.activation is not None:
                incoming = step.gate.backward(incoming)
                stage.delta = incoming[0]
        incoming = step.function.backward(incoming)
        stage.gradients = {name: view.copy() for name, view in step.function.layers[0].gradients.items()}
    return value, incoming


def _update(model: Sequential, steps: list[_Step]) -> tuple[float, bool]:
    """Fill in the parameters after a step of the optimizer, which a copy does.

    Returns
    -------
    rate : float
        η.
    plain : bool
        Whether the step is W := W − η ∂L/∂W.
    """
    if isinstance(model.optimizer, FullBatchOptimizer):  # which makes no single step
        return 0.0, False
    twin = copy.deepcopy(model)
    network = twin._require_network()
    rate, eps = float(network._rates(1)[0]), np.finfo(model.dtype).eps
    copies = dict(zip(map(id, model.layers), twin.layers, strict=True))
    for step in steps:
        for name, view in copies[id(step.layer)].gradients.items():
            view[...] = step.stage.gradients[name]
    network.step()
    plain = True
    for step in steps:
        stage, layer = step.stage, copies[id(step.layer)]
        stage.updated = {name: view.copy() for name, view in layer.parameters.items()}
        for name, before in stage.parameters.items():
            error = np.abs(stage.updated[name] - (before - rate * stage.gradients[name]))
            scale = np.abs(before) + np.abs(rate * stage.gradients[name])
            plain = plain and bool((error <= 4 * eps * scale).all())
    return rate, plain
