"""What the machine can do: the kernels that measure it."""

import numpy as np
import pytest

import fastbp as bp
from fastbp import machine


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setattr(machine, "ROUNDS", 1000)
    monkeypatch.setattr(machine, "SWEEP_BYTES", 2**16)


def test_limits_are_numbers_of_this_world(engine, dtype):
    measured = [machine.fma_peak(dtype, seconds=0), machine.memory_bandwidth(seconds=0)]
    if engine.native:
        assert all(1e6 < value < 1e16 for value in measured)
    else:
        assert measured == [None, None]


def test_operations_are_those_of_all_threads(engine, dtype):
    if engine.native:
        vector = engine.edges(dtype)["vector"]
        one = engine.native.multiply_adds(dtype, 1)
        assert one % (2 * vector) == 0 and one >= 2 * vector * 12
        for threads in engine.teams:
            bp.set_num_threads(threads)
            assert engine.native.multiply_adds(dtype, 7) == 7 * threads * one
        assert engine.native.multiply_adds(dtype, 0) == 0


def test_a_sweep_goes_over_each_element_once(engine, dtype):
    if engine.native:
        vector = engine.edges(dtype)["vector"]
        for size in (0, 1, vector - 1, vector + 1, 4095, 4096, 4097, 9001):
            for threads in engine.teams:
                bp.set_num_threads(threads)
                whole = np.arange(size + 2, dtype=dtype)
                engine.native.sweep(whole[1:-1])
                assert np.array_equal(whole[1:-1], np.arange(1, size + 1) / 2)
                assert whole[0] == 0 and whole[-1] == size + 1
