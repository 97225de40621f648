"""Gradients of backpropagation beside difference quotients of the loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.checks import check_count, check_flag, check_number
from fastbp.model import Sequential
from fastbp.network import Array, Network
from fastbp.samples import Samples, dense

# A loss L has a rounding error of a few ulp: a difference quotient is off by this times |L| / epsilon.
_ROUNDING = 32 * float(np.finfo(np.float64).eps)
_SHOWN = 20  # entries of one parameter


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The derivatives by the entries of one array.

    Attributes
    ----------
    name : str
        Such as "dense.weight"; "X" for the inputs.
    shape : tuple of int
        Of the whole array.
    entries : list of tuple of int
        The places that were compared.
    analytic, numeric, error : ndarray, shape (len(entries),)
        From backpropagation, from differences, and the relative error.
    """

    name: str
    shape: tuple[int, ...]
    entries: list[tuple[int, ...]]
    analytic: NDArray[np.float64]
    numeric: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def worst(self) -> int:
        """Number of the entry with the largest error."""
        return int(np.argmax(self.error))

    def _row(self, number: int) -> tuple[str, str, str, str]:
        place = ", ".join(map(str, self.entries[number]))
        values = f"{self.analytic[number]:.9g}", f"{self.numeric[number]:.9g}", f"{self.error[number]:.1e}"
        return (f"[{place}]", *values)

    def __repr__(self) -> str:
        """Show the entries with the largest errors."""
        order = np.argsort(-self.error, kind="stable")[:_SHOWN]
        rows = [(self.name, "analytic", "numeric", "error"), *(self._row(int(number)) for number in order)]
        left = len(self.entries) - len(order)
        return _table(rows) + (f"\n… and {left:,} with smaller errors" if left else "")


@dataclass(frozen=True, eq=False, repr=False)
class GradientCheck:
    """What :func:`gradcheck` found; print it.

    Attributes
    ----------
    comparisons : dict of str to Comparison
        By the name of the parameter; "X" is the inputs.
    loss : float
    epsilon, rtol : float
    """

    comparisons: dict[str, Comparison]
    loss: float
    epsilon: float
    rtol: float

    @property
    def ok(self) -> bool:
        """Whether every relative error is at most rtol."""
        return bool(self.worst.error[self.worst.worst] <= self.rtol)

    @property
    def worst(self) -> Comparison:
        """The comparison that holds the largest error."""
        return max(self.comparisons.values(), key=lambda found: found.error[found.worst])

    def __repr__(self) -> str:
        """Show one line for each parameter: its entry with the largest error."""
        rows = [("", "shape", "checked", "worst at", "analytic", "numeric", "error")]
        for name, found in self.comparisons.items():
            checked = f"{len(found.entries):,} of {math.prod(found.shape):,}"
            rows.append((name, str(found.shape), checked, *found._row(found.worst)))
        place, _, _, error = self.worst._row(self.worst.worst)
        head = f"gradients of the loss {self.loss:.9g}, in float64 with epsilon {self.epsilon:g}"
        verdict = f"{'ok' if self.ok else 'WRONG'}: the largest error is {error} at {self.worst.name}{place}"
        tail = f"{verdict}, allowed {self.rtol:g}"
        return "\n".join([head, _table(rows), tail])


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def gradcheck(
    model: Sequential,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    epsilon: float = 1e-5,
    rtol: float = 1e-6,
    training: bool = True,
    inputs: bool = True,
    max_entries: int = 1000,
) -> GradientCheck:
    """Compare the gradients of backpropagation with central differences of the loss.

    For each entry θ of each parameter and of X, ∂L/∂θ stands beside (L(θ + h) − L(θ − h)) / 2h with
    h = epsilon · max(1, |θ|). A float64 copy of the model computes both, so that the model stays as it is,
    whatever its dtype.

    Random numbers, those of dropout and of ``rng`` in a custom layer, are the same in all evaluations. At a
    kink, such as ReLU at 0, there is no derivative, and a difference that reaches across one is wrong: with
    another X or a smaller epsilon the entry should be right.

    Parameters
    ----------
    model : Sequential
        With a loss; built-in and custom parts alike.
    X, y, sample_weight : array_like
        As in :meth:`Sequential.fit`. A few samples are enough, and all of them make one batch.
    epsilon : float
        Relative step.
    rtol : float
        Largest relative error that is right.
    training : bool
        Whether the network runs as in training (dropout drops) or as in prediction.
    inputs : bool
        Whether to check ∂L/∂X as well. It makes no sense for columns that hold categories.
    max_entries : int
        Most entries of each array to compare; of larger ones a fixed random choice.

    Returns
    -------
    GradientCheck
        With ``ok``, ``worst``, and a table when it is printed: ``assert check.ok, check``. The relative
        error of an entry is |analytic − numeric| / max(|analytic|, |numeric|), where derivatives too small
        for a difference of rounded losses to see count as larger.

    Raises
    ------
    TypeError, ValueError
        As :meth:`Sequential.fit` does for what cannot be right.

    Examples
    --------
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Dense(3, activation="tanh"), bp.layers.Dense(1)],
    ...                       loss="mean_squared_error", seed=0)
    >>> check = bp.gradcheck(model, [[1, 2], [3, -1]], [1, 0])
    >>> check.ok
    True
    >>> sorted(check.comparisons)
    ['X', 'dense.bias', 'dense.weight', 'dense_1.bias', 'dense_1.weight']
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model must be a Sequential, got {model!r}")
    epsilon = check_number("epsilon", epsilon, "(0, 1)")
    rtol = check_number("rtol", rtol, "(0, 1)")
    check_flag("training", training)
    check_flag("inputs", inputs)
    max_entries = check_count("max_entries", max_entries)
    model._samples(X, y, sample_weight)  # complains about what came, and builds the model

    twin = float64_copy(model)
    samples = twin._samples(X, y, sample_weight)
    inputs_here = dense(samples.inputs, twin.dtype).copy()
    samples = Samples(inputs_here, samples.targets, samples.weights)
    network = twin._require_network()
    draw = int(network.counters[1])
    loss, dX = network.differentiate(samples, training)
    arrays = network.tensors(optimizer=False)
    gradients = {
        f"{layer.name}.{name}": v.copy() for layer in twin.layers for name, v in layer.gradients.items()
    }
    if inputs:
        arrays, gradients = arrays | {"X": inputs_here}, gradients | {"X": dX}
    noise = _ROUNDING * abs(loss) / epsilon

    def compare(name: str, array: Array, gradient: Array) -> Comparison:
        places = np.arange(array.size)
        if array.size > max_entries:
            places = np.sort(np.random.default_rng(0).choice(array.size, max_entries, replace=False))
        entries = [tuple(int(i) for i in np.unravel_index(place, array.shape)) for place in places]
        analytic = np.array([gradient[entry] for entry in entries])
        numeric = np.empty(len(entries))
        for number, entry in enumerate(entries):
            numeric[number] = _difference(network, samples, training, draw, array, entry, epsilon)
        size = np.maximum(np.maximum(np.abs(analytic), np.abs(numeric)), noise / rtol)
        error = np.abs(analytic - numeric) / np.where(size > 0, size, 1)
        return Comparison(name, array.shape, entries, analytic, numeric, np.nan_to_num(error, nan=np.inf))

    if not gradients:
        raise ValueError("there is nothing to check: the model has no parameters, and inputs is False")
    found = {name: compare(name, arrays[name], gradient) for name, gradient in gradients.items()}
    return GradientCheck(found, loss, epsilon, rtol)


def float64_copy(model: Sequential) -> Sequential:
    """Return a built model's copy in float64, with layers, loss and random numbers of its own."""
    network = model._require_network()
    twin = type(model)(copy.deepcopy(model.layers), copy.deepcopy(model.loss), "sgd", dtype="float64", seed=0)
    twin._dropout_seed = network.seed
    twin.build(model.input_size)
    mine, theirs = (each._require_network() for each in (twin, model))
    values = theirs.tensors(optimizer=False)
    for name, view in mine.tensors(optimizer=False).items():
        view[...] = values[name]
    mine.counters[:] = theirs.counters
    return twin


def _difference(
    network: Network,
    samples: Samples,
    training: bool,
    draw: int,
    array: Array,
    entry: tuple[int, ...],
    epsilon: float,
) -> float:
    """(L(θ + h) − L(θ − h)) / 2h for one entry θ."""
    kept = array[entry]
    step = epsilon * max(1.0, abs(kept))
    losses, places = [], []
    for h in (step, -step):
        array[entry] = kept + h
        places.append(array[entry])  # θ + h as rounded
        network.counters[1] = draw  # the same random numbers each time
        losses.append(network.differentiate(samples, training, backward=False)[0])
    array[entry] = kept
    return float((losses[0] - losses[1]) / (places[0] - places[1]))
