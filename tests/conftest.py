"""What needs the compiled extension, or another library, is left out where that is not in use.

scikit-learn's checks and tests, bench's, and those that start other processes, take most of a minute and ask
nothing of interpreters or instruction sets: they take part once, where the environment forces neither. The
folder of the checkout can be imported from, for bench/.
"""

import os
import sys
from pathlib import Path

import pytest

from fastbp.engine import backend

collect_ignore = [] if backend.native() else ["engine/test_native.py", "engine/test_native_runs.py"]
collect_ignore_glob = ["vectors/*.py"]  # scripts that write files for tests
if os.environ.get("FASTBP_BACKEND") or os.environ.get("FASTBP_ISA"):
    collect_ignore += ["cli/test_process.py", "test_bench.py"]
    collect_ignore += ["test_sklearn_checks.py", "test_sklearn_own.py", "test_sklearn_parallel.py"]
    collect_ignore += ["test_processes.py"]

sys.path.append(str(Path(__file__).resolve().parents[1]))  # at the end: the installed package goes first

NATIVE = backend._import_native()
INTERPRETERS = {"reference": None} | ({"native": NATIVE} if NATIVE else {})


@pytest.fixture(params=INTERPRETERS)
def interpreter(request, monkeypatch):
    """Each interpreter in turn, whichever the environment asks for."""
    monkeypatch.setattr(backend, "_NATIVE", INTERPRETERS[request.param])
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    """Where a test writes its model."""
    return tmp_path / "model.safetensors"
