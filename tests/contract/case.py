"""One operation as a plan of its own, with all that shows what it wrote."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fastbp.engine.layout import SLACK, round_up
from fastbp.engine.plan import Op, Plan, Tensor

GUARD = -77.25  # what must not be written over
FLAT = ("parameters", "gradients", "state")
EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 33, 47, 49, 257)


def turned(by: int) -> tuple[int, ...]:
    """The edges in another order, so that pairs of them differ."""
    return EDGES[by:] + EDGES[:by]


@dataclass
class Case:
    """One operation with its operands, which are gathered before it and scattered after it.

    An operand that is only read lies right behind the result, and is scattered too: a kernel that writes past
    the padding of a row spoils it.
    """

    spare: ClassVar[int] = 0  # rows that a batch has room for beyond those it has
    kind: str
    dtype: str
    rows: int
    attributes: dict = field(default_factory=dict)
    batch: int = 0  # capacity; rows and what is spare, unless given
    phase: str = "forward"
    also: tuple = ()  # other phases that run
    training: bool = False
    data: dict = field(default_factory=dict)
    flat: dict = field(default_factory=dict)
    operands: dict = field(default_factory=dict)
    columns: dict = field(default_factory=lambda: {"inputs": 1, "outputs": 1, "targets": 1})
    before: list = field(default_factory=list)
    after: list = field(default_factory=list)
    end: int = 0  # of the workspace so far
    count_from: int = 2  # steps done before

    def __post_init__(self):
        self.batch = self.batch or self.rows + self.spare

    def __str__(self):
        shapes = ", ".join(f"{name} {tensor}" for name, tensor in self.operands.items() if tensor)
        options = ", ".join(f"{name}={value}" for name, value in self.attributes.items())
        return f"{self.kind}({options}) of {self.rows} rows in {self.dtype}: {shapes}"

    # ---- places ----

    def workspace(self, columns, contiguous=False):
        stride = columns if contiguous else round_up(columns)
        tensor = Tensor("workspace", self.end, self.batch, columns, stride, per_row=True)
        self.end += round_up(self.batch * stride)
        return tensor

    def take(self, name, arena, values, contiguous=False):
        """Place an operand whose rows come from a matrix of the caller."""
        values = np.ascontiguousarray(values, self.dtype)
        self.data[arena] = values
        source = self._matrix(arena, values.shape[-1] if values.ndim == 2 else 1)
        place = self.operands[name] = self.workspace(source.columns, contiguous)
        self.before.append(Op("gather", "gather", {"source": source, "out": place}))
        return place

    def give(self, arena, place):
        """Show what lies in a place of the workspace at the end."""
        self.after.append(
            Op("scatter", "output", {"source": place, "out": self._matrix(arena, place.columns)})
        )
        self.data[arena] = np.zeros((self.rows, place.columns), self.dtype)

    def dense(self, name, arena, values):
        """Place an operand in a flat array, between guards."""
        values = np.atleast_2d(np.asarray(values, self.dtype))
        before = self.flat.get(arena, np.full(16, GUARD, self.dtype))
        tensor = Tensor(arena, before.size, *values.shape, values.shape[1])
        guard = np.full(16 + -values.size % 16, GUARD, self.dtype)
        self.flat[arena] = np.concatenate([before, values.ravel(), guard])
        self.operands[name] = tensor
        return tensor

    def _matrix(self, arena, columns):
        kind = {"input_gradients": "inputs", "output_gradients": "outputs"}.get(arena, arena)
        if kind in self.columns:
            assert self.columns[kind] in (1, columns)
            self.columns[kind] = columns
        return Tensor(arena, 0, self.batch, columns, columns, per_row=True)

    # ---- running ----

    def plan(self):
        op = Op(self.kind, self.phase, self.operands, self.attributes, "layer")
        sizes = {name: self.flat[name].size + SLACK if name in self.flat else SLACK for name in FLAT}
        return Plan(
            ops=(*self.before, op, *self.after),
            dtype=self.dtype,
            batch_size=self.batch,
            sizes=sizes | {"workspace": self.end + SLACK},
            columns=self.columns,
            parameters=(),
            slots=(),
            seed=11,
        )

    def run(self, engine, **options):
        """Return {name: values} of all that the operation may have changed."""
        slack = np.full(SLACK, GUARD, self.dtype)
        flat = {name: np.concatenate([self.flat.get(name, slack[:0]), slack]) for name in FLAT}
        counters = np.array([self.count_from, 5])
        program = engine.program(self.plan(), *flat.values(), counters)
        data = dict(self.data)
        guarded = {}
        for name in ("outputs", "input_gradients"):
            if name in data:
                guarded[name] = np.full(data[name].size + 2 * SLACK, GUARD, self.dtype)
                data[name] = guarded[name][SLACK:-SLACK].reshape(data[name].shape)
        phases = ("gather", *self.also, self.phase, "output")
        loss = program.run(phases, 0, self.rows, **data, **{"training": self.training} | options)
        results = {"loss": np.array(loss)} if self.phase == "loss" else {}
        results |= {name: flat[name] for name in self.flat}
        return results | guarded
