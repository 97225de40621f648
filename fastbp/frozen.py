"""Frozen networks: the forward pass over weights that do not change any more."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from fastbp import data
from fastbp.compiled_network import aligned_copy
from fastbp.engine import backend
from fastbp.network import Array, Network
from fastbp.samples import dense
from fastbp.sources import is_sparse


class Frozen(Protocol):
    """What :meth:`fastbp.Sequential.freeze` returns."""

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        """Return the outputs, dropout off; any number of threads may call at the same time.

        Nothing is allocated but the result, and not even that with `out`; values are not checked, so that a
        NaN goes through.

        Parameters
        ----------
        x : array_like, shape (n, input_size) or (input_size,)
            Fastest as a C-contiguous array of the model's dtype: its memory is read as it is.
        out : ndarray, shape (n, output_size) or (output_size,), optional
            C-contiguous, of the model's dtype: where the result goes.

        Returns
        -------
        ndarray, shape (n, output_size) or (output_size,)

        Raises
        ------
        TypeError, ValueError
            For an `x` or `out` that does not fit; the message says what was expected and what came.
        """
        ...


def freeze(network: Network) -> Frozen:
    """Copy the weights of a network as they are now, and prepare its forward pass.

    Raises
    ------
    TypeError
        When a layer is written in Python: nobody knows what it reads and writes.
    """
    plan = network.inference_plan()
    if plan.calls_python:
        raise TypeError(
            f"layer {plan.calls_python[0]!r} is written in Python and cannot be frozen: use predict"
        )
    parameters = aligned_copy(network.parameters)
    columns, dtype = network.input_size, network.dtype

    def convert(x: ArrayLike) -> Array:
        vector = not is_sparse(x) and np.ndim(x) == 1
        rows = np.reshape(x, (1, -1)) if vector else x
        values = dense(data.features(rows, dtype=dtype, columns=columns, argument="x"), dtype)
        return values.reshape(-1) if vector else values

    native = backend.native()
    if native is not None:
        frozen: Frozen = native.Frozen(plan, parameters, np.zeros(2, np.int64), np.empty, convert)
        return frozen
    return _Reference(plan, parameters, convert)


class _Reference:
    """The same on NumPy."""

    def __init__(self, plan: Any, parameters: Array, convert: Any) -> None:
        self.plan, self._parameters, self._convert = plan, parameters, convert

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        inputs = self._convert(x)
        shape = (*inputs.shape[:-1], self.plan.columns["outputs"])
        if out is None:
            out = np.empty(shape, inputs.dtype)
        elif not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != inputs.dtype:
            raise ValueError(
                f"out: expected an array of {inputs.dtype} and shape {shape}, got "
                f"{getattr(out, 'dtype', type(out))} of shape {getattr(out, 'shape', '?')}"
            )
        state, counters = np.empty(0, inputs.dtype), np.zeros(2, np.int64)
        program = backend.compile(self.plan, self._parameters, self._parameters.copy(), state, counters)
        matrix = np.empty((inputs.size // inputs.shape[-1], shape[-1]), inputs.dtype)
        program.run(
            ("gather", "forward", "output"), 0, len(matrix), inputs=np.atleast_2d(inputs), outputs=matrix
        )
        out[...] = matrix.reshape(shape)
        return out
