"""A network in memory: its flat arrays, and the programs that run over them.

Everything here is checked already; :mod:`fastbp.model` stands between a network and its user.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp.engine import backend, planner
from fastbp.engine.plan import ROW_OPERATIONS, Plan
from fastbp.layer import Layer
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer

Array = NDArray[np.floating]
Task: TypeAlias = tuple[Loss | None, Optimizer]
OnePass: TypeAlias = Literal["", "inference", "training"]

# Most rows that count as one batch of predict and evaluate: blocks enough for every thread.
PREDICT_BATCH = 8192
# The same for networks whose batches do not go through block by block: few enough rows for the activations to
# stay in the cache.
PREDICT_WHOLE = 256
# Least capacity of a program for batches of any size.
SMALLEST_BATCH = 32
# Programs kept for further use; each owns a workspace.
KEPT_PROGRAMS = 4
# Bytes: a cache line, and the widest vector.
ALIGNMENT = 64
# The engine is called for as many batches as take about this long. Between the calls Python sees Ctrl-C,
# and the progress bar moves.
SECONDS_PER_CALL = 0.05


@dataclass
class Samples:
    """Samples in the engine's form: matrices of the model's dtype, one row a sample.

    Attributes
    ----------
    inputs : ndarray, shape (n, input_size)
    targets : ndarray, shape (n, output_size), or (n, 1) for labels
    weights : ndarray, shape (n,), or None
    """

    inputs: Array
    targets: Array
    weights: Array | None

    def __len__(self) -> int:
        return len(self.inputs)

    def slice(self, begin: int, end: int) -> Samples:
        """Return the samples begin .. end, without a copy."""
        weights = None if self.weights is None else self.weights[begin:end]
        return Samples(self.inputs[begin:end], self.targets[begin:end], weights)

    def arenas(self) -> dict[str, Any]:
        """Return the matrices under the engine's names."""
        return {"inputs": self.inputs, "targets": self.targets, "sample_weights": self.weights}


class Network:
    """Layers with memory.

    Parameters
    ----------
    layers : sequence of Layer
        They get views of the parameters, and their initial values.
    input_size : int
    loss : Loss or None
    optimizer : Optimizer
    dtype : {"float32", "float64"}
    seed : int
        Of the random numbers in training.
    rng : Generator
        Draws the initial values.

    Attributes
    ----------
    plan : Plan
        For batches of :data:`SMALLEST_BATCH` rows.
    parameters, gradients, state : ndarray
        Flat arrays; see :class:`fastbp.engine.plan.Plan`.
    counters : ndarray of two int64
        Optimizer steps, and training forward passes, so far.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_size: int,
        *,
        loss: Loss | None,
        optimizer: Optimizer,
        dtype: str,
        seed: int,
        rng: np.random.Generator,
    ) -> None:
        self.layers, self.input_size, self.dtype, self.seed = layers, input_size, dtype, seed
        self.counters = np.zeros(2, np.int64)
        self.set_task(loss, optimizer)
        self.parameters = aligned_copy(np.zeros(self.plan.sizes["parameters"], dtype))
        self.gradients = aligned_copy(np.zeros(self.plan.sizes["gradients"], dtype))
        self._bind()
        for layer in layers:
            layer.initialize(rng)

    def set_task(self, loss: Loss | None, optimizer: Optimizer) -> None:
        """Train towards another loss from now on, with an optimizer that starts afresh."""
        # Plans are made for one batch size after another; all of them must tell of the same task.
        task = copy.copy(loss), copy.copy(optimizer)
        self.plan = self._make_plan(task, SMALLEST_BATCH)
        self._task, self.optimizer = task, optimizer
        self.state = aligned_copy(np.zeros(self.plan.sizes["state"], self.dtype))
        self.counters[0] = 0
        self._programs: dict[tuple[int, int | None, OnePass], backend.Program] = {}
        self._forward_pass: tuple[backend.Program, int, bool] | None = None

    def _make_plan(
        self, task: Task, batch_size: int, target_columns: int | None = None, one_pass: OnePass = ""
    ) -> Plan:
        loss, optimizer = task
        return planner.build(
            self.layers,
            self.input_size,
            loss=loss,
            optimizer=optimizer,
            dtype=self.dtype,
            batch_size=batch_size,
            seed=self.seed,
            target_columns=target_columns,
            one_pass=one_pass,
        )

    def _bind(self) -> None:
        for layer in self.layers:
            layer.bind(self.plan, self.parameters, self.gradients)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_programs": {}, "_forward_pass": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in ("parameters", "gradients", "state"):
            setattr(self, name, aligned_copy(getattr(self, name)))
        self._bind()

    @property
    def output_size(self) -> int:
        """Number of outputs."""
        return self.plan.columns["outputs"]

    @property
    def _predict_batch(self) -> int:
        kinds = (op.kind for op in self.plan.ops if op.phase != "update")
        return PREDICT_BATCH if ROW_OPERATIONS.issuperset(kinds) else PREDICT_WHOLE

    @property
    def latest_plan(self) -> Plan:
        """The plan of the program that ran last, or the one to come."""
        return next(reversed(self._programs.values())).plan if self._programs else self.plan

    def tensors(self, optimizer: bool) -> dict[str, Array]:
        """Live views of all that a file holds, by its name; of the optimizer's slots only if wanted."""
        views = {
            f"{layer.name}.{name}": view
            for layer in self.layers
            for name, view in (layer.parameters | layer.statistics).items()
        }
        if not optimizer:
            return views
        layers = {layer.name: layer for layer in self.layers}
        slots = self.state.reshape(len(self.plan.slots), -1) if self.plan.slots else ()
        for slot, flat in zip(self.plan.slots, slots, strict=True):
            for parameter in self.plan.parameters:
                if not parameter.trained:
                    continue
                layer, _, name = parameter.name.partition(".")
                memory = parameter.tensor.matrix(flat)
                views[f"optimizer.{slot}.{parameter.name}"] = layers[layer].view(name, memory)
        return views

    # ---- programs ----

    def _program(
        self, rows: int, target_columns: int | None = None, one_pass: OnePass = ""
    ) -> backend.Program:
        """Return a program for at least so many rows, for training exactly; forget the forward pass."""
        self._forward_pass = None
        capacity = rows if one_pass == "training" else max(SMALLEST_BATCH, 1 << (rows - 1).bit_length())
        if target_columns is None and one_pass == "":  # any program that is large enough will do
            for (_, _, kind), program in self._programs.items():
                if kind == "" and rows <= program.plan.batch_size <= 4 * capacity:
                    return program
        key = capacity, target_columns, one_pass
        found = self._programs.pop(key, None)
        if found is None:
            plan = self._make_plan(self._task, capacity, target_columns, one_pass)
            found = backend.compile(plan, self.parameters, self.gradients, self.state, self.counters)
        self._programs[key] = found  # most recently used last
        while len(self._programs) > KEPT_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        return found

    def _rates(self, batches: int) -> NDArray[np.float64]:
        return np.full(batches, self.optimizer.learning_rate)

    # ---- training ----

    def train(self, samples: Samples) -> float:
        """Do one step on all samples together and return their mean loss before it."""
        rows = len(samples)
        phases = ("gather", "gather_targets", "forward", "loss", "backward", "update")
        program = self._program(rows, samples.targets.shape[1])
        rates = self._rates(1)
        return _ratio(program.run(phases, 0, rows, learning_rates=rates, training=True, **samples.arenas()))

    def train_epoch(
        self,
        samples: Samples,
        order: NDArray[np.int64],
        batch_size: int,
        outputs: Array | None,
        progress: Callable[[int], None],
    ) -> float:
        """Do a step for each batch and return the mean loss.

        Parameters
        ----------
        samples : Samples
        order : ndarray of int64
            Sample numbers in the order of their turn.
        batch_size : int
        outputs : ndarray, shape (n, output_size), or None
            Where to leave the predictions, as they were before each update and in the order of `order`.
        progress : callable
            Told how many batches are done since it was last called.
        """
        phases = ["gather", "gather_targets", "forward", "loss", "backward", "update"]
        if outputs is not None:
            phases.insert(3, "output")
        program = self._program(batch_size, samples.targets.shape[1], "training")

        def run(first: int, count: int) -> tuple[float, float]:
            rates = self._rates(-(-count // batch_size))
            return program.run(
                phases,
                first,
                count,
                order=order,
                outputs=outputs,
                learning_rates=rates,
                training=True,
                **samples.arenas(),
            )

        return _ratio(_run_in_chunks(run, len(samples), batch_size, progress))

    # ---- one phase after the other ----

    def forward(self, inputs: Array, training: bool) -> Array:
        """Return the outputs of a batch, and keep what :meth:`backward` needs."""
        rows = len(inputs)
        program = self._program(rows)
        outputs = np.empty((rows, self.output_size), self.dtype)
        phases = ("gather", "forward", "output")
        program.run(phases, 0, rows, inputs=inputs, outputs=outputs, training=training)
        self._forward_pass = program, rows, training
        return outputs

    @property
    def forward_rows(self) -> int | None:
        """Rows of the forward pass that :meth:`backward` would go back through; None without one."""
        return None if self._forward_pass is None else self._forward_pass[1]

    def backward(self, delta: Array) -> Array:
        """Fill the gradients from ∂L/∂Y of the last forward pass and return ∂L/∂X."""
        assert self._forward_pass is not None
        program, rows, training = self._forward_pass
        dX = np.empty((rows, self.input_size), self.dtype)
        phases = ("output_backward", "backward", "input_gradient")
        program.run(phases, 0, rows, output_gradients=delta, input_gradients=dX, training=training)
        return dX

    def step(self) -> None:
        """Let the optimizer do one step with the gradients as they are."""
        kept = self._forward_pass
        program = self._program(1) if kept is None else kept[0]
        program.run(("update",), 0, 1, learning_rates=self._rates(1))

    # ---- using ----

    def predict(self, inputs: Array) -> Array:
        """Return the outputs for any number of samples."""
        outputs = np.empty((len(inputs), self.output_size), self.dtype)
        program = self._program(min(len(inputs), self._predict_batch), None, "inference")

        def run(first: int, count: int) -> tuple[float, float]:
            return program.run(("gather", "forward", "output"), first, count, inputs=inputs, outputs=outputs)

        _run_in_chunks(run, len(inputs), program.plan.batch_size)
        return outputs

    def inference_plan(self) -> Plan:
        """Return a plan without loss and optimizer, for many rows at a time."""
        return planner.build(
            self.layers,
            self.input_size,
            dtype=self.dtype,
            batch_size=self._predict_batch,
            one_pass="inference",
        )

    def evaluate(self, samples: Samples) -> tuple[float, Array]:
        """Return the mean loss and the outputs."""
        outputs = np.empty((len(samples), self.output_size), self.dtype)
        program = self._program(min(len(samples), self._predict_batch), samples.targets.shape[1], "inference")
        phases = ("gather", "gather_targets", "forward", "output", "loss")

        def run(first: int, count: int) -> tuple[float, float]:
            return program.run(phases, first, count, outputs=outputs, **samples.arenas())

        return _ratio(_run_in_chunks(run, len(samples), program.plan.batch_size)), outputs


def _run_in_chunks(
    run: Callable[[int, int], tuple[float, float]],
    count: int,
    batch_size: int,
    progress: Callable[[int], None] = lambda batches: None,
) -> tuple[float, float]:
    """Call ``run(first, count)`` over all positions, for a short time each, and add up what it returns."""
    loss_sum = weight_sum = 0.0
    batches, first = 1, 0
    while first < count:
        size = min(batches * batch_size, count - first)
        begin = time.perf_counter()
        loss, weight = run(first, size)
        elapsed = time.perf_counter() - begin
        loss_sum, weight_sum, first = loss_sum + loss, weight_sum + weight, first + size
        done = -(-size // batch_size)
        progress(done)
        # at the pace of this call; at most ten times more batches than in it, for a short call is noise
        affordable = SECONDS_PER_CALL * done / max(elapsed, 1e-9)
        batches = max(1, min(int(affordable), 10 * done))
    return loss_sum, weight_sum


def _ratio(sums: tuple[float, float]) -> float:
    """Σ w·l / Σ w; weights so small that the engine takes them for 0 have no loss."""
    loss_sum, weight_sum = sums
    return loss_sum / weight_sum if weight_sum else 0.0


def aligned_copy(values: Array) -> Array:
    """Copy a flat array to memory that begins at a cache line."""
    item = values.dtype.itemsize
    memory = np.empty(values.size + ALIGNMENT // item, values.dtype)
    skip = -memory.ctypes.data % ALIGNMENT // item
    aligned = memory[skip : skip + values.size]
    aligned[...] = values
    return aligned
