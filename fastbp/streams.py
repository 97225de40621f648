"""Samples that come in parts, one after another: batches of an iterable, or chunks of a function."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

from fastbp.array_like import describe
from fastbp.frames import frame_library
from fastbp.samples import Samples
from fastbp.sources import is_sparse

_END = object()


class Stream:
    """Samples of which only one part is in memory.

    Parameters
    ----------
    source : iterable, or callable without arguments that returns one
        Of tuples (X, y) or (X, y, sample_weight). An iterator can be gone through once; anything else is
        begun anew for each epoch.
    read : callable
        Takes such a tuple and a prefix for messages, and returns the samples.
    argument : str
        What the user calls the source.
    parts_per_epoch : int, optional
        An epoch ends after so many parts, and the next one goes on behind them; a source that can be begun
        anew is, whenever it ends. Default: when the source ends.

    Attributes
    ----------
    once : bool
        Whether it can be gone through only once.

    Examples
    --------
    >>> stream = Stream([([[1.0]], [0.0])], lambda part, prefix: part)
    >>> [list(stream.parts()) for epoch in range(2)]
    [[([[1.0]], [0.0])], [([[1.0]], [0.0])]]
    """

    def __init__(
        self,
        source: Any,
        read: Callable[[tuple[Any, ...], str], Samples],
        argument: str = "X",
        parts_per_epoch: int | None = None,
    ) -> None:
        self.argument, self.parts_per_epoch = argument, parts_per_epoch
        self.once = isinstance(source, Iterator)
        self._source, self._read = source, read
        self._parts: Iterator[Any] | None = None
        self._number = 0  # of the next part since the source was begun
        self._peeked: Samples | None = None

    def peek(self) -> Samples:
        """Return the part whose turn is next, and leave it its turn."""
        if self._peeked is None:
            self._peeked = self._next()
        assert self._peeked is not None, "a source that was just begun has a part"
        return self._peeked

    def parts(self) -> Generator[Samples]:
        """Go through an epoch.

        Raises
        ------
        TypeError, ValueError
            When a part is no pair or triple of data that can be right, or where one is missing.
        """
        count = 0
        while count != self.parts_per_epoch:
            samples, self._peeked = self._peeked, None
            samples = self._next() if samples is None else samples
            if samples is not None:
                count += 1
                yield samples
            elif self.parts_per_epoch is None:
                return
            elif self.once:
                raise ValueError(
                    f"{self.argument} ended after {count} batches of an epoch, "
                    f"expected steps_per_epoch={self.parts_per_epoch}"
                )

    def _next(self) -> Samples | None:
        """Read the next part; None at the end of the source, which is begun anew by the next call."""
        if self._parts is None:
            self._parts, self._number = self._begin(), 0
        part = next(self._parts, _END)
        if part is _END:
            if not self._number:
                raise ValueError(f"{self.argument} gave no batch, expected at least one")
            self._parts = None
            return None
        place = f"batch {self._number} of {self.argument}"
        self._number += 1
        if not isinstance(part, tuple | list) or len(part) not in (2, 3):
            came = f"{len(part)} items" if isinstance(part, tuple | list) else describe(part)
            raise TypeError(f"{place} must be (X, y) or (X, y, sample_weight), got {came}")
        return self._read(tuple(part), f"{place}: ")

    def _begin(self) -> Iterator[Any]:
        source = self._source() if callable(self._source) else self._source
        if not isinstance(source, Iterable):
            raise TypeError(f"{self.argument}() must return an iterable of batches, got {describe(source)}")
        return iter(source)


def is_stream(value: object) -> bool:
    """Tell whether `value` is a source of parts, and not one array."""
    array_like = ("__array__", "__dlpack__", "__array_interface__", "__arrow_c_stream__")
    if frame_library(value) or is_sparse(value) or isinstance(value, str | bytes | Mapping):
        return False
    return (callable(value) or isinstance(value, Iterable)) and not any(
        hasattr(value, name) for name in array_like
    )
