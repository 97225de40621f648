"""Losses, by name or as objects. Each gives one number per sample; a batch's loss is Σ w·l / Σ w.

ŷ is the prediction, y the target; "mean" and "sum" run over the outputs of one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp.checks import check_flag, check_number
from fastbp.configurable import Configurable, custom_function, lookup
from fastbp.engine.plan import Attribute, function_name

Array: TypeAlias = NDArray[np.floating]


class Loss(Configurable):
    """Base of all losses.

    Attributes
    ----------
    link : str or None
        The output activation that the loss takes together with itself: both have a stable form on the
        logits, the activation's inputs.
    target_kind : {"values", "probabilities", "classes"}
        What targets may be: any numbers; numbers from 0 to 1; class labels, or a row of probabilities.
    """

    link: ClassVar[str | None] = None
    target_kind: ClassVar[Literal["values", "probabilities", "classes"]] = "values"

    def takes_logits(self, activation: str, outputs: int) -> bool:
        """Tell whether the loss is computed from the logits, given what ends the network.

        Parameters
        ----------
        activation : str
            The last activation, "linear" where there is none.
        outputs : int
            Number of outputs.

        Raises
        ------
        ValueError
            When this network's outputs are not what the loss needs.
        """
        return False

    def target_columns(self, outputs: int) -> tuple[int, ...]:
        """Return the numbers of columns that targets may have, the default first."""
        return (outputs,)

    def operation(self, logits: bool) -> tuple[str, dict[str, Attribute]]:
        """Return kind and attributes of the operation that computes loss and delta."""
        raise NotImplementedError


class _Elementwise(Loss):
    """A loss that is a mean or sum over outputs of a function of ŷ and y."""

    @property
    def _parameter(self) -> float:
        return 0.0

    def operation(self, logits: bool) -> tuple[str, dict[str, Attribute]]:
        return "elementwise_loss", {"loss": self.key, "parameter": self._parameter}


class MeanSquaredError(_Elementwise):
    """mean (ŷ − y)²."""

    key = "mean_squared_error"


class HalfSquaredError(_Elementwise):
    """½ sum (ŷ − y)²: its derivative is the plain difference."""

    key = "half_squared_error"


class MeanAbsoluteError(_Elementwise):
    """mean |ŷ − y|."""

    key = "mean_absolute_error"


class Huber(_Elementwise):
    """mean of ½ (ŷ − y)² where |ŷ − y| ≤ delta, and of delta · (|ŷ − y| − ½ delta) beyond (Huber, 1964).

    Parameters
    ----------
    delta : float
        Where the square turns into a line; positive.
    """

    key = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = check_number("delta", delta, "(0, inf)")

    @property
    def _parameter(self) -> float:
        return self.delta


class Quantile(_Elementwise):
    """mean of max(q (y − ŷ), (q − 1)(y − ŷ)): the prediction is the q-quantile of the targets.

    Parameters
    ----------
    quantile : float
        q in (0, 1); 0.5 is half the absolute error and gives the median.
    """

    key = "quantile"

    def __init__(self, quantile: float = 0.5) -> None:
        self.quantile = check_number("quantile", quantile, "(0, 1)")

    @property
    def _parameter(self) -> float:
        return self.quantile


class Poisson(_Elementwise):
    """mean of ŷ − y log ŷ, for counts; ŷ must be positive, as after softplus."""

    key = "poisson"


class BinaryCrossEntropy(_Elementwise):
    """mean of −y log ŷ − (1 − y) log(1 − ŷ), y in [0, 1].

    After a sigmoid it is computed from the logits, without a logarithm of a probability.

    Parameters
    ----------
    from_logits : bool
        True when the network ends without an activation and its outputs are logits.
    """

    key = "binary_cross_entropy"
    link = "sigmoid"
    target_kind = "probabilities"

    def __init__(self, from_logits: bool = False) -> None:
        self.from_logits = check_flag("from_logits", from_logits)

    def takes_logits(self, activation: str, outputs: int) -> bool:
        """Tell whether the loss is computed from the logits; ŷ must otherwise be in (0, 1)."""
        if self.from_logits:
            _refuse_probabilities(self, activation)
        elif activation not in ("sigmoid", "softmax"):
            raise ValueError(
                f"binary_cross_entropy needs probabilities, but the last activation is {activation!r}: end "
                "the network with activation='sigmoid', or use BinaryCrossEntropy(from_logits=True)"
            )
        return self.from_logits or activation == "sigmoid"

    def operation(self, logits: bool) -> tuple[str, dict[str, Attribute]]:
        """Return the operation on logits or on probabilities."""
        kind = "sigmoid_binary_cross_entropy" if logits else "binary_cross_entropy"
        return "elementwise_loss", {"loss": kind, "parameter": 0.0}


class _Linked(_Elementwise):
    """A loss that is only computed from the logits of its link."""

    def takes_logits(self, activation: str, outputs: int) -> bool:
        """Return True; the network must end with the link."""
        if activation != self.link:
            raise ValueError(
                f"{self.key} is computed together with the activation {self.link!r}, but the last "
                f"activation is {activation!r}: end the network with activation={self.link!r}"
            )
        return True


class MultilabelCrossEntropy(_Linked):
    """sum of −y log ŷ − (1 − y) log(1 − ŷ), y in [0, 1]: each output is a yes or no of its own.

    Computed from the logits of a sigmoid. :class:`BinaryCrossEntropy` takes the mean instead.
    """

    key = "multilabel_cross_entropy"
    link = "sigmoid"
    target_kind = "probabilities"


class PoissonDeviance(_Linked):
    """sum of y log(y / ŷ) − y + ŷ, half the deviance of Poisson regression, for counts y.

    Computed from the logarithm of the rate ŷ: the network ends with the activation "exponential".
    """

    key = "poisson_deviance"
    link = "exponential"


class CrossEntropy(Loss):
    """−sum y log ŷ; targets are labels (one column) or probabilities such as one-hot rows.

    After a softmax it is computed from the logits, without a logarithm of a probability.

    Parameters
    ----------
    from_logits : bool
        True when the network ends without an activation and its outputs are logits.
    label_smoothing : float
        s in [0, 1): targets become (1 − s) y + s / outputs.
    """

    key = "cross_entropy"
    link = "softmax"
    target_kind = "classes"

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = check_flag("from_logits", from_logits)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, "[0, 1)")

    def takes_logits(self, activation: str, outputs: int) -> bool:
        """Return True: cross-entropy is always computed from logits."""
        if outputs == 1:
            raise ValueError(
                "cross_entropy needs one output per class, but the network has 1 output: for two classes "
                "use binary_cross_entropy with activation='sigmoid', or 2 outputs with activation='softmax'"
            )
        if self.from_logits:
            _refuse_probabilities(self, activation)
        elif activation != "softmax":
            raise ValueError(
                f"cross_entropy needs probabilities, but the last activation is {activation!r}: end the "
                "network with activation='softmax', or use CrossEntropy(from_logits=True)"
            )
        return True

    def target_columns(self, outputs: int) -> tuple[int, ...]:
        """Return 1 for labels, or the number of classes."""
        return (1, outputs)

    def operation(self, logits: bool) -> tuple[str, dict[str, Attribute]]:
        """Return the operation on logits."""
        return "softmax_cross_entropy_loss", {"label_smoothing": self.label_smoothing}


def _refuse_probabilities(loss: Loss, activation: str) -> None:
    if activation in ("sigmoid", "softmax"):
        raise ValueError(
            f"{loss!r} takes logits, but the network ends with {activation!r}: "
            "leave out the activation, or from_logits=True"
        )


class CustomLoss(Loss):
    """Base of losses in Python: a subclass gives :meth:`__call__`. A plain function will do as well.

    Attributes
    ----------
    target_kind : {"values", "probabilities", "classes"}
        What targets may be; with "classes" they come as labels, shape (n, 1), or as rows of probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> class Focal(CustomLoss):  # −(1 − p)^gamma log p, p the right class's probability (Lin et al., 2017)
    ...     target_kind = "classes"
    ...
    ...     def __init__(self, gamma=2.0):
    ...         self.gamma = gamma
    ...
    ...     def __call__(self, y, y_hat):
    ...         right = np.arange(y_hat.shape[1]) == y
    ...         p, g = y_hat[right], self.gamma
    ...         slope = g * (1 - p) ** (g - 1) * np.log(p) - (1 - p) ** g / p
    ...         return -((1 - p) ** g) * np.log(p), right * slope[:, np.newaxis]
    >>> Focal(gamma=1.5)
    Focal(gamma=1.5)
    """

    def __call__(self, y: Array, y_hat: Array) -> tuple[Array | float, Array]:
        """Return the losses of a batch, and their gradient.

        Parameters
        ----------
        y, y_hat : ndarray, shape (n, columns)
            Targets and predictions in the model's dtype; read-only.

        Returns
        -------
        value : ndarray of shape (n,), or float
            One loss per sample, or their mean. With sample weights w the batch's loss is Σ w·l / Σ w, for
            which it must be one per sample.
        gradient : ndarray, shaped like y_hat and in its dtype
            Of a value per sample in row i the derivative ∂l_i/∂ŷ_i: the engine multiplies it by w_i / Σ w.
            Of a mean its own derivative, which is used as it is.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define __call__(self, y, y_hat) -> (value, gradient)"
        )

    def target_columns(self, outputs: int) -> tuple[int, ...]:
        """Return the number of outputs, and for classes 1 as well."""
        return (1, outputs) if self.target_kind == "classes" else (outputs,)

    def operation(self, logits: bool) -> tuple[str, dict[str, Attribute]]:
        """Return a call of the loss."""
        return "python_loss", {"function": self.__call__}


class FunctionLoss(CustomLoss):
    """A function ``loss(y, y_hat)`` as a loss; see :meth:`CustomLoss.__call__`.

    Parameters
    ----------
    function : callable or str
        Or its name among the ``custom_objects`` of :func:`fastbp.load`.
    """

    def __init__(self, function: Callable[[Array, Array], tuple[Array | float, Array]] | str) -> None:
        self.function = custom_function(function) if isinstance(function, str) else function

    def __call__(self, y: Array, y_hat: Array) -> tuple[Array | float, Array]:
        """Call the function."""
        return self.function(y, y_hat)

    def operation(self, logits: bool) -> tuple[str, dict[str, Attribute]]:
        """Return a call of the function."""
        return "python_loss", {"function": self.function}

    def __repr__(self) -> str:
        return f"FunctionLoss({function_name(self.function)})"

    def config(self) -> dict[str, Any]:
        """Return the function's name, by which :func:`fastbp.load` must be told of it again."""
        name = getattr(self.function, "__name__", "")
        if not name.isidentifier():
            raise TypeError(
                f"loss: {self.function!r} has no name and cannot be saved: define it by def, or a CustomLoss"
            )
        return {"class": "FunctionLoss", "function": name}


_ALIASES: dict[str, Callable[[], Loss]] = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "categorical_crossentropy": CrossEntropy,
    "sparse_categorical_crossentropy": CrossEntropy,
    "crossentropy": CrossEntropy,
    "CategoricalCrossentropy": CrossEntropy,
    "SparseCategoricalCrossentropy": CrossEntropy,
    "binary_crossentropy": BinaryCrossEntropy,
    "BinaryCrossentropy": BinaryCrossEntropy,
}


def get(value: str | Loss | Mapping[str, Any] | Callable[..., Any]) -> Loss:
    """Return the loss that `value` stands for.

    Parameters
    ----------
    value : str, Loss, function or dict
        A name (Keras' spellings are accepted too), an object, a function ``(y, y_hat) -> (value,
        gradient)`` as in :class:`CustomLoss`, or what :meth:`Loss.config` gave.

    Raises
    ------
    TypeError, ValueError
        For an unknown name (the message lists the known ones) or another type.

    Examples
    --------
    >>> get("mse"), get("huber"), get(Huber(delta=2.0))
    (MeanSquaredError(), Huber(), Huber(delta=2.0))
    """
    if callable(value) and not isinstance(value, Loss | type):
        return FunctionLoss(value)
    return lookup(Loss, value, "loss", _ALIASES)
