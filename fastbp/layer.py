"""What all layers have in common: a name, a description, a plan, and views of their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.configurable import Configurable
from fastbp.engine.graph import Graph, Value
from fastbp.engine.plan import Plan
from fastbp.initializers import InitializerFunction

Array = NDArray[np.floating]


class Layer(Configurable):
    """Base of all layers. A subclass gives :meth:`plan`.

    A layer describes itself and knows no backend: ``plan(graph, x)`` emits operations, those of the forward
    pass and those of the backward pass side by side.

    Parameters
    ----------
    name : str, optional
        Unique within a model. By default the model numbers its layers of a kind: "dense", "dense_1", …
    """

    def __init__(self, *, name: str | None = None) -> None:
        if name is not None and (not isinstance(name, str) or not name or "." in name):
            raise ValueError(f"name must be a text without dots, got {name!r}")
        self._given_name = name
        self._model_name = ""
        self._prefix = ""  # the name of the layer that holds this one
        self._flat: Array | None = None  # the parameters of the model that this layer belongs to
        self._parameters: dict[str, Array] = {}
        self._gradients: dict[str, Array] = {}
        self._statistics: dict[str, Array] = {}
        self._initializers: dict[str, InitializerFunction] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy of a layer belongs to no model.
        views: tuple[str, ...] = ("_parameters", "_gradients", "_statistics", "_initializers")
        return self.__dict__ | {"_flat": None} | {name: {} for name in views}

    @property
    def name(self) -> str:
        """The name given, else the one that the model gave; inside another layer with that one's in front."""
        return self._prefix + (self._given_name or self._model_name or self._kind_name())

    def _kind_name(self) -> str:
        return self.key or type(self).__name__.lower()

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        if "name" in arguments:  # a number that the model gave is not the user's choice
            arguments["name"] = self._given_name
        return arguments

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit the operations that turn x, shape (batch, features), into y; return y."""
        raise NotImplementedError

    def output_size(self, input_size: int) -> int:
        """Return the number of features of y for an x with `input_size` features."""
        return input_size

    @property
    def parameters(self) -> dict[str, Array]:
        """Live views of the parameters by name; empty until the model is built."""
        return dict(self._parameters)

    @property
    def gradients(self) -> dict[str, Array]:
        """Live views of the gradients, named and shaped like :attr:`parameters`."""
        return dict(self._gradients)

    @property
    def statistics(self) -> dict[str, Array]:
        """Live views of what is kept and saved with the parameters, but not trained, by name."""
        return dict(self._statistics)

    @property
    def children(self) -> tuple[Layer, ...]:
        """The layers that this one is made of."""
        return ()

    def view(self, name: str, memory: Array) -> Array:
        """Return a parameter as users see it, given the matrix in memory."""
        return memory

    def bind(self, plan: Plan, parameters: Array, gradients: Array) -> None:
        """Attach the layer to the model's flat arrays.

        Raises
        ------
        ValueError
            When its parameters are those of another model.
        """
        if self._flat is not None and self._flat is not parameters:
            raise ValueError(
                f"layer {self.name!r}, {self!r}, belongs to another model; make a layer for each model"
            )
        self._parameters, self._gradients, self._statistics, self._initializers = {}, {}, {}, {}
        for parameter in plan.parameters:
            layer, _, name = parameter.name.rpartition(".")
            if layer != self.name:
                continue
            self._flat, tensor = parameters, parameter.tensor
            view = self.view(name, tensor.matrix(parameters))
            if parameter.trained:
                self._parameters[name] = view
                self._gradients[name] = self.view(name, tensor.matrix(gradients))
            else:
                self._statistics[name] = view
            if parameter.initializer is not None:
                self._initializers[name] = parameter.initializer

    def initialize(self, rng: np.random.Generator) -> None:
        """Fill the parameters with the values they start from.

        Raises
        ------
        ValueError
            When an initializer returns another shape than (out_features, in_features).
        """
        for name, initializer in self._initializers.items():
            view = self._parameters[name] if name in self._parameters else self._statistics[name]
            out_features, in_features = view.shape if view.ndim == 2 else (view.size, 1)
            values = np.asarray(initializer(rng, out_features, in_features, view.dtype))
            if values.shape != (out_features, in_features):
                raise ValueError(
                    f"the initializer of {self.name}.{name} must return shape {(out_features, in_features)}, "
                    f"got {values.shape}"
                )
            view[...] = values.reshape(view.shape)

    def _get(self, views: Mapping[str, Array], name: str) -> Array:
        if name not in views and self._flat is not None:
            raise AttributeError(f"layer {self.name!r}, {self!r}, has no {name}")
        if name not in views:
            raise AttributeError(
                f"layer {self.name!r} has no {name} yet: it exists once the model is built, that is at its "
                "first use, or at once when the model is made with input_size=..."
            )
        return views[name]

    def _set(self, name: str, values: ArrayLike) -> None:
        self._fill(name, self._get(self._parameters, name), values)

    def _fill(self, name: str, view: Array, values: ArrayLike) -> None:
        given = np.asarray(values)
        if given.shape != view.shape:
            raise ValueError(f"{self.name}.{name} must have shape {view.shape}, got {given.shape}")
        view[...] = given


class Live:
    """An attribute of a layer that is a live view of one of its arrays; assignment copies an array in.

    Parameters
    ----------
    name : str
        Of the array.
    kind : {"parameters", "gradients", "statistics"}
    meaning : str
        What the documentation says.
    """

    def __init__(self, name: str, kind: str, meaning: str) -> None:
        self._name, self._kind, self.__doc__ = name, kind, meaning

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: Layer, owner: type) -> Array: ...
    def __get__(self, layer: Layer | None, owner: type) -> Self | Array:
        """Return the view; an AttributeError before the model is built, or when there is no such array."""
        return self if layer is None else layer._get(getattr(layer, self._kind), self._name)

    def __set__(self, layer: Layer, values: ArrayLike) -> None:
        """Copy the values in; a ValueError for another shape."""
        layer._fill(self._name, self.__get__(layer, type(layer)), values)


def name_layers(layers: Sequence[Layer], prefix: str = "", seen: set[int] | None = None) -> None:
    """Give the layers of one model their names: those without one of their own are numbered by kind.

    Parameters
    ----------
    layers : sequence of Layer
    prefix : str
        In front of all names: of the layer that holds these.
    seen : set of int, optional
        Identities of the layers that the model has already.

    Raises
    ------
    TypeError
        For something that is no layer.
    ValueError
        When a name or a layer occurs twice.
    """
    taken: set[str] = set()
    seen = set() if seen is None else seen
    for number, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"layers[{number}] must be a Layer, such as Dense(10), got {layer!r}")
        if id(layer) in seen:
            raise ValueError(f"layers[{number}], {layer!r}, is in the model already; make another one")
        seen.add(id(layer))
        if layer._given_name in taken:
            raise ValueError(
                f"layers[{number}] must have a name of its own, but {layer._given_name!r} is taken"
            )
        if layer._given_name:
            taken.add(layer._given_name)
    for layer in layers:
        if layer._given_name is None:
            kind, number = layer._kind_name(), 0
            layer._model_name = kind
            while layer._model_name in taken:
                number += 1
                layer._model_name = f"{kind}_{number}"
            taken.add(layer._model_name)
        layer._prefix = prefix
        name_layers(layer.children, f"{layer.name}.", seen)
