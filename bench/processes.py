"""Processes of their own for what is measured, pinned to as many cores as were asked for."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "FASTBP_NUM_THREADS",
)
PATIENCE = 900
"""Seconds after which a process counts as hung; compilers take their time."""
PARTING = 10
"""Seconds that a process has to end."""


class Failure(Exception):
    """What went wrong in a process, in one line."""


@contextlib.contextmanager
def environment(cores: int) -> Iterator[None]:
    """Let processes that start within this block have so many cores and threads from their first moment on.

    Where the system cannot pin (macOS, Windows) only the numbers of threads are set.
    """
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(cores)))
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if affinity is not None:
        os.sched_setaffinity(0, sorted(affinity)[:cores])
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        if affinity is not None:
            os.sched_setaffinity(0, affinity)


class Worker:
    """A process that answers requests, one after the other.

    Parameters
    ----------
    cores : int
    make : callable
        Called in the process with `arguments`; returns a dict of named functions that can be asked for.

    Must be stopped in the end, if only by the end of a ``with`` block: a process that is stopped by a signal
    would not notice that this one ends.
    """

    def __init__(
        self, cores: int, make: Callable[..., dict[str, Callable[..., Any]]], *arguments: Any
    ) -> None:
        context = mp.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        with environment(cores):
            self._process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a function there; its exception, or the end of the process, is a Failure here.

        Where the system can, the process sleeps at all other times: libraries whose idle threads keep looking
        for work would be at work while another process is measured.
        """
        self._signal("SIGCONT")
        try:
            self._pipe.send((name, arguments))
            if not self._pipe.poll(PATIENCE):
                raise Failure(f"no answer within {PATIENCE} s")
            error, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(10)
            raise Failure(f"the process ended with exit code {self._process.exitcode}") from None
        self._signal("SIGSTOP")
        if error:
            raise Failure(error)
        return value

    def _signal(self, name: str) -> None:
        number, pid = getattr(signal, name, None), self._process.pid
        if number is not None and pid is not None and self._process.is_alive():
            os.kill(pid, number)

    def stop(self) -> None:
        """End the process; one that is still busy after a while is killed."""
        self._signal("SIGCONT")
        self._pipe.close()
        self._process.join(PARTING)
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, make: Callable[..., dict[str, Callable[..., Any]]], arguments: Any) -> None:
    functions: dict[str, Callable[..., Any]] = {}
    with contextlib.suppress(EOFError, BrokenPipeError):  # nobody asks any more
        while True:
            name, values = pipe.recv()
            try:
                functions = functions or make(*arguments)
                answer = "", functions[name](*values)
            except Exception as error:
                answer = " ".join(f"{type(error).__name__}: {error}".split()), None
            pipe.send(answer)


def settle() -> None:
    """Give idle threads of the process that was asked last the time to fall asleep."""
    time.sleep(0.02)
