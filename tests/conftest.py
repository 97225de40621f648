"""What needs the compiled extension, or another library, is left out where that is not in use."""

from fastbp.engine import backend

collect_ignore = [] if backend.native() else ["engine/test_native.py"]
collect_ignore_glob = ["vectors/*.py"]  # scripts that write files for tests
