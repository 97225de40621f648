"""What was measured, where and when."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.peers import PEERS
from fastbp import machine
from fastbp.config import config
from fastbp.threads import available_cores

ROOT = Path(__file__).resolve().parents[1]


def about(peers: Iterable[str], argv: Sequence[str] | None, program: str = "bench") -> dict[str, str]:
    """Return facts by name; `program` is the module that was run."""
    facts = config()
    packages = {PEERS[peer].package: PEERS[peer].version for peer in peers}
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": machine.processor(),
        "cores": f"{available_cores()} to use",
        "load before": load,
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{package} {version}" for package, version in packages.items()),
        "engine": f"{facts['backend']}, {facts['isa'] or 'NumPy'}",
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "-m", program, *(sys.argv[1:] if argv is None else argv)]),
    }


def commit() -> str:
    """Return the commit of this checkout, and whether files differ from it."""
    try:
        describe = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
