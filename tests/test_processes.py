"""Training in processes that others made: nothing hangs, the numbers are the same, limits hold."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("train_in_processes.py")
JOBLIB = ("loky", "multiprocessing", "threading")
PATIENCE = 300
"""Seconds after which it counts as hung."""


@pytest.mark.parametrize("limit", ["", "1"], ids=["unlimited", "limited"])
@pytest.mark.parametrize("how", [*multiprocessing.get_all_start_methods(), *JOBLIB])
def test_processes_after_training(how, limit):
    command = [sys.executable, SCRIPT, how, *filter(None, [limit])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
