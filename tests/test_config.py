"""show_config, and the choice of the interpreter by the environment."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

import fastbp as bp
from fastbp import config
from fastbp.engine import backend

NATIVE = backend._import_native()


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment
    )


def test_config_tells_the_facts():
    facts = config.config()
    assert list(facts) == [
        "version",
        "backend",
        "isa",
        "isas",
        "threads",
        "openmp",
        "numpy",
        "python",
        "machine",
    ]
    assert facts["version"] == bp.__version__
    assert facts["numpy"] == np.__version__
    assert facts["python"] == platform.python_version()
    assert facts["threads"] == bp.get_num_threads()
    assert facts["backend"] == backend.NAME
    if facts["backend"] == "native":
        assert facts["isa"] in facts["isas"]
    else:
        assert facts["isa"] is None and facts["isas"] == [] and facts["openmp"] is False


def test_show_config_prints_a_line_for_each_fact(capsys, monkeypatch):
    bp.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == list(config.config())
    assert all(len(line.split(": ")) == 2 for line in lines)
    monkeypatch.setattr(backend, "_NATIVE", None)
    bp.show_config()
    assert "isa: -\nisas: -\n" in capsys.readouterr().out


def test_the_reference_can_be_chosen_silently():
    code = "import fastbp as bp; bp.show_config()"
    result = run(code, FASTBP_BACKEND="reference", PYTHONWARNINGS="error")
    assert result.returncode == 0, result.stderr
    assert "backend: reference\n" in result.stdout


def test_an_unknown_interpreter_is_an_error():
    result = run("import fastbp", FASTBP_BACKEND="gpu")
    assert "ValueError: FASTBP_BACKEND must be 'native' or 'reference', not 'gpu'" in result.stderr


WITHOUT_EXTENSION = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "fastbp.engine._native":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
import fastbp as bp
print(bp.Sequential([bp.layers.Dense(2)]).predict([[1.0]]).shape)
bp.show_config()
"""


def test_without_the_extension_the_reference_runs_and_one_warning_says_so():
    result = run(WITHOUT_EXTENSION, FASTBP_BACKEND="")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("RuntimeWarning: fastbp has no compiled extension here") == 1
    assert "(1, 2)" in result.stdout and "backend: reference" in result.stdout


def test_without_the_extension_the_native_interpreter_cannot_be_forced():
    result = run(WITHOUT_EXTENSION, FASTBP_BACKEND="native")
    assert "ImportError: FASTBP_BACKEND=native, but this installation" in result.stderr


@pytest.mark.parametrize("isa", NATIVE.isas() if NATIVE else ())
def test_an_instruction_set_can_be_forced(isa):
    result = run("import fastbp as bp; bp.show_config()", FASTBP_BACKEND="native", FASTBP_ISA=isa)
    assert f"isa: {isa}\n" in result.stdout


def test_an_unknown_instruction_set_lists_what_there_is():
    result = run("import fastbp", FASTBP_BACKEND="", FASTBP_ISA="avx1024")
    if NATIVE:
        assert "ValueError: FASTBP_ISA='avx1024' is not available" in result.stderr
        assert ", ".join(NATIVE.isas()) in result.stderr
    else:
        assert result.returncode == 0
