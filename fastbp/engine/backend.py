"""The narrow interface of the two interpreters, and the choice between them."""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastbp.engine import random, segments
from fastbp.engine.plan import Plan
from fastbp.engine.sparse import SparseRows

Array = NDArray[np.floating]


class Program(Protocol):
    """A plan that is ready to run.

    The flat arrays belong to the caller and live on when the plan is compiled anew (for a larger
    batch, say); the program owns its workspace, unless it is given one that it shares with others.
    """

    plan: Plan
    parameters: Array
    gradients: Array
    state: Array
    counters: NDArray[np.int64]
    """[step, draw]: batches that took part in an optimizer step so far (without gradient accumulation, the
    steps), and training forward passes done so far (the position in the random numbers). Shared with the
    caller like the flat arrays."""

    def run(
        self,
        phases: Sequence[str],
        first: int,
        count: int,
        *,
        inputs: NDArray[Any] | SparseRows | None = None,
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
        """Run the operations of some phases over positions first .. first + count, batch by batch.

        Parameters
        ----------
        phases : sequence of str
            Names from :data:`fastbp.engine.plan.PHASES`.
        first, count : int
            Positions to run through; the last batch may be smaller than ``plan.batch_size``.
        inputs, targets, outputs, output_gradients, input_gradients : C-contiguous matrices
            In the plan's dtype, as many columns as ``plan.columns`` says; ``inputs`` may hold any of
            :data:`fastbp.engine.plan.ELEMENTS`, and may be sparse. ``inputs``, ``targets`` and
            ``sample_weights`` are read at row ``order[position]``, the others are read or written at
            row ``position``.
        sample_weights : vector, optional
            Without it every sample weighs 1.
        order : vector of int64, optional
            Without it sample = position.
        learning_rates : vector of float64
            One for each batch of this call; needed by the phase "update".
        batch_losses : matrix of float64, shape (batches of this call, 2), optional
            Filled with the mean loss of each batch, and with the penalty on its parameters.
        training : bool
            Whether dropout drops. A forward phase in training advances ``counters[1]`` first, once
            per batch; an update advances ``counters[0]`` first.
        goes_on : bool
            Another run follows, and nobody reads the gradients of this one: what they are then is not said.
            As it is between the batches of a run, products may take the optimizer's step with them at once.
        totals : (float, float)
            What the sums go on from: those of the positions before, so that they come out the same to the
            bit however many calls an epoch is made of.

        Returns
        -------
        loss_sum, weight_sum : float
            `totals`, plus the sums over the samples of weight times loss, and of weight, in the phase "loss".
        """
        ...


def _import_native() -> ModuleType | None:
    try:
        return importlib.import_module("fastbp.engine._native")
    except ModuleNotFoundError as error:
        if error.name == "fastbp.engine._native":
            return None
        raise


def _choose() -> tuple[str, ModuleType | None]:
    wanted = os.environ.get("FASTBP_BACKEND", "")
    if wanted not in ("", "native", "reference"):
        raise ValueError(f"FASTBP_BACKEND must be 'native' or 'reference', not {wanted!r}")
    if wanted == "reference":
        return "reference", None
    native = _import_native()
    if native is not None:
        return "native", native
    if wanted == "native":
        raise ImportError("FASTBP_BACKEND=native, but this installation of fastbp has no compiled extension")
    warnings.warn(
        "fastbp has no compiled extension here and runs on its NumPy reference: the same results, only "
        "slower. Set FASTBP_BACKEND=reference to choose this silently.",
        RuntimeWarning,
        stacklevel=2,
    )
    return "reference", None


_REALS = (np.dtype(np.float32), np.dtype(np.float64))
_CHUNK = 1 << 16  # elements checked at once: few enough to stay in cache

NAME, _NATIVE = _choose()
"""Name of the interpreter in use: "native" or "reference"."""


def native() -> ModuleType | None:
    """Return the compiled extension when it is the interpreter in use."""
    return _NATIVE


def compile(  # noqa: A001 - the field's own word
    plan: Plan, parameters: Array, gradients: Array, state: Array, counters: NDArray[np.int64]
) -> Program:
    """Make a program of a plan, on the interpreter in use."""
    interpreter: Any = _NATIVE
    if _NATIVE is None:
        from fastbp.engine import reference as interpreter
    program: Program
    if plan.calls_python:
        program = segments.Program(interpreter.Program, plan, parameters, gradients, state, counters)
    else:
        program = interpreter.Program(plan, parameters, gradients, state, counters)
    return program


def permutation(key: int, n: int) -> NDArray[np.int64]:
    """Permutation of 0, …, n − 1 that follows from a key: :func:`fastbp.engine.random.permutation`."""
    if _NATIVE is None:
        return random.permutation(key, n)
    order = np.empty(n, np.int64)
    _NATIVE.permutation(key, n, order)
    return order


def all_finite(values: NDArray[Any]) -> bool:
    """Tell whether no number is NaN or infinite."""
    flags = values.flags
    if _NATIVE is not None and values.dtype in _REALS and flags.c_contiguous and flags.aligned:
        return bool(_NATIVE.all_finite(values))
    flat = values.reshape(-1)
    wide = np.float32 if flat.dtype == np.float16 else None  # the sum of a chunk must not overflow
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK]
            # One pass in cache and no temporary array: a sum is finite only if all its terms are.
            if not (math.isfinite(np.add.reduce(chunk, dtype=wide)) or np.isfinite(chunk).all()):
                return False
    return True


def set_num_threads(limit: int) -> None:
    """Tell the interpreter its limit; the reference leaves threads to NumPy."""
    if _NATIVE is not None:
        _NATIVE.set_num_threads(limit)
