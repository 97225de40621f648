"""Optimizers that give each parameter a step size of its own, from running averages of its gradient.

:mod:`fastbp.optimizers` shows them to users, and says what the symbols mean.
"""

from __future__ import annotations

from typing import ClassVar, Unpack

from fastbp.checks import check_flag, check_number
from fastbp.optimizer import Optimizer, Options
from fastbp.schedules import Schedule


class Adagrad(Optimizer):
    """Adagrad (Duchi et al., 2011): g ← g + λθ; G ← G + g²; θ ← θ − η g / (√(G₀ + G) + ε).

    Parameters
    ----------
    learning_rate : float or Schedule
        η. PyTorch's `lr_decay` d is the schedule ``InverseTimeDecay(η, 1, d)``.
    initial_accumulator_value : float
        G₀, not negative.
    epsilon : float
        ε, positive.
    weight_decay : float
        λ.
    **options
        As in :class:`Optimizer`.
    """

    key = kind = "adagrad"
    state_operands = ("accumulator",)
    attribute_names = ("initial_accumulator_value", "epsilon", "weight_decay")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-2,
        initial_accumulator_value: float = 0.0,
        epsilon: float = 1e-10,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, weight_decay, **options)
        self.initial_accumulator_value = check_number(
            "initial_accumulator_value", initial_accumulator_value, "[0, inf)"
        )
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)")


class Adadelta(Optimizer):
    """Adadelta (Zeiler, 2012): steps in the units of the parameters.

    g ← g + λθ; v ← ρ v + (1 − ρ) g²; Δ = g √(u + ε) / √(v + ε); u ← ρ u + (1 − ρ) Δ²; θ ← θ − η Δ.

    Parameters
    ----------
    learning_rate : float or Schedule
        η.
    rho : float
        ρ in [0, 1).
    epsilon : float
        ε, positive.
    weight_decay : float
        λ.
    **options
        As in :class:`Optimizer`.
    """

    key = kind = "adadelta"
    state_operands = ("v", "delta_average")
    attribute_names = ("rho", "epsilon", "weight_decay")

    def __init__(
        self,
        learning_rate: float | Schedule = 1.0,
        rho: float = 0.9,
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, weight_decay, **options)
        self.rho = check_number("rho", rho, "[0, 1)")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)")


class RMSprop(Optimizer):
    """RMSprop (Hinton, 2012): g ← g + λθ; v ← ρ v + (1 − ρ) g²; θ ← θ − η g / (√v + ε).

    Parameters
    ----------
    learning_rate : float or Schedule
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
    **options
        As in :class:`Optimizer`.
    """

    key = kind = "rmsprop"
    state_operands = ("v", "momentum_buffer", "gradient_average")
    attribute_names = ("rho", "momentum", "epsilon", "weight_decay")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-2,
        rho: float = 0.99,
        momentum: float = 0.0,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        centered: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, weight_decay, **options)
        self.rho = check_number("rho", rho, "[0, 1)")
        self.momentum = check_number("momentum", momentum, "[0, 1)")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)")
        self.centered = check_flag("centered", centered)

    def slots(self) -> tuple[str, ...]:
        """Return "v", with momentum "momentum_buffer", if centered "gradient_average"."""
        kept = {"v": True, "momentum_buffer": self.momentum > 0, "gradient_average": self.centered}
        return tuple(name for name in self.state_operands if kept[name])


class MomentOptimizer(Optimizer):
    """Base of Adam and its kin: a running average m of the gradient, divided by one of its size.

    Parameters
    ----------
    learning_rate : float or Schedule
        η.
    beta_1, beta_2 : float
        β₁ and β₂ in [0, 1).
    epsilon : float
        ε, positive.
    weight_decay : float
        λ.
    **options
        As in :class:`Optimizer`.
    """

    kind = ""
    attribute_names = ("beta_1", "beta_2", "epsilon", "weight_decay")

    def __init__(
        self,
        learning_rate: float | Schedule,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        weight_decay: float,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, weight_decay, **options)
        self.beta_1 = check_number("beta_1", beta_1, "[0, 1)")
        self.beta_2 = check_number("beta_2", beta_2, "[0, 1)")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)")


class Adam(MomentOptimizer):
    """Adam (Kingma and Ba, 2015), with weight decay as part of the gradient.

    g ← g + λθ; m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; θ ← θ − η m̂ / (√v̂ + ε), where
    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) at step t.

    Parameters
    ----------
    learning_rate : float or Schedule
        η.
    beta_1, beta_2 : float
        β₁ and β₂ in [0, 1).
    epsilon : float
        ε, positive.
    weight_decay : float
        λ.
    amsgrad : bool
        Put the largest v so far in place of v (Reddi et al., 2018).
    epsilon_hat : bool
        Add ε to √v instead of √v̂, the step then being η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε): the form in
        which Keras and scikit-learn do it, from the end of the paper's section 2.
    **options
        As in :class:`Optimizer`.
    """

    key = kind = "adam"
    state_operands = ("m", "v", "v_max")
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        epsilon_hat: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, **options)
        self.amsgrad = check_flag("amsgrad", amsgrad)
        self.epsilon_hat = check_flag("epsilon_hat", epsilon_hat)

    def slots(self) -> tuple[str, ...]:
        """Return "m" and "v", with amsgrad "v_max"."""
        return self.state_operands if self.amsgrad else self.state_operands[:2]

    def attributes(self) -> dict[str, float | bool]:
        """Return the betas, epsilon, weight_decay, and which form the decay and epsilon take."""
        return super().attributes() | {"decoupled": self._decoupled, "epsilon_hat": self.epsilon_hat}


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← (1 − ηλ) θ before the step (Loshchilov and Hutter, 2019).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, weight_decay, amsgrad, **options
        As in :class:`Adam`.
    """

    key = "adamw"
    _decoupled = True

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, amsgrad, **options)


class Adamax(MomentOptimizer):
    """Adamax (Kingma and Ba, 2015): Adam with the largest gradient, fading, in place of √v̂.

    g ← g + λθ; m ← β₁ m + (1 − β₁) g; u ← max(β₂ u, |g| + ε); θ ← θ − η / (1 − β₁ᵗ) · m / u.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, weight_decay, **options
        As in :class:`Adam`.
    """

    key = kind = "adamax"
    state_operands = ("m", "u")

    def __init__(
        self,
        learning_rate: float | Schedule = 2e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, **options)


class NAdam(MomentOptimizer):
    """NAdam (Dozat, 2016): Adam with Nesterov's look ahead along the momentum.

    m and v as in :class:`Adam`; μₜ = β₁ (1 − ½ · 0.96^(t ψ)), Πₜ = μ₁ ⋯ μₜ;
    θ ← θ − η [(1 − μₜ) g / (1 − Πₜ) + μₜ₊₁ m / (1 − Πₜ₊₁)] / (√v̂ + ε).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, weight_decay, **options
        As in :class:`Adam`.
    momentum_decay : float
        ψ, not negative.
    decoupled_weight_decay : bool
        Decay the parameters, as in :class:`AdamW`, instead of changing the gradient.
    """

    key = kind = "nadam"
    state_operands = ("m", "v")

    def __init__(
        self,
        learning_rate: float | Schedule = 2e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, **options)
        self.momentum_decay = check_number("momentum_decay", momentum_decay, "[0, inf)")
        self.decoupled_weight_decay = check_flag("decoupled_weight_decay", decoupled_weight_decay)

    def attributes(self) -> dict[str, float | bool]:
        """Return the betas, epsilon, weight_decay, whether it is decoupled, and 0.96^ψ."""
        return super().attributes() | {
            "decoupled": self.decoupled_weight_decay,
            "momentum_factor": 0.96**self.momentum_decay,
        }


class RAdam(MomentOptimizer):
    """RAdam (Liu et al., 2020): Adam that divides by √v̂ only when enough steps have made it reliable.

    m and v as in :class:`Adam`; ρ∞ = 2 / (1 − β₂) − 1, ρₜ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ). Up to ρₜ = 5:
    θ ← θ − η m̂. Beyond: θ ← θ − η r m̂ √(1 − β₂ᵗ) / (√v + ε),
    r² = (ρₜ − 4)(ρₜ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρₜ).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, weight_decay, **options
        As in :class:`Adam`.
    decoupled_weight_decay : bool
        Decay the parameters, as in :class:`AdamW`, instead of changing the gradient.
    """

    key = kind = "radam"
    state_operands = ("m", "v")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, **options)
        self.decoupled_weight_decay = check_flag("decoupled_weight_decay", decoupled_weight_decay)

    def attributes(self) -> dict[str, float | bool]:
        """Return the betas, epsilon, weight_decay and whether it is decoupled."""
        return super().attributes() | {"decoupled": self.decoupled_weight_decay}
