"""An ONNX file as a graph that can be asked who makes what; nothing of the file is trusted.

A file is data from elsewhere: its size is limited, tensors outside of the file are never opened, and every
number of elements is compared with the bytes that are there.
"""

from __future__ import annotations

import math
import os
import stat
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.onnx.library import library

# Bytes: protobuf's own limit for a message.
LARGEST_FILE = 2**31 - 1
# A feed-forward network has few nodes; a file with very many would keep the reader busy for hours.
MOST_NODES = 10_000
# Operators that exporters leave between single numbers.
_ARITHMETIC: dict[str, Any] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Sqrt": np.sqrt,
}
STANDARD, ML = ("", "ai.onnx"), ("ai.onnx.ml",)


class OnnxGraph:
    """The graph of a model, read as far as one path of data through it needs.

    Attributes
    ----------
    constants : dict of str to ndarray
        Initializers, and what follows from them alone.
    nodes : list of NodeProto
    producers : dict of str to NodeProto
        By the name of a result.
    readers : Counter
        Nodes that read a value, by its name.
    opset : int
        Version of the standard operators.
    """

    def __init__(self, model: Any) -> None:
        self.onnx = library()
        graph = model.graph
        self.nodes = list(graph.node)
        self.opset = next((o.version for o in model.opset_import if o.domain in STANDARD), 1)
        if len(self.nodes) > MOST_NODES:
            raise ValueError(f"it has {len(self.nodes)} nodes, and fastbp reads at most {MOST_NODES}")
        if len(graph.sparse_initializer):
            raise ValueError("it holds sparse tensors, which fastbp does not read")
        self.constants = {t.name: self._array(t) for t in graph.initializer}
        self.producers: dict[str, Any] = {}
        for node in self.nodes:
            for name in filter(None, node.output):
                if name in self.producers or name in self.constants:
                    raise ValueError(f"it makes {name!r} twice")
                self.producers[name] = node
            self._fold(node)
        self.readers = Counter(name for node in self.nodes for name in set(node.input))
        self.inputs = [value for value in graph.input if value.name not in self.constants]
        self.outputs = list(graph.output)

    def _array(self, tensor: Any) -> NDArray[Any]:
        """Values of a tensor that is wholly in the file."""
        types = self.onnx.TensorProto
        if tensor.data_location == types.EXTERNAL or len(tensor.external_data):
            raise ValueError(
                f"tensor {tensor.name!r} is kept in another file, which fastbp does not open; "
                "save the model as one file (torch.onnx.export: external_data=False)"
            )
        dims = list(tensor.dims)
        count = math.prod(dims)
        if any(size < 0 for size in dims) or count > LARGEST_FILE:
            raise ValueError(f"tensor {tensor.name!r} has the impossible shape {dims}")
        known = (types.FLOAT, types.DOUBLE, types.INT32, types.INT64, types.BOOL, types.STRING)
        if tensor.data_type not in known:
            raise ValueError(
                f"tensor {tensor.name!r} has the element type {self.element_type(tensor.data_type)}; "
                "fastbp reads float32 and float64"
            )
        try:
            return np.asarray(self.onnx.numpy_helper.to_array(tensor)).reshape(dims)
        except (ValueError, TypeError) as error:
            raise ValueError(f"tensor {tensor.name!r} does not fit its shape {dims}: {error}") from error

    def element_type(self, number: int) -> str:
        """Name of an element type, such as FLOAT16."""
        names: dict[int, str] = {v: k for k, v in self.onnx.TensorProto.DataType.items()}
        return names.get(number, f"number {number}")

    def _fold(self, node: Any) -> None:
        """Enter the result of a node among the constants, when it is one; nothing grows by that."""
        if node.domain not in STANDARD:
            return
        if node.op_type == "Constant":
            self.constants[node.output[0]] = self._constant(node)
            return
        if node.op_type == "CastLike" and node.input and node.input[0] in self.constants:
            self.constants[node.output[0]] = self.constants[node.input[0]]  # data has the model's dtype
            return
        if not node.input or any(name not in self.constants for name in node.input):
            return
        if node.op_type in _ARITHMETIC:
            values = [self.constants[name] for name in node.input]
            if all(value.size == 1 and value.dtype.kind in "fi" for value in values):
                with np.errstate(all="ignore"):
                    self.constants[node.output[0]] = np.asarray(_ARITHMETIC[node.op_type](*values))
            return
        if node.op_type not in ("Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze"):
            return
        x = self.constants[node.input[0]]
        try:
            if node.op_type == "Transpose":
                x = x.transpose(self.attributes(node, perm=None)["perm"])
            elif node.op_type == "Cast":
                x = x.astype(self.onnx.helper.tensor_dtype_to_np_dtype(self.attributes(node, to=0)["to"]))
            elif node.op_type == "Reshape":
                x = x.reshape(self.constants[node.input[1]].tolist())
            elif node.op_type != "Identity":
                axes = self.constants[node.input[1]].tolist() if len(node.input) > 1 else None
                axes = self.attributes(node, axes=axes)["axes"]
                squeeze = node.op_type == "Squeeze"
                x = x.squeeze(tuple(axes) if axes else None) if squeeze else np.expand_dims(x, tuple(axes))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"{self.describe(node)} cannot be computed: {error}") from error
        self.constants[node.output[0]] = x

    def _constant(self, node: Any) -> NDArray[Any]:
        given = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        if "value" in given:
            return self._array(given["value"])
        for name, dtype in (("float", np.float32), ("int", np.int64)):
            for key in (f"value_{name}", f"value_{name}s"):
                if key in given:
                    return np.asarray(given[key], dtype)
        raise ValueError(f"{self.describe(node)} has no value that fastbp reads")

    def attributes(self, node: Any, **defaults: Any) -> dict[str, Any]:
        """Return attributes of a node; one that is not among the defaults is an error."""
        found = dict(defaults)
        for attribute in node.attribute:
            if attribute.name not in defaults:
                raise ValueError(
                    f"{self.describe(node)} has the attribute {attribute.name!r}, which fastbp does not know"
                )
            value = self.onnx.helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            elif isinstance(value, float):
                value = shortest(value)
            found[attribute.name] = value
        return found

    def data_inputs(self, node: Any) -> list[str]:
        """Names of the inputs of a node that depend on the data."""
        return [name for name in node.input if name and name not in self.constants]

    def describe(self, node: Any) -> str:
        """Return how an error calls a node."""
        kind = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
        return f"node {kind} {node.name!r}" if node.name else f"node {kind} that makes {list(node.output)}"


def shortest(value: float) -> float:
    """Return a number of 32 bits as the shortest decimal that it stands for: 0.1, not 0.10000000149."""
    return float(str(np.float32(value)))


def read(path: str | os.PathLike[str]) -> Any:
    """Parse a file.

    Raises
    ------
    OSError
        When it cannot be read.
    ValueError
        When it is too large, not a file, or no ONNX model.
    """
    onnx = library()
    from google.protobuf.message import DecodeError

    with open(path, "rb", opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_size > LARGEST_FILE:
            raise ValueError(f"it has {status.st_size} bytes; an ONNX model has at most {LARGEST_FILE}")
        content = file.read()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(f"it is not in the ONNX format ({error})") from error
    if not (len(model.graph.node) and len(model.graph.output) and len(model.opset_import)):
        raise ValueError("it is not in the ONNX format (no graph)")
    return model


def _open(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
