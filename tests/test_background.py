"""Calls in another thread: results, errors, and what an interruption leaves behind."""

import copy
import threading
import time

import pytest

import fastbp as bp
from fastbp import background
from fastbp.background import Background


def test_results_and_errors_come_back():
    calls = Background()
    assert calls.call(threading.current_thread) is not threading.main_thread()
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 / 0)
    assert calls.call(lambda: 3) == 3


def test_a_thread_that_no_signal_interrupts_needs_no_other():
    calls, seen = Background(), []
    thread = threading.Thread(target=lambda: seen.append(calls.call(threading.current_thread)))
    thread.start()
    thread.join()
    assert seen == [thread]


def test_an_interruption_leaves_the_call_running_and_wait_waits_for_it(monkeypatch):
    calls, ended = Background(), []
    wait = threading.Event.wait

    def interrupted(event, timeout=None):
        if timeout == background.SECONDS_PER_LOOK:
            raise KeyboardInterrupt
        return wait(event, timeout)

    def work():
        time.sleep(0.2)
        ended.append(True)

    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calls.call(work)
    monkeypatch.undo()
    assert ended == []
    calls.wait()
    assert ended == [True]
    assert calls.call(lambda: 3) == 3


def test_a_thread_that_cannot_start_leaves_nothing_to_wait_for(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    calls = Background()
    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start"):
        calls.call(lambda: 3)
    monkeypatch.undo()
    calls.wait()


def test_a_copy_of_a_model_has_a_background_of_its_own():
    model = bp.Sequential([bp.layers.Dense(1)], input_size=1)
    assert copy.deepcopy(model)._require_network()._background is not model._require_network()._background
