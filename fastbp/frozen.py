"""Frozen networks: the forward pass over weights that do not change any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from fastbp.compiled_network import aligned_copy
from fastbp.engine import backend
from fastbp.network import Array, Network
from fastbp.samples import Inputs, dense
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


def freeze(network: Network, read: Callable[[object, str], Inputs], shape: tuple[int, ...]) -> Frozen:
    """Copy the weights of a network as they are now, and prepare its forward pass.

    Parameters
    ----------
    network : Network
    read : callable
        Makes inputs of what users pass, given it and its name.
    shape : tuple of int
        What the outputs of a sample look like to users.

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
    dtype = network.dtype

    def convert(x: ArrayLike) -> Array:
        vector = not is_sparse(x) and np.ndim(x) == 1
        values = dense(read(np.reshape(x, (1, -1)) if vector else x, "x"), dtype)
        return values.reshape(-1) if vector else values

    native = backend.native()
    if native is not None:
        frozen: Frozen = native.Frozen(plan, parameters, np.zeros(2, np.int64), np.empty, convert)
    else:
        frozen = _Reference(plan, parameters, convert)
    return frozen if len(shape) == 1 else _Reshaped(frozen, shape)


class _Reshaped:
    """Outputs in the shape of the last layer."""

    def __init__(self, rows: Any, shape: tuple[int, ...]) -> None:
        self.plan, self._rows, self._shape = rows.plan, rows, shape

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        if out is None:
            flat: Array = self._rows(x)
            return flat.reshape(*flat.shape[:-1], *self._shape)
        axes = len(self._shape)
        if not isinstance(out, np.ndarray) or out.shape[-axes:] != self._shape or not out.flags.c_contiguous:
            raise ValueError(
                f"out: expected a C-contiguous array whose last axes are {self._shape}, got "
                f"{getattr(out, 'dtype', type(out))} of shape {getattr(out, 'shape', '?')}"
            )
        self._rows(x, out.reshape(*out.shape[:-axes], -1))
        return out


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
