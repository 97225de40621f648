"""How many threads the engine may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from fastbp.checks import check_count
from fastbp.engine import backend

LARGEST = 2**31 - 1  # an int of C

_limit: int


def set_num_threads(n: int) -> None:
    """Set the most threads that any model uses from now on, in this process.

    Results do not depend on it, to the bit; small networks use fewer threads than allowed.

    Parameters
    ----------
    n : int
        At least 1. More than the machine has cores is allowed, and slow.

    Raises
    ------
    TypeError, ValueError
        When `n` is not a positive integer.

    Examples
    --------
    >>> import fastbp as bp
    >>> before = bp.get_num_threads()
    >>> bp.set_num_threads(2)
    >>> bp.get_num_threads()
    2
    >>> bp.set_num_threads(before)
    """
    global _limit
    _limit = min(check_count("n", n), LARGEST)
    backend.set_num_threads(_limit)


def get_num_threads() -> int:
    """Return the most threads that a model uses.

    The default is what this process may use: the cores of its affinity mask, no more than its cgroup's
    CPU quota, unless FASTBP_NUM_THREADS or OMP_NUM_THREADS say otherwise.

    Returns
    -------
    int
    """
    return _limit


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Limit the threads within a ``with`` block.

    Parameters
    ----------
    n : int
        As in :func:`set_num_threads`.

    Examples
    --------
    >>> import fastbp as bp
    >>> with bp.threads(1):
    ...     bp.get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def available_cores() -> int:
    """Cores that this process may use: affinity mask and cgroup quota (v1 and v2) considered."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    quota = _cgroup_quota("/sys/fs/cgroup", "/proc/self/cgroup")
    return max(1, min(cores, int(quota))) if quota is not None else cores


def _cgroup_quota(root: str, own: str) -> float | None:
    """Smallest CPU quota, in cores, on the way from this process's cgroup up to the root."""
    quotas = []
    for line in _text(own).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers == "":
            hierarchy, read = root, _quota_v2
        elif "cpu" in controllers.split(","):
            hierarchy, read = f"{root}/cpu", _quota_v1
        else:
            continue
        folder = f"{hierarchy}{path}".rstrip("/")
        while len(folder) >= len(hierarchy):
            quotas.append(read(folder))
            folder = os.path.dirname(folder)
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(folder: str) -> float | None:
    try:
        quota, period = _text(f"{folder}/cpu.max").split()
        return None if quota == "max" else int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: str) -> float | None:
    try:
        quota = int(_text(f"{folder}/cpu.cfs_quota_us"))
        return None if quota <= 0 else quota / int(_text(f"{folder}/cpu.cfs_period_us"))
    except (ValueError, ZeroDivisionError):
        return None


def _text(path: str) -> str:
    """Content of a file; of one that cannot be read, nothing."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _default() -> int:
    own = os.environ.get("FASTBP_NUM_THREADS", "")
    if own:
        count = _positive(own)
        if count is None:
            raise ValueError(f"FASTBP_NUM_THREADS must be a positive integer, not {own!r}")
        return count
    # a list has one number per nesting level; what other libraries leave there is no reason to fail
    return _positive(os.environ.get("OMP_NUM_THREADS", "").split(",")[0]) or available_cores()


def _positive(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) else None


set_num_threads(_default())
