"""The reference interpreter: every operation of a plan in a few lines of NumPy. It defines what is correct.

The signature of a function is the operation's schema: the run, the operands (matrices, None where absent),
then keyword-only attributes, named and ordered like the ones of the native interpreter.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp.engine import reference_dense as reference_dense  # these enter their operations
from fastbp.engine import reference_layers as reference_layers
from fastbp.engine import reference_losses as reference_losses
from fastbp.engine import updates as updates
from fastbp.engine.operations import OPERATIONS as OPERATIONS
from fastbp.engine.operations import Array, operation
from fastbp.engine.operations import Run as Run
from fastbp.engine.plan import ELEMENTS, PHASES, Op, Plan, Tensor
from fastbp.engine.sparse import SparseRows

Inputs: TypeAlias = NDArray[Any] | SparseRows
SAMPLES = ("inputs", "targets", "sample_weights")  # matrices whose rows `order` picks


def schema() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return {operation: (operands, attributes)}, from the signatures; optional operands end in "?"."""
    found = {}
    for name, function in OPERATIONS.items():
        parameters = list(inspect.signature(inspect.unwrap(function)).parameters.values())[1:]
        operands = tuple(
            p.name + "?" * str(p.annotation).endswith("| None")
            for p in parameters
            if p.kind is p.POSITIONAL_OR_KEYWORD
        )
        attributes = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        found[name] = operands, attributes
    return found


# ---- rows between the caller's matrices and the workspace ----


@operation
def gather(run: Run, source: Array, out: Array) -> None:
    """Copy the batch's rows, as numbers of the model."""
    out[...] = source


@operation
def gather_rescale(run: Run, source: Array, out: Array, *, scale: float, offset: float) -> None:
    """Copy the batch's rows and scale them."""
    gather(run, source, out)
    reference_layers.rescale(run, out, out, scale=scale, offset=offset)


@operation
def gather_normalize(run: Run, source: Array, mean: Array, variance: Array, out: Array) -> None:
    """Copy the batch's rows and normalize each column."""
    gather(run, source, out)
    reference_layers.normalize(run, out, mean, variance, out)


@operation
def scatter(run: Run, source: Array, out: Array) -> None:
    """Copy the batch's rows back to the caller."""
    out[...] = source


# ---- the program ----


class Program:
    """A plan that NumPy can run; see :class:`fastbp.engine.backend.Program`."""

    def __init__(
        self,
        plan: Plan,
        parameters: Array,
        gradients: Array,
        state: Array,
        counters: NDArray[np.int64],
        workspace: Array | None = None,
    ) -> None:
        self.plan, self.parameters, self.gradients = plan, parameters, gradients
        self.state, self.counters = state, counters
        if workspace is None:
            workspace = np.zeros(plan.sizes["workspace"], plan.dtype)
        self._workspace = workspace
        arenas: dict[str, Array | SparseRows | None] = {
            "parameters": parameters,
            "gradients": gradients,
            "state": state,
            "workspace": self._workspace,
        }
        whole = Run(
            arenas, np.dtype(plan.dtype), plan.seed, False, None, rows=plan.block_rows or plan.batch_size
        )
        known = schema()
        for number, op in enumerate(plan.ops):
            try:
                _check_op(op, known)
                for tensor in op.operands.values():
                    if tensor is not None and tensor.arena in arenas:
                        self._view(whole, tensor)
            except ValueError as error:
                raise ValueError(f"operation {number} ({op.kind} of layer {op.layer!r}): {error}") from None

    def run(
        self,
        phases: Sequence[str],
        first: int,
        count: int,
        *,
        inputs: Inputs | None = None,
        targets: Array | None = None,
        outputs: Array | None = None,
        output_gradients: Array | None = None,
        input_gradients: Array | None = None,
        sample_weights: Array | None = None,
        order: NDArray[np.int64] | None = None,
        learning_rates: NDArray[np.float64] | None = None,
        batch_losses: NDArray[np.float64] | None = None,
        training: bool = False,
        goes_on: bool = False,
        totals: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[float, float]:
        """Run the operations of some phases, batch by batch."""
        unknown = set(phases) - set(PHASES)
        if unknown:
            raise ValueError(f"unknown phase {unknown.pop()!r}")
        if "update" in phases and learning_rates is None:
            raise ValueError("learning_rates: needed by the phase 'update'")
        if order is not None and order.size < first + count:
            raise ValueError(f"order: expected at least {first + count} elements, got {order.size}")
        if learning_rates is not None and learning_rates.size * self.plan.batch_size < count:
            raise ValueError(f"learning_rates: expected one for each batch, got {learning_rates.size}")
        if batch_losses is not None and batch_losses.size // 2 * self.plan.batch_size < count:
            raise ValueError(f"batch_losses: expected two for each batch, got {batch_losses.size}")
        arenas = {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "state": self.state,
            "workspace": self._workspace,
            "inputs": inputs,
            "targets": targets,
            "outputs": outputs,
            "output_gradients": output_gradients,
            "input_gradients": input_gradients,
            "sample_weights": sample_weights,
        }
        self._check_matrices(arenas, first + count, picked=order is not None)
        run = Run(arenas, np.dtype(self.plan.dtype), self.plan.seed, training, order)
        run.loss_sum, run.weight_sum = totals
        turn, run.draw = (int(counter) for counter in self.counters)
        ops = [op for op in self.plan.ops if op.phase in phases]
        accumulation = max((int(op.attributes["steps"]) for op in ops if op.kind == "accumulate"), default=1)
        for number, position in enumerate(range(first, first + count, self.plan.batch_size)):
            run.position, run.rows = position, min(self.plan.batch_size, first + count - position)
            run.draw += "forward" in phases and training
            turn += "update" in phases
            run.step, run.waiting = -(-turn // accumulation), (turn - 1) % accumulation
            if learning_rates is not None:
                run.learning_rate = float(learning_rates[number])
            before, run.penalty = run.loss_sum, 0.0
            self._run_batch(run, ops, accumulation)
            if batch_losses is not None:
                mean = (run.loss_sum - before) / run.batch_weight if run.batch_weight > 0 else 0.0
                batch_losses[number] = mean, run.penalty
        self.counters[:] = turn, run.draw
        return run.loss_sum, run.weight_sum

    def _run_batch(self, run: Run, ops: Sequence[Op], accumulation: int) -> None:
        """Take the batch through the operations, a block of rows at a time, and then the flat arrays."""
        position, rows, block = run.position, run.rows, self.plan.block_rows or self.plan.batch_size
        weights = run.arenas["sample_weights"]
        run.batch_weight = float(rows)
        if isinstance(weights, np.ndarray):
            samples = slice(position, position + rows)
            run.batch_weight = float(
                weights.ravel()[samples if run.order is None else run.order[samples]].sum(dtype=np.float64)
            )
        if any(op.phase == "loss" for op in ops):
            run.weight_sum += run.batch_weight
        else:
            run.batch_weight = 0.0
        adds_up = block < rows and any(op.phase == "backward" for op in ops)
        gradients = np.zeros_like(self.gradients)
        for run.first_row in range(0, rows, block):
            run.position, run.rows = position + run.first_row, min(block, rows - run.first_row)
            for op in ops:
                if not op.is_flat:
                    self._execute(run, op)
            if adds_up:
                gradients += self.gradients
        if adds_up:
            self.gradients[...] = gradients
        complete = run.waiting == accumulation - 1  # a step waits until all of its gradients are there
        for op in ops:
            if op.is_flat and (op.phase != "update" or op.kind == "accumulate" or complete):
                self._execute(run, op)

    def _check_matrices(self, arenas: dict[str, Array | SparseRows | None], end: int, picked: bool) -> None:
        """Samples picked by an order lie anywhere, the other rows at their positions."""
        columns = self.plan.columns
        widths = {
            "inputs": columns["inputs"],
            "targets": columns["targets"],
            "outputs": columns["outputs"],
            "output_gradients": columns["outputs"],
            "input_gradients": columns["inputs"],
            "sample_weights": 1,
        }
        for name, width in widths.items():
            array, rows = arenas[name], 1 if picked and name in SAMPLES else end
            if array is None:
                continue
            if isinstance(array, SparseRows):
                if array.width != width:
                    raise ValueError(f"{name}: expected rows of {width} columns, got {array.width}")
                elements, found = array.values.dtype, len(array)
            else:
                if name == "inputs" and self.plan.reads_sparse:
                    raise TypeError("inputs: this plan takes sparse rows only")
                elements, found = array.dtype, array.size // width
            if elements.name not in (ELEMENTS if name == "inputs" else (self.plan.dtype,)):
                raise TypeError(f"{name}: expected elements of type {self.plan.dtype}, got {elements}")
            if found < rows:
                raise ValueError(f"{name}: expected {end} rows of {width} columns, got {found}")

    def _execute(self, run: Run, op: Op) -> None:
        if any(t is not None and run.arenas[t.arena] is None for t in op.operands.values()):
            return  # a matrix that the caller did not give
        operands = {name: None if t is None else self._view(run, t) for name, t in op.operands.items()}
        parameters = op.operands.get("parameters")
        if parameters is not None and parameters.rows > 1 and "gradients" in operands:
            _update_rows(run, op, operands)
        else:
            OPERATIONS[op.kind](run, **operands, **op.attributes)

    def _view(self, run: Run, tensor: Tensor) -> Array | None:
        """Return the operand's rows of this batch, as a view."""
        arena = run.arenas[tensor.arena]
        if arena is None:
            return None
        if tensor.arena in ("parameters", "gradients", "state", "workspace"):
            assert isinstance(arena, np.ndarray)
            count = run.rows if tensor.per_row else tensor.rows
            end = tensor.offset + (count - 1) * tensor.stride + tensor.columns
            if tensor.offset < 0 or end > arena.size or (tensor.per_row and tensor.rows < run.rows):
                raise ValueError(f"operand outside its arena: {tensor} of {arena.size} elements")
            return np.lib.stride_tricks.as_strided(
                arena[tensor.offset : end],
                (count, tensor.columns),
                (tensor.stride * arena.itemsize, arena.itemsize),
            )
        rows: slice | NDArray[np.int64] = slice(run.position, run.position + run.rows)
        if run.order is not None and tensor.arena in SAMPLES:
            rows = run.order[rows]
        if isinstance(arena, SparseRows):
            return arena.dense(rows, run.dtype)
        return arena.reshape(-1, tensor.columns)[rows]


def _update_rows(run: Run, op: Op, operands: dict[str, Array | None]) -> None:
    """A step on the rows of a table that have a gradient; the others stay as they are."""
    gradients = operands["gradients"]
    assert gradients is not None
    used = (gradients != 0).any(axis=1)
    rows = {name: None if memory is None else memory[used] for name, memory in operands.items()}
    OPERATIONS[op.kind](run, **rows, **op.attributes)
    for name, memory in operands.items():
        if memory is not None:
            memory[used] = rows[name]


def _check_op(op: Op, known: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> None:
    if op.kind not in known:
        raise ValueError("unknown operation")
    operands, attributes = known[op.kind]
    names = [name.rstrip("?") for name in operands]
    if set(op.operands) != set(names) or set(op.attributes) != set(attributes):
        raise ValueError(
            f"takes operands {names} and attributes {list(attributes)}, "
            f"got {list(op.operands)} and {list(op.attributes)}"
        )
    for name in operands:
        if not name.endswith("?") and op.operands[name] is None:
            raise ValueError(f"missing operand {name!r}")
