"""Embedding: integers to vectors that are learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastbp import initializers
from fastbp.checks import check_count
from fastbp.engine.graph import Graph, Value
from fastbp.engine.plan import Index
from fastbp.initializers import InitializerFunction
from fastbp.layer import Layer, Live

LARGEST_TABLE = 2**24


class Embedding(Layer):
    """Replaces each column of row numbers by the rows of a table that is learned.

    A sample's row numbers i, j, … become the features W[i], W[j], … one after the other. The columns hold
    whole numbers from 0 to input_dim − 1, of any numeric type, and come straight from X: the layer is the
    first one of the model, or the first one of a branch of :class:`Branches`.

    On the way back a row of W gets the sum of the deltas where it was looked up, the other rows get 0. An
    optimizer's step leaves alone the rows whose gradient is 0, and so does weight decay. For plain SGD that
    is the same as a step on all rows; with momentum or Adam it is "lazy", as PyTorch's ``SparseAdam``: the
    averages of a row move when the row is used, and the number of the step counts for all.

    Parameters
    ----------
    input_dim : int
        Rows of W: how many values a column can have; at most 2²⁴, which float32 can still tell apart.
    output_dim : int
        Features of a row.
    embeddings_initializer : str, Initializer or callable
        Where W starts: uniform on [−0.05, 0.05) as in Keras; it is asked for shape (input_dim, output_dim).
    name : str, optional

    Attributes
    ----------
    weight, weight_grad : ndarray, shape (input_dim, output_dim)
        Live views.

    Examples
    --------
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Embedding(10, 4), bp.layers.Dense(1)], input_size=2)
    >>> model.layers[0].output_size(2)
    8
    >>> model.predict([[3, 10]])
    Traceback (most recent call last):
        ...
    ValueError: X must hold whole numbers from 0 to 9 in column 1, ..., but is 10 at row 0
    """

    key = "embedding"
    weight = Live("weight", "parameters", "W, shape (input_dim, output_dim).")
    weight_grad = Live(
        "weight", "gradients", "∂L/∂W of the last backward pass, shape (input_dim, output_dim)."
    )

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: str | InitializerFunction | Mapping[str, Any] = "uniform",
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.input_dim = check_count("input_dim", input_dim)
        if self.input_dim > LARGEST_TABLE:
            raise ValueError(f"input_dim must be at most {LARGEST_TABLE}, got {input_dim}")
        self.output_dim = check_count("output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer, "embeddings_initializer")

    def output_size(self, input_size: int) -> int:
        """Return `output_dim` for each column."""
        return input_size * self.output_dim

    def plan(self, graph: Graph, x: Value) -> Value:
        """Emit the look-up, and on the way back the sums; the delta of a row number is 0."""
        if x.input_columns is None:
            raise ValueError(
                f"layer {self.name!r}: an Embedding looks up columns of X, so it must be the first layer of "
                "the model or of a branch of Branches"
            )
        graph.indices += [Index(self.name, column, self.input_dim) for column in x.input_columns]
        table = graph.parameter(
            "weight", self.input_dim, self.output_dim, self.embeddings_initializer, sparse=True
        )
        y = graph.tensor(x.columns * self.output_dim)
        graph.emit("embedding_forward", index=x, table=table, y=y)

        def backward(dy: Value) -> Value:
            graph.emit("embedding_backward", index=x, dy=dy, table_grad=table.gradient)
            dx = graph.delta(x.columns)
            graph.emit("clear", dx=dx)
            return dx

        graph.backward(backward)
        return y
