"""Tables: delimited text files, read with the standard library and held column by column."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

DELIMITERS = (",", ";", "\t", "|")

MISSING = frozenset({"", "?", "na", "n/a", "<na>", "nan", "+nan", "-nan", "null"})
"""What stands for a missing value, in lower case."""

_ROWS_PER_CHUNK = 4096
_SNIFFED_LINES = 20


class TableError(ValueError):
    """A table that cannot be used; the message is one line and says what and where."""


class Table:
    """A delimited text file in memory, column by column.

    Attributes
    ----------
    source : str
        Where it came from, for messages.
    names : tuple of str
        Column names, in order, all different.
    rows : int
        Rows without the header, at least 1.

    Notes
    -----
    A column is kept as a few long strings, its values joined by NUL: about as much memory as the file
    takes on disk, where a list of Python strings would take eight times that.
    """

    def __init__(self, source: str, names: Sequence[str], chunks: Sequence[Sequence[str]], rows: int) -> None:
        self.source = source
        self.names = tuple(names)
        self.rows = rows
        self._chunks = dict(zip(self.names, chunks, strict=True))

    def texts(self, name: str) -> list[str]:
        """Values of a column without surrounding spaces; "" for a missing one."""
        values = map(str.strip, "\0".join(self._chunks[name]).split("\0"))
        return ["" if value.lower() in MISSING else value for value in values]

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        """Values of a column as numbers, NaN for a missing one; None if any value is no number."""
        texts = self.texts(name)
        if any("_" in text for text in texts):  # float() takes 1_000, tables do not mean it
            return None
        try:
            return np.array([text or "nan" for text in texts], dtype=np.float64)
        except ValueError:
            return None


def read_table(path: str | os.PathLike[str], delimiter: str = "auto") -> Table:
    """Read a delimited text file whose first line names the columns.

    Parameters
    ----------
    path : path
        UTF-8 text, with or without a byte order mark. Fields may be quoted with ``"``.
    delimiter : str
        One character, or "auto": tab for ``.tsv`` and ``.tab``, otherwise whichever of comma,
        semicolon, tab and ``|`` splits the first lines most evenly.

    Returns
    -------
    Table

    Raises
    ------
    TableError
        If the file is empty, has only a header, is binary, is not UTF-8, or has a row of a length
        other than the header's; the message gives the line.
    OSError
        If the file cannot be read.
    """
    source = os.fspath(path)
    if delimiter != "auto" and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise TableError(f"delimiter must be one character or 'auto', not {delimiter!r}")
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            return _read(file, source, delimiter)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise TableError(
            f"{source}: not UTF-8 text (found the byte 0x{byte:02x}); save the table as UTF-8"
        ) from None


def _read(file: TextIO, source: str, delimiter: str) -> Table:
    head = list(islice(file, _SNIFFED_LINES))
    if any("\0" in line for line in head):
        raise TableError(f"{source}: a binary file, not a table of text")
    if delimiter == "auto":
        delimiter = "\t" if source.lower().endswith((".tsv", ".tab")) else _sniff(head)
    # strict: a quote that never closes is an error instead of one enormous field
    reader = csv.reader(chain(head, file), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        header = next((row for row in reader if row), None)
        if header is None or not any(map(str.strip, header)):
            raise TableError(f"{source}: empty; a header and rows are needed")
        names = _column_names(header, source)
        columns: list[list[str]] = [[] for _ in names]
        count = 0
        rows = _checked(reader, len(names), source)
        while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
            count += len(chunk)
            for column, values in zip(columns, zip(*chunk, strict=True), strict=True):
                column.append("\0".join(values))
                if column[-1].count("\0") != len(chunk) - 1:
                    raise TableError(
                        f"{source}: a NUL byte before line {reader.line_num}: not a table of text"
                    )
    except csv.Error as error:
        raise TableError(f"{source}: line {reader.line_num}: {error}") from None
    if count == 0:
        raise TableError(f"{source}: a header, but no rows")
    return Table(source, names, columns, count)


def _checked(reader: Iterator[list[str]], width: int, source: str) -> Iterator[list[str]]:
    for row in reader:
        if len(row) == width:
            yield row
        elif row:  # a blank line is no row
            line = reader.line_num  # type: ignore[attr-defined]
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            raise TableError(f"{source}: line {line} has {fields}, the header has {width}")


def _column_names(header: Sequence[str], source: str) -> list[str]:
    names = [name.strip() or f"column {position}" for position, name in enumerate(header, start=1)]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise TableError(f"{source}: two columns have the name {name!r}")
    return names


def _sniff(head: Sequence[str]) -> str:
    """Find the delimiter with the most even rows, and among those the most columns."""

    def evenness(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(head, delimiter=delimiter, skipinitialspace=True) if row]
        except csv.Error:
            return 0.0, 0
        if not widths or widths[0] == 1:
            return 0.0, 0
        return widths.count(widths[0]) / len(widths), widths[0]

    return max(DELIMITERS, key=evenness)
