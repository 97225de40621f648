"""A model as an ONNX graph.

The operations of the forward pass are translated one by one. What is one operator in the standard but has no
kernel for doubles in ONNX Runtime, or holds its numbers as 32-bit attributes, is composed of simpler ones in
float64.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import model_file
from fastbp._version import __version__
from fastbp.checks import check_count
from fastbp.engine.graph import Node, Value
from fastbp.inference import Inference, result, trace
from fastbp.model import Sequential
from fastbp.onnx.library import library

DEFAULT_OPSET = 20
OLDEST_OPSET = 17  # the first one with LayerNormalization
# Bytes: protobuf's own limit for a message.
LARGEST_FILE = 2**31 - 1


def export(model: Sequential, path: str | os.PathLike[str], *, opset: int = DEFAULT_OPSET) -> None:
    """Write a model to an ONNX file, for inference.

    The input is called "input", shape (batch, input_size), the output "output", shape (batch, output_size);
    the batch is dynamic and the element type the model's dtype. Tensors are named like the ones of a PyTorch
    state: "dense.weight", shape (out, in), and "dense.bias". The file's metadata keeps ``model.metadata``,
    the loss and the names of the features as JSON; :func:`load` reads them.

    Parameters
    ----------
    model : Sequential
        Built.
    path : str or path
        Replaced at once and only when the new file is complete.
    opset : int
        Version of the operator set, 17 or later.

    Raises
    ------
    ImportError
        Without the onnx package.
    TypeError, ValueError
        For an opset that onnx does not know, or a layer that has no form in ONNX; the message names it.
    RuntimeError
        When the model has no weights yet.
    OSError
        When the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp as bp
    >>> from fastbp import onnx
    >>> model = bp.Sequential([bp.layers.Dense(2, activation="gelu")], input_size=3, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.onnx")
    ...     onnx.export(model, path)
    ...     onnx.load(path).layers
    (Dense(2, activation='gelu'),)
    """
    onnx = library()
    if not isinstance(model, Sequential):
        raise TypeError(f"model must be a Sequential, got {model!r}")
    newest = onnx.defs.onnx_opset_version()
    opset = check_count("opset", opset)
    if not OLDEST_OPSET <= opset <= newest:
        raise ValueError(f"opset must be between {OLDEST_OPSET} and {newest}, got {opset}")
    inference = trace(model)
    graph = _Graph(onnx, inference, model.dtype, opset)
    for node in inference.nodes:
        translate = _TRANSLATIONS.get(node.kind)
        if translate is None:
            raise ValueError(f"layer {node.layer!r}: {node.kind} has no form in ONNX")
        graph.layer = node.layer
        graph.names[result(node)] = translate(graph, node)
    proto = graph.finish(model.input_size, model.output_size)
    imports = [onnx.helper.make_opsetid("", opset)]
    exported = onnx.helper.make_model(
        proto,
        opset_imports=imports,
        ir_version=onnx.helper.find_min_ir_version_for(imports),
        producer_name="fastbp",
        producer_version=__version__,
    )
    try:
        texts = {
            "metadata": json.dumps(model.metadata, allow_nan=False),
            "feature_names": json.dumps(model.feature_names),
            "loss": json.dumps(None if model.loss is None else model.loss.config()),
        }
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"metadata has no form in JSON: {error}") from error
    onnx.helper.set_model_props(exported, {f"fastbp.{key}": text for key, text in texts.items()})
    if sum(values.nbytes for _, values in inference.parameters.values()) > LARGEST_FILE - 2**20:
        raise ValueError("the model is too large for one ONNX file, which holds at most 2 GiB")
    onnx.checker.check_model(exported)
    model_file.replace(path, exported.SerializeToString())


class _Graph:
    """The nodes and initializers written so far."""

    def __init__(self, onnx: Any, inference: Inference, dtype: str, opset: int) -> None:
        self.onnx, self.inference, self.dtype, self.opset = onnx, inference, np.dtype(dtype), opset
        self.names: dict[Value, str] = {inference.input: "input"}
        self.layer = ""
        self.parts: dict[Value, dict[int, tuple[str, int]]] = {}  # by place: columns of a value, their number
        self._nodes: list[Any] = []
        self._initializers: dict[str, NDArray[Any]] = {}

    def x(self, node: Node, operand: str = "x") -> str:
        """Name of an input of a node."""
        value = node.operands[operand]
        assert value is not None
        return self.names[value]

    def parameter(self, node: Node, operand: str, view: Callable[[Any], Any] = np.ravel) -> str:
        """Enter a parameter as an initializer, as a vector unless `view` says otherwise; "" when absent."""
        value = node.operands[operand]
        if value is None:
            return ""
        name, values = self.inference.parameters[value]
        self._initializers[name] = view(values)
        return name

    def constant(self, values: Any, dtype: Any = None) -> str:
        """Enter numbers as an initializer."""
        array = np.asarray(values, dtype or self.dtype)
        name = f"{self.layer}.constant_{len(self._initializers)}"
        self._initializers[name] = array
        return name

    def op(self, kind: str, *inputs: str | float, **attributes: Any) -> str:
        """Append an operator and return the name of its result; inputs that are numbers become constants."""
        names = [name if isinstance(name, str) else self.constant(name) for name in inputs]
        while names and not names[-1]:
            names.pop()
        result = f"{self.layer}.{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self.onnx.helper.make_node(kind, names, [result], name=result, **attributes))
        return result

    def finish(self, input_size: int, output_size: int) -> Any:
        """Return the graph, its output called "output"."""
        helper = self.onnx.helper
        result = self.names[self.inference.output]
        if not self._nodes:
            result = self.op("Identity", result)
        for node in self._nodes:
            node.input[:] = ["output" if name == result else name for name in node.input]
            node.output[:] = ["output" if name == result else name for name in node.output]
        element = helper.np_dtype_to_tensor_dtype(self.dtype)
        return helper.make_graph(
            self._nodes,
            "fastbp",
            [helper.make_tensor_value_info("input", element, ["batch", input_size])],
            [helper.make_tensor_value_info("output", element, ["batch", output_size])],
            [
                self.onnx.numpy_helper.from_array(np.array(values, order="C"), name)
                for name, values in self._initializers.items()
            ],
        )


def _dense(graph: _Graph, node: Node) -> str:
    weight, bias = graph.parameter(node, "weight", np.transpose), graph.parameter(node, "bias")
    return graph.op("Gemm", graph.x(node), weight, bias, transB=1)


def _dropout(graph: _Graph, node: Node) -> str:
    return graph.op("Dropout", graph.x(node), graph.constant(node.attributes["rate"], np.float32))


def _gaussian_noise(graph: _Graph, node: Node) -> str:
    return graph.op("Identity", graph.x(node))


def _batch_norm(graph: _Graph, node: Node) -> str:
    mean, variance = graph.parameter(node, "moving_mean"), graph.parameter(node, "moving_variance")
    gamma, beta = _factors(graph, node)
    return graph.op(
        "BatchNormalization", graph.x(node), gamma, beta, mean, variance,
        epsilon=float(node.attributes["epsilon"]), momentum=float(node.attributes["momentum"]),
    )  # fmt: skip


def _layer_norm(graph: _Graph, node: Node) -> str:
    gamma, beta = _factors(graph, node)
    epsilon = float(node.attributes["epsilon"])
    return graph.op("LayerNormalization", graph.x(node), gamma, beta, axis=-1, epsilon=epsilon)


def _factors(graph: _Graph, node: Node) -> tuple[str, str]:
    """γ and β; where they do not exist 1 and 0, for ONNX wants both."""
    features = result(node).columns
    gamma = graph.parameter(node, "gamma") or graph.constant(np.ones(features))
    return gamma, graph.parameter(node, "beta") or graph.constant(np.zeros(features))


def _prelu(graph: _Graph, node: Node) -> str:
    x, alpha = graph.x(node), graph.parameter(node, "alpha")
    if graph.dtype == np.float32:
        return graph.op("PRelu", x, alpha)
    return graph.op("Where", graph.op("Greater", x, 0.0), x, graph.op("Mul", x, alpha))


def _rescale(graph: _Graph, node: Node) -> str:
    scaled = graph.op("Mul", graph.x(node), float(node.attributes["scale"]))
    return graph.op("Add", scaled, float(node.attributes["offset"]))


def _normalize(graph: _Graph, node: Node) -> str:
    deviation = np.maximum(np.sqrt(graph.inference.values(node, "variance")), graph.dtype.type(1e-7))
    centred = graph.op("Sub", graph.x(node), graph.parameter(node, "mean"))
    return graph.op("Div", centred, graph.constant(deviation.ravel()))


def _add(graph: _Graph, node: Node) -> str:
    return graph.op("Add", graph.x(node, "a"), graph.x(node, "b"))


def _copy_columns(graph: _Graph, node: Node) -> str:
    """Collect the columns of a value, and join them when all are there."""
    y, begin, count = result(node), int(node.attributes["begin"]), int(node.attributes["count"])
    bounds = (graph.constant([number], np.int64) for number in (begin, begin + count, 1))
    parts = graph.parts.setdefault(y, {})
    parts[int(node.attributes["place"])] = graph.op("Slice", graph.x(node, "source"), *bounds), count
    if sum(size for _, size in parts.values()) < y.columns:
        return ""
    return graph.op("Concat", *(parts[place][0] for place in sorted(parts)), axis=1)


def _embedding(graph: _Graph, node: Node) -> str:
    rows = graph.op("Cast", graph.x(node, "index"), to=graph.onnx.TensorProto.INT64)
    features = graph.op("Gather", graph.parameter(node, "table", np.asarray), rows)
    return graph.op("Reshape", features, graph.constant([0, -1], np.int64))


def _softmax(graph: _Graph, node: Node) -> str:
    return graph.op("Softmax", graph.x(node), axis=1)


def _activation(graph: _Graph, node: Node) -> str:
    x, kind, alpha = graph.x(node), str(node.attributes["activation"]), float(node.attributes["alpha"])
    if kind in _OPERATORS:
        return graph.op(_OPERATORS[kind], x)
    if kind == "silu":
        return graph.op("Mul", x, graph.op("Sigmoid", x))
    if graph.dtype == np.float32:
        return _float_activation(graph, x, kind, alpha)
    return _double_activation(graph, x, kind, alpha)


# Operators that say the same for both element types.
_OPERATORS = {"linear": "Identity", "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def _float_activation(graph: _Graph, x: str, kind: str, alpha: float) -> str:
    if kind == "leaky_relu":
        return graph.op("LeakyRelu", x, alpha=alpha)
    if kind == "elu":
        return graph.op("Elu", x, alpha=alpha)
    if kind == "selu":
        return graph.op("Selu", x)
    if kind == "softplus":
        return graph.op("Softplus", x)
    if kind == "mish":
        if graph.opset >= 18:
            return graph.op("Mish", x)
        return graph.op("Mul", x, graph.op("Tanh", graph.op("Softplus", x)))
    if graph.opset >= 20:
        return graph.op("Gelu", x, approximate="tanh" if kind == "gelu_tanh" else "none")
    return _gelu(graph, x, kind)


def _double_activation(graph: _Graph, x: str, kind: str, alpha: float) -> str:
    op = graph.op
    if kind == "leaky_relu":
        return op("Where", op("Greater", x, 0.0), x, op("Mul", x, alpha))
    if kind in ("elu", "selu"):
        scale, alpha = (SELU_SCALE, SELU_SCALE * SELU_ALPHA) if kind == "selu" else (1.0, alpha)
        below = op("Mul", op("Sub", op("Exp", op("Min", x, 0.0)), 1.0), alpha)
        return op("Where", op("Greater", x, 0.0), x if scale == 1 else op("Mul", x, scale), below)
    if kind == "softplus":
        return _softplus(graph, x)
    if kind == "mish":
        return op("Mul", x, op("Tanh", _softplus(graph, x)))
    return _gelu(graph, x, kind)


# Klambauer et al., Self-Normalizing Neural Networks (2017)
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _softplus(graph: _Graph, x: str) -> str:
    """max(x, 0) + log(1 + exp(−|x|))."""
    op = graph.op
    return op("Add", op("Max", x, 0.0), op("Log", op("Add", op("Exp", op("Neg", op("Abs", x))), 1.0)))


def _gelu(graph: _Graph, x: str, kind: str) -> str:
    op = graph.op
    if kind == "gelu_tanh":
        cubic = op("Mul", op("Mul", op("Mul", x, x), x), 0.044715)
        inner = op("Tanh", op("Mul", op("Add", x, cubic), math.sqrt(2 / math.pi)))
    else:
        inner = op("Mul", x, math.sqrt(0.5))
        if graph.dtype == np.float64:  # ONNX Runtime's Erf knows floats only
            inner = op("Cast", inner, to=graph.onnx.TensorProto.FLOAT)
            inner = op("Cast", op("Erf", inner), to=graph.onnx.TensorProto.DOUBLE)
        else:
            inner = op("Erf", inner)
    return op("Mul", op("Mul", x, op("Add", inner, 1.0)), 0.5)


_TRANSLATIONS: dict[str, Callable[[_Graph, Node], str]] = {
    "dense_forward": _dense,
    "activation_forward": _activation,
    "softmax_forward": _softmax,
    "dropout_forward": _dropout,
    "gaussian_noise": _gaussian_noise,
    "batch_norm_forward": _batch_norm,
    "layer_norm_forward": _layer_norm,
    "prelu_forward": _prelu,
    "rescale": _rescale,
    "normalize": _normalize,
    "add": _add,
    "copy_columns": _copy_columns,
    "embedding_forward": _embedding,
}
