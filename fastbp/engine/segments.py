"""Plans with Python in them: segments that an interpreter runs, and between them calls of what users wrote.

The operations "python_forward", "python_backward" and "python_loss" cut a plan. What lies between them is
compiled to programs that share one workspace, and a batch goes through programs and calls in turn: neither
interpreter ever calls Python. Functions get the rows of the batch as views that they cannot write to; what
they return is checked and copied into the workspace.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp.engine.plan import PYTHON, Op, Plan, function_name

Array = NDArray[np.floating]

_CACHE_LINE = 64  # bytes

Backprops: TypeAlias = dict[str, Callable[[Array], Array]]
"""The way back through each layer, as its last forward pass left it."""


@dataclass
class _Batch:
    """What a step gets to know, and where it leaves the loss."""

    phases: Sequence[str]
    first: int
    rows: int
    training: bool
    step: int  # of the optimizer, this batch included
    draw: int  # of the random numbers
    arguments: dict[str, Any]  # of the run, for programs
    loss_sum: float = 0.0
    weight_sum: float = 0.0


def _advance(phases: Sequence[str], training: bool) -> tuple[int, int]:
    """What a batch adds to the counters: optimizer steps, and training forward passes."""
    return int("update" in phases), int(training and "forward" in phases)


class Program:
    """A plan with Python in it that is ready to run; see :class:`fastbp.engine.backend.Program`.

    Parameters
    ----------
    interpreter : callable
        Makes a program of a segment: the class ``Program`` of one of the interpreters.
    plan, parameters, gradients, state, counters
        As for every program.
    """

    def __init__(
        self,
        interpreter: Callable[..., Any],
        plan: Plan,
        parameters: Array,
        gradients: Array,
        state: Array,
        counters: NDArray[np.int64],
    ) -> None:
        self.plan, self.parameters, self.gradients = plan, parameters, gradients
        self.state, self.counters = state, counters
        workspace = _aligned_zeros(plan.sizes["workspace"], plan.dtype)
        arenas = {"parameters": parameters, "gradients": gradients, "workspace": workspace}
        calls = {"python_forward": _Forward, "python_backward": _Backward, "python_loss": _Loss}
        backprops: Backprops = {}
        self._segment_counters = np.zeros(2, np.int64)
        self._parts: list[tuple[set[str], Callable[[_Batch], None]]] = []  # with the phases of each
        self._running = False
        for python, group in itertools.groupby(plan.ops, key=lambda op: op.kind.startswith(PYTHON)):
            segment = tuple(group)
            if python:
                self._parts += [
                    ({op.phase}, calls[op.kind](op, arenas, plan.seed, backprops)) for op in segment
                ]
            else:
                part = replace(plan, ops=segment)
                program = interpreter(part, parameters, gradients, state, self._segment_counters, workspace)
                phases = {op.phase for op in segment}
                self._parts.append((phases, self._runner(program, phases)))

    def _runner(self, program: Any, own: set[str]) -> Callable[[_Batch], None]:
        def run(batch: _Batch) -> None:
            phases = [phase for phase in batch.phases if phase in own]
            # A program advances the counters by itself, in the phases that do so.
            steps, draws = _advance(phases, batch.training)
            self._segment_counters[:] = batch.step - steps, batch.draw - draws
            loss, weight = program.run(phases, batch.first, batch.rows, **batch.arguments)
            batch.loss_sum += loss
            batch.weight_sum = weight or batch.weight_sum  # the same for all that have a part in the loss

        return run

    def run(
        self,
        phases: Sequence[str],
        first: int,
        count: int,
        *,
        learning_rates: NDArray[np.float64] | None = None,
        training: bool = False,
        totals: tuple[float, float] = (0.0, 0.0),
        **matrices: Any,
    ) -> tuple[float, float]:
        """Run the operations of some phases, batch by batch.

        A batch in which a function raises leaves parameters and counters as they were before it.
        """
        if self._running:
            raise RuntimeError(
                "this model is running: use it in one thread at a time, and not from its own layers or loss"
            )
        self._running = True
        try:
            return self._run(phases, first, count, learning_rates, totals, {"training": training, **matrices})
        finally:
            self._running = False

    def _run(
        self,
        phases: Sequence[str],
        first: int,
        count: int,
        learning_rates: NDArray[np.float64] | None,
        totals: tuple[float, float],
        arguments: dict[str, Any],
    ) -> tuple[float, float]:
        parts = [part for own, part in self._parts if not own.isdisjoint(phases)]
        training, batch_size = bool(arguments["training"]), self.plan.batch_size
        loss_sum, weight_sum = totals
        step, draw = self.counters.tolist()
        steps, draws = _advance(phases, training)
        for number, position in enumerate(range(first, first + count, batch_size)):
            if learning_rates is not None:
                arguments["learning_rates"] = learning_rates[number : number + 1]
            rows = min(batch_size, first + count - position)
            batch = _Batch(phases, position, rows, training, step + steps, draw + draws, arguments)
            for part in parts:
                part(batch)
            self.counters[:] = step, draw = batch.step, batch.draw
            loss_sum, weight_sum = loss_sum + batch.loss_sum, weight_sum + batch.weight_sum
        return loss_sum, weight_sum


# ---- calls ---------------------------------------------------------------------------------------


class _Call:
    """An operation in Python: its operands as views, and the checks of what a function returns."""

    def __init__(self, op: Op, arenas: dict[str, Array], seed: int, backprops: Backprops) -> None:
        self.op, self.seed, self.backprops = op, seed, backprops
        self.function: Any = op.attributes.get("function")
        self.owner = f"layer {op.layer!r}" if op.layer else f"loss {function_name(self.function)!r}"
        self.views: dict[str, Array] = {}
        for name, tensor in op.operands.items():
            if tensor is not None:
                self.views[name] = tensor.matrix(arenas[tensor.arena])

    def __call__(self, batch: _Batch) -> None:
        """Do the operation for a batch."""
        raise NotImplementedError

    def call(self, function: Callable[..., Any], *arguments: Array, **options: Any) -> Any:
        """Call a user's function; what it raises is told where that was."""
        try:
            return function(*arguments, **options)
        except Exception as error:
            error.add_note(f"(in {self.owner}, {self.op.phase})")
            raise

    def read(self, name: str, rows: int) -> Array:
        """Return the batch's rows of an operand, read-only: others rely on them later."""
        view = self.views[name][:rows]
        view.flags.writeable = False
        return view

    def write(self, name: str, values: object, what: str, rows: int) -> None:
        """Copy what a function returned to the batch's rows of an operand."""
        self.views[name][:rows] = self.checked(values, what, self.views[name][:rows])

    def pair(self, returned: object, expected: str) -> tuple[Any, Any]:
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(f"{self.owner} must return {expected}, got {type(returned).__name__}")
        return returned

    def checked(self, values: object, what: str, like: Array) -> Array:
        if not isinstance(values, np.ndarray):
            raise TypeError(
                f"{self.owner}: {what} must be an array of shape {like.shape}, got {type(values).__name__}"
            )
        if values.shape != like.shape:
            raise ValueError(f"{self.owner}: {what} must have shape {like.shape}, got {values.shape}")
        if values.dtype != like.dtype:
            raise TypeError(
                f"{self.owner}: {what} must have dtype {like.dtype}, the model's, got {values.dtype}"
            )
        return values


class _Forward(_Call):
    """y, backprop = function(x), with the arguments `training` and `rng` if the operation says so."""

    def __call__(self, batch: _Batch) -> None:
        options: dict[str, Any] = {}
        if self.op.attributes["training"]:
            options["training"] = batch.training
        stream: Any = self.op.attributes["stream"]
        if stream >= 0:  # one generator for each layer and pass, the same whenever that pass is repeated
            bits = np.random.Philox(key=[self.seed, stream], counter=[0, 0, 0, batch.draw])
            options["rng"] = np.random.Generator(bits)
        self.backprops.pop(self.op.layer, None)
        returned = self.call(self.function, self.read("x", batch.rows), **options)
        y, backprop = self.pair(returned, "(y, backprop)")
        if not callable(backprop):
            raise TypeError(f"{self.owner}: backprop must be a function of dy, got {type(backprop).__name__}")
        self.write("y", y, "y, which forward returns,", batch.rows)
        self.backprops[self.op.layer] = backprop


class _Backward(_Call):
    """dx = backprop(dy), which adds to gradients that are 0."""

    def __call__(self, batch: _Batch) -> None:
        for name in self.views.keys() - {"dy", "dx"}:
            self.views[name][...] = 0
        dx = self.call(self.backprops[self.op.layer], self.read("dy", batch.rows))
        self.write("dx", dx, "dx, which backprop returns,", batch.rows)


class _Loss(_Call):
    """value, gradient = function(y, ŷ).

    With one value per sample, row i of the gradient is ∂value_i/∂ŷ_i and the delta is w_i / Σ w times it.
    A single value is the mean of the batch, and the gradient is its own: it leaves no room for weights.
    """

    def __call__(self, batch: _Batch) -> None:
        rows, delta = batch.rows, self.views["delta"][: batch.rows]
        returned = self.call(self.function, self.read("target", rows), self.read("prediction", rows))
        value, gradient = self.pair(returned, "(value, gradient)")
        losses = self.values(value, rows)
        gradient = self.checked(gradient, "the gradient", delta)
        weighted = batch.arguments.get("sample_weights") is not None
        if losses.ndim == 0:
            if weighted:
                raise ValueError(
                    f"{self.owner} must return one value per sample, shape ({rows},), where samples have "
                    "weights; got their mean"
                )
            batch.loss_sum, batch.weight_sum = float(losses) * rows, rows
            delta[...] = gradient
            return
        weights = self.views["sample_weight"][:rows, 0].astype(np.float64) if weighted else np.ones(rows)
        batch.loss_sum, batch.weight_sum = float((weights * losses).sum()), float(weights.sum())
        share = weights / batch.weight_sum if batch.weight_sum > 0 else 0 * weights
        delta[...] = gradient * share[:, np.newaxis].astype(delta.dtype)

    def values(self, value: object, rows: int) -> NDArray[np.float64]:
        losses = np.asarray(value)
        if losses.dtype.kind not in "fiu":
            raise TypeError(f"{self.owner}: the value must be numbers, got {type(value).__name__}")
        if losses.shape not in ((), (rows,)):
            raise ValueError(
                f"{self.owner}: the value must have shape ({rows},), one per sample, or be their mean, a "
                f"single number; got shape {losses.shape}"
            )
        return losses.astype(np.float64)


def _aligned_zeros(size: int, dtype: str) -> Array:
    """Zeros in memory that begins at a cache line."""
    item = np.dtype(dtype).itemsize
    memory = np.zeros(size + _CACHE_LINE // item, dtype)
    skip = -memory.ctypes.data % _CACHE_LINE // item
    return memory[skip : skip + size]
