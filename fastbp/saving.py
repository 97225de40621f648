"""A model as JSON data and named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbp import metrics, model_file
from fastbp.layer import Layer
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer

if TYPE_CHECKING:
    from fastbp.stack import LayerStack

Tensors: TypeAlias = Mapping[str, NDArray[Any]]
Model = TypeVar("Model", bound="LayerStack")


def describe(
    model: LayerStack, optimizer: bool, own_metrics: bool = False
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what :func:`restore` makes an equal model of.

    Parameters
    ----------
    model : LayerStack
        Built.
    optimizer : bool
        Whether training shall go on with the same bits.
    own_metrics : bool
        Whether metrics that are functions of the user may be left out.

    Raises
    ------
    TypeError
        When a part of the model has no form in JSON.
    """
    network = model._require_network()
    known = [name for name, metric in model.metrics.items() if metrics.BY_NAME.get(name) is metric]
    for name in model.metrics:
        if name not in known and not own_metrics:
            raise TypeError(f"metrics: {name!r} is a function of your own and cannot be saved")
    description: dict[str, Any] = {
        "layers": [layer.config() for layer in model.layers],
        "loss": None if model.loss is None else model.loss.config(),
        "optimizer": model.optimizer.config(),
        "metrics": known,
        "input_size": model.input_size,
        "dtype": model.dtype,
        "feature_names": None if model.feature_names is None else list(model.feature_names),
        "categories": {name: list(labels) for name, labels in model.categories.items()},
        "metadata": model.metadata,
    }
    if optimizer:
        description["resume"] = {
            "counters": network.counters.tolist(),
            "dropout_seed": network.seed,
            "random": plain(model._rng.bit_generator.state),
        }
    return description, network.tensors(optimizer)


def restore(kind: type[Model], description: Mapping[str, Any], tensors: Tensors) -> Model:
    """Undo :func:`describe`.

    Raises
    ------
    ValueError
        When description and tensors do not fit each other.
    """
    loss = description["loss"]
    model = kind(
        [Layer.from_config(config) for config in description["layers"]],
        loss=None if loss is None else Loss.from_config(loss),
        optimizer=Optimizer.from_config(description["optimizer"]),
        metrics=description["metrics"],
        input_size=description["input_size"],
        dtype=description["dtype"],
        seed=0,
    )
    fill(model, description, tensors)
    names = description["feature_names"]
    model.feature_names = None if names is None else tuple(names)
    model.categories = {name: tuple(labels) for name, labels in description.get("categories", {}).items()}
    model.metadata = dict(description["metadata"])
    return model


def fill(model: LayerStack, description: Mapping[str, Any], tensors: Tensors) -> None:
    """Give a model of this description the values of the tensors, and the random numbers if they are there.

    Raises
    ------
    ValueError
        When the tensors are not those of the model.
    """
    network, resume = model._require_network(), description.get("resume")
    places = network.tensors(optimizer=resume is not None)
    # a name with a leading dot belongs to a training, not to the model
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(".")}
    model_file.check_tensors({name: (view.shape, view.dtype) for name, view in places.items()}, own)
    if resume is not None:
        network.seed = int(resume["dropout_seed"])
        network.set_task(model.loss, model.optimizer)  # the seed is part of its plans
        network.counters[...] = resume["counters"]
        model._rng = _generator(resume["random"])
    for name, view in network.tensors(optimizer=resume is not None).items():
        view[...] = own[name]


def plain(value: Any) -> Any:
    """A generator's state in JSON types."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _generator(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator that goes on from a state."""
    kind = getattr(np.random, state["bit_generator"], None)
    if not (isinstance(kind, type) and issubclass(kind, np.random.BitGenerator)):
        raise ValueError(f"{state['bit_generator']!r} is no bit generator of NumPy")
    bits = kind()
    bits.state = state
    return np.random.Generator(bits)
