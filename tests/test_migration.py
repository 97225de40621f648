"""The migration pages: both halves are there, and the other library's half runs where it is installed."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("library", ["torch", "keras"])
def test_both_halves(library, tmp_path):
    page = "migrating-from-pytorch.md" if library == "torch" else "migrating-from-keras.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ours = [block for block in blocks if block.startswith(">>>")]
    theirs = "".join(block for block in blocks if not block.startswith(">>>"))
    assert len(ours) >= 2
    assert f"import {library}" in theirs
    compile(theirs, page, "exec")
    if find_spec(library):
        backend = {"KERAS_BACKEND": "torch"} if find_spec("torch") else {}
        result = subprocess.run(
            [sys.executable, "-"],
            input=theirs,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | backend,
        )
        assert result.returncode == 0, result.stderr
