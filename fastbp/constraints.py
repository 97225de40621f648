"""Constraints: what holds for weights after each step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastbp.checks import check_number
from fastbp.configurable import Configurable, lookup


class Constraint(Configurable):
    """Base of all constraints.

    Attributes
    ----------
    max_value : float
        Largest Euclidean norm of the weights that lead to one unit.
    """

    max_value: float


class MaxNorm(Constraint):
    """Scale the weights that lead to one unit, a row of W, down to a norm (Srivastava et al., 2014).

    Parameters
    ----------
    max_value : float
        The Euclidean norm, positive. Keras' `axis` is always that of the inputs.

    Examples
    --------
    >>> import fastbp as bp
    >>> bp.layers.Dense(10, kernel_constraint=bp.constraints.MaxNorm(3))
    Dense(10, kernel_constraint=MaxNorm(max_value=3.0))
    """

    key = "max_norm"

    def __init__(self, max_value: float = 2.0) -> None:
        self.max_value = check_number("max_value", max_value, "(0, inf)")


def get(
    value: str | Constraint | Mapping[str, Any] | None, argument: str = "constraint"
) -> Constraint | None:
    """Return the constraint that `value` stands for; None stands for none.

    Raises
    ------
    TypeError, ValueError
        Naming `argument` and the known names.
    """
    return None if value is None else lookup(Constraint, value, argument)
