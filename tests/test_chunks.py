"""Epochs in chunks: the engine is called for a short time each, so that Ctrl-C ends a training soon."""

import subprocess
import sys
import textwrap

import pytest

from fastbp.chunks import Pace, run_in_chunks

INTERRUPTED = """
    import os, signal, sys, threading, time
    import numpy as np
    import fastbp as bp

    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20000, 64)).astype("float32"), rng.normal(size=(20000, 8)).astype("float32")
    model = bp.Sequential([bp.layers.Dense(128, "relu"), bp.layers.Dense(8)], loss="mse", seed=0)
    sent = []

    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    # after the second epoch, so that the third one is cut
    def soon(epoch):
        if epoch == 2:
            threading.Timer(0.02, interrupt).start()

    try:
        model.fit(X, Y, epochs=10**6, batch_size=16, callbacks=[bp.callbacks.LambdaCallback(soon)])
    except KeyboardInterrupt:
        delay = time.perf_counter() - sent[0]
    else:
        sys.exit("not interrupted")
    steps = model.history.history["loss"]
    assert len(steps) >= 2 and np.isfinite(steps).all(), steps
    assert np.isfinite(model.predict(X[:10])).all()
    model.fit(X[:100], Y[:100], epochs=2)
    assert len(model.history.epoch) == 2
    print(delay)
"""


def test_ctrl_c_ends_training_soon_and_the_model_goes_on():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 0.5  # 50 ms on a quiet machine


LONG_BATCH = """
    import os, signal, threading, time
    import numpy as np
    import fastbp as bp

    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(9000, 256)).astype("float32"), rng.normal(size=(9000, 8)).astype("float32")

    def make():
        layers = [bp.layers.Dense(768, "relu"), bp.layers.Dense(768, "relu"), bp.layers.Dense(8)]
        return bp.Sequential(layers, loss="mse", optimizer="sgd", seed=0, input_size=256)

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    def start(epoch, logs):
        if epoch == 0:  # in the middle of the second batch
            background.append(model._require_network()._background)
            threading.Timer(0.4 * seconds, interrupt).start()

    background, model, plain = [], make(), make()
    begin = time.perf_counter()
    plain.fit(X, Y, batch_size=len(X))
    seconds = time.perf_counter() - begin
    try:
        model.fit(X, Y, batch_size=len(X), epochs=50,
                  callbacks=[bp.callbacks.LambdaCallback(on_epoch_end=start)])
    except KeyboardInterrupt:
        print("still running" if not background[0]._done.is_set() else "at its end")
    steps = int(model._require_network().counters[0])  # waits for the step that was left behind
    assert steps >= len(model.history.epoch) >= 1, steps
    plain.fit(X, Y, batch_size=len(X), epochs=steps, initial_epoch=1)
    assert (model.parameters == plain.parameters).all()
    try:
        threading.Timer(0.5 * seconds, interrupt).start()
        model.fit(X, Y, batch_size=len(X), epochs=50)
    except KeyboardInterrupt:
        pass  # and the process ends with a step behind it
"""


def test_ctrl_c_does_not_wait_for_the_end_of_a_long_batch():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LONG_BATCH)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "still running"  # it comes after less than a millisecond on a quiet machine


class Clock:
    """The module `time` where nothing but sleeping takes any."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fastbp.chunks.time", clock)
    return clock


def test_the_engine_is_called_for_a_short_time_each(clock):
    """Between the calls Python sees Ctrl-C: one call lasts about 50 ms, however long the epoch is."""
    calls = []

    def run(first, count, sums):
        calls.append((first, count))
        clock.sleep(0.002 * count)
        return sums[0] + count, sums[1] + count

    assert run_in_chunks(run, 200, 1) == (200.0, 200.0)
    assert [first for first, _ in calls] == [sum(count for _, count in calls[:n]) for n in range(len(calls))]
    assert calls[:2] == [(0, 1), (1, 10)]
    assert {count for _, count in calls[2:-1]} <= {24, 25}


def test_the_next_epoch_goes_on_at_the_pace_of_the_last_one(clock):
    pace, calls = Pace(), []

    def run(first, count, sums):
        calls.append(count)
        clock.sleep(0.0001 * count)
        return sums

    run_in_chunks(run, 100, 1, pace=pace)
    assert calls == [1, 10, 89]
    run_in_chunks(run, 100, 1, pace=pace)
    assert calls[3:] == [100]


def test_only_the_first_batch_is_guessed_to_be_slow():
    pace = Pace()
    pace.expect(1e12)
    assert pace.slow
    pace.note(1, 0.001)
    pace.expect(1e12)
    assert not pace.slow
