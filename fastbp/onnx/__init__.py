"""ONNX in and out: :func:`export` writes a model for any ONNX runtime, :func:`load` makes a file trainable.

Needs the extra: ``pip install "fastbp[onnx]"``.
"""

from fastbp.onnx.exporting import export
from fastbp.onnx.loading import load

__all__ = ["export", "load"]
