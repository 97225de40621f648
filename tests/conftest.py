"""What needs the compiled extension is left out where another interpreter is in use.

The folder of the checkout can be imported from, for bench/.
"""

import sys
from pathlib import Path

from fastbp.engine import backend

collect_ignore = [] if backend.native() else ["engine/test_native.py"]

sys.path.append(str(Path(__file__).resolve().parents[1]))  # at the end: the installed package goes first
