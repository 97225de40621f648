"""A model as one C99 file and its header: no allocation, nothing beyond math.h.

The operations of the forward pass become calls, parameters become constant arrays, values become arrays on
the stack that are used again as soon as nothing reads them any more. Equal models give equal text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastbp import model_file, quantization
from fastbp._version import __version__
from fastbp.c_calls import Body, identifier, number
from fastbp.c_kernels import FUNCTIONS
from fastbp.checks import check_choice
from fastbp.engine.graph import Node
from fastbp.inference import Array, Inference, trace
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
        self.name = identifier(name, "net")
        self.inference = trace(model)
        self.quantized: dict[Node, QuantizedDense] = {}
        if dtype == "int8":
            assert calibration is not None
            self.quantized = quantization.quantize(self.inference, calibration.astype(np.float32))
        self.samples = _samples(self.inference, calibration)
        self.body = Body(self.inference, self.quantized)

    @property
    def flash(self) -> int:
        """Bytes of the constants."""
        return sum(values.nbytes for values, _ in self.body.constants.values())

    @property
    def ram(self) -> int:
        """Bytes of the arrays on the stack."""
        return 4 * sum(self.body.buffers) + self.body.levels

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
        parts += [_array(name, *constant) for name, constant in self.body.constants.items()]
        parts += [FUNCTIONS[name] for name in FUNCTIONS if name in self.body.functions]
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

    def _predict(self) -> str:
        macro = self.name.upper()
        arrays = [f"    float values_{slot}[{size}];" for slot, size in enumerate(self.body.buffers)]
        if self.body.levels:
            arrays.append(f"    int8_t levels[{self.body.levels}];")
        declared = "\n".join(arrays) + "\n\n" if arrays else ""
        calls = "\n".join(f"    {call}" for call in self.body.calls)
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
        inputs_text = "\n".join(_wrapped(number(value) for value in self.samples.ravel()))
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


def _array(name: str, values: NDArray[Any], what: str) -> str:
    kind = {"float32": "float", "int8": "int8_t", "int32": "int32_t"}[values.dtype.name]
    body = "\n".join(_wrapped(number(value) for value in values))
    return f"/* {what} */\nstatic const {kind} {name}[{values.size}] = {{\n{body}\n}};\n"


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


def _samples(inference: Inference, calibration: Array | None) -> NDArray[np.float32]:
    """Samples for the self-test: of the calibration, else normal numbers, and rows that tables have."""
    if calibration is not None:
        return calibration[:TESTED].astype(np.float32)
    samples = np.random.default_rng(0).standard_normal((TESTED, inference.input.columns))
    for index in inference.indices:
        samples[:, index.column] = np.arange(TESTED) % index.count
    return samples.astype(np.float32)
