"""Keras 3: Sequential models from and to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastbp import activations, layers
from fastbp.interop.building import Array, Part, activation_of, build, copied, imported
from fastbp.layer import Layer
from fastbp.model import Sequential


def from_keras(model: Any) -> Sequential:
    """Make a model of a Keras model.

    Parameters
    ----------
    model : keras.Sequential, or a keras.Model whose layers lie in a row
        Built. Sequentials in it are followed. Dense, Dropout, GaussianNoise, the normalizations, Rescaling,
        PReLU, Flatten and the activations are known.

    Returns
    -------
    Sequential
        With copies of the weights, without a loss.

    Raises
    ------
    ValueError
        For a layer that fastbp does not have; the message names it.

    Examples
    --------
    ::

        net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
        model = from_keras(net)
    """
    shape = getattr(model, "input_shape", None)
    known = isinstance(shape, tuple) and len(shape) > 1 and None not in shape[1:]
    input_size = int(np.prod(shape[1:])) if known and shape is not None else None
    return build([part for layer in _flat(model) for part in _part(layer)], input_size=input_size)


def _flat(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _flat(layer)
        else:
            yield layer


def _part(theirs: Any) -> list[Part]:
    kind, config = type(theirs).__name__, theirs.get_config()
    if kind in ("InputLayer", "Flatten"):
        return []
    make = _FROM.get(kind)
    if make is None:
        raise ValueError(
            f"layer {config.get('name')!r}, {kind}, is not in fastbp; known are {', '.join(sorted(_FROM))}"
        )
    layer = make(config)
    arrays = [copied(array) for array in theirs.get_weights()]
    if isinstance(layer, layers.Normalization):
        arrays = _statistics(config, arrays, theirs.compute_dtype)
    return [(layer, dict(zip(_arrays(layer), _turned(layer, arrays), strict=True)))]


def _statistics(config: Mapping[str, Any], arrays: list[Array], dtype: str) -> list[Array]:
    """Mean and variance of a Normalization, given to its constructor or taken from data."""
    if config["invert"] or config["axis"] not in (-1, 1, [-1], [1], (-1,), (1,)):
        raise ValueError(
            f"layer {config['name']!r}: a Normalization must go over the rows and not be inverted"
        )
    given: list[Any] = [config.get("mean"), config.get("variance")]
    if any(value is None for value in given):
        given = list(arrays[:2])
    return [np.ravel(np.asarray(value, dtype)) for value in given]


def _arrays(layer: Layer) -> list[str]:
    """Names of the arrays of a layer, in the order of Keras' get_weights."""
    if isinstance(layer, layers.Dense):
        return ["weight", "bias"] if layer.use_bias else ["weight"]
    if isinstance(layer, layers.BatchNormalization | layers.LayerNormalization):
        factors = ["gamma"] * layer.scale + ["beta"] * layer.center
        return (
            factors
            if isinstance(layer, layers.LayerNormalization)
            else [*factors, "moving_mean", "moving_variance"]
        )
    if isinstance(layer, layers.PReLU):
        return ["alpha"]
    return ["mean", "variance"] if isinstance(layer, layers.Normalization) else []


def _turned(layer: Layer, arrays: list[Array]) -> list[Array]:
    """The kernel of a dense layer is (in, out) in Keras."""
    return [arrays[0].T, *arrays[1:]] if isinstance(layer, layers.Dense) else arrays


def _activation(given: Any) -> Layer:
    """The activation that Keras describes so; its leaky ReLU has another slope than ours."""
    if isinstance(given, Mapping):
        kind, config = given["class_name"], given["config"]
        if isinstance(config, Mapping) and kind in _FROM:
            return _FROM[kind](config)
        given = config  # the name of a registered function
    given = str(given).removeprefix("fastbp>")
    if given == "leaky_relu":
        return layers.LeakyReLU(0.2)
    try:
        return activations.get(given)
    except ValueError as error:
        raise ValueError(f"activation {given!r} of Keras is not in fastbp") from error


def _dense(config: Mapping[str, Any]) -> Layer:
    activation = _activation(config["activation"])
    return layers.Dense(
        config["units"],
        activation=activation,
        use_bias=config["use_bias"],
    )


def _batch_normalization(config: Mapping[str, Any]) -> Layer:
    return layers.BatchNormalization(
        config["momentum"], config["epsilon"], center=config["center"], scale=config["scale"]
    )


def _layer_normalization(config: Mapping[str, Any]) -> Layer:
    if config.get("rms_scaling"):
        raise ValueError(f"layer {config['name']!r}: rms_scaling is not in fastbp")
    return layers.LayerNormalization(config["epsilon"], center=config["center"], scale=config["scale"])


def _relu(config: Mapping[str, Any]) -> Layer:
    if config["max_value"] is not None or config["threshold"]:
        raise ValueError(f"layer {config['name']!r}: a ReLU with max_value or threshold is not in fastbp")
    slope = config["negative_slope"]
    return layers.LeakyReLU(slope) if slope else layers.ReLU()


_FROM: dict[str, Callable[[Mapping[str, Any]], Layer]] = {
    "Dense": _dense,
    "Dropout": lambda c: layers.Dropout(c["rate"]),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "PReLU": lambda c: layers.PReLU(),
    "Normalization": lambda c: layers.Normalization(),
    "Rescaling": lambda c: layers.Rescaling(c["scale"], c["offset"]),
    "GaussianNoise": lambda c: layers.GaussianNoise(c["stddev"]),
    "Activation": lambda c: _activation(c["activation"]),
    "ReLU": _relu,
    "LeakyReLU": lambda c: layers.LeakyReLU(c["negative_slope"]),
    "ELU": lambda c: layers.ELU(c["alpha"]),
    "Softmax": lambda c: layers.Softmax(),
}


def to_keras(model: Sequential) -> Any:
    """Make a keras.Sequential of a model, with copies of the weights; layers keep their names and dtype.

    Parameters
    ----------
    model : Sequential
        Built.

    Returns
    -------
    keras.Sequential
        Not compiled. Keras casts samples to 32 bits before a model of 64, unless
        ``keras.config.set_floatx("float64")`` was called.

    Raises
    ------
    ImportError
        Without Keras and its backend.
    ValueError
        For a layer that Keras does not have; the message names it.
    """
    keras = imported("keras", "to_keras")
    net = keras.Sequential([keras.Input((model.input_size,), dtype=model.dtype)])
    for layer in model.layers:
        theirs = _layer(keras, layer, model.dtype)
        net.add(theirs)
        arrays = [copied(getattr(layer, name)) for name in _arrays(layer)]
        if arrays and not isinstance(layer, layers.Normalization):
            theirs.set_weights(_turned(layer, arrays))
    return net


def _layer(keras: Any, layer: Layer, dtype: str) -> Any:
    common = {"name": layer.name, "dtype": dtype}
    if isinstance(layer, layers.Dense):
        activation = _keras_activation(keras, layer.activation)
        return keras.layers.Dense(layer.units, activation=activation, use_bias=layer.use_bias, **common)
    if isinstance(layer, layers.Dropout):
        return keras.layers.Dropout(layer.rate, **common)
    if isinstance(layer, layers.BatchNormalization):
        shared = {"epsilon": layer.epsilon, "center": layer.center, "scale": layer.scale}
        return keras.layers.BatchNormalization(momentum=layer.momentum, **shared, **common)
    if isinstance(layer, layers.LayerNormalization):
        shared = {"epsilon": layer.epsilon, "center": layer.center, "scale": layer.scale}
        return keras.layers.LayerNormalization(**shared, **common)
    if isinstance(layer, layers.PReLU):
        return keras.layers.PReLU(**common)
    if isinstance(layer, layers.Normalization):
        statistics = {"mean": copied(layer.mean), "variance": copied(layer.variance)}
        return keras.layers.Normalization(**statistics, **common)
    if isinstance(layer, layers.Rescaling):
        return keras.layers.Rescaling(layer.scale, layer.offset, **common)
    if isinstance(layer, layers.GaussianNoise):
        return keras.layers.GaussianNoise(layer.stddev, **common)
    if isinstance(layer, layers.Flatten):
        return keras.layers.Flatten(**common)
    activation = activation_of(layer)
    if activation is not None:
        return keras.layers.Activation(_keras_activation(keras, activation), **common)
    raise ValueError(f"layer {layer.name!r}, {layer!r}, is not in Keras")


def _keras_activation(keras: Any, activation: activations.ActivationLayer) -> Any:
    """A name where that says everything, else a layer of Keras, which can be saved as well."""
    if isinstance(activation, layers.LeakyReLU):
        return keras.layers.LeakyReLU(negative_slope=activation.negative_slope)
    if isinstance(activation, layers.ELU) and activation.alpha != 1:
        return keras.layers.ELU(alpha=activation.alpha)
    if isinstance(activation, layers.GELU) and activation.approximate == "tanh":
        return _gelu_tanh(keras)
    return activation.key


def _gelu_tanh(keras: Any) -> Any:
    """The form that Keras has no name for, under one of ours so that it can be saved."""

    def gelu_tanh(x: Any) -> Any:
        return keras.activations.gelu(x, approximate=True)

    return keras.saving.register_keras_serializable(package="fastbp")(gelu_tanh)
