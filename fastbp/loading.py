"""A model from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fastbp import configurable, model_file, saving
from fastbp.model import Sequential


def load(path: str | os.PathLike[str], *, custom_objects: Mapping[str, Any] | None = None) -> Sequential:
    """Read a model that :meth:`Sequential.save` wrote.

    Parameters
    ----------
    path : str or path
    custom_objects : dict, optional
        Classes and functions of your own by the names that they were saved under. Functions are always
        needed here, for a file holds no code; classes only where this process has not defined them.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is damaged, no fastbp file, of an unknown version, or its tensors do not fit its layers.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp as bp
    >>> model = bp.Sequential([bp.layers.Dense(2)], input_size=3, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(os.path.join(folder, "model.safetensors"))
    ...     copy = bp.load(os.path.join(folder, "model.safetensors"))
    >>> bool((copy.layers[0].weight == model.layers[0].weight).all())
    True
    """
    tensors, description = model_file.read(path)
    with configurable.custom_objects(custom_objects):
        try:
            return saving.restore(Sequential, description, tensors)
        except (LookupError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{os.fspath(path)!r}: the description of the model is damaged: {error!r}"
            ) from error
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r}: {error}") from error
