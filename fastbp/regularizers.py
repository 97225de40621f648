"""Regularizers: penalties of large weights that are added to the loss, and so to the gradient.

The penalty belongs to the loss that training and ``evaluate`` report, as in Keras. For decay that is no part
of the loss see ``weight_decay`` of the optimizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastbp.checks import check_number
from fastbp.configurable import Configurable, lookup


class Regularizer(Configurable):
    """Base of all regularizers: l1 Σ|w| + l2 Σw².

    Attributes
    ----------
    l1, l2 : float
        Not negative.
    """

    l1: float = 0.0
    l2: float = 0.0


class L1(Regularizer):
    """l1 Σ|w|: draws weights to 0. Its derivative at 0 counts as 0.

    Parameters
    ----------
    l1 : float
        Not negative.
    """

    key = "l1"

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = check_number("l1", l1, "[0, inf)")


class L2(Regularizer):
    """l2 Σw²: makes weights small.

    Parameters
    ----------
    l2 : float
        Not negative. PyTorch's SGD with ``weight_decay=λ`` has the gradient of l2 = λ / 2.
    """

    key = "l2"

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = check_number("l2", l2, "[0, inf)")


class L1L2(Regularizer):
    """l1 Σ|w| + l2 Σw² (the elastic net).

    Parameters
    ----------
    l1, l2 : float
        Not negative.

    Examples
    --------
    >>> import fastbp as bp
    >>> bp.layers.Dense(10, kernel_regularizer=bp.regularizers.L1L2(l1=1e-5, l2=1e-4))
    Dense(10, kernel_regularizer=L1L2(l1=1e-05, l2=0.0001))
    """

    key = "l1_l2"

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = check_number("l1", l1, "[0, inf)")
        self.l2 = check_number("l2", l2, "[0, inf)")


def get(
    value: str | Regularizer | Mapping[str, Any] | None, argument: str = "regularizer"
) -> Regularizer | None:
    """Return the regularizer that `value` stands for; None stands for none.

    Raises
    ------
    TypeError, ValueError
        Naming `argument` and the known names.
    """
    return None if value is None else lookup(Regularizer, value, argument)
