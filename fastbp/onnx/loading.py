"""An ONNX file as a trainable model: the one path of data from its input to its output, as layers."""

from __future__ import annotations

import json
import math
import os
from typing import Any, TypeAlias

import numpy as np

from fastbp import layers
from fastbp.activations import ActivationLayer
from fastbp.losses import Loss
from fastbp.model import Sequential
from fastbp.onnx.chain import chain
from fastbp.onnx.operators import Link, refuse, rule_name
from fastbp.onnx.reading import OnnxGraph, read


def load(path: str | os.PathLike[str], *, output: str | None = None) -> Sequential:
    """Read a feed-forward network from an ONNX file, ready to predict and to be trained further.

    The file may come from :func:`export`, PyTorch, scikit-learn (skl2onnx), Keras or elsewhere, as long as
    its nodes lie in a row, residuals and branches aside, and have a layer each: products, activations,
    normalizations, tables of embeddings, Dropout, Flatten. Activations that an exporter wrote as several
    operators are recognised. Samples with several axes, such as images, become rows of features.
    ``model.metadata["classes"]`` holds the labels of a classifier of scikit-learn; of a file from
    :func:`export`, loss, metadata and feature names come back as well.

    Parameters
    ----------
    path : str or path
    output : str, optional
        Name of the output to take, where a model has several of floating-point numbers.

    Returns
    -------
    Sequential
        Its dtype is the file's.

    Raises
    ------
    ImportError
        Without the onnx package.
    OSError
        When the file cannot be read.
    ValueError
        When it is no ONNX model, damaged, too large, or keeps tensors in other files, and for a node that
        has no layer in fastbp; the message names it.

    Examples
    --------
    See :func:`export`.
    """
    try:
        proto = read(path)
        graph = OnnxGraph(proto)
        return _model(graph, _result(graph, output), {p.key: p.value for p in proto.metadata_props})
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {error}") from error
    except (LookupError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: it is damaged ({error!r})") from error


def _model(graph: OnnxGraph, result: str, properties: dict[str, str]) -> Sequential:
    if len(graph.inputs) != 1:
        raise ValueError(f"it must have one input, got {[value.name for value in graph.inputs]}")
    name, shape, dtype = _input(graph)
    chosen, parameters, _ = _layers(graph, chain(graph, result, name), shape, straight=True)
    model = Sequential(
        _row(chosen) or [layers.Linear()],
        loss=_loss(properties),
        input_size=math.prod(shape),
        dtype=dtype,
    )
    for layer, values in parameters:
        for key, array in values.items():
            view = getattr(layer, key)
            setattr(layer, key, np.broadcast_to(array, view.shape) if array.size == 1 else array)
    _restore(model, graph, properties)
    return model


Parameters: TypeAlias = list[tuple[layers.Layer, dict[str, Any]]]


def _layers(
    graph: OnnxGraph, links: list[tuple[Any, Link]], shape: tuple[int, ...], straight: bool
) -> tuple[list[layers.Layer], Parameters, tuple[int, ...]]:
    """Layers of a chain, the arrays to assign to them and to those inside of them, and the axes after them.

    It begins `straight` when what goes in are columns of the input itself.
    """
    chosen: list[layers.Layer] = []
    parameters: Parameters = []
    for node, link in reversed(links):
        straight = straight and all(_selected(layer) for layer in chosen)
        if isinstance(link.layer, layers.Embedding) and not straight:
            raise refuse(graph, node, "its row numbers must come straight from the input")
        if link.inner:
            inner, own, _ = _layers(graph, link.inner, shape, straight)
            link.layer = layers.Residual(_row(inner))
            parameters += own
        if link.branches:
            link.layer = _branches(graph, node, link, shape, straight, parameters)
        if link.columns is not None:
            link.layer = _selection(graph, node, link.columns, shape)
            if link.layer is not None and chosen and _selected(chosen[-1]):  # some of those already chosen
                before = _selected(chosen.pop())
                link.layer = layers.Branches([[]], [[before[c] for c in _selected(link.layer)]])
        layer = link.layer
        shape = _check(graph, node, link, shape)
        if layer is None:
            continue
        below = chosen[-1] if chosen else None
        if (
            isinstance(below, layers.Dense)
            and isinstance(below.activation, layers.Linear)
            and isinstance(layer, ActivationLayer)
        ):
            below.activation = layer
        else:
            chosen.append(layer)
            parameters.append((layer, link.parameters))
    return chosen, parameters, shape


def _branches(
    graph: OnnxGraph,
    node: Any,
    link: Link,
    shape: tuple[int, ...],
    straight: bool,
    parameters: Parameters,
) -> layers.Branches:
    """Return layers side by side, each with the columns that it begins with, and enter their arrays."""
    rows, columns, every = [], [], list(range(shape[0]))
    for links in link.branches:
        row, own, end = _layers(graph, links, shape, straight)
        if len(end) != 1:
            raise refuse(graph, node, f"a branch gives samples of the shape {end}; flatten them before")
        begin = _selected(row[0]) if row else []
        rows.append(row[1:] if begin else row)
        columns.append(begin or every)
        parameters += own
    return layers.Branches(rows, None if all(own == every for own in columns) else columns)


def _selection(graph: OnnxGraph, node: Any, columns: Any, shape: tuple[int, ...]) -> layers.Branches | None:
    """Return the layer that passes on some columns; None when that is all of them."""
    if len(shape) == 1 and isinstance(columns, slice):
        columns = range(shape[0])[columns]
    numbers = [int(number) for number in columns] if len(shape) == 1 else []
    if not numbers or not all(-shape[0] <= number < shape[0] for number in numbers):
        raise refuse(graph, node, f"it takes the columns {columns} of samples of the shape {shape}")
    numbers = [number % shape[0] for number in numbers]
    return None if numbers == list(range(shape[0])) else layers.Branches([[]], [numbers])


def _row(chosen: list[layers.Layer]) -> list[layers.Layer]:
    """Layers as they stand in a row: a table whose row numbers are some of the columns is a branch."""
    columns = _selected(chosen[0]) if chosen else []
    if columns and len(chosen) > 1 and isinstance(chosen[1], layers.Embedding):
        return [layers.Branches([[chosen[1]]], [columns]), *chosen[2:]]
    return chosen


def _selected(layer: layers.Layer) -> list[int]:
    """The columns that a layer passes on, when it does nothing else."""
    if not isinstance(layer, layers.Branches) or any(layer.branches) or layer.columns is None:
        return []
    return [column for own in layer.columns if own is not None for column in own]


def _result(graph: OnnxGraph, wanted: str | None) -> str:
    """Name of the output that is the model's."""
    types = graph.onnx.TensorProto
    floats = (types.FLOAT, types.DOUBLE, types.UNDEFINED)
    names = [
        str(value.name)
        for value in graph.outputs
        if value.type.WhichOneof("value") != "tensor_type" or value.type.tensor_type.elem_type in floats
    ]
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f"output must be one of {names}, got {wanted!r}")
        return wanted
    if len(names) != 1:
        raise ValueError(f"it has the outputs {names}; choose one with output=...")
    return names[0]


def _input(graph: OnnxGraph) -> tuple[str, tuple[int, ...], str]:
    """Name of the input, its axes behind the batch, and the dtype of the model."""
    value = graph.inputs[0]
    types = graph.onnx.TensorProto
    tensor = value.type.tensor_type
    sizes = tuple(axis.dim_value if axis.HasField("dim_value") else 0 for axis in tensor.shape.dim)
    if len(sizes) < 2 or min(sizes[1:]) < 1:
        raise ValueError(
            f"its input {value.name!r} must have the shape (batch, features) with a known number of features"
        )
    if math.prod(sizes[1:]) > 2**31:
        raise ValueError(f"its input {value.name!r} has the impossible shape {sizes}")
    kinds = {types.FLOAT: "float32", types.DOUBLE: "float64"}
    readers = [node for node in graph.nodes if value.name in node.input]
    for node in readers:  # integers are cast first of all, or they are rows of a table
        if rule_name(node) == "Cast":
            kind = graph.attributes(node, to=0, saturate=1, round_mode="up")["to"]
            if kind in kinds:
                return value.name, sizes[1:], kinds[kind]
        elif rule_name(node) == "Gather" and tensor.elem_type in (types.INT32, types.INT64):
            table = graph.constants.get(node.input[0])
            if table is not None and table.dtype.name in kinds.values():
                return value.name, sizes[1:], table.dtype.name
    if tensor.elem_type not in kinds:
        raise ValueError(
            f"its input {value.name!r} has the element type {graph.element_type(tensor.elem_type)}; "
            "fastbp computes in float32 and float64"
        )
    return value.name, sizes[1:], kinds[tensor.elem_type]


def _check(graph: OnnxGraph, node: Any, link: Link, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes behind the batch after a link."""
    if link.flattens:
        shape = (math.prod(shape),)
    if link.by_row and len(shape) != 1:
        raise refuse(graph, node, f"its samples have the shape {shape}, expected a row; flatten them before")
    if isinstance(link.layer, layers.Embedding):
        return shape[0], link.layer.output_dim
    if link.features is not None and shape != (link.features,):
        raise refuse(graph, node, f"it takes {link.features} features, and {math.prod(shape)} come in")
    return shape if link.layer is None or len(shape) != 1 else (link.layer.output_size(shape[0]),)


# ---- what is not a layer -------------------------------------------------------------------------


def _loss(properties: dict[str, str]) -> Loss | None:
    config = _json(properties, "loss")
    return Loss.from_config(config) if isinstance(config, dict) else None


def _json(properties: dict[str, str], key: str) -> Any:
    try:
        return json.loads(properties.get(f"fastbp.{key}", "null"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata {key!r} is damaged ({error})") from error


def _restore(model: Sequential, graph: OnnxGraph, properties: dict[str, str]) -> None:
    """Metadata of :func:`fastbp.onnx.export`, classes of scikit-learn."""
    metadata, names = _json(properties, "metadata"), _json(properties, "feature_names")
    if isinstance(metadata, dict):
        model.metadata = metadata
    if isinstance(names, list) and len(names) == model.input_size:
        model.feature_names = tuple(map(str, names))
    for node in graph.nodes:
        if rule_name(node) == "ml.ArrayFeatureExtractor" and node.input[0] in graph.constants:
            classes: list[Any] = np.ravel(graph.constants[node.input[0]]).tolist()
            model.metadata["classes"] = [c.decode() if isinstance(c, bytes) else c for c in classes]
