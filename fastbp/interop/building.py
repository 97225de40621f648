"""What all directions share: a model made of layers and the values of their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastbp.activations import ActivationLayer
from fastbp.layers import Activation, Dense, Layer, Linear
from fastbp.losses import Loss
from fastbp.model import Sequential

Array = NDArray[Any]
Part: TypeAlias = tuple[Layer, Mapping[str, Array]]


def build(
    parts: Sequence[Part], *, loss: str | Loss | None = None, input_size: int | None = None
) -> Sequential:
    """Return a model of these layers with these parameters.

    An activation behind a dense layer becomes part of it.

    Raises
    ------
    ValueError
        When no layer tells the number of inputs, or the parameters have mixed dtypes or shapes that do not
        fit.
    """
    joined: list[Part] = []
    for layer, values in parts:
        below = joined[-1][0] if joined else None
        if (
            isinstance(below, Dense)
            and isinstance(below.activation, Linear)
            and isinstance(layer, ActivationLayer)
        ):
            below.activation = layer
        else:
            joined.append((layer, values))
    dtypes = {array.dtype.name for _, values in joined for array in values.values()}
    if len(dtypes) > 1:
        raise ValueError(f"the weights must all have one dtype, got {', '.join(sorted(dtypes))}")
    if input_size is None:
        input_size = _input_size(joined)
    model = Sequential(
        [layer for layer, _ in joined] or [Linear()],
        loss=loss,
        input_size=input_size,
        dtype=dtypes.pop() if dtypes else "float32",
    )
    for layer, values in joined:
        for name, array in values.items():
            shape = getattr(layer, name).shape  # one number may stand for all features
            setattr(layer, name, np.broadcast_to(array, shape) if array.size == 1 else array)
    return model


def _input_size(parts: Sequence[Part]) -> int:
    for layer, values in parts:
        if isinstance(layer, Dense):
            return int(values["weight"].shape[1])
        sizes = [array.size for array in values.values() if array.size > 1]
        if sizes:  # numbers of each feature
            return sizes[0]
    raise ValueError("no layer tells the number of inputs; give input_size=...")


def steps(model: Sequential) -> list[Layer]:
    """Return the layers of a built model, the activations of dense layers behind these."""
    model._require_network()
    found: list[Layer] = []
    for layer in model.layers:
        found.append(layer)
        if isinstance(layer, Dense) and not isinstance(layer.activation, Linear):
            found.append(layer.activation)
    return found


def activation_of(layer: Layer) -> ActivationLayer | None:
    """Return the activation that a layer is, None for other layers."""
    if isinstance(layer, Activation):
        return layer._layer
    return layer if isinstance(layer, ActivationLayer) else None


def copied(array: Any) -> Array:
    """Return an array of one's own, as other libraries want them."""
    return np.array(array, order="C")


def imported(name: str, what: str) -> ModuleType:
    """Import a library.

    Raises
    ------
    ImportError
        Saying what it is needed for.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{what} needs {name}, which is not installed: pip install {name}") from error
