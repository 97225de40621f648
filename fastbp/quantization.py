"""Eight-bit dense layers: weights with a scale per unit, activations in a range that is known beforehand.

A value x is the level q = round(x / scale) + zero between −128 and 127. With weights w_ij ≈ s_i v_ij, v
between −127 and 127, a dense layer is y_i = s_i · scale · (Σ_j v_ij q_j + c_i), where
c_i = b_i / (s_i scale) − zero Σ_j v_ij is rounded to an integer once (Jacob et al., Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.engine.graph import Node
from fastbp.inference import Array, Inference

LEVELS = 255


@dataclass(frozen=True)
class QuantizedDense:
    """A dense layer in integers.

    Attributes
    ----------
    weight : ndarray of int8, shape (units, inputs)
    bias : ndarray of int32, shape (units,)
    scale : ndarray of float32, shape (units,)
        Of the results.
    rate : float32
        1 / scale of the inputs.
    zero : int
        Level of the input 0.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]
    rate: np.float32
    zero: int

    def __call__(self, x: Array) -> NDArray[np.float32]:
        """Return y for rows x, with the very operations of the exported code."""
        levels = np.floor(x.astype(np.float32) * self.rate + np.float32(0.5)) + np.float32(self.zero)
        levels = np.clip(levels, -128, 127).astype(np.int32)
        sums = levels @ self.weight.T.astype(np.int32) + self.bias
        y: NDArray[np.float32] = sums.astype(np.float32) * self.scale
        return y


def quantize(inference: Inference, calibration: Array) -> dict[Node, QuantizedDense]:
    """Quantise the dense layers of a network.

    Parameters
    ----------
    inference : Inference
    calibration : ndarray, shape (n, inputs)
        Typical samples: their activations give the ranges.

    Returns
    -------
    dict of Node to QuantizedDense

    Raises
    ------
    ValueError
        When a layer has so many inputs that a sum could leave 32 bits.
    """
    ranges: dict[int, tuple[float, float]] = {}

    def observe(run: Any, x: Array, weight: Array, bias: Array | None, y: Array, **attributes: Any) -> None:
        from fastbp.engine import reference

        ranges[len(ranges)] = float(x.min()), float(x.max())
        reference.OPERATIONS["dense_forward"](run, x, weight, bias, y, **attributes)

    inference.run(calibration, {"dense_forward": observe})
    dense = [node for node in inference.nodes if node.kind == "dense_forward"]
    return {node: _quantize(inference, node, *ranges[number]) for number, node in enumerate(dense)}


def _quantize(inference: Inference, node: Node, low: float, high: float) -> QuantizedDense:
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / LEVELS or 1.0
    zero = round(-128 - low / step)
    weight = inference.values(node, "weight").T.astype(np.float64)
    units = np.abs(weight).max(axis=1) / 127
    units[units == 0] = 1.0
    levels = np.rint(weight / units[:, np.newaxis])
    bias = np.zeros(len(weight))
    if node.operands["bias"] is not None:
        bias = inference.values(node, "bias")[0].astype(np.float64)
    offsets = np.rint(bias / (units * step)) - zero * levels.sum(axis=1)
    if np.any(np.abs(levels).sum(axis=1) * 128 + np.abs(offsets) >= 2**31):
        raise ValueError(f"layer {node.layer!r}: its sums do not fit into 32 bits; export it as float32")
    return QuantizedDense(
        levels.astype(np.int8),
        offsets.astype(np.int32),
        (units * step).astype(np.float32),
        np.float32(1 / step),
        zero,
    )


def run(inference: Inference, X: Array, quantized: dict[Node, QuantizedDense]) -> Array:
    """Compute the output of a batch with quantised dense layers."""
    waiting = iter(quantized.values())

    def dense_forward(run: Any, x: Array, y: Array, **_: Any) -> None:
        y[...] = next(waiting)(x)

    return inference.run(X.astype(np.float32), {"dense_forward": dense_forward})
