"""Sums and products of data with constants, which are one layer together."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp import layers
from fastbp.onnx.operators import Link, refuse, rule, rule_name, the_input, vector
from fastbp.onnx.reading import OnnxGraph

_KINDS = ("Add", "Sub", "Mul", "Div", "Neg", "ml.Scaler")


@rule("Sub", "Mul", "Div", "Neg", "ml.Scaler")
def affine(graph: OnnxGraph, node: Any) -> Link:
    """Follow the operators down as far as they go and return the layer of y = x · scale + offset.

    Numbers are a Rescaling; a vector for each feature is a Normalization with mean −offset / scale and
    variance 1 / scale².
    """
    scale: Any = np.float64(1)
    offset: Any = np.float64(0)
    top, seen = node, set()
    while True:
        below, a, b = _step(graph, node)
        scale, offset = scale * a, scale * b + offset
        lower = graph.producers.get(below)
        # a value that others read as well may be where a residual begins
        if lower is None or graph.readers[below] > 1 or below in seen:
            break
        seen.add(below)
        if rule_name(lower) not in _KINDS or len(graph.data_inputs(lower)) != 1:
            break
        (data,) = graph.data_inputs(lower)
        if rule_name(lower) == "Add" and _is_product(graph, data):
            break
        node = lower
    if scale.ndim == offset.ndim == 0:
        return Link(below, layers.Rescaling(float(scale), float(offset)))
    scale, offset = np.broadcast_arrays(scale, offset)
    if not (np.all(scale > 0) and np.all(scale <= 1e7) and np.isfinite(offset).all()):
        raise refuse(graph, top, "it multiplies features by numbers that are not between 0 and 1e7")
    parameters = {"mean": -offset / scale, "variance": scale**-2.0}
    return Link(below, layers.Normalization(), parameters, features=scale.size, by_row=True)


def _is_product(graph: OnnxGraph, name: str) -> bool:
    node = graph.producers.get(name)
    return node is not None and rule_name(node) == "MatMul"


def _step(graph: OnnxGraph, node: Any) -> tuple[str, Any, Any]:
    """Return the input of one operator, and its a and b in y = a x + b."""
    kind = rule_name(node)
    if kind == "Neg":
        return the_input(graph, node), np.float64(-1), np.float64(0)
    if kind == "ml.Scaler":
        given = graph.attributes(node, offset=[0.0], scale=[1.0])
        shift, scale = (_plain(np.asarray(given[name], np.float64)) for name in ("offset", "scale"))
        return the_input(graph, node), scale, -shift * scale
    names = graph.data_inputs(node)
    if len(names) != 1 or len(node.input) != 2:
        raise refuse(graph, node, "expected one value of data and one of constants")
    below, position = names[0], list(node.input).index(names[0])
    constant = _plain(vector(graph, node, 1 - position).astype(np.float64))
    if kind == "Add":
        return below, np.float64(1), constant
    if kind == "Sub":
        return below, np.float64(-1 if position else 1), constant if position else -constant
    if kind == "Div":
        if position or not np.all(constant):
            raise refuse(graph, node, "it must divide data by constants that are not 0")
        return below, 1 / constant, np.float64(0)
    return below, constant, np.float64(0)


def _plain(values: Any) -> Any:
    """A vector of one element as a number."""
    return values.ravel()[0] if values.size == 1 else values.ravel()
