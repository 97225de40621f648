"""Losses in the reference interpreter: delta_i = w_i / (Σ w of the batch) · dl_i/dprediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastbp.engine import formulas
from fastbp.engine.operations import Array, Run, operation


def _finish_loss(
    run: Run, row_loss: NDArray[np.float64], slope: Array, sample_weight: Array | None, delta: Array
) -> None:
    if sample_weight is None or run.arenas["sample_weights"] is None:
        weights = np.ones(run.rows)
    else:
        weights = sample_weight[:, 0].astype(np.float64)
    run.loss_sum += float((weights * row_loss).sum())
    share = weights / run.batch_weight if run.batch_weight > 0 else 0 * weights
    delta[...] = slope * share[:, np.newaxis].astype(run.dtype)


@operation
def elementwise_loss(
    run: Run,
    prediction: Array,
    target: Array,
    sample_weight: Array | None,
    delta: Array,
    *,
    loss: str,
    parameter: float,
) -> None:
    """Losses that are means or sums over the outputs."""
    row_loss, slope = formulas.elementwise_loss(loss, run.real(parameter), prediction, target)
    _finish_loss(run, row_loss, slope, sample_weight, delta)


@operation
def cross_entropy_loss(
    run: Run,
    prediction: Array,
    target: Array,
    sample_weight: Array | None,
    delta: Array,
    *,
    label_smoothing: float,
) -> None:
    """Cross-entropy of probabilities."""
    row_loss, slope = formulas.cross_entropy(prediction, target, run.real(label_smoothing))
    _finish_loss(run, row_loss, slope, sample_weight, delta)


@operation
def softmax_cross_entropy_loss(
    run: Run,
    prediction: Array,
    target: Array,
    sample_weight: Array | None,
    delta: Array,
    *,
    label_smoothing: float,
) -> None:
    """Cross-entropy of the softmax of logits."""
    row_loss, slope = formulas.softmax_cross_entropy(prediction, target, run.real(label_smoothing))
    _finish_loss(run, row_loss, slope, sample_weight, delta)
