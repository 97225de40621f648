"""Where the first value came from that was not finite, in a training that diverged.

The engine does not look for such values: that would cost time in every step. It is enough that a NaN or an
infinity shows in the loss or in the weights sooner or later; then the steps are done again, one by one, from
a copy of the model, and give the same bits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.chunks import Pace, Sums
from fastbp.engine import backend
from fastbp.engine.plan import Op, Plan, Tensor
from fastbp.network import Array, Network
from fastbp.samples import Samples

# No copy is kept of a network that is larger than this, with its optimizer's state.
LARGEST_COPY = 32 * 2**20


class Watch:
    """Watches over steps that the engine does without Python.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._copies: Sequence[tuple[NDArray[Any], NDArray[Any]]] = ()
        self._state: Array | None = None

    def _keep(self) -> None:
        network = self.network
        arrays = network.parameters, network.state, network.counters
        self._copies = [(array, array.copy()) for array in arrays]

    def _put_back(self) -> None:
        for array, kept in self._copies:
            array[...] = kept

    def begin(self) -> None:
        """Remember the model as it is."""
        network = self.network
        if network.parameters.nbytes + network.state.nbytes > LARGEST_COPY:
            self._copies, self._steps = (), int(network.counters[0])
        elif self._state is not network.state:  # a new optimizer has a new state
            self._state = network.state
            self._keep()
        else:
            for array, kept in self._copies:
                np.copyto(kept, array)

    def sees_fault(self, sums: Sums) -> bool:
        """Tell whether the loss or a weight is not finite any more."""
        return not (math.isfinite(sums[0]) and backend.all_finite(self.network.parameters))

    def describe_fault(
        self, samples: Samples, order: NDArray[np.int64] | None, batch_size: int, before: int
    ) -> str:
        """Say what went wrong in the steps since :meth:`begin`, and bring the model to before that step.

        Parameters
        ----------
        samples : Samples
        order : ndarray of int64, or None
            Of the samples of these steps; None: all as they lie.
        batch_size : int
        before : int
            Steps of the epoch before these.
        """
        if not self._copies:
            return self._describe_roughly(before)
        self._put_back()
        name = _first_not_finite(self.network, gradients=False)
        if name is not None:
            return f"{name} was not finite before step {before + 1}"
        turns = np.arange(len(samples), dtype=np.int64) if order is None else order
        for first in range(0, len(turns), batch_size):
            batch = turns[first : first + batch_size]
            if self.sees_fault(self._train(samples, batch, batch_size)):
                self._put_back()
                self._train(samples, turns[:first], batch_size)
                self._keep()
                what = self._examine(samples, batch, batch_size)
                self._put_back()
                step = before + first // batch_size + 1
                return f"the first value that is not finite is {what}, in step {step}"
        return "a value is not finite, but was when the steps were done again"

    def _describe_roughly(self, before: int) -> str:
        name = _first_not_finite(self.network, gradients=False) or "the loss"
        steps = int(self.network.counters[0]) - self._steps
        return f"{name} is not finite after step {before + steps}"

    def _train(self, samples: Samples, turns: NDArray[np.int64], batch_size: int) -> Sums:
        if not turns.size:
            return 0.0, 0.0
        return self.network.train_epoch(
            samples, turns, batch_size, None, lambda batches: None, Pace(), (0.0, 0.0)
        )

    def _examine(self, samples: Samples, batch: NDArray[np.int64], batch_size: int) -> str:
        """Take the step in slow motion."""
        network, rows = self.network, len(batch)
        with closing(samples.blocks(batch, batch_size)) as blocks:
            block, turns = next(blocks)
        columns = samples.targets.shape[1]
        for op, plan in _prefixes(network._make_plan(network._task, batch_size, columns)):
            result = np.empty((rows, plan.columns["outputs"]), network.dtype)
            counters = network.counters.copy()
            prefix = backend.compile(plan, network.parameters, network.gradients, network.state, counters)
            forward, arenas = ("gather", "forward", "output"), block.arenas()
            prefix.run(forward, 0, rows, inputs=arenas["inputs"], order=turns, outputs=result, training=True)
            if not backend.all_finite(result):
                return f"an activation of layer {op.layer!r}"
        program = network._program(batch_size, columns, "training", block.inputs)
        all_but_update = ("gather", "gather_targets", "forward", "loss", "backward")
        sums = program.run(all_but_update, 0, rows, order=turns, training=True, **block.arenas())
        if not math.isfinite(sums[0]):
            return "the loss, of finite predictions"
        name = _first_not_finite(network, gradients=True)
        if name is not None:
            return f"the gradient of {name}"
        if network.optimizer.kind:
            network.step()
        return f"a new weight: {_first_not_finite(network, gradients=False)}"


def _prefixes(plan: Plan) -> Iterator[tuple[Op, Plan]]:
    """The forward pass up to each operation, as a plan that returns what the operation wrote."""
    known: set[Tensor] = set()
    done: list[Op] = []
    for op in plan.ops:
        if op.phase not in ("gather", "forward"):
            continue
        done.append(op)
        for tensor in op.operands.values():
            if tensor is None or tensor in known:
                continue
            known.add(tensor)
            if op.layer and tensor.arena == "workspace" and tensor.per_row:
                out = dataclasses.replace(tensor, arena="outputs", offset=0, stride=tensor.columns)
                scatter = Op("scatter", "output", {"source": tensor, "out": out})
                columns = plan.columns | {"outputs": tensor.columns}
                yield op, dataclasses.replace(plan, ops=(*done, scatter), columns=columns)


def _first_not_finite(network: Network, gradients: bool) -> str | None:
    """Name of the first parameter, in the order of the pass that writes them, that is not finite."""
    layers = reversed(network.layers) if gradients else iter(network.layers)
    for layer in layers:
        for name, values in (layer.gradients if gradients else layer.parameters).items():
            if not backend.all_finite(values):
                return f"{layer.name}.{name}"
    return None
