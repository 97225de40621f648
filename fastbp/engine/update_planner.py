"""The planner's part about what happens to the flat arrays: penalties of weights, and the phase "update".

An update goes through the flat arrays in this order: gradients of several batches are brought together, and
clipped; the optimizer makes its step; weights are constrained; the moving average follows. What is not asked
for is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fastbp.engine.graph import Declaration, Value
from fastbp.engine.layout import round_up
from fastbp.engine.plan import BLOCK, Op, Tensor
from fastbp.optimizer import Optimizer

# Rough floating-point operations per element.
_WORK = {
    "sgd": 4,
    "adam": 12,
    "adamax": 10,
    "nadam": 14,
    "radam": 12,
    "lion": 8,
    "adagrad": 8,
    "adadelta": 14,
    "rmsprop": 10,
    "rprop": 8,
}
_LIGHT = 3  # of all others


class UpdatePlan:
    """Operations on the flat arrays, and what they keep from step to step.

    Parameters
    ----------
    declarations : sequence of Declaration
    places : dict of Value to Tensor
        Those of the parameters and of their gradients.
    optimizer : Optimizer or None
    swept : int
        Elements in front of the first table or statistic.
    parameter_size : int
        Elements of the arena "parameters".

    Attributes
    ----------
    ops : list of Op
    slots : tuple of str
    state_size : int
        Elements of the arena "state": the slots, then room for sums.
    """

    def __init__(
        self,
        declarations: Sequence[Declaration],
        places: Mapping[Value, Tensor],
        optimizer: Optimizer | None,
        swept: int,
        parameter_size: int,
    ) -> None:
        self.ops: list[Op] = []
        self._declarations = [declaration for declaration in declarations if declaration.trained]
        self._places = places
        self._swept = swept
        self._size = parameter_size
        end = max((_end(places[d.value]) for d in self._declarations), default=0)
        self._whole = Tensor("parameters", 0, 1, end, end)
        steps = optimizer if optimizer is not None and optimizer.kind and self._declarations else None
        self.slots = () if steps is None else _slots(steps)
        self.state_size = len(self.slots) * parameter_size
        self._penalties()
        if steps is not None:
            if steps.l2_penalty:
                self._l2_penalty(steps.l2_penalty)
            self._update(steps)

    # ---- places ----

    def _gradients(self, like: Tensor) -> Tensor:
        return Tensor("gradients", like.offset, like.rows, like.columns, like.stride)

    def _slot(self, name: str, like: Tensor) -> Tensor:
        offset = self.slots.index(name) * self._size + like.offset
        return Tensor("state", offset, like.rows, like.columns, like.stride)

    def _sums(self, of: Tensor) -> Tensor:
        """Room for one number per block."""
        count = -(-of.columns // BLOCK)
        sums = Tensor("state", self.state_size, 1, count, count)
        self.state_size += round_up(count)
        return sums

    def _flat(self, value: Value) -> Tensor:
        """A parameter as a row, with the padding of its rows, which is 0."""
        place = self._places[value]
        count = place.rows * place.stride
        return Tensor("parameters", place.offset, 1, count, count)

    # ---- operations ----

    def _emit(
        self,
        kind: str,
        phase: str,
        operands: dict[str, Tensor | None],
        attributes: Mapping[str, float | bool],
        layer: str = "",
    ) -> None:
        elements = next(tensor.rows * tensor.columns for tensor in operands.values() if tensor is not None)
        self.ops.append(
            Op(kind, phase, operands, dict(attributes), layer, _WORK.get(kind, _LIGHT) * elements)
        )

    def _penalties(self) -> None:
        for declaration in self._declarations:
            l1, l2 = declaration.penalty
            if l1 == l2 == 0:
                continue
            theta = self._flat(declaration.value)
            layer = declaration.name.rpartition(".")[0]
            sums, values = self._sums(theta), {"l1": l1, "l2": l2}
            self._emit("penalty", "loss", {"parameters": theta, "sums": sums}, values, layer)
            operands: dict[str, Tensor | None] = {"parameters": theta, "gradients": self._gradients(theta)}
            self._emit("penalty_gradient", "backward", operands, values, layer)

    def _border(self) -> int:
        """Elements in front of the first parameter that does not decay, or is a table."""
        decaying = (self._places[d.value] for d in self._declarations if d.decay and not d.sparse)
        return max((_end(place) for place in decaying), default=0)

    def _l2_penalty(self, strength: float) -> None:
        """The squares of all weights, beside the loss."""
        count = self._border()
        if count:
            theta = Tensor("parameters", 0, 1, count, count)
            operands: dict[str, Tensor | None] = {"parameters": theta, "gradients": self._gradients(theta)}
            self._emit("l2_penalty", "backward", operands, {"strength": strength})

    def _update(self, optimizer: Optimizer) -> None:
        whole, gradients = self._whole, self._gradients(self._whole)
        if optimizer.accumulation > 1:
            total = self._slot("accumulated_gradient", whole)
            operands: dict[str, Tensor | None] = {"gradients": gradients, "total": total}
            self._emit("accumulate", "update", operands, {"steps": optimizer.accumulation})
        if optimizer.clipvalue is not None:
            self._emit("clip_value", "update", {"gradients": gradients}, {"limit": optimizer.clipvalue})
        if optimizer.global_clipnorm is not None:
            self._clip_norm(gradients, optimizer.global_clipnorm)
        if optimizer.clipnorm is not None:
            for declaration in self._declarations:
                self._clip_norm(self._gradients(self._flat(declaration.value)), optimizer.clipnorm)
        self._step(optimizer)
        for declaration in self._declarations:
            if declaration.max_norm is not None:
                place = self._places[declaration.value]
                layer = declaration.name.rpartition(".")[0]
                self._emit(
                    "max_norm", "update", {"parameters": place}, {"max_value": declaration.max_norm}, layer
                )
        if optimizer.use_ema:
            operands = {"parameters": whole, "average": self._slot("average", whole)}
            self._emit("moving_average", "update", operands, {"momentum": optimizer.ema_momentum})

    def _clip_norm(self, gradients: Tensor, limit: float) -> None:
        norms = self._sums(gradients)
        operands: dict[str, Tensor | None] = {"gradients": gradients, "norms": norms}
        self._emit("gradient_norms", "update", operands, {})
        self._emit("clip_norm", "update", operands, {"limit": limit})

    def _step(self, optimizer: Optimizer) -> None:
        """One sweep over what is dense (padding is 0 and stays 0), and a step on each table."""
        split = optimizer.weight_decay > 0 and not optimizer.decay_biases
        for theta, decays in self._parts(split):
            attributes = dict(optimizer.attributes())
            if split and not decays:
                attributes["weight_decay"] = 0.0
            slots = {name: self._slot(name, theta) for name in optimizer.slots()}
            operands: dict[str, Tensor | None] = {"parameters": theta, "gradients": self._gradients(theta)}
            operands |= {name: slots.get(name) for name in optimizer.state_operands}
            self._emit(optimizer.kind, "update", operands, attributes)

    def _parts(self, split: bool) -> Iterator[tuple[Tensor, bool]]:
        """What the optimizer's operation comes once for, and whether it decays."""
        border = self._border() if split else self._swept
        if border:
            yield Tensor("parameters", 0, 1, border, border), True
        if border < self._swept:
            yield Tensor("parameters", border, 1, self._swept - border, self._swept - border), False
        for declaration in self._declarations:
            if declaration.sparse:
                yield self._places[declaration.value], declaration.decay


def _end(place: Tensor) -> int:
    """Where the next parameter begins."""
    return round_up(place.offset + place.rows * place.stride)


def _slots(optimizer: Optimizer) -> tuple[str, ...]:
    """The arrays of the step, and those of what every optimizer can do."""
    waiting = ("accumulated_gradient",) if optimizer.accumulation > 1 else ()
    average = ("average",) if optimizer.use_ema else ()
    return (*optimizer.slots(), *waiting, *average)
