"""A real data set that ships with the package, and the split into training and test rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load the handwritten digits: 1,797 images of 8 x 8 pixels.

    Returns
    -------
    X : float32 array of shape (1797, 64)
        One image per row, from top left to bottom right; 0 is paper, 16 is ink.
    y : int64 array of shape (1797,)
        The digits, 0 to 9.

    Notes
    -----
    The test set of E. Alpaydin, C. Kaynak (1998), *Optical Recognition of Handwritten Digits*, UCI
    Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0.

    Examples
    --------
    >>> X, y = load_digits()
    >>> X.shape, y[:5]
    ((1797, 64), array([0, 1, 2, 3, 4]))
    """
    from importlib import resources  # pulls in much that `import fastbp` does not need

    file = resources.files("fastbp") / "data_files" / "uci_digits.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return arrays["images"].astype(np.float32), arrays["labels"].astype(np.int64)


def split_rows(
    labels: ArrayLike, fraction: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose which rows are held out, with every class in proportion.

    Parameters
    ----------
    labels : array of shape (rows,)
        The class of each row, of any type that sorts; all the same for a split without classes.
    fraction : float
        Part of the rows to hold out, 0 <= fraction < 1. A fraction above 0 holds out one row at least,
        if there are two rows of a class; one row of each class always stays in training.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    train, held_out : int64 arrays
        Row numbers, ascending.

    Raises
    ------
    ValueError
        If `labels` is not a vector or `fraction` is outside [0, 1).

    Examples
    --------
    >>> train, held_out = split_rows(["no"] * 8 + ["yes"] * 2, fraction=0.2)
    >>> len(train), len(held_out)
    (8, 2)
    """
    classes = np.asarray(labels)
    if classes.ndim != 1:
        raise ValueError(f"labels must be a vector, not of shape {classes.shape}")
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be at least 0 and below 1, not {fraction}")
    _, codes = np.unique(classes, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    ordered = shuffled[np.argsort(codes[shuffled], kind="stable")]  # by class, random within
    keeps_company = np.diff(codes[ordered], prepend=-1) == 0  # not the first of its class
    candidates = ordered[keeps_company]
    count = min(max(round(fraction * len(codes)), 1 if fraction else 0), len(candidates))
    # Evenly spaced picks from rows ordered by class take the same share of each class.
    picks = ((np.arange(count) + 0.5) * len(candidates) / max(count, 1)).astype(np.int64)
    held_out = np.sort(candidates[picks])
    return np.setdiff1d(np.arange(len(codes)), held_out), held_out
