import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbp.datasets import load_digits, split_rows


def test_digits_are_the_published_ones():
    X, y = load_digits()
    assert X.shape == (1797, 64) and X.dtype == np.float32
    assert y.shape == (1797,) and y.dtype == np.int64
    assert X.min() == 0 and X.max() == 16 and np.array_equal(X, np.round(X))
    assert X.sum() == 561718
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # the first image is a zero: an empty middle, ink around it
    zero = X[0].reshape(8, 8)
    assert zero[0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert y[0] == 0


def test_each_call_gives_arrays_of_its_own():
    X, y = load_digits()
    X[:] = -1
    y[:] = -1
    again = load_digits()
    assert again[0].min() == 0 and again[1].min() == 0


def test_split_of_the_digits_is_in_proportion():
    _, y = load_digits()
    train, test = split_rows(y, 0.2, seed=0)
    assert len(test) == 359 and len(train) == 1438
    share = np.bincount(y[test]) / np.bincount(y)
    assert np.all(np.abs(share - 0.2) < 0.01)


def test_split_follows_its_seed():
    labels = np.arange(100) % 3
    assert np.array_equal(split_rows(labels, 0.3, seed=5)[1], split_rows(labels, 0.3, seed=5)[1])
    assert not np.array_equal(split_rows(labels, 0.3, seed=5)[1], split_rows(labels, 0.3, seed=6)[1])


@given(
    labels=st.lists(st.integers(0, 4), min_size=0, max_size=60),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 5),
)
def test_split_is_a_partition_that_leaves_every_class_in_training(labels, fraction, seed):
    train, held_out = split_rows(labels, fraction, seed)
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    assert {labels[row] for row in train} == set(labels)
    if fraction > 0 and len(labels) > len(set(labels)):
        assert len(held_out) >= 1
    if fraction == 0:
        assert len(held_out) == 0


def test_split_takes_text_labels():
    train, held_out = split_rows(np.array(["a", "b"] * 10), 0.5)
    assert len(train) == len(held_out) == 10


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, float("nan")])
def test_split_rejects_a_fraction_outside_its_limits(fraction):
    with pytest.raises(ValueError, match="fraction must be at least 0 and below 1"):
        split_rows([0, 1], fraction)


def test_split_rejects_a_matrix():
    with pytest.raises(ValueError, match=r"vector, not of shape \(2, 2\)"):
        split_rows(np.zeros((2, 2)))
