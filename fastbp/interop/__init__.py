"""Models and weights from PyTorch, Keras and scikit-learn, and back to them.

Reading asks objects for their attributes and imports none of these libraries; writing imports the one that it
is for. Numbers are copied as they are: there and back gives the same bits.
"""

from fastbp.interop.keras import from_keras, to_keras
from fastbp.interop.sklearn import from_sklearn, to_sklearn
from fastbp.interop.state import load_weights, save_weights
from fastbp.interop.torch import from_torch, to_torch

__all__ = [
    "from_keras",
    "from_sklearn",
    "from_torch",
    "load_weights",
    "save_weights",
    "to_keras",
    "to_sklearn",
    "to_torch",
]
