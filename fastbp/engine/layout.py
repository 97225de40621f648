"""Places in memory for the values of a graph.

Every row of a matrix starts at a multiple of 16 elements, a cache line of float32, so that products read
and write whole vectors where the matrix lies. The padding of parameters and gradients is 0 and stays 0. Rows
of a few columns, as the outputs of most networks are, would be nearly all padding: they are packed.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastbp.engine.graph import Declaration, Node, Value
from fastbp.engine.plan import Tensor

ALIGNMENT = 16
NARROW = 4
"""Rows of up to so many columns have no padding; products with them keep rows in the lanes of a vector."""
CONFLICT = 256
"""Rows a multiple of this apart (1 KiB of float32) share few sets of the first-level cache, whose ways are
4 KiB: a column of 14 of them would push itself out."""
SLACK = 64
"""Elements behind the last matrix of an arena: kernels read past the end of a row by up to a vector."""

# Operations that may write their dx over their dy.
IN_PLACE = ("activation_backward", "softmax_backward", "dropout_backward")


def round_up(size: int) -> int:
    """Return the next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def row_stride(columns: int) -> int:
    """Return the elements from one row to the next: whole cache lines, no multiple of CONFLICT."""
    if columns <= NARROW:
        return columns
    stride = round_up(columns)
    return stride + ALIGNMENT if stride % CONFLICT == 0 else stride


def place_parameters(declarations: Sequence[Declaration]) -> tuple[dict[Value, Tensor], int, int]:
    """Place parameters, and their gradients alike.

    Those that decay come first, then those that do not, tables, and statistics; each in the order of the
    layers.

    Returns
    -------
    places : dict of Value to Tensor
    swept : int
        Elements in front of the first table or statistic: what an optimizer sweeps.
    size : int
        Elements of the arena "parameters".
    """
    places: dict[Value, Tensor] = {}
    offset = swept = 0
    for declaration in sorted(declarations, key=lambda d: (not d.trained, d.sparse, not d.decay)):
        for value in (declaration.value, declaration.value.gradient):
            if value is not None:
                places[value] = Tensor(value.arena, offset, value.rows or 1, value.columns, _stride(value))
        offset += round_up((declaration.value.rows or 1) * _stride(declaration.value))
        if declaration.trained and not declaration.sparse:
            swept = offset
    return places, swept, offset + SLACK


def place_workspace(nodes: Sequence[Node], batch_size: int) -> tuple[dict[Value, Tensor], int]:
    """Place what has one row per sample: activations side by side, then deltas, which share memory.

    A delta lives from the first operation of the list that mentions it to the last one. That holds however
    the phases are split among runs, because each run goes through the list in order.

    Returns
    -------
    places : dict of Value to Tensor
        The caller's matrices included.
    size : int
        Elements of the arena "workspace".
    """
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for number, node in enumerate(nodes):
        for value in node.operands.values():
            if value is not None and value.arena not in ("parameters", "gradients"):
                first.setdefault(value, number)
                last[value] = number

    offsets = {value: 0 for value in first if value.arena != "workspace"}
    end = 0
    for value in first:
        if value.arena == "workspace" and not value.transient:
            offsets[value] = end
            end += _extent(value, batch_size)
    deltas = {value: (first[value], last[value]) for value in first if value.transient}
    offsets |= _place_deltas(deltas, _shared_places(nodes, deltas), end, batch_size)
    size = max((offsets[v] + _extent(v, batch_size) for v in first if v.arena == "workspace"), default=0)
    places = {
        v: Tensor(v.arena, offset, v.rows or batch_size, v.columns, _stride(v), per_row=v.rows is None)
        for v, offset in offsets.items()
    }
    return places, size + SLACK


def _stride(value: Value) -> int:
    if value.contiguous:
        return value.columns
    return round_up(value.columns) if value.rows == 1 else row_stride(value.columns)


def _extent(value: Value, batch_size: int) -> int:
    return round_up((value.rows or batch_size) * _stride(value))


def _shared_places(nodes: Sequence[Node], life: dict[Value, tuple[int, int]]) -> dict[Value, Value]:
    """For each delta that is written over another one by its operation: the other one."""
    shared: dict[Value, Value] = {}
    for number, node in enumerate(nodes):
        dy, dx = node.operands.get("dy"), node.operands.get("dx")
        if node.kind in IN_PLACE and dy in life and dx in life and dy is not dx:
            assert dy is not None and dx is not None
            if life[dy][1] == number == life[dx][0]:
                shared[dx] = dy
    return shared


def _place_deltas(
    life: dict[Value, tuple[int, int]], shared: dict[Value, Value], base: int, batch_size: int
) -> dict[Value, int]:
    """Give each delta the lowest offset from `base` on where no delta lies that lives at the same time."""
    offsets: dict[Value, int] = {}
    for value, (first, last) in life.items():
        if value in shared:
            offsets[value] = offsets[shared[value]]
            continue
        extent, offset = _extent(value, batch_size), base
        for other in sorted(offsets, key=offsets.__getitem__):
            overlaps_in_time = life[other][0] <= last and first <= life[other][1]
            if overlaps_in_time and offset < offsets[other] + _extent(other, batch_size):
                if offset + extent <= offsets[other]:
                    break
                offset = offsets[other] + _extent(other, batch_size)
        offsets[value] = offset
    return offsets
