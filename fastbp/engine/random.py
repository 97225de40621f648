"""Counter-based random numbers: Philox4x32-10.

Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011).

A number is a pure function of its position, so that it comes out the same in any order, on any number of
threads and in both interpreters, and need not be stored to be had again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


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
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
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
