"""A measurement beside training as a program of its own: its table, on as many cores as are asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from bench import tables


def main(
    name: str,
    description: str | None,
    cores: int,
    rounds: int,
    measure: Callable[..., list[dict[str, Any]]],
    heads: Sequence[str],
    cells: Callable[[list[dict[str, Any]], Any], list[list[str]]],
) -> None:
    """Read the command line, measure and print; `cores` and `rounds` are what it takes when nobody says."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    parser.add_argument("--cores", type=int, default=cores)
    parser.add_argument("--rounds", type=int, default=rounds)
    arguments = parser.parse_args()
    print(tables.text(heads, cells(measure([arguments.cores], rounds=arguments.rounds), {})))
