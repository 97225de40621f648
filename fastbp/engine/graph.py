"""What layers write themselves into: values, operations on them, and the way back.

A layer's ``plan(graph, x)`` emits the operations that turn x into y and, right next to them, registers a
function that emits the operations turning the delta of y into the delta of x. Nothing has a place in memory
yet: the planner fuses operations, orders them and lays out memory afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastbp.engine.plan import PHASES, Attribute, Index


@dataclass(eq=False, slots=True)
class Value:
    """A matrix that has no place in memory yet. Two values are equal only if they are the same object.

    Attributes
    ----------
    arena : str
        One of :data:`fastbp.engine.plan.ARENAS`.
    columns : int
    rows : int or None
        None: one row per sample of the batch.
    transient : bool
        True for deltas: after the last operation that mentions it, its place may serve another one.
    contiguous : bool
        True when rows follow each other without padding.
    gradient : Value or None
        The derivative of the loss with respect to a parameter.
    input_columns : tuple of int or None
        The columns of the network's input that this is a copy of; None when it is no copy.
    """

    arena: str
    columns: int
    rows: int | None = None
    transient: bool = False
    contiguous: bool = False
    gradient: Value | None = None
    input_columns: tuple[int, ...] | None = None


@dataclass(eq=False, slots=True)
class Node:
    """An operation on values; see :class:`fastbp.engine.plan.Op`."""

    kind: str
    phase: str
    layer: str
    operands: dict[str, Value | None]
    attributes: dict[str, Any]


@dataclass(slots=True)
class Declaration:
    """A parameter as a layer asked for it."""

    name: str
    value: Value
    initializer: Callable[..., Any]
    decay: bool
    sparse: bool = False
    trained: bool = True
    penalty: tuple[float, float] = (0.0, 0.0)
    max_norm: float | None = None


@dataclass(slots=True)
class Graph:
    """The network while it is being planned.

    Attributes
    ----------
    phase, layer : str
        Stamped on the operations that are emitted; the planner sets them.
    nodes : list of Node
    declarations : list of Declaration
    indices : list of Index
        Input columns that hold row numbers of a table.
    streams : int
        Independent streams of random numbers handed out so far.
    """

    phase: str = PHASES[0]
    layer: str = ""
    nodes: list[Node] = field(default_factory=list)
    declarations: list[Declaration] = field(default_factory=list)
    indices: list[Index] = field(default_factory=list)
    streams: int = 0
    _tape: list[tuple[str, Callable[[Value], Value]]] = field(default_factory=list)

    def tensor(self, columns: int) -> Value:
        """Return a new activation, shape (batch, columns), that lives until the backward pass is over."""
        return Value("workspace", columns)

    def delta(self, columns: int) -> Value:
        """Return a new delta, shape (batch, columns): the derivative of the loss by an activation."""
        return Value("workspace", columns, transient=True)

    def scratch(self, rows: int, columns: int) -> Value:
        """Return a matrix of a fixed number of rows that lives until the backward pass is over."""
        return Value("workspace", columns, rows)

    def parameter(
        self,
        name: str,
        rows: int,
        columns: int,
        initializer: Callable[..., Any],
        *,
        decay: bool = True,
        sparse: bool = False,
        penalty: tuple[float, float] = (0.0, 0.0),
        max_norm: float | None = None,
    ) -> Value:
        """Declare a parameter of shape (rows, columns) in memory; its gradient is ``.gradient``.

        Parameters
        ----------
        name : str
            Such as "weight"; the plan calls it "dense.weight".
        initializer : callable
            See :mod:`fastbp.initializers`.
        decay : bool
            False for biases and the like, which lie behind all weights.
        sparse : bool
            True for tables of which a batch uses few rows: an update leaves alone the rows whose gradient
            is 0. They lie behind the biases.
        penalty : tuple of two float
            l1 and l2: the loss grows by l1 Σ|θ| + l2 Σθ².
        max_norm : float, optional
            Largest Euclidean norm of a column after a step.
        """
        gradient = Value("gradients", columns, rows, contiguous=sparse)  # no product reads a table
        value = Value("parameters", columns, rows, contiguous=sparse, gradient=gradient)
        self.declarations.append(
            Declaration(
                f"{self.layer}.{name}",
                value,
                initializer,
                decay,
                sparse=sparse,
                penalty=penalty,
                max_norm=max_norm,
            )
        )
        return value

    def statistic(self, name: str, columns: int, initializer: Callable[..., Any]) -> Value:
        """Declare a vector that is kept and saved with the parameters, behind them, but not trained."""
        value = Value("parameters", columns, 1)
        self.declarations.append(
            Declaration(f"{self.layer}.{name}", value, initializer, decay=False, trained=False)
        )
        return value

    def stream(self) -> int:
        """Return the number of a stream of random numbers that no one else in the network uses."""
        self.streams += 1
        return self.streams - 1

    def emit(self, kind: str, **arguments: Value | Attribute | None) -> None:
        """Append an operation; values and None are its operands, the rest are its attributes.

        An operation must come after the ones that write what it reads.
        """
        operands = {name: a for name, a in arguments.items() if a is None or isinstance(a, Value)}
        attributes = {name: a for name, a in arguments.items() if a is not None and not isinstance(a, Value)}
        self.nodes.append(Node(kind, self.phase, self.layer, operands, attributes))

    def backward(self, step: Callable[[Value], Value]) -> None:
        """Register how to go back through what was just emitted.

        Parameters
        ----------
        step : callable
            Takes the delta of y, emits operations that fill gradients and the delta of x, and returns the
            latter. A delta may be left behind: its memory is reused when nothing mentions it any more.
        """
        self._tape.append((self.layer, step))

    def record(self, plan: Callable[[Value], Value], x: Value) -> tuple[Value, Callable[[Value], Value]]:
        """Let `plan` emit a part of the network, and return its y and its way back, from dy to dx.

        The part stands beside the row of layers: whoever records it calls its way back.
        """
        kept, self._tape = self._tape, []
        y = plan(x)
        tape, self._tape = self._tape, kept
        return y, lambda delta: self._run(tape, delta)

    def run_backward(self, delta: Value) -> Value:
        """Emit the way back, last layer first, and return the delta of the inputs."""
        return self._run(self._tape, delta)

    def _run(self, tape: list[tuple[str, Callable[[Value], Value]]], delta: Value) -> Value:
        while tape:
            self.layer, step = tape.pop()
            delta = step(delta)
        return delta
