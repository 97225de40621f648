"""``python -m fastbp`` is the command ``fastbp``."""

import sys

from fastbp.cli import main

if __name__ == "__main__":
    sys.exit(main())
