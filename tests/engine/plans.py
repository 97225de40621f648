"""Plans and programs for tests of the engine."""

from __future__ import annotations

import numpy as np

from fastbp import losses, optimizers
from fastbp.engine import backend, planner
from fastbp.layers import Dense, Dropout
from fastbp.losses import CrossEntropy
from fastbp.optimizers import Adam

ROWS, INPUTS, OUTPUTS = 8, 5, 3


def net(*stack, loss=None, optimizer=None, inputs=5, **options):
    """The plan of layers, a loss and an optimizer, given by objects or names."""
    options = {"batch_size": 8, **options}
    return planner.build(
        list(stack),
        inputs,
        loss=None if loss is None else losses.get(loss),
        optimizer=None if optimizer is None else optimizers.get(optimizer),
        **options,
    )


def make_plan(dtype="float32", loss=None):
    """A classifier of three classes, with dropout."""
    stack = [Dense(7, "tanh"), Dropout(0.5), Dense(6, "gelu"), Dense(OUTPUTS, "softmax")]
    return planner.build(
        stack, INPUTS, loss=loss or CrossEntropy(), optimizer=Adam(), dtype=dtype, batch_size=ROWS
    )


def compiled(plan, **arrays):
    """A native program over arrays of zeros, unless given."""
    given = {
        name: np.zeros(plan.sizes[name], plan.dtype) for name in ("parameters", "gradients", "state")
    } | {"counters": np.zeros(2, np.int64)}
    return backend.native().Program(plan, *(given | arrays).values())


def lines(plan, *phases):
    """Operations as short texts: kind, layer, and the activation or loss if there is one."""
    found = []
    for op in plan.ops:
        if not phases or op.phase in phases:
            extra = op.attributes.get("activation", op.attributes.get("loss", "linear"))
            found.append(" ".join(filter(None, [op.kind, op.layer, extra if extra != "linear" else ""])))
    return found
