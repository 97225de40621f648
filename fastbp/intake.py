"""What fit and evaluate take beside arrays, and what fit validates on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastbp.checks import check_count, check_number
from fastbp.frames import as_frame, categories, feature_names
from fastbp.order import split
from fastbp.samples import Samples
from fastbp.streams import Stream, is_stream

if TYPE_CHECKING:
    from fastbp.model import Sequential


def stream(
    model: Sequential,
    source: object,
    argument: str,
    class_weight: object = None,
    steps: int | None = None,
    *,
    passes: int = 1,
) -> Stream:
    """Take a source of batches, and build the model by the first one.

    Parameters
    ----------
    model : Sequential
    source : iterable or callable
    argument : str
        What the user calls it.
    class_weight : dict, optional
    steps : int, optional
        Batches of an epoch.
    passes : int
        How often it will be gone through.

    Raises
    ------
    TypeError, ValueError
        If it is no such source, or gives nothing that could be right.
    """
    if not is_stream(source):
        raise TypeError(
            f"y is None: only an iterable of batches, or a function, as {argument} brings it along"
        )
    if isinstance(class_weight, str):
        raise ValueError("class_weight='balanced' needs arrays: of an iterable only one batch is known")

    def read(part: tuple[Any, ...], prefix: str) -> Samples:
        X, y, sample_weight = as_frame(part[0], f"{prefix}X"), part[1], part[2] if len(part) > 2 else None
        samples = model._samples(X, y, sample_weight, class_weight, prefix=prefix)
        model.categories = model.categories or categories(X)
        model.feature_names = model.feature_names or feature_names(X)
        return samples

    steps = None if steps is None else check_count("steps_per_epoch", steps)
    found = Stream(source, read, argument, steps)
    if found.once and steps is None and passes > 1:
        raise ValueError(
            f"{argument} can be gone through only once, but there are {passes} epochs: give a function that "
            "returns it anew, or steps_per_epoch"
        )
    found.peek()
    return found


def hold_out(
    model: Sequential,
    samples: Samples | Stream,
    validation_data: Any,
    validation_split: float,
    names: tuple[str, ...] | None,
    epochs: int,
) -> tuple[Samples | Stream, Samples | Stream | None]:
    """Return what fit trains on and what it validates on.

    Raises
    ------
    TypeError, ValueError
        If there is nothing to validate on, or nothing left to train on.
    """
    if validation_data is not None:
        batches = isinstance(validation_data, list) and all(
            isinstance(item, tuple) for item in validation_data
        )
        if isinstance(validation_data, tuple | list) and len(validation_data) in (2, 3) and not batches:
            return samples, model._samples(*validation_data, prefix="validation ", names=names)
        if isinstance(validation_data, tuple) or not is_stream(validation_data):
            raise ValueError(
                "validation_data must be (X, y) or (X, y, sample_weight), or an iterable of such batches"
            )
        return samples, stream(model, validation_data, "validation_data", passes=epochs)
    if isinstance(samples, Stream):
        if check_number("validation_split", validation_split, "[0, 1)"):
            raise ValueError("validation_split needs arrays: give validation_data beside an iterable")
        return samples, None
    if (cut := split(len(samples), validation_split)) == len(samples):
        return samples, None
    training, validation = samples.slice(0, cut), samples.slice(cut, len(samples))
    require_weight(training, "sample_weight in front of validation_split")
    require_weight(validation, "sample_weight behind validation_split")
    return training, validation


def require_weight(samples: Samples, what: str) -> None:
    """Raise ValueError if all samples weigh 0."""
    if samples.weights is not None and not samples.weights.any():
        raise ValueError(f"{what} must leave some sample a positive weight, but all {len(samples)} weigh 0")
