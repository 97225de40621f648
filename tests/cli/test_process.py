"""The command line as a process of its own: exit codes, streams, signals, terminals."""

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastbp as bp
from fastbp.cli import main

TABLES = runpy.run_path(str(Path(__file__).with_name("tables.py")))
QUICK, read_columns = TABLES["QUICK"], TABLES["read_columns"]
write_flowers, write_prices = TABLES["write_flowers"], TABLES["write_prices"]


def start(*arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "fastbp", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_module_and_exit_codes():
    process = start("--version")
    assert process.communicate() == (f"fastbp {bp.__version__}\n", "")
    assert process.returncode == 0
    process = start("train", "nowhere.csv", "--target", "y")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("fastbp: nowhere.csv")
    assert "Traceback" not in err


def test_train_as_a_process():
    process = start("train", "--epochs", 3)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.count("\nepoch ") == 3
    assert "\r" not in out


def test_a_stream_that_knows_only_ascii(folder):
    (folder / "t.csv").write_text(
        "größe,y\n" + "".join(f"{row},{'äö'[row % 2]}\n" for row in range(60)), "utf-8"
    )
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    out, err = start("train", "t.csv", "--target", "y", *QUICK, env=ascii_only).communicate()
    assert "saved      t.safetensors" in out
    assert err == ""
    process = start("predict", "t.safetensors", "t.csv", env=ascii_only)
    assert process.communicate()[1].startswith("fastbp: standard output (ascii) cannot show all classes")
    assert process.returncode == 2
    process = start("predict", "t.safetensors", "t.csv", "--out", "p.csv", env=ascii_only)
    assert process.communicate() == ("", "")
    assert set(read_columns("p.csv")["prediction"]) <= {"ä", "ö"}


def test_reader_of_predictions_may_leave(folder):
    rows = 60_000  # two bytes each: more than a pipe holds, so the writer is there when the reader leaves
    (folder / "t.csv").write_text("a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(rows)))
    assert main(["train", "t.csv", "--target", "y", "--epochs", "1", "--layers", "2"]) == 0
    process = start("predict", "t.safetensors", "t.csv")
    assert process.stdout.readline() == "prediction\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_reader_of_training_may_leave_and_the_model_is_saved(folder):
    process = start("train", write_flowers(), "--target", "species", "--out", "m.safetensors")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    assert bp.load("m.safetensors").metadata["table"]["target"]["name"] == "species"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c(folder):
    process = start("train", write_flowers(rows=3000), "--target", "species", "--epochs", 1_000_000)
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - begin < 10
    assert (process.returncode, err) == (130, "fastbp: interrupted\n")
    assert not list(folder.glob("*.safetensors*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_a_bar(folder):
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "fastbp", "train", "--epochs", "2"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other side has closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    assert b"epoch 2/2: 100%" in shown
    assert b"test       accuracy" in shown
