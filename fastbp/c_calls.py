"""The body of an exported network: the calls of C functions, the constants that they read, their arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.c_kernels import ACTIVATIONS_WITH_ALPHA
from fastbp.engine.graph import Node, Value
from fastbp.inference import Inference, result
from fastbp.quantization import QuantizedDense

Places = dict[str, str]

# Operations that change nothing at inference, and those that may write where they read.
_IDENTITIES = ("dropout_forward", "gaussian_noise")
_IN_PLACE = (
    "activation_forward",
    "softmax_forward",
    "batch_norm_forward",
    "layer_norm_forward",
    "prelu_forward",
    "rescale",
    "normalize",
)


class Body:
    """The body of a network.

    Attributes
    ----------
    calls : list of str
    functions : set of str
        Names in :data:`fastbp.c_kernels.FUNCTIONS`.
    constants : dict of str to (ndarray, str)
        Values, and what they are, by name.
    buffers : list of int
        Elements of the arrays of floats on the stack: values_0, values_1, ….
    levels : int
        Elements of the array of quantised values on the stack.
    """

    def __init__(self, inference: Inference, quantized: Mapping[Node, QuantizedDense]) -> None:
        self.inference, self.quantized = inference, quantized
        self.calls: list[str] = []
        self.functions: set[str] = set()
        self.constants: dict[str, tuple[NDArray[Any], str]] = {}
        self.levels = max((dense.weight.shape[1] for dense in quantized.values()), default=0)
        places, self.buffers = self._allocate()
        for node in inference.nodes:
            if node.kind in _IDENTITIES:
                continue
            emit = _EMITTERS.get(node.kind)
            if emit is None:
                raise ValueError(f"layer {node.layer!r}: {node.kind} has no form in C")
            emit(self, node, {name: places[v] for name, v in node.operands.items() if v in places})
        if places[inference.output] == "input":
            self.call("copy", "input", "output", inference.output.columns)

    def _allocate(self) -> tuple[dict[Value, str], list[int]]:
        """Give each value an array: its name by value, and the sizes of those on the stack."""
        nodes, source = self.inference.nodes, self.inference.input
        last_read = {value: number for number, node in enumerate(nodes) for value in _reads(node)}
        last_read[self.inference.output] = len(nodes)
        owner = {source: source}  # of the array that a value lies in, the value that came first
        busy = {source: len(nodes)}  # until when the array is needed
        for number, node in enumerate(nodes):
            x, y = node.operands.get("x"), result(node)
            owner[y] = y
            if x is not None and (
                node.kind in _IDENTITIES
                or (node.kind in _IN_PLACE and owner[x] is not source and busy[owner[x]] == number)
            ):
                owner[y] = owner[x]
            busy[owner[y]] = max(busy.get(owner[y], 0), last_read.get(y, number))
        places = {owner[self.inference.output]: "output", source: "input"}
        sizes: list[int] = []
        free: list[int] = []  # from when on an array on the stack may be used again
        for number, node in enumerate(nodes):
            base = owner[result(node)]
            if base not in places:
                slot = next((slot for slot, end in enumerate(free) if end < number), len(sizes))
                if slot == len(sizes):
                    sizes.append(0)
                    free.append(0)
                sizes[slot], free[slot] = max(sizes[slot], base.columns), busy[base]
                places[base] = f"values_{slot}"
        return {value: places[base] for value, base in owner.items()}, sizes

    def call(self, function: str, *arguments: Any) -> None:
        """Append a call."""
        self.functions.add(function)
        self.calls.append(f"fbp_{function}({', '.join(str(argument) for argument in arguments)});")

    def constant(self, name: str, values: NDArray[Any], what: str = "") -> str:
        """Enter an array and return its name in C."""
        plain = identifier(name, "layer")
        while plain in self.constants:
            plain += "_"
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        self.constants[plain] = np.ravel(values), what or f"{values.size} features"
        return plain

    def parameter(self, node: Node, operand: str, what: str = "") -> str:
        """Enter a parameter as it lies in memory and return its name in C; the null pointer when absent."""
        value = node.operands[operand]
        if value is None:
            return "0"
        name, values = self.inference.parameters[value]
        return self.constant(name, values, what)


def _reads(node: Node) -> list[Value]:
    y = result(node)
    return [v for v in node.operands.values() if v is not None and v is not y and v.arena == "workspace"]


def identifier(name: str, prefix: str) -> str:
    """Return a name that C allows."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain[:1].isalpha() else f"{prefix}_{plain}"


def number(value: Any) -> str:
    """Return a constant of C that has exactly this value: an integer, or a float of 32 bits."""
    if isinstance(value, np.floating | float):
        text = str(np.float32(value))
        return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
    return str(int(value))


# ---- one function per operation ------------------------------------------------------------------


def _columns(node: Node, operand: str = "x") -> int:
    value = node.operands[operand]
    assert value is not None
    return value.columns


def _dense(body: Body, node: Node, places: Places) -> None:
    inputs, units = _columns(node), result(node).columns
    what, dense = f"{units} units of {inputs}", body.quantized.get(node)
    if dense is None:
        weight = body.constant(f"{node.layer}.weight", body.inference.values(node, "weight").T, what)
        bias = body.parameter(node, "bias")
        body.call("dense", places["x"], places["y"], inputs, units, weight, bias)
        return
    weight = body.constant(f"{node.layer}.weight", dense.weight, what)
    bias = body.constant(f"{node.layer}.bias", dense.bias)
    scale = body.constant(f"{node.layer}.scale", dense.scale)
    body.call("quantize", places["x"], "levels", inputs, number(dense.rate), f"{dense.zero}.0f")
    body.call("dense_int8", "levels", places["y"], inputs, units, weight, bias, scale)


def _activation(body: Body, node: Node, places: Places) -> None:
    kind, count = str(node.attributes["activation"]), _columns(node)
    alpha = [number(float(node.attributes["alpha"]))] if kind in ACTIVATIONS_WITH_ALPHA else []
    body.call(kind, places["x"], places["y"], count, *alpha)


def _softmax(body: Body, node: Node, places: Places) -> None:
    body.call("softmax", places["x"], places["y"], _columns(node))


def _batch_norm(body: Body, node: Node, places: Places) -> None:
    """Emit y = (x − μ) · (γ / √(σ² + ε)) + β."""
    variance = body.inference.values(node, "moving_variance").astype(np.float64)
    scale = 1 / np.sqrt(variance + float(node.attributes["epsilon"]))
    if node.operands["gamma"] is not None:
        scale = scale * body.inference.values(node, "gamma")
    mean = body.parameter(node, "moving_mean")
    factor = body.constant(f"{node.layer}.scale", scale)
    shift = body.parameter(node, "beta")
    body.call("scale", places["x"], places["y"], _columns(node), mean, factor, shift)


def _normalize(body: Body, node: Node, places: Places) -> None:
    variance = body.inference.values(node, "variance").astype(np.float64)
    mean = body.parameter(node, "mean")
    factor = body.constant(f"{node.layer}.scale", 1 / np.maximum(np.sqrt(variance), 1e-7))
    body.call("scale", places["x"], places["y"], _columns(node), mean, factor, "0")


def _layer_norm(body: Body, node: Node, places: Places) -> None:
    gamma, beta = body.parameter(node, "gamma"), body.parameter(node, "beta")
    epsilon = number(float(node.attributes["epsilon"]))
    body.call("layer_norm", places["x"], places["y"], _columns(node), gamma, beta, epsilon)


def _prelu(body: Body, node: Node, places: Places) -> None:
    body.call("prelu", places["x"], places["y"], _columns(node), body.parameter(node, "alpha"))


def _rescale(body: Body, node: Node, places: Places) -> None:
    scale, offset = (number(float(node.attributes[name])) for name in ("scale", "offset"))
    body.call("rescale", places["x"], places["y"], _columns(node), scale, offset)


def _add(body: Body, node: Node, places: Places) -> None:
    body.call("add", places["a"], places["b"], places["out"], result(node).columns)


def _copy_columns(body: Body, node: Node, places: Places) -> None:
    begin, place, count = (int(node.attributes[name]) for name in ("begin", "place", "count"))
    body.call("copy", _from(places["source"], begin), _from(places["out"], place), count)


def _from(array: str, first: int) -> str:
    return f"{array} + {first}" if first else array


def _embedding(body: Body, node: Node, places: Places) -> None:
    rows, width = body.inference.values(node, "table").shape
    table = body.parameter(node, "table", f"{rows} rows of {width}")
    body.call("embedding", places["index"], places["y"], _columns(node, "index"), table, rows, width)


_EMITTERS: dict[str, Callable[[Body, Node, Places], None]] = {
    "dense_forward": _dense,
    "activation_forward": _activation,
    "softmax_forward": _softmax,
    "batch_norm_forward": _batch_norm,
    "layer_norm_forward": _layer_norm,
    "prelu_forward": _prelu,
    "rescale": _rescale,
    "normalize": _normalize,
    "add": _add,
    "copy_columns": _copy_columns,
    "embedding_forward": _embedding,
}
