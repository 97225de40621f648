"""Which samples are for training, and in what order an epoch visits them."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp.checks import check_number
from fastbp.engine import backend

Shuffle: TypeAlias = bool | Literal["batch"]


def split(n: int, validation_split: float, argument: str = "validation_split") -> int:
    """How many samples to train on; the rest, the last ones as they came, are held out as in Keras.

    Parameters
    ----------
    n : int
        How many samples there are.
    validation_split : float
        Fraction to hold out, 0 <= validation_split < 1.
    argument : str
        What to call it in messages.

    Returns
    -------
    int
        floor(n × (1 − validation_split)).

    Raises
    ------
    TypeError
        If `validation_split` is no number.
    ValueError
        If it is out of range, or leaves no sample on one of the two sides.

    Examples
    --------
    >>> split(10, 0.25)
    7
    """
    fraction = check_number(argument, validation_split, "[0, 1)")
    # 100 * (1 - 0.9) is 9.999999999999998: round before the floor
    training = math.floor(round(n * (1 - fraction), 6))
    if training < 1 or (fraction > 0 and training == n):
        raise ValueError(
            f"{argument}={fraction:g} of {n} samples leaves {training} to train on "
            f"and {n - training} to validate on, expected at least 1 each"
        )
    return training


def check_shuffle(shuffle: object) -> Shuffle:
    """Return True, False or "batch"."""
    if isinstance(shuffle, bool):
        return shuffle
    if isinstance(shuffle, str) and shuffle == "batch":
        return "batch"
    raise TypeError(f"shuffle must be True, False or 'batch', got {shuffle!r}")


def batch_order(n: int, shuffle: Shuffle, rng: np.random.Generator, batch_size: int = 1) -> NDArray[np.int64]:
    """Order in which an epoch visits the samples.

    The generator gives one key; the permutation that follows from it is that of
    :func:`fastbp.engine.random.permutation`. With "batch" the batches are shuffled, and the samples of each
    lie in a row.

    Examples
    --------
    >>> batch_order(4, False, np.random.default_rng(0))
    array([0, 1, 2, 3])
    >>> batch_order(5, "batch", np.random.default_rng(3), 2)
    array([2, 3, 0, 1, 4])
    """
    if not shuffle:
        return np.arange(n, dtype=np.int64)
    key = int(rng.bit_generator.random_raw())  # 64 bits
    if shuffle is True:
        return backend.permutation(key, n)
    full = n // batch_size
    order = np.arange(n, dtype=np.int64)
    batches = order[: full * batch_size].reshape(full, batch_size)
    order[: full * batch_size] = batches[backend.permutation(key, full)].reshape(-1)
    return order
