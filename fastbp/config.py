"""What this installation is and what it found on this machine."""

from __future__ import annotations

import platform

import numpy as np

from fastbp._version import __version__
from fastbp.engine import backend
from fastbp.threads import get_num_threads


def config() -> dict[str, object]:
    """Return the configuration as a dictionary.

    Returns
    -------
    dict
        version, backend ("native" or "reference"), isa (instruction set in use, None on the
        reference), isas (all that this machine can run, best first), threads (the limit), openmp
        (whether the engine was built with it), numpy, python, machine.
    """
    native = backend.native()
    return {
        "version": __version__,
        "backend": backend.NAME,
        "isa": native.ISA if native else None,
        "isas": list(native.isas()) if native else [],
        "threads": get_num_threads(),
        "openmp": bool(native and native.HAS_OPENMP),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def show_config() -> None:
    """Print the configuration, one line a fact.

    Examples
    --------
    >>> import fastbp as bp
    >>> bp.show_config()
    version: ...
    """
    for name, value in config().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{name}: {text if text not in (None, '') else '-'}")
