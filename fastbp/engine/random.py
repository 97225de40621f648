"""Counter-based random numbers, Philox4x32-7, and permutations made of them.

Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011).

A number is a pure function of its position, so that it comes out the same in any order, on any number of
threads and in both interpreters, and need not be stored to be had again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDS = 7  # the fewest that pass BigCrush

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_SHORT_BITS = 24


def philox(counter: Sequence[ArrayLike], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Four random words for each counter.

    Parameters
    ----------
    counter : sequence of 4 array_like
        Words of the counters, each from 0 to 2³² − 1; their shapes are broadcast.
    key : tuple of 2 int
        Words of the key.

    Returns
    -------
    ndarray of uint32, shape (..., 4)

    Examples
    --------
    >>> [f"{word:08x}" for word in philox((0, 0, 0, 0), (0, 0))]
    ['5f6fb709', '0d893f64', '4f121f81', '4f730a48']
    """
    # 32-bit words in 64-bit elements, which hold the products of two of them
    a, b, c, d = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    for number in range(_ROUNDS):
        first, second = (
            np.uint64((word + number * step) % 2**32) for word, step in zip(key, _KEY_STEPS, strict=True)
        )
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (right >> _HALF) ^ b ^ first, right & _LOW, (left >> _HALF) ^ d ^ second, left & _LOW
    return np.stack((a, b, c, d), axis=-1).astype(np.uint32)


def random_words(seed: int, draw: int, stream: int, rows: int, columns: int) -> NDArray[np.uint32]:
    """Random words for a matrix; a part of it is the same for any size of the whole.

    Parameters
    ----------
    seed : int
        0 <= seed < 2**64, the key.
    draw : int
        0 <= draw < 2**48, which pass over the network.
    stream : int
        0 <= stream < 2**16, which operation of the pass.
    rows, columns : int

    Returns
    -------
    ndarray of uint32, shape (rows, columns)
    """
    block = np.arange(-(-columns // 4))
    row = np.arange(rows)[:, np.newaxis]
    high, low = divmod(draw, 2**32)
    words = philox((block, row, low, (stream + 65536 * high) % 2**32), (seed % 2**32, seed >> 32))
    return words.reshape(rows, 4 * len(block))[:, :columns]


def random_halves(seed: int, draw: int, stream: int, rows: int, columns: int) -> NDArray[np.uint32]:
    """Numbers of 16 bits for a matrix: halves of the words of :func:`random_words`, the lower one first."""
    words = random_words(seed, draw, stream, rows, -(-columns // 8) * 4)
    halves = np.stack((words & np.uint32(0xFFFF), words >> np.uint32(16)), axis=-1)
    return halves.reshape(rows, -1)[:, :columns]


def dropped_share(rate: float) -> int:
    """How many of the 2¹⁶ values of a random number drop an element, as near to `rate` as that goes.

    Examples
    --------
    >>> dropped_share(0.25), dropped_share(1 - 1e-9)
    (16384, 65535)
    """
    return min(math.floor(rate * 2**16 + 0.5), 2**16 - 1)


def random_normals(seed: int, draw: int, stream: int, rows: int, columns: int) -> NDArray[np.float64]:
    """Standard normal numbers for a matrix, from the words of :func:`random_words`.

    Box and Muller, A Note on the Generation of Random Normal Deviates (1958): columns 2i and 2i + 1 are
    √(−2 log u) cos 2πv and √(−2 log u) sin 2πv, where u in (0, 1) and v in [0, 1) come from the upper 23
    bits of their two words, which float32 holds without rounding.
    """
    words = random_words(seed, draw, stream, rows, columns + columns % 2) >> np.uint32(9)
    radius = np.sqrt(-2 * np.log((words[:, ::2] + 0.5) * 2.0**-23))
    angle = 2 * np.pi * 2.0**-23 * words[:, 1::2]
    normals = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    return normals.reshape(rows, -1)[:, :columns]


def permutation(key: int, n: int, first: int = 0, count: int | None = None) -> NDArray[np.int64]:
    """Permutation of 0, …, n − 1 that follows from a key, place by place.

    A Feistel network whose halves have ranges of their own, and a walk for what falls outside (Black and
    Rogaway, Ciphers with Arbitrary Finite Domains, 2002). A place p = a R + L has halves L < a = 2ˢ and
    R < b = ⌈n / a⌉, where s is half the bits of n − 1. A pass replaces

        R ← (R + ⌊b f(L) / 2ʷ⌋) mod b,    L ← (L + ⌊a f(R) / 2ʷ⌋) mod a,

    with f(x) = (y xor ⌊y / 2^(w/2 − 1)⌋) ⌊2ʷ / φ⌋ mod 2ʷ and y = (k x + c) mod 2ʷ, where φ is the golden
    ratio, k (odd) and c are random words of the key, others for each replacement, and w is 16, or 32 if n is
    larger than 2²⁴. What comes out at n or above goes through all passes again until it is below.

    Two places in one row or column keep their distance through k passes with probability b⁻ᵏ or a⁻ᵏ. There
    are so many passes that a⁻ᵏ is at most 2⁻¹⁰ times what chance would do, 1 / n.

    Parameters
    ----------
    key : int
        0 <= key < 2**64.
    n : int
        0 <= n <= 2**40.
    first, count : int
        Places to compute; all if not given.

    Examples
    --------
    >>> permutation(1, 10)
    array([5, 4, 8, 1, 6, 2, 7, 9, 0, 3])
    """
    bits = max(n - 1, 0).bit_length()
    low = max(bits // 2, 1)
    a, b = 1 << low, -(-n >> low)
    passes = -(-(bits + 10) // low)
    width = 16 if bits <= _SHORT_BITS else 32
    keys = random_words(key, 0, 0, 1, 4 * passes).reshape(passes, 2, 2) >> np.uint32(32 - width)
    last = 2**width - 1

    def mixed(x: NDArray[np.int64], factor: np.uint32, term: np.uint32) -> NDArray[np.int64]:
        y = x * int(factor | 1) + int(term) & last
        words: NDArray[np.int64] = (y ^ y >> width // 2 - 1) * (0x9E3779B9 >> 32 - width) & last
        return words

    def walk(place: NDArray[np.int64]) -> NDArray[np.int64]:
        row, column = place >> low, place & a - 1
        for for_row, for_column in keys:
            row = (row + (mixed(column, *for_row) * b >> width)) % b
            column = column + (mixed(row, *for_column) >> width - low) & a - 1
        places: NDArray[np.int64] = row << low | column
        return places

    order = walk(np.arange(first, n if count is None else first + count))
    while len(outside := np.flatnonzero(order >= n)):
        order[outside] = walk(order[outside])
    return order
