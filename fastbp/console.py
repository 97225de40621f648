"""The two output streams of the command line, which may be closed or have no reader any more."""

from __future__ import annotations

import contextlib
import os
import sys


def say(line: str = "") -> None:
    """Print a line, and never fail: what is being trained is worth more than the line.

    When the reader has gone (``| head``) or the disk is full, go on in silence; characters that the
    stream cannot show are escaped.
    """
    try:
        print(line, flush=True)
    except UnicodeEncodeError:
        say(line.encode("ascii", "backslashreplace").decode())
    except OSError:
        discard_output()


def complain(message: str) -> None:
    """Say in one line on stderr what is wrong."""
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed: the exit code says it then
        print("fastbp:", " ".join(message.split()), file=sys.stderr)


def discard_output() -> None:
    """Send what is still to come to nowhere, when stdout takes no more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
