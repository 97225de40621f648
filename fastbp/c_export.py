"""A model as one C99 file and its header: no allocation, nothing beyond math.h.

The operations of the forward pass become calls, parameters become constant arrays, values become arrays on
the stack that are used again as soon as nothing reads them any more. Equal models give equal text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastbp import model_file, quantization
from fastbp._version import __version__
from fastbp.c_kernels import ACTIVATIONS_WITH_ALPHA, FUNCTIONS
from fastbp.checks import check_choice
from fastbp.engine.graph import Node, Value
from fastbp.inference import Array, result, trace
from fastbp.quantization import QuantizedDense

if TYPE_CHECKING:
    from fastbp.stack import LayerStack

LINE = 100
# Samples that the self-test computes.
TESTED = 4


def export(model: LayerStack, path: str | os.PathLike[str], dtype: str, calibration: Array | None) -> None:
    """Write ``net.c`` and ``net.h``; see :meth:`fastbp.Sequential.export_c`.

    Parameters
    ----------
    model : LayerStack
        Built.
    path : str or path
        Of the C file; the header lies beside it.
    dtype : {"float32", "int8"}
    calibration : ndarray, shape (n, input_size), or None
        Checked already.
    """
    check_choice("dtype", dtype, ("float32", "int8"))
    target = Path(os.fspath(path))
    if target.suffix != ".c":
        raise ValueError(f'path must end in ".c", got {os.fspath(path)!r}')
    if dtype == "int8" and calibration is None:
        raise ValueError('calibration must hold typical samples for dtype="int8": they give the ranges')
    if not np.isfinite(model.parameters).all():
        raise ValueError("the model has weights that are not finite")
    source = _Source(model, target.stem, dtype, calibration)
    model_file.replace(target.with_suffix(".h"), source.header().encode())
    model_file.replace(target, source.text().encode())


class _Source:
    """The text of one network."""

    def __init__(self, model: LayerStack, name: str, dtype: str, calibration: Array | None) -> None:
        self.model, self.file, self.dtype = model, name, dtype
        self.name = _identifier(name, "net")
        self.inference = trace(model)
        self.quantized: dict[Node, QuantizedDense] = {}
        if dtype == "int8":
            assert calibration is not None
            self.quantized = quantization.quantize(self.inference, calibration.astype(np.float32))
        self.samples = _samples(model, calibration)
        self.constants: dict[str, NDArray[Any]] = {}
        self.shapes: dict[str, str] = {}
        self.functions: list[str] = []
        self.levels = max((q.weight.shape[1] for q in self.quantized.values()), default=0)
        self.places, self.buffers = self._allocate()
        self.calls = [call for node in self.inference.nodes for call in self._calls(node)]
        if self.places[self.inference.output] == "input":
            self.calls.append(self._call("copy", "input", "output", model.input_size))

    # ---- memory ----

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

    def _constant(self, name: str, values: NDArray[Any], shape: str) -> str:
        """Enter an array under a name that C allows."""
        plain = _identifier(name, "layer")
        while plain in self.constants:
            plain += "_"
        self.constants[plain] = np.ravel(values)
        self.shapes[plain] = shape
        return plain

    def _parameter(self, node: Node, operand: str) -> str:
        value = node.operands[operand]
        if value is None:
            return "0"
        name, values = self.inference.parameters[value]
        if operand == "weight":
            values = values.T
            return self._constant(
                name, values.astype(np.float32), f"{len(values)} units of {values.shape[1]}"
            )
        return self._constant(name, values.astype(np.float32), f"{values.size}")

    # ---- calls ----

    def _call(self, function: str, *arguments: Any) -> str:
        if function not in self.functions:
            self.functions.append(function)
        return f"fbp_{function}({', '.join(str(argument) for argument in arguments)});"

    def _calls(self, node: Node) -> Iterator[str]:
        kind, y = node.kind, self.places[result(node)]
        if kind in _IDENTITIES:
            return
        operand = node.operands.get("x")
        x, count = ("", 0) if operand is None else (self.places[operand], operand.columns)
        if kind == "dense_forward":
            yield self._dense(node, x, y, count)
        elif kind == "activation_forward":
            yield self._activation(node, x, y, count)
        elif kind == "softmax_forward":
            yield self._call("softmax", x, y, count)
        else:
            raise ValueError(f"layer {node.layer!r}: {kind} has no form in C")

    def _dense(self, node: Node, x: str, y: str, inputs: int) -> str:
        units = result(node).columns
        found = self.quantized.get(node)
        if found is None:
            weight, bias = self._parameter(node, "weight"), self._parameter(node, "bias")
            return self._call("dense", x, y, inputs, units, weight, bias)
        shape = f"{units} units of {inputs}"
        weight = self._constant(f"{node.layer}.weight", found.weight, shape)
        bias = self._constant(f"{node.layer}.bias", found.bias, f"{units}")
        scale = self._constant(f"{node.layer}.scale", found.scale, f"{units}")
        quantize = self._call("quantize", x, "levels", inputs, _number(found.rate), f"{found.zero}.0f")
        return f"{quantize}\n    {self._call('dense_int8', 'levels', y, inputs, units, weight, bias, scale)}"

    def _activation(self, node: Node, x: str, y: str, count: int) -> str:
        kind = str(node.attributes["activation"])
        if kind in ACTIVATIONS_WITH_ALPHA:
            return self._call(kind, x, y, count, _number(np.float32(node.attributes["alpha"])))
        return self._call(kind, x, y, count)

    # ---- text ----

    @property
    def flash(self) -> int:
        """Bytes of the constants."""
        return sum(values.nbytes for values in self.constants.values())

    @property
    def ram(self) -> int:
        """Bytes of the arrays on the stack."""
        return 4 * sum(self.buffers) + self.levels

    def header(self) -> str:
        """Return the header."""
        name, macro = self.name, self.name.upper()
        return f"""\
/* {name}: a network of fastbp {__version__}, for inference. */
#ifndef {macro}_H
#define {macro}_H

#define {macro}_INPUTS {self.model.input_size}
#define {macro}_OUTPUTS {self.model.output_size}

#ifdef __cplusplus
extern "C" {{
#endif

/* Computes the output of one sample. The arrays must not overlap. */
void {name}_predict(const float input[{macro}_INPUTS], float output[{macro}_OUTPUTS]);

#ifdef __cplusplus
}}
#endif

#endif
"""

    def text(self) -> str:
        """Return the C file."""
        parts = [self._comment(), self._includes()]
        parts += [self._array(name, values) for name, values in self.constants.items()]
        parts += [FUNCTIONS[name] for name in sorted(self.functions, key=list(FUNCTIONS).index)]
        parts += [self._predict(), self._self_test()]
        return "\n".join(parts)

    def _comment(self) -> str:
        summary = "\n".join(f" * {line}".rstrip() for line in _summary(self.model))
        name, file = self.name, self.file
        return f"""\
/*
 * {name}: a network of fastbp {__version__}, for inference, in {self.dtype}.
 *
{summary}
 *
 * flash  {self.flash:,} bytes of constants, besides the code
 * RAM    {self.ram:,} bytes on the stack of {name}_predict
 *
 * Compile:    cc -O2 -std=c99 -c {file}.c
 * Self-test:  cc -O2 -std=c99 -D{name.upper()}_SELF_TEST {file}.c -lm && ./a.out
 */
"""

    def _includes(self) -> str:
        lines = [f'#include "{self.file}.h"', "", "#include <math.h>"]
        if self.dtype == "int8":
            lines.append("#include <stdint.h>")
        return "\n".join(lines) + "\n"

    def _array(self, name: str, values: NDArray[Any]) -> str:
        kind = {"float32": "float", "int8": "int8_t", "int32": "int32_t"}[values.dtype.name]
        body = "\n".join(_wrapped(_number(value) for value in values))
        return f"/* {self.shapes[name]} */\nstatic const {kind} {name}[{values.size}] = {{\n{body}\n}};\n"

    def _predict(self) -> str:
        macro = self.name.upper()
        arrays = [f"    float values_{slot}[{size}];" for slot, size in enumerate(self.buffers)]
        if self.levels:
            arrays.append(f"    int8_t levels[{self.levels}];")
        declared = "\n".join(arrays) + "\n\n" if arrays else ""
        calls = "\n".join(f"    {call}" for call in self.calls)
        arguments = f"const float input[{macro}_INPUTS], float output[{macro}_OUTPUTS]"
        return f"void {self.name}_predict({arguments})\n{{\n{declared}{calls}\n}}\n"

    def _self_test(self) -> str:
        """Stored samples with their outputs, and a main that compares."""
        macro = self.name.upper()
        if self.dtype == "int8":
            outputs = quantization.run(self.inference, self.samples, self.quantized)
        else:
            outputs = self.inference.run(self.samples.astype(np.float64))
        tolerance = 1e-2 if self.dtype == "int8" else 1e-5
        rows = len(self.samples)
        inputs_text = "\n".join(_wrapped(_number(value) for value in self.samples.ravel()))
        outputs_text = "\n".join(_wrapped(f"{value:#.6g}f" for value in outputs.ravel()))
        allowed = max(float(np.abs(outputs).max()), 1e-30) * tolerance
        return f"""\
#ifdef {macro}_SELF_TEST
#include <stdio.h>

static const float test_inputs[{rows} * {macro}_INPUTS] = {{
{inputs_text}
}};

static const float test_outputs[{rows} * {macro}_OUTPUTS] = {{
{outputs_text}
}};

/* Prints the largest difference from the stored outputs; returns 1 if it is too large. */
int main(void)
{{
    const float allowed = {allowed:.2e}f;
    float largest = 0.0f;
    for (int row = 0; row < {rows}; row++) {{
        float output[{macro}_OUTPUTS];
        {self.name}_predict(test_inputs + row * {macro}_INPUTS, output);
        for (int i = 0; i < {macro}_OUTPUTS; i++) {{
            const float difference = fabsf(output[i] - test_outputs[row * {macro}_OUTPUTS + i]);
            if (!(difference <= largest)) {{
                largest = difference;
            }}
        }}
    }}
    printf("largest difference %g, allowed %g\\n", (double)largest, (double)allowed);
    return largest <= allowed ? 0 : 1;
}}
#endif
"""


# Operations that change nothing at inference.
_IDENTITIES = ("dropout_forward",)
# Operations that go element by element or row by row, and may write where they read.
_IN_PLACE = ("activation_forward", "softmax_forward")


def _reads(node: Node) -> list[Value]:
    y = result(node)
    return [v for v in node.operands.values() if v is not None and v is not y and v.arena == "workspace"]


def _identifier(name: str, prefix: str) -> str:
    """A name that C allows."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain[:1].isalpha() else f"{prefix}_{plain}"


def _number(value: Any) -> str:
    """A constant of C that has exactly this value."""
    if isinstance(value, np.floating):
        text = str(np.float32(value))
        return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
    return str(int(value))


def _wrapped(words: Iterable[str]) -> Iterator[str]:
    """Lines of words with commas."""
    line = ""
    for word in words:
        if line and len(line) + len(word) + 6 > LINE:
            yield f"    {line}"
            line = ""
        line += f" {word}," if line else f"{word},"
    yield f"    {line}"


def _summary(model: LayerStack) -> list[str]:
    """The layers: name, description, outputs."""
    size = model.input_size
    rows = [("input", "", str(size))]
    for layer in model.layers:
        size = layer.output_size(size)
        rows.append((layer.name, repr(layer), str(size)))
    name, kind, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = (f"{a:<{name}}  {b:<{kind}}  {c:>6}" for a, b, c in rows)
    return [line.replace("*/", "* /").replace("/*", "/ *") for line in lines]


def _samples(model: LayerStack, calibration: Array | None) -> NDArray[np.float32]:
    """Samples for the self-test: of the calibration, else normally distributed."""
    if calibration is not None:
        return calibration[:TESTED].astype(np.float32)
    return np.random.default_rng(0).standard_normal((TESTED, model.input_size)).astype(np.float32)
