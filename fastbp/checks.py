"""Checks of single arguments: the value in its plain Python type, or an error that names the argument."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable


def check_count(argument: str, value: object, *, at_least: int = 1) -> int:
    """Return `value` as an int that is not below `at_least`; True, 3.0 and "3" are no counts."""
    wanted = "a positive int" if at_least == 1 else f"an int of at least {at_least}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{argument} must be {wanted}, got {value!r}")
    count = operator.index(value)
    if count < at_least:
        raise ValueError(f"{argument} must be {wanted}, got {count}")
    return count


def check_number(argument: str, value: object, interval: str) -> float:
    """Return `value` as a float that lies in `interval`.

    Parameters
    ----------
    argument : str
        Name to blame.
    value : object
        Any real number, NumPy's included; no bool and no text.
    interval : str
        In the notation of mathematics, as it shall stand in the message: ``"[0, 1)"``, ``"(0, inf)"``.

    Examples
    --------
    >>> check_number("rate", 1.5, "[0, 1)")
    Traceback (most recent call last):
    ValueError: rate must be a number in [0, 1), got 1.5
    """
    message = f"{argument} must be a number in {interval}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message)
    number = float(value)
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    if not (above and below and math.isfinite(number)):
        raise ValueError(message)
    return number


def check_flag(argument: str, value: object) -> bool:
    """Return `value`, which must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, got {value!r}")
    return value


def check_choice(argument: str, value: object, choices: tuple[str, ...]) -> str:
    """Return `value`, which must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def unknown_name(argument: str, value: str, spellings: Iterable[str], names: Iterable[str]) -> str:
    """Return the message for a name that is not among the known ones.

    Parameters
    ----------
    argument : str
        Name to blame.
    value : str
        What came.
    spellings : iterable of str
        All that is understood; the nearest one is suggested.
    names : iterable of str
        What to list.
    """
    from difflib import get_close_matches  # where something is wrong, not in every `import fastbp`

    close = get_close_matches(value, spellings, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{argument} {value!r} is not known{hint} Known: {', '.join(sorted(names))}"
