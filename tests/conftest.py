"""What needs the compiled extension is left out where another interpreter is in use."""

from fastbp.engine import backend

collect_ignore = [] if backend.native() else ["engine/test_native.py"]
