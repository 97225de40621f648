"""Which samples are for training, and in what order an epoch visits them."""

import numpy as np
import pytest

from fastbp.order import batch_order, check_shuffle, split


@pytest.mark.parametrize(
    ("n", "fraction", "training"),
    [
        (10, 0, 10),
        (1, 0.0, 1),
        (10, 0.2, 8),
        (10, 0.25, 7),
        (3, 0.5, 1),
        (100, 0.9, 10),
        (10, 0.9, 1),
        (1000, 0.001, 999),
    ],
)
def test_split(n, fraction, training):
    assert split(n, fraction) == training


@pytest.mark.parametrize(
    ("fraction", "error"),
    [
        (1.0, ValueError),
        (-0.1, ValueError),
        (np.nan, ValueError),
        (0.95, ValueError),
        (1e-9, ValueError),
        ("0.1", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_split_what_is_wrong(fraction, error):
    with pytest.raises(error, match="validation_split"):
        split(10, fraction)


def test_batch_order():
    order = batch_order(100, True, np.random.default_rng(3))
    assert order.dtype == np.int64
    assert sorted(order) == list(range(100))
    np.testing.assert_array_equal(order, batch_order(100, True, np.random.default_rng(3)))
    assert not np.array_equal(order, np.arange(100))
    np.testing.assert_array_equal(batch_order(5, False, np.random.default_rng(0)), np.arange(5))


@pytest.mark.parametrize(("n", "size"), [(1, 1), (10, 3), (12, 3), (5, 5), (100, 7)])
def test_batches_are_shuffled_whole(n, size):
    order = batch_order(n, "batch", np.random.default_rng(1), size)
    assert sorted(order) == list(range(n))
    for begin in range(0, n, size):
        batch = order[begin : begin + size]
        assert batch[0] % size == 0
        np.testing.assert_array_equal(batch, batch[0] + np.arange(len(batch)))
    assert n < 9 * size or not np.array_equal(order, np.arange(n))


@pytest.mark.parametrize("shuffle", [None, 1, "rows", "Batch", np.array([True, False])])
def test_what_shuffle_may_be(shuffle):
    assert [check_shuffle(good) for good in (True, False, "batch")] == [True, False, "batch"]
    with pytest.raises(TypeError, match="shuffle must be True, False or 'batch', got"):
        check_shuffle(shuffle)
