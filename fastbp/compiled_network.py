"""The flat arrays of a network, and the programs that run over them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp.background import Background
from fastbp.engine import backend, planner
from fastbp.engine.plan import ROW_OPERATIONS, Plan
from fastbp.engine.sparse import SparseRows
from fastbp.layer import Layer
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer
from fastbp.samples import Inputs

Array = NDArray[np.floating]
Task: TypeAlias = tuple[Loss | None, Optimizer]
OnePass: TypeAlias = Literal["", "inference", "training"]

# Most rows that count as one batch of predict and evaluate: blocks enough for every thread.
PREDICT_BATCH = 8192
# The same for networks whose batches do not go through block by block: few enough rows for the activations to
# stay in the cache.
PREDICT_WHOLE = 256
# And for networks whose parameters are read from memory for each batch: the more rows, the fewer times.
PREDICT_LARGE = 1024
# Least capacity of a program for batches of any size.
SMALLEST_BATCH = 32
# In training a first layer reads sparse inputs where no more than this share of their entries is stored; else
# rows become dense, batch by batch. Both ways take equally long at 10 to 35 %, the more the wider the layer.
# predict and evaluate know one way only: what comes out for a row must not depend on the others.
LARGEST_DENSITY = 1 / 8
# Programs kept for further use; each owns a workspace.
KEPT_PROGRAMS = 4
# Bytes: a cache line, and the widest vector.
ALIGNMENT = 64
HUGE_PAGE = 1 << 21


class CompiledNetwork:
    """Layers with memory; what runs there is in :class:`fastbp.network.Network`.

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
        self._predict_batch = self._largest_prediction()
        self._task, self.optimizer = task, optimizer
        self.state = aligned_copy(np.zeros(self.plan.sizes["state"], self.dtype))
        self.counters[0] = 0
        self._programs: dict[tuple[int, int | None, OnePass, bool], backend.Program] = {}
        self._forward_pass: tuple[backend.Program, int, bool] | None = None

    def _make_plan(
        self,
        task: Task,
        batch_size: int,
        target_columns: int | None = None,
        one_pass: OnePass = "",
        sparse: bool = False,
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
            sparse=sparse,
        )

    def inference_plan(self) -> Plan:
        """Return a plan without loss and optimizer, for many rows at a time."""
        return planner.build(
            self.layers,
            self.input_size,
            dtype=self.dtype,
            batch_size=self._predict_batch,
            one_pass="inference",
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

    def _largest_prediction(self) -> int:
        kinds = (op.kind for op in self.plan.ops if not op.is_flat)
        if not ROW_OPERATIONS.issuperset(kinds):
            return PREDICT_WHOLE
        small = planner.stay_in_cache(self.plan.sizes["parameters"], self.dtype)
        return PREDICT_BATCH if small else PREDICT_LARGE

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
        self,
        rows: int,
        target_columns: int | None = None,
        one_pass: OnePass = "",
        inputs: Inputs | None = None,
    ) -> backend.Program:
        """Return a program for at least so many rows, for training exactly; forget the forward pass.

        It is made for such `inputs`, if one run goes through all phases that read them.
        """
        self._forward_pass = None
        capacity = rows if one_pass == "training" else max(SMALLEST_BATCH, 1 << (rows - 1).bit_length())
        sparse = isinstance(inputs, SparseRows) and (
            one_pass == "inference" or inputs.density <= LARGEST_DENSITY
        )
        if target_columns is None and one_pass == "":  # any program that is large enough will do
            for (_, _, kind, of_sparse), program in self._programs.items():
                if (kind, of_sparse) == ("", False) and rows <= program.plan.batch_size <= 4 * capacity:
                    return program
        key = capacity, target_columns, one_pass, sparse
        found = self._programs.pop(key, None)
        if found is None:
            plan = self._make_plan(self._task, capacity, target_columns, one_pass, sparse)
            found = backend.compile(plan, self.parameters, self.gradients, self.state, self.counters)
        self._programs[key] = found  # most recently used last
        while len(self._programs) > KEPT_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        return found

    def _rates(self, batches: int) -> NDArray[np.float64]:
        return self.optimizer.rates(int(self.counters[0]), batches)


def aligned_copy(values: Array) -> Array:
    """Copy a flat array to memory that begins at a cache line; a long one to huge pages, if there are any.

    With pages of 4 KiB a step of a few megabytes waits for address translations, and chance decides how many
    of them fall onto the same sets of the second-level cache. NumPy asks for huge pages for arrays of 4 MiB
    and more; what is not touched of them takes no memory.
    """
    huge = values.nbytes >= HUGE_PAGE // 4
    alignment = HUGE_PAGE if huge else ALIGNMENT
    size = -(-values.nbytes // alignment) * alignment
    memory = np.empty(max(size + alignment, 2 * HUGE_PAGE if huge else 0), np.uint8)
    skip = -memory.ctypes.data % alignment
    aligned = memory[skip : skip + values.nbytes].view(values.dtype)
    aligned[...] = values
    return aligned
