"""Optimizers: how a step changes the parameters. Update rules and default values are PyTorch's.

θ stands for the parameters, g for their gradient, η for the learning rate, t for the number of the step,
counted from 1. Weight decay λ acts on all parameters, unless ``decay_biases=False``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from fastbp.adaptive import Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop
from fastbp.checks import check_flag, check_number
from fastbp.configurable import lookup
from fastbp.optimizer import Optimizer, Options
from fastbp.schedules import Schedule
from fastbp.second_order import LBFGS, LevenbergMarquardt

__all__ = [
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "LevenbergMarquardt",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "get",
]


class SGD(Optimizer):
    """Gradient descent: g ← g + λθ; b ← μ b + g; θ ← θ − η b, with Nesterov θ ← θ − η (g + μ b).

    Parameters
    ----------
    learning_rate : float or Schedule
        η.
    momentum : float
        μ in [0, 1].
    nesterov : bool
        Look ahead along the momentum; needs a positive momentum.
    weight_decay : float
        λ.
    **options
        As in :class:`Optimizer`.
    """

    key = kind = "sgd"
    state_operands = ("momentum_buffer",)
    attribute_names = ("momentum", "nesterov", "weight_decay")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, weight_decay, **options)
        self.momentum = check_number("momentum", momentum, "[0, 1]")
        self.nesterov = check_flag("nesterov", nesterov)
        if nesterov and momentum == 0:
            raise ValueError("nesterov=True needs a positive momentum, got momentum=0.0")

    def slots(self) -> tuple[str, ...]:
        """Return "momentum_buffer" when there is momentum."""
        return self.state_operands if self.momentum else ()


class Lion(Optimizer):
    """Lion (Chen et al., 2023): steps of one size, along the sign of a momentum.

    θ ← (1 − ηλ) θ − η sign(β₁ m + (1 − β₁) g); m ← β₂ m + (1 − β₂) g.

    Parameters
    ----------
    learning_rate : float or Schedule
        η: a third to a tenth of what suits Adam.
    beta_1, beta_2 : float
        β₁ and β₂ in [0, 1).
    weight_decay : float
        λ, decoupled as in :class:`AdamW`.
    **options
        As in :class:`Optimizer`.
    """

    key = kind = "lion"
    state_operands = ("m",)
    attribute_names = ("beta_1", "beta_2", "weight_decay")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-4,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_1 = check_number("beta_1", beta_1, "[0, 1)")
        self.beta_2 = check_number("beta_2", beta_2, "[0, 1)")


class Rprop(Optimizer):
    """Rprop (Riedmiller and Braun, 1993): each parameter has a step size that only signs of gradients change.

    Δ starts as η. Where g keeps its sign, Δ ← min(η₊ Δ, largest). Where it changes, Δ ← max(η₋ Δ, smallest)
    and g ← 0, so that the next step does not judge. θ ← θ − Δ sign g. Made for full batches.

    Parameters
    ----------
    learning_rate : float or Schedule
        η, of which only the value at the first step counts.
    eta_minus, eta_plus : float
        η₋ in (0, 1) and η₊ ≥ 1.
    step_size_min, step_size_max : float
        Smallest and largest Δ, positive.
    **options
        As in :class:`Optimizer`; there is no weight decay.
    """

    key = kind = "rprop"
    state_operands = ("previous", "step_size")
    attribute_names = ("eta_minus", "eta_plus", "step_size_min", "step_size_max")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-2,
        eta_minus: float = 0.5,
        eta_plus: float = 1.2,
        step_size_min: float = 1e-6,
        step_size_max: float = 50.0,
        **options: Unpack[Options],
    ) -> None:
        if "weight_decay" in options:
            raise TypeError("Rprop has no argument 'weight_decay'")
        super().__init__(learning_rate, **options)
        self.eta_minus = check_number("eta_minus", eta_minus, "(0, 1)")
        self.eta_plus = check_number("eta_plus", eta_plus, "[1, inf)")
        self.step_size_min = check_number("step_size_min", step_size_min, "(0, inf)")
        self.step_size_max = check_number("step_size_max", step_size_max, "(0, inf)")
        if step_size_min > step_size_max:
            raise ValueError(
                f"step_size_min must not be above step_size_max, got {step_size_min} and {step_size_max}"
            )


def get(value: str | Optimizer | Mapping[str, Any]) -> Optimizer:
    """Return the optimizer that `value` stands for.

    Parameters
    ----------
    value : str, Optimizer or dict
        A name, an object, or what :meth:`Optimizer.config` gave.

    Raises
    ------
    TypeError, ValueError
        For an unknown name (the message lists the known ones) or another type.

    Examples
    --------
    >>> get("adamw")
    AdamW()
    >>> get(SGD(learning_rate=0.1, momentum=0.9))
    SGD(learning_rate=0.1, momentum=0.9)
    """
    return lookup(Optimizer, value, "optimizer")
