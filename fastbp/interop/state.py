"""Weights by name: safetensors files as PyTorch writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from fastbp import model_file
from fastbp.interop.building import Array, copied, steps
from fastbp.layer import Layer
from fastbp.model import Sequential

# By the kind of the layer: names of its arrays here, and in PyTorch.
TORCH_NAMES: dict[str, dict[str, str]] = {
    "Dense": {"weight": "weight", "bias": "bias"},
    "BatchNormalization": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    "LayerNormalization": {"gamma": "weight", "beta": "bias"},
    "PReLU": {"alpha": "weight"},
    "Embedding": {"weight": "weight"},
}


def save_weights(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write the weights to a safetensors file under the names of an equal torch.nn.Sequential.

    ``net.load_state_dict(safetensors.torch.load_file(path))`` reads them, where ``net`` is what
    :func:`to_torch` makes.

    Parameters
    ----------
    model : Sequential
        Built.
    path : str or path
        Replaced at once and only when the new file is complete.

    Raises
    ------
    OSError
        When the file cannot be written.
    ValueError
        When a layer has weights that PyTorch has no names for; the message names it.
    """
    tensors = {
        f"{number}.{theirs}": copied(view)
        for number, layer in enumerate(steps(model))
        for theirs, view in _views(layer).items()
    }
    model_file.write_tensors(path, tensors)


def load_weights(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Read the weights of a model from a safetensors file of another program.

    Tensors are called after their module and their role, as PyTorch does it: "0.weight", "0.bias",
    "2.weight", …. Modules are the layers of the same names; otherwise they must be numbers, perhaps behind a
    common beginning such as "net.", and go to the layers with weights in their order. Which number a module
    has does not matter, since PyTorch counts activations as well.

    Parameters
    ----------
    model : Sequential
        Built; its layers must fit the file.
    path : str or path

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is damaged, or its tensors do not fit the model; every one that does not is named, and the
        model stays as it was.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp as bp
    >>> from fastbp import interop
    >>> model = bp.Sequential([bp.layers.Dense(4, activation="relu"), bp.layers.Dense(2)], input_size=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net.safetensors")
    ...     interop.save_weights(model, path)
    ...     interop.load_weights(model, path)
    """
    tensors = model_file.read_tensors(path)
    try:
        load_state(model, tensors)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r}: {error}") from error


def load_state(model: Sequential, tensors: Mapping[str, Array]) -> None:
    """Copy named tensors into a model; see :func:`load_weights`."""
    places = {layer.name: _views(layer) for layer in steps(model) if _views(layer)}
    given: dict[str, dict[str, Array]] = {}
    for name, array in tensors.items():
        module, _, role = name.rpartition(".")
        if role != "num_batches_tracked":
            given.setdefault(module, {})[role] = array
    modules = list(places) if given.keys() == places.keys() else _by_number(given)
    if len(modules) != len(places):
        raise ValueError(
            f"it has weights for {len(modules)} layers ({', '.join(modules)}), "
            f"and the model has {len(places)} ({', '.join(places)})"
        )
    expected = {
        f"{module}.{role}": view
        for module, views in zip(modules, places.values(), strict=True)
        for role, view in views.items()
    }
    found = {f"{module}.{role}": array for module in modules for role, array in given[module].items()}
    model_file.check_tensors({name: (view.shape, view.dtype) for name, view in expected.items()}, found)
    for name, view in expected.items():
        view[...] = found[name]


def _views(layer: Layer) -> dict[str, Array]:
    """The arrays of a layer by their names in PyTorch.

    Raises
    ------
    ValueError
        When it has some that PyTorch has no names for.
    """
    names = TORCH_NAMES.get(type(layer).__name__)
    if names is None and (layer.parameters or layer.statistics):
        raise ValueError(f"layer {layer.name!r}, {layer!r}, has weights without names in PyTorch")
    return {
        theirs: getattr(layer, ours)
        for ours, theirs in (names or {}).items()
        if getattr(layer, ours, None) is not None
    }


def _by_number(given: Mapping[str, object]) -> list[str]:
    """The modules in the order of their numbers.

    Raises
    ------
    ValueError
        When they have none, or beginnings that differ.
    """
    parts = {module: re.fullmatch(r"(.*?\.)?(\d+)", module) for module in given}
    if any(match is None for match in parts.values()) or len({m[1] for m in parts.values() if m}) > 1:
        raise ValueError(
            f"its modules are called {', '.join(given) or 'nothing'}; expected numbers, or the names of the "
            "model's layers"
        )
    return sorted(given, key=lambda module: int(module.rpartition(".")[2]))
