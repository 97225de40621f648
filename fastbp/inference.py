"""What `predict` computes, as operations on values that have no place in memory: what exports translate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastbp.engine.graph import Graph, Node, Value
from fastbp.engine.plan import Index

if TYPE_CHECKING:
    from fastbp.stack import LayerStack

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Inference:
    """The forward pass of a model.

    Attributes
    ----------
    nodes : tuple of Node
        In an order in which they can run.
    input, output : Value
    parameters : dict of Value to (str, ndarray)
        Name and values, as they lie in memory: the weight of a dense layer is (in, out), a bias (1, out).
    indices : tuple of Index
        Columns of the input that hold row numbers of a table.
    """

    nodes: tuple[Node, ...]
    input: Value
    output: Value
    parameters: dict[Value, tuple[str, Array]]
    indices: tuple[Index, ...]

    def values(self, node: Node, operand: str) -> Array:
        """Return the values of a parameter that a node reads."""
        value = node.operands[operand]
        assert value is not None
        return self.parameters[value][1]

    def run(self, X: Array, operations: dict[str, Callable[..., None]] | None = None) -> Array:
        """Compute the output of a batch with the reference interpreter.

        Parameters
        ----------
        X : ndarray, shape (n, inputs)
        operations : dict, optional
            Functions to call instead of the reference's, by the name of the operation.
        """
        from fastbp.engine import reference

        run = reference.Run({}, X.dtype, seed=0, training=False, order=None, rows=len(X))
        arrays = {value: values.astype(X.dtype) for value, (_, values) in self.parameters.items()}
        arrays[self.input] = X
        known = reference.OPERATIONS | (operations or {})
        for node in self.nodes:
            for value in node.operands.values():
                if value is not None and value not in arrays:
                    arrays[value] = np.zeros((value.rows or len(X), value.columns), X.dtype)
            operands = {name: None if v is None else arrays[v] for name, v in node.operands.items()}
            known[node.kind](run, **operands, **node.attributes)
        return arrays[self.output]


def result(node: Node) -> Value:
    """Return what an operation of the forward pass computes: its operand "y" or "out"."""
    value = node.operands.get("y") or node.operands["out"]
    assert value is not None
    return value


def trace(model: LayerStack) -> Inference:
    """Let the layers of a built model write down their forward pass.

    Raises
    ------
    RuntimeError
        When the model has no weights yet.
    """
    places = {parameter.name: parameter.tensor for parameter in model.plan.parameters}
    flat = model.parameters
    graph = Graph(phase="forward")
    x = y = graph.tensor(model.input_size)
    x.input_columns = tuple(range(model.input_size))
    for layer in model.layers:
        graph.layer = layer.name
        y = layer.plan(graph, y)
    parameters = {}
    for declaration in graph.declarations:
        parameters[declaration.value] = declaration.name, places[declaration.name].matrix(flat)
    return Inference(tuple(graph.nodes), x, y, parameters, tuple(graph.indices))
