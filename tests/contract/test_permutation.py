"""The order of an epoch: the same numbers on every engine, wherever a part of it begins."""

import numpy as np
import pytest

import fastbp
from fastbp.engine import backend, random
from fastbp.order import batch_order

KEYS = (0, 1, 2**63 + 12345, 2**64 - 1)


def part(engine, key, n, first, count):
    """Some places of a permutation."""
    if not engine.native:
        return random.permutation(key, n, first, count)
    order = np.full(count, -1)
    engine.native.permutation(key, n, order, first)
    return order


@pytest.mark.parametrize(
    "n", [*range(67), 100, 127, 128, 129, 255, 256, 257, 1000, 4097, 8191, 10_000, 65_537]
)
def test_the_engines_agree(engine, n):
    for key in KEYS:
        np.testing.assert_array_equal(backend.permutation(key, n), random.permutation(key, n))


@pytest.mark.parametrize("n", [1000, 2**20 + 7, 2**24 - 1, 2**24, 2**24 + 1, 2**31 + 11, 2**33 + 1, 2**40])
def test_parts_agree(engine, n):
    for first in (0, 1, 63, n // 3, n - 131):
        for count in (0, 1, 15, 16, 17, 64, 127, 128, 129, 131):
            expected = random.permutation(5, n, first, count)
            np.testing.assert_array_equal(part(engine, 5, n, first, count), expected)


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000, 2**24 + 1])
def test_a_team_shares_it(engine, n, threads):
    fastbp.set_num_threads(threads)
    first = max(0, n - 500)
    np.testing.assert_array_equal(part(engine, 3, n, first, n - first), random.permutation(3, n, first))


def test_what_does_not_fit_is_refused(engine):
    if engine.native:
        for n, first, count in ((5, 0, 6), (5, 3, 3), (5, -1, 2), (-1, 0, 0), (2**40 + 1, 0, 1)):
            with pytest.raises(ValueError, match="expected at most"):
                engine.native.permutation(1, n, np.zeros(count, np.int64), first)
        with pytest.raises(TypeError, match="order: expected elements of type 'q', got 'd'"):
            engine.native.permutation(1, 3, np.zeros(3))


@pytest.mark.parametrize("shuffle", [True, "batch"])
def test_orders_of_epochs_agree(engine, shuffle):
    for n, size in ((1, 1), (10, 3), (1000, 32)):
        found = batch_order(n, shuffle, np.random.default_rng(4), size)
        engine.select_reference()
        np.testing.assert_array_equal(found, batch_order(n, shuffle, np.random.default_rng(4), size))
        engine.select()
