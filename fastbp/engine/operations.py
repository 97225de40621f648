"""What the operations of the reference interpreter have in common: the batch they see, and their register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

OPERATIONS: dict[str, Callable[..., None]] = {}


@dataclass
class Run:
    """The batch that operations work on."""

    arenas: dict[str, Array | None]
    dtype: np.dtype
    seed: int
    training: bool
    order: NDArray[np.int64] | None
    position: int = 0  # of the batch's first row
    rows: int = 0
    step: int = 0  # of the optimizer, from 1
    draw: int = 0  # of the random numbers
    learning_rate: float = 0.0
    loss_sum: float = 0.0
    weight_sum: float = 0.0

    def real(self, value: float) -> Any:
        """Return a scalar that does not widen float32 arrays."""
        return self.dtype.type(value)


def operation(function: Callable[..., None]) -> Callable[..., None]:
    """Enter a function among the operations, under its name."""
    OPERATIONS[function.__name__] = np.errstate(all="ignore")(function)
    return function
