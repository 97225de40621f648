"""Tables as text and as Markdown: the first column to the left, numbers to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest


def text(heads: Sequence[str], rows: Iterable[Sequence[str]], least: Sequence[int] = ()) -> str:
    """Return a table for a terminal, its first columns of `least` characters at least."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths = [max(pair) for pair in zip_longest(widths, least, fillvalue=0)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not number else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table for a page."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rule, *rows])


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, but all digits in front of the point."""
    if value is None or value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """Return a share."""
    return "-" if value is None else f"{100 * value:.0f} %"
