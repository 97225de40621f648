"""What layers can be put together to: Residual and Branches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from fastbp.checks import check_count
from fastbp.configurable import lookup
from fastbp.engine.graph import Graph, Value
from fastbp.engine.plan import Plan
from fastbp.layer import Array, Layer

Layers: TypeAlias = Layer | str | Mapping[str, Any] | Sequence[Layer | str | Mapping[str, Any]]


class Composite(Layer):
    """Base of layers that are made of layers; what these own is found under their names: "dense.weight"."""

    @property
    def parameters(self) -> dict[str, Array]:
        """Live views of the parameters of all children: "dense.weight"."""
        return self._gathered(lambda child: child.parameters)

    @property
    def gradients(self) -> dict[str, Array]:
        """Live views of the gradients, named and shaped like :attr:`parameters`."""
        return self._gathered(lambda child: child.gradients)

    @property
    def statistics(self) -> dict[str, Array]:
        """Live views of the statistics of all children."""
        return self._gathered(lambda child: child.statistics)

    def _gathered(self, views: Callable[[Layer], dict[str, Array]]) -> dict[str, Array]:
        return {f"{self._of(c)}.{name}": view for c in self.children for name, view in views(c).items()}

    def _of(self, child: Layer) -> str:
        """The name that a child has among its siblings."""
        return child.name.removeprefix(f"{self.name}.")

    def view(self, name: str, memory: Array) -> Array:
        """Return a parameter as the child shows it."""
        child, _, rest = name.partition(".")
        return next(c for c in self.children if self._of(c) == child).view(rest, memory)

    def bind(self, plan: Plan, parameters: Array, gradients: Array) -> None:
        """Attach all children to the model's flat arrays."""
        for child in self.children:
            child.bind(plan, parameters, gradients)

    def initialize(self, rng: np.random.Generator) -> None:
        """Fill the parameters of all children, in their order."""
        for child in self.children:
            child.initialize(rng)


class Residual(Composite):
    """y = x + f(x), where f is a row of layers (He et al., 2016). On the way back dx = dy + f′(x)ᵀ dy.

    Parameters
    ----------
    layers : sequence of Layer
        f, which gives as many features as it takes.
    name : str, optional

    Raises
    ------
    TypeError, ValueError
        For something that is no row of layers; when the model is built, for an f that gives another number
        of features than x has.

    Examples
    --------
    >>> import fastbp as bp
    >>> from fastbp.layers import Dense, LayerNormalization
    >>> block = Residual([LayerNormalization(), Dense(64, "relu"), Dense(8)])
    >>> model = bp.Sequential([block, Dense(1)], input_size=8)
    >>> list(model.layers[0].parameters)[:3]
    ['layer_normalization.gamma', 'layer_normalization.beta', 'dense.weight']
    """

    key = "residual"

    def __init__(self, layers: Layers, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.layers = _row("layers", layers)
        if not self.layers:
            raise ValueError("layers must hold at least one layer")

    @property
    def children(self) -> tuple[Layer, ...]:
        """The layers of f."""
        return self.layers

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit f(x) and the sum; on the way back the two deltas are added up."""
        own_name = graph.layer
        through, way_back = graph.record(partial(_plan_row, graph, self.layers), x)
        graph.layer = own_name
        if through.columns != x.columns:
            raise ValueError(
                f"layer {self.name!r}: the layers of a Residual must give as many features as they take, "
                f"{x.columns}, but give {through.columns}"
            )
        y = graph.tensor(x.columns)
        graph.emit("add", a=x, b=through, out=y)

        def backward(dy: Value) -> Value:
            through = way_back(dy)
            graph.layer = own_name
            dx = graph.delta(x.columns)
            graph.emit("add", a=dy, b=through, out=dx)
            return dx

        graph.backward(backward)
        return y


class Branches(Composite):
    """Rows of layers side by side on the same input; y is their outputs, one after the other.

    Parameters
    ----------
    branches : sequence of sequences of Layer
        A single layer may stand without brackets. An empty branch, ``[]``, passes its columns on.
    columns : sequence of sequences of int, optional
        The columns of the input that each branch gets, in this order: ``[[0], [1], range(2, 8)]``. None, for
        a branch or for all of them: every column. A column may go to several branches, or to none.
    name : str, optional

    Raises
    ------
    TypeError, ValueError
        For arguments that say no such thing; when the model is built, for a column that x does not have.

    Examples
    --------
    A table of a category with 12 values, another one with 5, and 6 numbers:

    >>> import fastbp as bp
    >>> from fastbp.layers import Dense, Embedding, Normalization
    >>> table = Branches([Embedding(12, 4), Embedding(5, 3), Normalization()], [[0], [1], range(2, 8)])
    >>> model = bp.Sequential([table, Dense(32, "relu"), Dense(1)], input_size=8)
    >>> table.output_size(8)
    13
    """

    key = "branches"

    def __init__(
        self,
        branches: Sequence[Layers],
        columns: Sequence[Sequence[int] | None] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if isinstance(branches, str | Mapping) or not isinstance(branches, Iterable):
            raise TypeError(f"branches must be a list of lists of layers, got {branches!r}")
        self.branches = tuple(_row(f"branches[{number}]", row) for number, row in enumerate(branches))
        if not self.branches:
            raise ValueError("branches must hold at least one branch")
        self.columns = None if columns is None else _checked_columns(columns, len(self.branches))

    @property
    def children(self) -> tuple[Layer, ...]:
        """The layers of all branches."""
        return tuple(layer for row in self.branches for layer in row)

    def _chosen(self, width: int) -> list[tuple[int, ...]]:
        """The columns of each branch, of an input that has so many."""
        every = tuple(range(width))
        return [every if own is None else own for own in self.columns or [None] * len(self.branches)]

    def output_size(self, input_size: int) -> int:
        """Return the sum of the branches' sizes."""
        total = 0
        for row, own in zip(self.branches, self._chosen(input_size), strict=True):
            size = len(own)
            for layer in row:
                size = layer.output_size(size)
            total += size
        return total

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit each branch on a copy of its columns, and copy the outputs side by side.

        On the way back each branch gets its columns of dy, and its dx goes, or is added, to where its
        columns came from.
        """
        own_name, chosen = graph.layer, self._chosen(x.columns)
        for number, own in enumerate(chosen):
            if max(own) >= x.columns:
                raise ValueError(
                    f"layer {self.name!r}: columns[{number}] names column {max(own)}, but the input has "
                    f"{x.columns} columns"
                )
        outputs, ways_back = [], []
        for row, own in zip(self.branches, chosen, strict=True):
            graph.layer = own_name
            output, way_back = graph.record(partial(_plan_row, graph, row), _take_columns(graph, x, own))
            outputs.append(output)
            ways_back.append(way_back)
        graph.layer = own_name
        begins = [sum(output.columns for output in outputs[:number]) for number in range(len(outputs))]
        y = graph.tensor(begins[-1] + outputs[-1].columns)
        for output, begin in zip(outputs, begins, strict=True):
            _copy_columns(graph, output, y, 0, begin, output.columns)

        def backward(dy: Value) -> Value:
            parts = []
            for output, begin, way_back in zip(outputs, begins, ways_back, strict=True):
                graph.layer = own_name
                part = graph.delta(output.columns)
                _copy_columns(graph, dy, part, begin, 0, output.columns)
                parts.append(way_back(part))
            graph.layer = own_name
            dx = graph.delta(x.columns)
            each_once = sorted(column for own in chosen for column in own) == list(range(x.columns))
            if not each_once:
                graph.emit("clear", dx=dx)
            for part, own in zip(parts, chosen, strict=True):
                for place, column, count in _runs(own):
                    _copy_columns(graph, part, dx, place, column, count, accumulate=not each_once)
            return dx

        graph.backward(backward)
        return y


def _row(argument: str, given: Layers) -> tuple[Layer, ...]:
    """One layer or several, as objects, names or descriptions."""
    if isinstance(given, Layer | str | Mapping) or not isinstance(given, Iterable):
        return (lookup(Layer, given, argument),)
    return tuple(lookup(Layer, layer, f"{argument}[{number}]") for number, layer in enumerate(given))


def _plan_row(graph: Graph, layers: Iterable[Layer], x: Value) -> Value:
    for layer in layers:
        graph.layer = layer.name
        x = layer.plan(graph, x)
    return x


def _checked_columns(columns: object, branches: int) -> tuple[tuple[int, ...] | None, ...]:
    if isinstance(columns, str | Mapping) or not isinstance(columns, Iterable):
        raise TypeError(f"columns must be a list of lists of column numbers, got {columns!r}")
    checked: list[tuple[int, ...] | None] = []
    for number, own in enumerate(columns):
        argument = f"columns[{number}]"
        if own is None:
            checked.append(None)
            continue
        if isinstance(own, str | Mapping) or not isinstance(own, Iterable):
            raise TypeError(f"{argument} must be a list of column numbers or None, got {own!r}")
        checked.append(
            tuple(check_count(f"{argument} must hold column numbers: each", c, at_least=0) for c in own)
        )
        if not checked[-1]:
            raise ValueError(f"{argument} must name at least one column")
    if len(checked) != branches:
        raise ValueError(
            f"columns must have an entry for each of the {branches} branches, got {len(checked)}"
        )
    return tuple(checked)


def _take_columns(graph: Graph, x: Value, columns: Sequence[int]) -> Value:
    """Return x itself, or a copy of some of its columns."""
    if list(columns) == list(range(x.columns)):
        return x
    part = graph.tensor(len(columns))
    if x.input_columns is not None:
        part.input_columns = tuple(x.input_columns[column] for column in columns)
    for place, column, count in _runs(columns):
        _copy_columns(graph, x, part, column, place, count)
    return part


def _copy_columns(
    graph: Graph, source: Value, out: Value, begin: int, place: int, count: int, *, accumulate: bool = False
) -> None:
    """Emit out[:, place : place + count] = source[:, begin : begin + count], or +=."""
    graph.emit(
        "copy_columns", source=source, out=out, begin=begin, place=place, count=count, accumulate=accumulate
    )


def _runs(columns: Sequence[int]) -> list[tuple[int, int, int]]:
    """(place in the list, first column, number) of each run of columns that follow each other."""
    begins = [n for n, column in enumerate(columns) if n == 0 or column != columns[n - 1] + 1]
    ends = [*begins[1:], len(columns)]
    return [(begin, columns[begin], end - begin) for begin, end in zip(begins, ends, strict=True)]
