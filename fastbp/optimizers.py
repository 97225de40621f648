"""Optimizers: how a step changes the parameters. Update rules and default values are PyTorch's.

θ stands for the parameters, g for their gradient, η for the learning rate. Weight decay λ acts on all
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fastbp.checks import check_flag, check_number
from fastbp.configurable import Configurable, lookup


class Optimizer(Configurable):
    """Base of all optimizers.

    Attributes
    ----------
    kind : str
        Name of the operation that makes a step.
    state_operands : tuple of str
        Arrays, each like the parameters, that the operation may keep from step to step.
    """

    kind: ClassVar[str]
    state_operands: ClassVar[tuple[str, ...]] = ()

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = check_number("weight_decay", weight_decay, "[0, inf)")

    l2_penalty = 0.0
    """s: each batch adds ½ s Σθ² / Σw to its loss, θ the weights without biases, w the sample weights."""

    @property
    def learning_rate(self) -> float:
        """η. It may be changed between steps; it is no part of the plan."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = check_number("learning_rate", value, "[0, inf)")

    def slots(self) -> tuple[str, ...]:
        """Return the names of the arrays that this optimizer keeps, out of :attr:`state_operands`."""
        return self.state_operands

    def attributes(self) -> dict[str, float | bool]:
        """Return the attributes of the operation."""
        raise NotImplementedError


class SGD(Optimizer):
    """Gradient descent: g ← g + λθ; b ← μ b + g; θ ← θ − η b, with Nesterov θ ← θ − η (g + μ b).

    Parameters
    ----------
    learning_rate : float
        η.
    momentum : float
        μ in [0, 1].
    nesterov : bool
        Look ahead along the momentum; needs a positive momentum.
    weight_decay : float
        λ.
    """

    key = kind = "sgd"
    state_operands = ("momentum_buffer",)

    def __init__(
        self,
        learning_rate: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.momentum = check_number("momentum", momentum, "[0, 1]")
        self.nesterov = check_flag("nesterov", nesterov)
        if nesterov and momentum == 0:
            raise ValueError("nesterov=True needs a positive momentum, got momentum=0.0")

    def slots(self) -> tuple[str, ...]:
        """Return "momentum_buffer" when there is momentum."""
        return self.state_operands if self.momentum else ()

    def attributes(self) -> dict[str, float | bool]:
        """Return momentum, nesterov and weight_decay."""
        return {"momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": self.weight_decay}


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015), with weight decay as part of the gradient.

    g ← g + λθ; m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; θ ← θ − η m̂ / (√v̂ + ε), where
    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) at step t.

    Parameters
    ----------
    learning_rate : float
        η.
    beta_1, beta_2 : float
        β₁ and β₂ in [0, 1).
    epsilon : float
        ε, positive.
    weight_decay : float
        λ.
    epsilon_hat : bool
        Add ε to √v instead of √v̂, the step then being η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε): the form in
        which Keras and scikit-learn do it, from the end of the paper's section 2.
    """

    key = kind = "adam"
    state_operands = ("m", "v")
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        epsilon_hat: bool = False,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.beta_1 = check_number("beta_1", beta_1, "[0, 1)")
        self.beta_2 = check_number("beta_2", beta_2, "[0, 1)")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)")
        self.epsilon_hat = check_flag("epsilon_hat", epsilon_hat)

    def attributes(self) -> dict[str, float | bool]:
        """Return the betas, epsilon, weight_decay, and which form the decay and epsilon take."""
        return {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "weight_decay": self.weight_decay,
            "decoupled": self._decoupled,
            "epsilon_hat": self.epsilon_hat,
        }


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← (1 − ηλ) θ before the step (Loshchilov and Hutter, 2019).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, weight_decay : float
        As in :class:`Adam`.
    """

    key = "adamw"
    _decoupled = True

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay)


class RMSprop(Optimizer):
    """RMSprop (Hinton, 2012): g ← g + λθ; v ← ρ v + (1 − ρ) g²; θ ← θ − η g / (√v + ε).

    Parameters
    ----------
    learning_rate : float
        η.
    rho : float
        ρ in [0, 1).
    momentum : float
        μ in [0, 1). If positive: b ← μ b + g / (√v + ε); θ ← θ − η b.
    epsilon : float
        ε, positive.
    weight_decay : float
        λ.
    centered : bool
        Subtract the square of the gradient's running mean from v: an estimate of its variance.
    """

    key = kind = "rmsprop"
    state_operands = ("v", "momentum_buffer", "gradient_average")

    def __init__(
        self,
        learning_rate: float = 1e-2,
        rho: float = 0.99,
        momentum: float = 0.0,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.rho = check_number("rho", rho, "[0, 1)")
        self.momentum = check_number("momentum", momentum, "[0, 1)")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)")
        self.centered = check_flag("centered", centered)

    def slots(self) -> tuple[str, ...]:
        """Return "v", with momentum "momentum_buffer", if centered "gradient_average"."""
        kept = {"v": True, "momentum_buffer": self.momentum > 0, "gradient_average": self.centered}
        return tuple(name for name in self.state_operands if kept[name])

    def attributes(self) -> dict[str, float | bool]:
        """Return rho, momentum, epsilon and weight_decay."""
        return {
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "weight_decay": self.weight_decay,
        }


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
