"""What each operator is as a layer: one function per kind, from a node to a link of the chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import layers
from fastbp.onnx.reading import ML, STANDARD, OnnxGraph, shortest

Array = NDArray[Any]


@dataclass
class Link:
    """A step on the way from the input to the output.

    Attributes
    ----------
    below : str
        Name of the value that goes in.
    layer : Layer or None
        What it is; None for what changes no number.
    parameters : dict of str to ndarray
        Attributes of the layer to assign; one with a single element is for all features.
    inner : list of (NodeProto, Link)
        What a residual adds, from its result back to its input; the layer is made of it.
    branches : list of lists of (NodeProto, Link)
        What lies side by side, each from its result back to the input; the layer is made of them.
    columns : slice, ndarray of int64, or None
        Which columns of the input are passed on.
    features : int or None
        Number of features that must come in; None for any.
    flattens : bool
        Whether all axes behind the batch become one.
    by_row : bool
        Whether it reads a whole row, so that there must be one axis behind the batch.
    """

    below: str
    layer: layers.Layer | None = None
    parameters: dict[str, Array] = field(default_factory=dict)
    inner: list[tuple[Any, Link]] = field(default_factory=list)
    branches: list[list[tuple[Any, Link]]] = field(default_factory=list)
    columns: slice | Array | None = None
    features: int | None = None
    flattens: bool = False
    by_row: bool = False


Rule = Callable[[OnnxGraph, Any], Link]
RULES: dict[str, Rule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Enter a function for operators, under their names."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return enter


def rule_name(node: Any) -> str:
    """Name of a node's kind among the rules."""
    if node.domain in STANDARD:
        return str(node.op_type)
    return f"ml.{node.op_type}" if node.domain in ML else f"{node.domain}.{node.op_type}"


def refuse(graph: OnnxGraph, node: Any, why: str) -> ValueError:
    """Return an error that names the node."""
    return ValueError(f"{graph.describe(node)} has no layer in fastbp: {why}")


def the_input(graph: OnnxGraph, node: Any, position: int = 0) -> str:
    """Name of the data that goes into a node, at a position; the other inputs must be constants."""
    names = graph.data_inputs(node)
    if len(names) != 1 or len(node.input) <= position or node.input[position] != names[0]:
        raise refuse(graph, node, f"expected data as input {position} and constants besides")
    return names[0]


def vector(graph: OnnxGraph, node: Any, position: int) -> Array:
    """Return a constant input whose last axis alone may be longer than 1, as a vector."""
    values = graph.constants[node.input[position]]
    if values.size not in (1, *values.shape[-1:]) or values.dtype.kind != "f":
        raise refuse(
            graph, node, f"input {position} has the shape {values.shape}, expected one row of numbers"
        )
    return values.ravel()


# ---- what changes no number ----------------------------------------------------------------------


@rule("Identity")
def _identity(graph: OnnxGraph, node: Any) -> Link:
    return Link(the_input(graph, node))


@rule("Cast")
def _cast(graph: OnnxGraph, node: Any) -> Link:
    to = graph.attributes(node, to=0, saturate=1, round_mode="up")["to"]
    if to not in (graph.onnx.TensorProto.FLOAT, graph.onnx.TensorProto.DOUBLE):
        raise refuse(graph, node, f"it casts to {graph.element_type(to)}")
    return Link(the_input(graph, node))


@rule("Flatten")
def _flatten(graph: OnnxGraph, node: Any) -> Link:
    if graph.attributes(node, axis=1)["axis"] != 1:
        raise refuse(graph, node, "it must keep the batch, axis=1")
    return Link(the_input(graph, node), flattens=True)


@rule("Reshape")
def _reshape(graph: OnnxGraph, node: Any) -> Link:
    graph.attributes(node, allowzero=0)
    below = the_input(graph, node)
    target = graph.constants[node.input[1]].tolist()
    batch = graph.inputs[0].type.tensor_type.shape.dim[0].dim_value
    rows, features = target if isinstance(target, list) and len(target) == 2 else (None, None)
    if features is None or (features < 1 and (features != -1 or rows not in (0, batch))):
        raise refuse(graph, node, f"it must give one row per sample, got the shape {target}")
    return Link(below, flattens=True, features=features if features > 0 else None)


@rule("ml.ZipMap")
def _zip_map(graph: OnnxGraph, node: Any) -> Link:
    return Link(the_input(graph, node))


# ---- columns, and rows of tables -----------------------------------------------------------------


@rule("Slice")
def _slice(graph: OnnxGraph, node: Any) -> Link:
    below = the_input(graph, node)
    starts, ends, axes, *steps = (graph.constants[name].tolist() for name in node.input[1:] if name)
    if axes not in ([1], [-1]) or not len(starts) == len(ends) == 1:
        raise refuse(graph, node, f"it must take columns, axes [1], got {axes}")
    return Link(below, columns=slice(starts[0], ends[0], *(step[0] for step in steps)), by_row=True)


@rule("Gather")
def _gather(graph: OnnxGraph, node: Any) -> Link:
    """Columns of the data by constant numbers, or rows of a constant table by numbers in the data."""
    axis, table = graph.attributes(node, axis=0)["axis"], graph.constants.get(node.input[0])
    if table is None:
        below, columns = the_input(graph, node), graph.constants[node.input[1]]
        if axis not in (1, -1) or columns.ndim != 1 or columns.dtype.kind != "i":
            raise refuse(graph, node, "it must take columns by a list of their numbers, axis=1")
        return Link(below, columns=columns, by_row=True)
    if axis != 0 or table.ndim != 2 or table.dtype.kind != "f":
        raise refuse(graph, node, "it must take rows of a matrix, axis=0")
    below = the_input(graph, node, 1)
    cast = graph.producers.get(below)
    if cast is not None and rule_name(cast) == "Cast":
        below = the_input(graph, cast)
    return Link(below, layers.Embedding(*table.shape), {"weight": table}, by_row=True)


# ---- products ------------------------------------------------------------------------------------


def _dense(below: str, weight: Array, bias: Array | None) -> Link:
    """Return a Dense layer; `weight` is (out, in)."""
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer = layers.Dense(weight.shape[0], use_bias=bias is not None)
    return Link(below, layer, parameters, features=weight.shape[1], by_row=True)


def _matrix(graph: OnnxGraph, node: Any, position: int) -> Array:
    values = graph.constants.get(node.input[position])
    if values is None or values.ndim != 2 or not values.size or values.dtype.kind != "f":
        raise refuse(graph, node, f"input {position} must be a constant matrix")
    return values


def _bias(graph: OnnxGraph, node: Any, position: int, units: int) -> Array:
    values = vector(graph, node, position)
    if values.size not in (1, units):
        raise refuse(graph, node, f"a bias for {units} units has {values.size} elements")
    return np.broadcast_to(values, units)


@rule("Gemm")
def _gemm(graph: OnnxGraph, node: Any) -> Link:
    a = graph.attributes(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    if a["transA"]:
        raise refuse(graph, node, "its data is transposed")
    below = the_input(graph, node)
    weight = _matrix(graph, node, 1)
    weight = weight if a["transB"] else weight.T
    bias = _bias(graph, node, 2, len(weight)) if len(node.input) > 2 and node.input[2] else None
    if a["alpha"] != 1:
        weight = weight * weight.dtype.type(a["alpha"])
    if bias is not None and a["beta"] != 1:
        bias = bias * bias.dtype.type(a["beta"])
    return _dense(below, weight, bias)


@rule("MatMul")
def _matmul(graph: OnnxGraph, node: Any) -> Link:
    return _dense(the_input(graph, node), _matrix(graph, node, 1).T, None)


def biased_product(graph: OnnxGraph, node: Any, below: str) -> Link:
    """Return the Dense layer of a MatMul and the Add of constants to its result, `below`."""
    product = graph.producers[below]
    weight = _matrix(graph, product, 1).T
    position = 1 - list(node.input).index(below)
    return _dense(the_input(graph, product), weight, _bias(graph, node, position, len(weight)))


# ---- normalization -------------------------------------------------------------------------------


def _factors(graph: OnnxGraph, node: Any, names: tuple[str, ...]) -> dict[str, Array]:
    """The constants behind the data, as vectors."""
    positions = range(1, len(names) + 1)
    return {
        name: vector(graph, node, position)
        for name, position in zip(names, positions, strict=True)
        if position < len(node.input) and node.input[position]
    }


@rule("BatchNormalization")
def _batch_normalization(graph: OnnxGraph, node: Any) -> Link:
    a = graph.attributes(node, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1)
    if a["training_mode"]:
        raise refuse(graph, node, "it normalises by the batch, training_mode must be 0")
    factors = _factors(graph, node, ("gamma", "beta", "moving_mean", "moving_variance"))
    layer = layers.BatchNormalization(a["momentum"], a["epsilon"])
    return Link(the_input(graph, node), layer, factors, features=factors["gamma"].size, by_row=True)


@rule("LayerNormalization")
def _layer_normalization(graph: OnnxGraph, node: Any) -> Link:
    a = graph.attributes(node, axis=-1, epsilon=1e-5, stash_type=1)
    if a["axis"] not in (1, -1):
        raise refuse(graph, node, f"axis must be 1 or -1, got {a['axis']}")
    factors = _factors(graph, node, ("gamma", "beta"))
    layer = layers.LayerNormalization(a["epsilon"], center="beta" in factors)
    return Link(the_input(graph, node), layer, factors, features=factors["gamma"].size, by_row=True)


# ---- activations ---------------------------------------------------------------------------------


def _plain(kind: type[layers.Layer]) -> Rule:
    def make(graph: OnnxGraph, node: Any) -> Link:
        graph.attributes(node)
        return Link(the_input(graph, node), kind())

    return make


for _name, _kind in {
    "Relu": layers.ReLU,
    "Sigmoid": layers.Sigmoid,
    "Tanh": layers.Tanh,
    "Softplus": layers.Softplus,
    "Mish": layers.Mish,
}.items():
    RULES[_name] = _plain(_kind)


@rule("LeakyRelu")
def _leaky_relu(graph: OnnxGraph, node: Any) -> Link:
    return Link(the_input(graph, node), layers.LeakyReLU(graph.attributes(node, alpha=0.01)["alpha"]))


@rule("PRelu")
def _prelu(graph: OnnxGraph, node: Any) -> Link:
    return prelu(the_input(graph, node), vector(graph, node, 1))


def prelu(below: str, alpha: Array) -> Link:
    """Return a PReLU layer with one slope for each feature, or one for all."""
    features = alpha.size if alpha.size > 1 else None
    return Link(below, layers.PReLU(), {"alpha": alpha}, features=features, by_row=True)


@rule("Elu")
def _elu(graph: OnnxGraph, node: Any) -> Link:
    return Link(the_input(graph, node), layers.ELU(graph.attributes(node, alpha=1.0)["alpha"]))


@rule("Selu")
def _selu(graph: OnnxGraph, node: Any) -> Link:
    a = graph.attributes(node, alpha=1.6732632, gamma=1.0507010)
    if not np.allclose([a["alpha"], a["gamma"]], [1.6732632, 1.0507010], rtol=1e-5):
        raise refuse(graph, node, f"alpha {a['alpha']:g} and gamma {a['gamma']:g} are not SELU's")
    return Link(the_input(graph, node), layers.SELU())


@rule("Gelu")
def _gelu(graph: OnnxGraph, node: Any) -> Link:
    approximate = graph.attributes(node, approximate="none")["approximate"]
    return Link(the_input(graph, node), layers.GELU(approximate))


@rule("Swish")
def _swish(graph: OnnxGraph, node: Any) -> Link:
    if graph.attributes(node, alpha=1.0)["alpha"] != 1:
        raise refuse(graph, node, "alpha must be 1")
    return Link(the_input(graph, node), layers.SiLU())


@rule("Softmax")
def _softmax(graph: OnnxGraph, node: Any) -> Link:
    """Over the last axis; before opset 13 over all axes from `axis` on."""
    coerced = graph.opset < 13
    axis = graph.attributes(node, axis=1 if coerced else -1)["axis"]
    if axis not in (1, -1):
        raise refuse(graph, node, f"axis must be 1 or -1, got {axis}")
    by_row = not (coerced and axis == 1)
    return Link(the_input(graph, node), layers.Softmax(), by_row=by_row)


def two_classes(graph: OnnxGraph, node: Any) -> Link | None:
    """Return softmax over (0, z), which is (1 − sigmoid(z), sigmoid(z)): scikit-learn's two classes."""
    names = list(node.input)
    other = graph.producers.get(names[0])
    yes = graph.producers.get(names[-1])
    if (
        len(names) == 2
        and other is not None
        and yes is not None
        and (rule_name(other), rule_name(yes)) == ("Sub", "Sigmoid")
        and other.input[1] == names[1]
        and np.all(graph.constants.get(other.input[0], 0) == 1)
        and graph.attributes(node, axis=0)["axis"] in (1, -1)
    ):
        layer = layers.Dense(2, activation="softmax", use_bias=False)
        weight = np.array([[0.0], [1.0]])
        return Link(the_input(graph, yes), layer, {"weight": weight}, features=1, by_row=True)
    return None


@rule("Dropout")
def _dropout(graph: OnnxGraph, node: Any) -> Link:
    a = graph.attributes(node, ratio=0.5, seed=0)
    names = list(node.input)
    ratio = float(graph.constants[names[1]].item()) if len(names) > 1 and names[1] else a["ratio"]
    if len(names) > 2 and names[2] and graph.constants.get(names[2], np.array(True)).any():
        raise refuse(graph, node, "it drops at inference, training_mode must be false")
    return Link(the_input(graph, node), layers.Dropout(shortest(ratio)))
