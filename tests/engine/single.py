"""One operation of the reference as a plan of its own, and central differences."""

import numpy as np

from fastbp.engine import reference
from fastbp.engine.plan import Op, Plan, Tensor

ROWS, BATCH, STEP = 5, 7, 1e-6

# where operands come from, and where results go
SOURCES = {
    "x": "inputs",
    "saved": "inputs",
    "prediction": "inputs",
    "y": "inputs",
    "dy": "output_gradients",
} | {
    "target": "targets",
    "sample_weight": "sample_weights",
}

RESULTS = {"y": "outputs", "dx": "input_gradients", "delta": "input_gradients"}

MIRRORS = {"outputs": "output_gradients", "inputs": "input_gradients"}


def run_op(kind, reads, writes=None, flat=None, attributes=None, *, in_place=None, training=False):
    """Run one operation on the rows of `reads`; return its results, and loss and weight sums as "loss".

    `writes` names results with their columns, `in_place` those that lie on another operand, `flat` gives
    {operand: (arena, values)} for what lies in a flat array and is changed there.
    """
    dtype = next(iter(reads.values())).dtype
    sizes, operands, before, after, data, arenas = {"workspace": 0}, {}, [], [], {}, {}

    def place(columns):  # rows longer than their columns, so that a wrong stride shows
        tensor = Tensor("workspace", sizes["workspace"], BATCH, columns, columns + 3, per_row=True)
        sizes["workspace"] += BATCH * (columns + 3)
        return tensor

    def matrix(arena, columns):
        return Tensor(arena, 0, BATCH, columns, columns, per_row=True)

    for name, values in reads.items():
        operands[name] = place(values.shape[1])
        data[SOURCES[name]] = values
        source = matrix(SOURCES[name], values.shape[1])
        before.append(Op("gather", "gather", {"source": source, "out": operands[name]}))
    for name, columns in (writes or {}).items():
        operands[name] = operands[in_place[name]] if in_place and name in in_place else place(columns)
        data[RESULTS[name]] = np.zeros((ROWS, columns), dtype)
        after.append(
            Op("scatter", "output", {"source": operands[name], "out": matrix(RESULTS[name], columns)})
        )
    for name, (arena, values) in (flat or {}).items():
        values = np.atleast_2d(values).astype(dtype)
        offset = arenas.setdefault(arena, np.full(3, 9, dtype)).size
        arenas[arena] = np.concatenate([arenas[arena], values.ravel()])
        operands[name] = Tensor(arena, offset, *values.shape, values.shape[1])
    for name in ("parameters", "gradients", "state"):
        sizes[name] = arenas.setdefault(name, np.zeros(0, dtype)).size
    operands = {name.rstrip("?"): None for name in reference.schema()[kind][0]} | operands
    columns = {
        name: next((data[arena].shape[1] for arena in (name, MIRRORS.get(name)) if arena in data), 1)
        for name in ("inputs", "outputs", "targets")
    }
    op = Op(kind, "loss" if "loss" in kind else "forward", operands, attributes or {})
    plan = Plan((*before, op, *after), str(dtype), BATCH, sizes, columns, (), (), seed=2**40 + 5)
    counters = np.array([0, 3])
    program = reference.Program(plan, *(arenas[n] for n in ("parameters", "gradients", "state")), counters)
    if "sample_weights" in data:
        data["sample_weights"] = data["sample_weights"][:, 0].copy()
    sums = program.run(("gather", op.phase, "output"), 0, ROWS, **data, training=training)
    results = {name: data[RESULTS[name]] for name in writes or {}}
    for name, (arena, _) in (flat or {}).items():
        t = operands[name]
        results[name] = arenas[arena][t.offset : t.offset + t.rows * t.columns].reshape(t.rows, t.columns)
    return results | {"loss": sums}


def differences(function, array):
    """Central differences of a number by the elements of an array."""
    found = np.empty_like(array)
    for index in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[index] += STEP
        below[index] -= STEP
        found[index] = (function(above) - function(below)) / (2 * STEP)
    return found


def assert_gradient(found, function, array):
    np.testing.assert_allclose(found, differences(function, array), rtol=1e-6, atol=1e-9)
