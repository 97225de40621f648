"""The onnx package, which only these two functions need."""

from __future__ import annotations

from types import ModuleType


def library() -> ModuleType:
    """Import the onnx package.

    Raises
    ------
    ImportError
        Saying how to install it.
    """
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError('ONNX needs the onnx package: pip install "fastbp[onnx]"') from error
    module: ModuleType = onnx
    return module
