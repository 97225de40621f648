"""Random numbers by position, and the permutations that are made of them."""

import itertools
import math

import numpy as np
import pytest

from fastbp.engine import backend
from fastbp.engine.random import dropped_share, permutation, philox, random_halves, random_words


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0, 0), "5f6fb709 0d893f64 4f121f81 4f730a48"),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, "5207ddc2 45165e59 4d8ee751 8c52f662"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "4dfccaba 190a87f0 c47362ba b6b5242a",
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, words):
    assert " ".join(f"{word:08x}" for word in philox(counter, key)) == words


def test_random_words_are_counted_by_row_and_column():
    seed, draw, stream = 2**40 + 5, 3 * 2**32 + 9, 65530
    words = random_words(seed, draw, stream, 3, 6)
    assert words.shape == (3, 6)
    last = (stream + 65536 * 3) % 2**32
    for row, column in np.ndindex(3, 6):
        block = philox((column // 4, row, 9, last), (5, 2**8))
        assert words[row, column] == block[column % 4]
    np.testing.assert_array_equal(random_words(seed, draw, stream, 2, 5), words[:2, :5])


def test_halves_are_those_of_the_words():
    words = random_words(7, 3, 1, 4, 8)
    halves = random_halves(7, 3, 1, 4, 13)
    assert halves.shape == (4, 13)
    for row, column in np.ndindex(4, 13):
        assert halves[row, column] == words[row, column // 2] >> 16 * (column % 2) & 0xFFFF
    np.testing.assert_array_equal(random_halves(7, 3, 1, 2, 3), halves[:2, :3])


@pytest.mark.parametrize(
    ("rate", "share"), [(0, 0), (7e-6, 0), (8e-6, 1), (0.1, 6554), (0.5, 32768), (1 - 1e-7, 65535)]
)
def test_the_share_that_is_dropped_is_the_nearest_one(rate, share):
    assert dropped_share(rate) == share


# ---- permutations ----------------------------------------------------------------------

EPOCHS = 20_000 if backend.native() else 1_000  # the reference takes some 0.3 ms for each


def orders(n, epochs, seed):
    """One permutation for each of many keys, as the engine in use makes them."""
    keys = np.random.default_rng(seed).integers(2**64, size=epochs, dtype=np.uint64)
    return np.array([backend.permutation(key, n) for key in keys.tolist()])


def deviation(counts, expected):
    """How far a χ² of counts, one for each cell, is from its mean, in standard deviations."""
    counts = np.asarray(counts, float)
    square = np.sum((counts - expected) ** 2 / expected)
    return (square - (counts.size - 1)) / math.sqrt(2 * (counts.size - 1))


@pytest.mark.parametrize("n", [*range(70), 100, 127, 128, 129, 1000, 4095, 4096, 4097, 10_000, 2**16 + 1])
def test_each_number_comes_once(n):
    for key in (0, 1, 2**64 - 1, 0x9E3779B97F4A7C15):
        order = permutation(key, n)
        assert order.dtype == np.int64
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
        np.testing.assert_array_equal(permutation(key, n, n // 3, n // 2), order[n // 3 :][: n // 2])


@pytest.mark.parametrize("n", [2**24 - 3, 2**24, 2**24 + 1, 2**31 + 5, 2**32 - 1, 2**40])
def test_places_of_many(n):
    """Numbers of a part of a long permutation are different, in range, and spread all over it."""
    part = permutation(3, n, n - 20_000, 20_000)
    assert len(np.unique(part)) == 20_000 and part.min() >= 0 and part.max() < n
    counts = np.bincount(part * 100 // n, minlength=100)
    assert abs(deviation(counts, 200)) < 5
    assert abs(np.corrcoef(part[1:], part[:-1])[0, 1]) < 5 / math.sqrt(20_000)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_permutations_are_equally_likely(n):
    """χ² over the n! permutations, of keys at random and of keys in a row."""
    for found in (orders(n, EPOCHS, n), np.array([backend.permutation(key, n) for key in range(EPOCHS)])):
        numbers = found @ n ** np.arange(n)
        _, counts = np.unique(numbers, return_counts=True)
        assert len(counts) == math.factorial(n)
        assert abs(deviation(counts, EPOCHS / len(counts))) < 5


@pytest.mark.parametrize("n", [5, 8, 10, 16, 33, 100])
def test_each_element_lands_anywhere_and_so_does_each_pair(n):
    found = orders(n, EPOCHS, n)
    for place in range(n):
        assert abs(deviation(np.bincount(found[:, place], minlength=n), EPOCHS / n)) < 6
    other = ~np.eye(n, dtype=bool)
    row = 1 << (n - 1).bit_length() // 2  # places so far apart go through the network in parallel
    for i, j in {
        (0, 1),
        (0, row),
        (1, 1 + row),
        (0, n - 1),
        (n // 2, n - 2),
        *itertools.combinations(range(4), 2),
    }:
        pairs = np.bincount(found[:, i] * n + found[:, j], minlength=n * n).reshape(n, n)
        assert abs(deviation(pairs[other], EPOCHS / (n * (n - 1)))) < 6, (i, j)


@pytest.mark.parametrize("n", [100, 1000, 6400, 8192, 10_000])
def test_neighbours_part(n):
    """Distances between places near each other, and between those of a row, are those of chance."""
    epochs = 100 * EPOCHS // n
    found = orders(n, epochs, 1)
    for apart in (1, 2, 1 << (n - 1).bit_length() // 2):
        distances = (found[:, apart:] - found[:, :-apart]).ravel() % n
        counts = np.bincount(distances, minlength=n)
        assert counts[0] == 0
        expected = distances.size / (n - 1)
        assert abs(deviation(counts[1:], expected)) < 6
        assert abs(counts[apart] - expected) < 5 * math.sqrt(expected)
    ascents = np.sum(found[:, 1:] > found[:, :-1], axis=1)
    assert abs(ascents.mean() - (n - 1) / 2) < 5 * math.sqrt((n + 1) / 12 / epochs)
    assert abs(ascents.var() / ((n + 1) / 12) - 1) < 5 * math.sqrt(2 / epochs)


def test_even_and_odd_permutations_are_equally_likely():
    for n in (4, 7, 16):
        found = orders(n, EPOCHS, 2)
        inversions = sum(found[:, i] > found[:, j] for i, j in itertools.combinations(range(n), 2))
        assert abs(np.mean(inversions % 2) - 0.5) < 5 * 0.5 / math.sqrt(EPOCHS)
        variance = n * (n - 1) * (2 * n + 5) / 72
        assert abs(np.mean(inversions) - n * (n - 1) / 4) < 5 * math.sqrt(variance / EPOCHS)


@pytest.mark.parametrize("n", [100, 8192])
def test_epochs_know_nothing_of_each_other(n):
    """Places that keep their number from one epoch to the next are as many as by chance: one."""
    keys = range(EPOCHS // 50 if n > 1000 else EPOCHS // 4)
    found = np.array([backend.permutation(key, n) for key in keys])
    for before, after in ((found[:-1], found[1:]), (found[:-7], found[7:])):
        same = np.sum(before == after, axis=1)
        assert abs(same.mean() - 1) < 5 / math.sqrt(len(same))
    fixed = np.sum(found == np.arange(n), axis=1)
    assert abs(fixed.mean() - 1) < 5 / math.sqrt(len(fixed)) and 0.7 < fixed.var() < 1.3
