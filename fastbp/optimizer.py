"""What all optimizers have in common: the learning rate, and what can be done before and after a step."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from fastbp.checks import check_count, check_flag, check_number
from fastbp.configurable import Configurable
from fastbp.schedules import Schedule
from fastbp.schedules import get as get_schedule


class Options(TypedDict, total=False):
    """Arguments that every optimizer takes, by name; :class:`Optimizer` describes them."""

    decay_biases: bool
    clipvalue: float | None
    clipnorm: float | None
    global_clipnorm: float | None
    gradient_accumulation_steps: int | None
    use_ema: bool
    ema_momentum: float


_DEFAULTS: Options = {
    "decay_biases": True,
    "clipvalue": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "gradient_accumulation_steps": None,
    "use_ema": False,
    "ema_momentum": 0.99,
}
_CLIPS = ("clipvalue", "clipnorm", "global_clipnorm")


class Optimizer(Configurable):
    """Base of all optimizers.

    Parameters
    ----------
    learning_rate : float, Schedule or dict
        η, or what makes it from the number of the step; see :mod:`fastbp.schedules`.
    weight_decay : float
        λ.
    decay_biases : bool
        Whether λ acts on all parameters, as in PyTorch, or only on weights: not on biases and the parameters
        of normalisation layers.
    clipvalue : float, optional
        Bring each element of the gradient into [−clipvalue, clipvalue].
    clipnorm : float, optional
        Scale the gradient of each weight matrix and each bias to at most this Euclidean norm.
    global_clipnorm : float, optional
        Scale the whole gradient to at most this Euclidean norm.
    gradient_accumulation_steps : int, optional
        Do a step with the mean of the gradients of so many batches. Batches that are left over at the end of
        an epoch count for the next step.
    use_ema : bool
        Keep a moving average of the parameters; see :meth:`fastbp.Sequential.averaged_weights`.
    ema_momentum : float
        μ in [0, 1): average ← μ average + (1 − μ) θ after each step. The first step makes it θ.

    Attributes
    ----------
    kind : str
        Name of the operation that makes a step; "" for optimizers that run the network themselves.
    state_operands : tuple of str
        Arrays, each like the parameters, that the operation may keep from step to step.
    attribute_names : tuple of str
        Attributes of the operation that are arguments of the same name.

    Raises
    ------
    ValueError
        For numbers out of their range, and when more than one kind of clipping is asked for.
    """

    l2_penalty = 0.0
    """s: each batch adds ½ s Σθ² / Σw to its loss, θ the weights without biases, w the sample weights."""

    kind: ClassVar[str]
    state_operands: ClassVar[tuple[str, ...]] = ()
    attribute_names: ClassVar[tuple[str, ...]] = ()
    __signature__: ClassVar[inspect.Signature]

    def __init__(
        self, learning_rate: float | Schedule, weight_decay: float = 0.0, **options: Unpack[Options]
    ) -> None:
        unknown = sorted(set(options) - set(_DEFAULTS))
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {', '.join(map(repr, unknown))}")
        chosen = _DEFAULTS | options
        self.learning_rate = learning_rate
        self.weight_decay = check_number("weight_decay", weight_decay, "[0, inf)")
        self.decay_biases = check_flag("decay_biases", chosen["decay_biases"])
        self.clipvalue = _optional_number("clipvalue", chosen["clipvalue"])
        self.clipnorm = _optional_number("clipnorm", chosen["clipnorm"])
        self.global_clipnorm = _optional_number("global_clipnorm", chosen["global_clipnorm"])
        given = [name for name in _CLIPS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"only one of {', '.join(_CLIPS)} can be given, got {' and '.join(given)}")
        steps = chosen["gradient_accumulation_steps"]
        self.gradient_accumulation_steps = (
            None if steps is None else check_count("gradient_accumulation_steps", steps)
        )
        self.use_ema = check_flag("use_ema", chosen["use_ema"])
        self.ema_momentum = check_number("ema_momentum", chosen["ema_momentum"], "[0, 1)")

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Write the options out in the signature: Python shows it, and configurations follow it."""
        super().__init_subclass__(**arguments)
        own = list(inspect.signature(cls.__init__).parameters.values())[1:]
        options = []
        if own and own[-1].kind is inspect.Parameter.VAR_KEYWORD:
            own.pop()
            options = [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=Options.__annotations__[name],
                )
                for name, default in _DEFAULTS.items()
            ]
        cls.__signature__ = inspect.Signature([*own, *options])

    @property
    def learning_rate(self) -> Any:
        """η, a number or a schedule. It may be changed between steps; it is no part of the plan."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        schedule = get_schedule(value)
        self._learning_rate = (
            check_number("learning_rate", value, "[0, inf)") if schedule is None else schedule
        )

    @property
    def accumulation(self) -> int:
        """Batches whose gradients make one step."""
        return self.gradient_accumulation_steps or 1

    def rates(self, first: int, count: int) -> NDArray[np.float64]:
        """Return the learning rate for each of `count` batches in a row, of which `first` came before."""
        if not isinstance(self._learning_rate, Schedule):
            rates = np.empty(count)
            rates.fill(self._learning_rate)  # in a third of the time of numpy.full
            return rates
        return self._learning_rate.rates(np.arange(first, first + count) // self.accumulation)

    def slots(self) -> tuple[str, ...]:
        """Return the names of the arrays that its step keeps, out of :attr:`state_operands`."""
        return self.state_operands

    def attributes(self) -> dict[str, float | bool]:
        """Return the attributes of the operation."""
        return {name: getattr(self, name) for name in self.attribute_names}


def _optional_number(argument: str, value: float | None) -> float | None:
    return None if value is None else check_number(argument, value, "(0, inf)")
