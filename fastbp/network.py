"""A network in memory: its flat arrays, and the programs that run over them.

Everything here is checked already; :mod:`fastbp.model` stands between a network and its user.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp import full_batch
from fastbp.background import Background
from fastbp.engine import backend, planner
from fastbp.engine.plan import ROW_OPERATIONS, Plan
from fastbp.layer import Layer
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer
from fastbp.samples import Inputs, Samples, in_memory
from fastbp.sources import MappedRows

Array = NDArray[np.floating]
Task: TypeAlias = tuple[Loss | None, Optimizer]
OnePass: TypeAlias = Literal["", "inference", "training"]
Sums: TypeAlias = tuple[float, float]  # over samples: weight times loss, and weight

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
# A batch that takes longer than this runs in another thread, so that Ctrl-C need not wait for its end ...
SECONDS_PER_BATCH = 0.1
# ... and so does the first one of an epoch if it has more floating-point operations than this.
OPERATIONS_PER_BATCH = 2e9


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
        Batches that took part in an optimizer step, and training forward passes, so far.
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
        self._background = Background()
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

    def wait(self) -> None:
        """Wait for the step that an interruption has left running."""
        self._background.wait()

    def __getstate__(self) -> dict[str, Any]:
        self.wait()
        return self.__dict__ | {"_programs": {}, "_forward_pass": None, "_background": Background()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in ("parameters", "gradients", "state"):
            setattr(self, name, aligned_copy(getattr(self, name)))
        self.counters = self.counters.copy()  # joblib may have left it in a file that is only read
        self._bind()

    @property
    def loss(self) -> Loss | None:
        """The loss that training minimises."""
        return self._task[0]

    @property
    def output_size(self) -> int:
        """Number of outputs."""
        return self.plan.columns["outputs"]

    @property
    def _predict_batch(self) -> int:
        kinds = (op.kind for op in self.plan.ops if not op.is_flat)
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
        for slot in self.plan.slots:
            flat = self._slot(slot)
            for parameter in self.plan.parameters:
                if not parameter.trained:
                    continue
                layer, _, name = parameter.name.partition(".")
                memory = parameter.tensor.matrix(flat)
                views[f"optimizer.{slot}.{parameter.name}"] = layers[layer].view(name, memory)
        return views

    def _slot(self, name: str) -> Array:
        """One of the optimizer's arrays, laid out like the parameters."""
        size, number = self.parameters.size, self.plan.slots.index(name)
        return self.state[number * size : (number + 1) * size]

    @property
    def has_average(self) -> bool:
        """Whether the optimizer keeps a moving average of the parameters, and has begun with it."""
        return "average" in self.plan.slots and self.counters[0] >= self._task[1].accumulation

    def swap_average(self) -> None:
        """Put the moving average in the place of the parameters, and the other way round."""
        average, parameters = self._average()
        parameters[...], average[...] = average.copy(), parameters.copy()

    def adopt_average(self) -> None:
        """Let the parameters become their moving average, if there is one: what a training ends with."""
        if self.has_average:
            average, parameters = self._average()
            parameters[...] = average

    def _average(self) -> tuple[Array, Array]:
        """The moving average, and the parameters it is of: statistics are none."""
        size = self.plan.trained_size
        return self._slot("average")[:size], self.parameters[:size]

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
        return self.optimizer.rates(int(self.counters[0]), batches)

    # ---- training ----

    def train(self, samples: Samples) -> float:
        """Do one step on all samples together and return their mean loss before it."""
        if not self.optimizer.kind:
            return full_batch.minimize(self, samples)
        rows = len(samples)
        phases = ("gather", "gather_targets", "forward", "loss", "backward", "update")
        program = self._program(rows, samples.targets.shape[1])
        rates = self._rates(1)
        arenas = samples.arenas() | {"inputs": in_memory(samples.inputs)}
        return mean_loss(program.run(phases, 0, rows, learning_rates=rates, training=True, **arenas))

    def train_epoch(
        self,
        samples: Samples,
        order: NDArray[np.int64] | None,
        batch_size: int,
        outputs: Array | None,
        progress: Callable[[int], None],
        sums: Sums,
    ) -> Sums:
        """Do a step for each batch, and stop once the loss is not finite.

        Parameters
        ----------
        samples : Samples
        order : ndarray of int64, or None
            Numbers of the samples in the order of their turn, all of them or some; None: all as they lie. An
            optimizer that runs the network itself takes all of them.
        batch_size : int
        outputs : ndarray, shape (n, output_size), or None
            Where to leave the predictions, as they were before each update and in the order of `order`.
        progress : callable
            Told how many batches are done since it was last called.
        sums : (float, float)
            What this method returned for the samples before; zeros at the beginning of an epoch.

        Returns
        -------
        (float, float)
            Sums over the samples from the beginning of the epoch: weight times loss, and weight.
        """
        if not self.optimizer.kind:
            loaded = Samples(in_memory(samples.inputs), samples.targets, samples.weights)
            loss = full_batch.minimize(self, loaded)
            if outputs is not None:
                outputs[...] = self.predict(samples.inputs)[slice(None) if order is None else order]
            progress(-(-len(samples) // batch_size))
            weight = float(len(samples) if samples.weights is None else samples.weights.sum(dtype=np.float64))
            return sums[0] + loss * weight, sums[1] + weight
        phases = ["gather", "gather_targets", "forward", "loss", "backward", "update"]
        if outputs is not None:
            phases.insert(3, "output")
        program = self._program(batch_size, samples.targets.shape[1], "training")

        def run_block(
            block: Samples, turns: NDArray[np.int64] | None, places: Array | None, sums: Sums
        ) -> Sums:
            arenas = block.arenas() | {"order": turns, "outputs": places}

            def run(first: int, count: int, sums: Sums) -> Sums:
                rates = self._rates(-(-count // batch_size))
                return program.run(
                    phases, first, count, learning_rates=rates, training=True, totals=sums, **arenas
                )

            count = len(block) if turns is None else len(turns)
            return _run_in_chunks(run, count, batch_size, progress, sums, finite=True, background=background)

        # each weight takes part in three products per sample
        background = self._background, 6 * batch_size * self.parameters.size > OPERATIONS_PER_BATCH
        done = 0
        with closing(samples.blocks(order, batch_size)) as blocks:
            for block, turns in blocks:
                places = None if outputs is None else outputs[done:]
                sums = run_block(block, turns, places, sums)
                done += len(block)
                if not math.isfinite(sums[0]):
                    break
        return sums

    def differentiate(self, samples: Samples, training: bool, backward: bool = True) -> tuple[float, Array]:
        """Fill the gradients of the mean loss of all samples together, and return that loss and ∂L/∂X.

        Without `backward` nothing but the loss is computed.
        """
        rows = len(samples)
        program = self._program(rows, samples.targets.shape[1])
        dX = np.empty((rows, self.input_size), self.dtype)
        phases = ["gather", "gather_targets", "forward", "loss"]
        if backward:
            phases += ["backward", "input_gradient"]
        arenas = samples.arenas() | {"input_gradients": dX}
        loss_sum, weight_sum = program.run(phases, 0, rows, training=training, **arenas)
        return loss_sum / weight_sum if weight_sum else 0.0, dX

    def train_batches(
        self,
        samples: Samples,
        order: NDArray[np.int64],
        first: int,
        batch_size: int,
        losses: NDArray[np.float64],
    ) -> None:
        """Do a step for each batch, all of them in one call of the engine.

        Parameters
        ----------
        samples : Samples
        order : ndarray of int64
            Sample numbers in the order of their turn.
        first : int
            Position in `order` where the first batch begins.
        batch_size : int
        losses : ndarray of float64, shape (batches, 2)
            Filled with the mean loss of each batch, and with the penalty on the weights before its step.
        """
        count = min(len(losses) * batch_size, len(order) - first)
        self._program(batch_size, samples.targets.shape[1], "training").run(
            ("gather", "gather_targets", "forward", "loss", "backward", "update"),
            first,
            count,
            order=order,
            learning_rates=self._rates(len(losses)),
            batch_losses=losses,
            training=True,
            **samples.arenas(),
        )

    def loss_and_penalty(self, samples: Samples) -> tuple[float, float]:
        """Fill the gradients from all samples together; no step is made.

        Returns
        -------
        loss, penalty : float
            The mean loss, and the penalty on the weights.
        """
        losses = np.empty((1, 2))
        phases = ("gather", "gather_targets", "forward", "loss", "backward")
        program = self._program(len(samples), samples.targets.shape[1], "training")
        program.run(phases, 0, len(samples), batch_losses=losses, training=True, **samples.arenas())
        return float(losses[0, 0]), float(losses[0, 1])

    # ---- one phase after the other ----

    def forward(self, inputs: Inputs, training: bool) -> Array:
        """Return the outputs of a batch, and keep what :meth:`backward` needs."""
        rows = len(inputs)
        program = self._program(rows)
        outputs = np.empty((rows, self.output_size), self.dtype)
        phases = ("gather", "forward", "output")
        program.run(phases, 0, rows, inputs=in_memory(inputs), outputs=outputs, training=training)
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
        """Let the optimizer do one step with the gradients as they are.

        Raises
        ------
        RuntimeError
            When the optimizer asks for losses and gradients itself.
        """
        if not self.optimizer.kind:
            raise RuntimeError(f"{self.optimizer!r} makes no single step: use fit or train_on_batch")
        kept = self._forward_pass
        program = self._program(1) if kept is None else kept[0]
        program.run(("update",), 0, 1, learning_rates=self._rates(1))

    # ---- using ----

    def predict(self, inputs: Inputs) -> Array:
        """Return the outputs for any number of samples."""
        outputs = np.empty((len(inputs), self.output_size), self.dtype)
        if isinstance(inputs, MappedRows):
            with closing(inputs.blocks(None, 1)) as blocks:
                for rows, values, _ in blocks:
                    outputs[rows] = self.predict(values)
            return outputs
        program = self._program(min(len(inputs), self._predict_batch), None, "inference")

        def run(first: int, count: int, sums: Sums) -> Sums:
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

    def evaluate(self, samples: Samples, sums: Sums = (0.0, 0.0)) -> tuple[Sums, Array]:
        """Return Σ w·l and Σ w, with those of the samples before, and the outputs."""
        outputs = np.empty((len(samples), self.output_size), self.dtype)
        program = self._program(min(len(samples), self._predict_batch), samples.targets.shape[1], "inference")
        phases = ("gather", "gather_targets", "forward", "output", "loss")

        def run_block(block: Samples, places: Array, sums: Sums) -> Sums:
            arenas = block.arenas() | {"outputs": places}

            def run(first: int, count: int, sums: Sums) -> Sums:
                return program.run(phases, first, count, totals=sums, **arenas)

            return _run_in_chunks(run, len(block), program.plan.batch_size, sums=sums)

        done = 0
        with closing(samples.blocks(None, 1)) as blocks:
            for block, _ in blocks:
                sums = run_block(block, outputs[done:], sums)
                done += len(block)
        return sums, outputs


def _run_in_chunks(
    run: Callable[[int, int, Sums], Sums],
    count: int,
    batch_size: int,
    progress: Callable[[int], None] = lambda batches: None,
    sums: Sums = (0.0, 0.0),
    finite: bool = False,
    background: tuple[Background, bool] | None = None,
) -> Sums:
    """Call ``run(first, count, sums)`` over all positions, for a short time each, and return the last sums.

    With `finite` it ends when a sum is not finite any more. With `background` batches that take long run
    there, and the first one if it is said to take long.
    """
    batches, first = 1, 0
    thread, slow = background or (None, False)
    while first < count and (math.isfinite(sums[0]) or not finite):
        size = min(batches * batch_size, count - first)
        begin = time.perf_counter()
        part = functools.partial(run, first, size, sums)
        sums = thread.call(part) if thread is not None and slow else part()
        elapsed = time.perf_counter() - begin
        first += size
        done = -(-size // batch_size)
        progress(done)
        # at the pace of this call; at most ten times more batches than in it, for a short call is noise
        affordable = SECONDS_PER_CALL * done / max(elapsed, 1e-9)
        batches = max(1, min(int(affordable), 10 * done))
        slow = elapsed > SECONDS_PER_BATCH * done
    return sums


def mean_loss(sums: Sums) -> float:
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
