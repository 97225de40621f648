"""Layers that users write in Python."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastbp import initializers
from fastbp.checks import check_count, check_flag
from fastbp.configurable import constructor_parameters
from fastbp.engine.graph import Graph, Value
from fastbp.engine.plan import Attribute
from fastbp.initializers import InitializerFunction
from fastbp.layer import Array, Layer


class _Declaration(NamedTuple):
    shape: tuple[int, ...]
    initializer: InitializerFunction
    decay: bool


class CustomLayer(Layer):
    """Base of layers in Python: a subclass gives :meth:`forward`, and :meth:`build` if it has parameters.

    Its parameters lie in the flat arrays of the model, so that optimizers, files and gradient views treat
    them like all others. The engine runs what lies before and behind such a layer as always; only the layer
    itself is called in Python, once per batch and direction. Write to no array that comes in: others still
    need it.

    Keep every argument of the constructor under its own name: that is how a layer is shown, copied and saved.

    Parameters
    ----------
    name : str, optional
        Unique within a model.

    Examples
    --------
    A learned slope for each feature:

    >>> import numpy as np
    >>> import fastbp as bp
    >>> class Scale(bp.layers.CustomLayer):
    ...     def build(self, input_size):
    ...         self.add_parameter("slope", (input_size,), "ones")
    ...
    ...     def forward(self, x):
    ...         def backprop(dy):
    ...             self.slope_grad += (dy * x).sum(axis=0)
    ...             return dy * self.slope
    ...
    ...         return x * self.slope, backprop
    >>> model = bp.Sequential([bp.layers.Dense(4, activation="tanh"), Scale(), bp.layers.Dense(1)],
    ...                       loss="mean_squared_error", input_size=2, seed=0)
    >>> bp.gradcheck(model, [[1.0, 2.0], [0.5, -1.0]], [[1.0], [0.0]]).ok
    True
    """

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self._declared: dict[str, _Declaration] = {}

    # ---- what a subclass gives ----

    def build(self, input_size: int) -> None:
        """Declare the parameters, each with :meth:`add_parameter`.

        Called whenever the model is planned, for one batch size or another, and always to the same effect.

        Parameters
        ----------
        input_size : int
            Number of features of x.
        """

    def forward(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Return y and the way back from it.

        It may take two more arguments, by name: ``training``, True in training, and ``rng``, a
        numpy.random.Generator that gives the same numbers whenever a training step is repeated.

        Parameters
        ----------
        x : ndarray, shape (n, input_size)
            A batch in the model's dtype; read-only, and valid until backprop has run.

        Returns
        -------
        y : ndarray, shape (n, output_size)
            In the dtype of x.
        backprop : callable
            Takes ∂L/∂y, read-only and shaped like y, and returns ∂L/∂x, shaped like x. Before that it writes
            the gradients, ``self.NAME_grad``, which are 0 when it is called. It is not called when nothing
            needs it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, x) -> (y, backprop)")

    def add_parameter(
        self,
        name: str,
        shape: tuple[int, ...],
        initializer: str | InitializerFunction | Mapping[str, Any] = "glorot_uniform",
        *,
        decay: bool = True,
    ) -> None:
        """Declare a parameter: ``self.NAME`` and ``self.NAME_grad`` become live views of it.

        Parameters
        ----------
        name : str
            A Python identifier that the layer does not use yet.
        shape : tuple of int
            () for a single number. A weight has the shape (out_features, in_features).
        initializer : str, Initializer or callable
            Where it starts; see :mod:`fastbp.initializers`. For anything but a matrix it is asked for
            (first dimension, product of the others).
        decay : bool
            False for biases and the like, which weight decay may leave out.

        Raises
        ------
        TypeError, ValueError
            When the name is taken or no identifier, or the shape is none.
        """
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise ValueError(f"name must be a Python identifier without a leading '_', got {name!r}")
        for taken in (name, f"{name}_grad"):
            if hasattr(type(self), taken) or taken in self.__dict__ or taken in self._declared:
                raise ValueError(f"parameter {name!r}: {type(self).__name__} has something named {taken!r}")
        if not isinstance(shape, tuple | list):
            raise TypeError(f"shape of parameter {name!r} must be a tuple such as (3,), got {shape!r}")
        self._declared[name] = _Declaration(
            tuple(check_count(f"shape[{number}] of parameter {name!r}", n) for number, n in enumerate(shape)),
            initializers.get(initializer, f"initializer of parameter {name!r}"),
            check_flag("decay", decay),
        )

    # ---- what the model asks for ----

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit a call of :meth:`forward`, and one of what it returns for the way back."""
        for argument in constructor_parameters(type(self)):
            if argument != "name" and not hasattr(self, argument):
                raise TypeError(
                    f"{type(self).__name__}.__init__ must keep its argument {argument!r} as self.{argument}"
                )
        self._declared = {}
        self.build(x.columns)
        parameters: dict[str, Value | None] = {}
        gradients: dict[str, Value | None] = {}
        for name, (shape, initializer, decay) in self._declared.items():
            rows, columns = math.prod(shape[:-1]), shape[-1] if shape else 1
            value = graph.parameter(name, rows, columns, initializer, decay=decay)
            parameters[f"self.{name}"], gradients[f"self.{name}_grad"] = value, value.gradient
        y = graph.tensor(check_count(f"output_size of layer {self.name!r}", self.output_size(x.columns)))
        wanted = inspect.signature(self.forward).parameters
        stream = graph.stream() if "rng" in wanted else -1
        options: dict[str, Attribute] = {"training": "training" in wanted, "stream": stream}
        graph.emit("python_forward", x=x, **parameters, y=y, function=self.forward, **options)

        def backward(dy: Value) -> Value:
            dx = graph.delta(x.columns)
            graph.emit("python_backward", dy=dy, **gradients, dx=dx)
            return dx

        graph.backward(backward)
        return y

    def view(self, name: str, memory: Array) -> Array:
        """Return a parameter in the shape that it was declared with."""
        return memory.reshape(self._declared[name].shape)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            parameter = name.removesuffix("_grad")
            if parameter in self._declared:
                return self._get(self._parameters if parameter == name else self._gradients, parameter)
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}: parameters exist once the model is built"
        )

    def __setattr__(self, name: str, values: ArrayLike) -> None:
        parameter = name.removesuffix("_grad")
        if parameter not in self.__dict__.get("_declared", ()):
            super().__setattr__(name, values)
            return
        if parameter not in self._parameters:
            raise AttributeError(f"self.{name} is a view that the model makes: add_parameter returns nothing")
        view, given = getattr(self, name), np.asarray(values)
        if given.shape != view.shape:
            raise ValueError(f"{self.name}.{name} must have shape {view.shape}, got {given.shape}")
        view[...] = given  # copied in, as with the weights of every layer
