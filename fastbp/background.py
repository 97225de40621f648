"""Long calls of the engine in another thread, so that this one sees Ctrl-C while they run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS_PER_LOOK = 0.05  # on systems where a signal does not wake a thread that waits


class Background:
    """Runs calls of which an interruption may leave one behind, still running.

    Nothing may touch what such a call works on before :meth:`wait` returns.
    """

    def __init__(self) -> None:
        self._done: threading.Event | None = None

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in another thread, when this is the thread that signals interrupt."""
        if threading.current_thread() is not threading.main_thread():
            return function()
        returned: list[T] = []
        raised: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                returned.append(function())
            except BaseException as error:
                raised.append(error)
            finally:
                done.set()

        # No daemon: a process that ends waits for it, else it would go on in a dead interpreter.
        thread = threading.Thread(target=work)
        self._done = done
        try:
            thread.start()
        except BaseException:
            if thread.ident is None:  # it will never run
                done.set()
            raise
        self.wait()
        if raised:
            raise raised[0]
        return returned[0]

    def wait(self) -> None:
        """Wait for a call that was left behind."""
        # An event, because joining a thread is not safe against a signal in Python 3.11.
        while self._done is not None and not self._done.wait(SECONDS_PER_LOOK):
            pass
        self._done = None
