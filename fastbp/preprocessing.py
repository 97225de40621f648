"""From the columns of a table to the numbers that a network takes, and from its outputs back.

A :class:`Preprocessing` is plain data. It goes into a model file as JSON, so that the file alone is
enough to predict from another table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp.table import Table, TableError

Task = Literal["classification", "regression"]

MOST_CLASSES = 20  # more different integers than these are quantities rather than classes
MOST_LEVELS = 64  # the most frequent levels of a text column that get an input of their own
FEW_LEVELS = 10  # a text column with more levels than these must repeat them, or it is a name or an id


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column standardised to mean 0 and standard deviation 1: one input."""

    name: str
    mean: float
    scale: float

    @property
    def inputs(self) -> list[str]:
        """Name of the one input."""
        return [self.name]

    def write(self, table: Table, out: NDArray[np.floating]) -> None:
        """Fill `out`, shape (rows, 1). A missing value becomes the mean, which is 0."""
        values = _numbers(table, self.name)
        with np.errstate(over="ignore"):
            standard = np.where(np.isnan(values), 0.0, (values - self.mean) / self.scale)
            out[:, 0] = standard
        if not np.isfinite(out).all():
            row = int(np.flatnonzero(~np.isfinite(out[:, 0]))[0])
            raise TableError(
                f"{table.source}: column {self.name!r}, row {row + 1}: {values[row]:g} is out of range"
            )


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A column of text, one-hot: an input for each level; "" is the level of missing values."""

    name: str
    levels: tuple[str, ...]

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, column=level."""
        return [f"{self.name}={level}" for level in self.levels]

    def write(self, table: Table, out: NDArray[np.floating]) -> None:
        """Fill `out`, shape (rows, levels), zeros so far. An unknown level stays all zeros."""
        codes = _encode(table.texts(self.name), self.levels)
        rows = np.flatnonzero(codes >= 0)
        out[rows, codes[rows]] = 1


@dataclass(frozen=True, slots=True)
class Target:
    """The column to predict: its classes, or the mean and scale of its numbers."""

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How the columns of a table become inputs and targets of a network.

    Attributes
    ----------
    features : tuple of NumberColumn or CategoryColumn
    target : Target
    ignored : dict of str to str
        Columns that are not used, each with the reason.
    """

    features: tuple[NumberColumn | CategoryColumn, ...]
    target: Target
    ignored: dict[str, str]

    @classmethod
    def fit(cls, table: Table, target: str, task: Task, rows: NDArray[np.int64]) -> Preprocessing:
        """Learn the preprocessing from some rows of a table.

        Parameters
        ----------
        table : Table
        target : str
            Name of the column to predict.
        task : {"classification", "regression"}
            :func:`choose_task` finds it.
        rows : int64 array
            The training rows; means, scales and levels come from these alone. (The classes of a
            target come from all rows.)

        Raises
        ------
        TableError
            If the target does not suit the task, or no other column varies.
        """
        fitted = _fit_target(table, target, task, rows)
        features: list[NumberColumn | CategoryColumn] = []
        ignored = {}
        for name in table.names:
            if name != target:
                column = _fit_column(table, name, rows)
                if isinstance(column, str):
                    ignored[name] = column
                else:
                    features.append(column)
        if not features:
            reasons = "; ".join(f"{name!r} is {reason}" for name, reason in list(ignored.items())[:3])
            raise TableError(
                f"{table.source}: no column to learn from: {reasons or 'the target is the only one'}"
            )
        return cls(tuple(features), fitted, ignored)

    @property
    def inputs(self) -> list[str]:
        """Names of the network's inputs, one-hot ones written column=level."""
        return [name for column in self.features for name in column.inputs]

    def transform(self, table: Table, dtype: DTypeLike = np.float32) -> NDArray[np.floating]:
        """Make the inputs of a network, shape (rows, inputs).

        Columns that are not needed may be missing, and more may be there. Unknown categories become
        zeros, missing numbers the mean.

        Raises
        ------
        TableError
            If a column is missing, or a value of a column of numbers is no number.
        """
        absent = [column.name for column in self.features if column.name not in table.names]
        if absent:
            raise TableError(f"{table.source}: no column {_listing(absent)}, which the model was trained on")
        widths = [len(column.inputs) for column in self.features]
        out: NDArray[np.floating] = np.zeros((table.rows, sum(widths)), dtype=dtype)
        first = 0
        for column, width in zip(self.features, widths, strict=True):
            column.write(table, out[:, first : first + width])
            first += width
        return out

    def targets(self, table: Table) -> NDArray[Any]:
        """Make the targets of a network, shape (rows,).

        Class numbers (int64, -1 for a missing or unknown class), or standardised numbers (float64,
        NaN for a missing one).
        """
        target = self.target
        if target.task == "classification":
            return _encode(_labels(table, target.name), target.classes)
        standard: NDArray[np.float64] = (_numbers(table, target.name) - target.mean) / target.scale
        return standard

    def decode(self, outputs: NDArray[np.floating]) -> NDArray[Any]:
        """Turn a network's outputs into predictions, shape (rows,): class names, or original units."""
        if self.target.task == "classification":
            classes: NDArray[np.str_] = np.array(self.target.classes)
            labels: NDArray[np.str_] = classes[outputs.argmax(axis=1)]
            return labels
        numbers: NDArray[np.float64] = outputs[:, 0].astype(np.float64) * self.target.scale + self.target.mean
        return numbers

    def config(self) -> dict[str, Any]:
        """Return the preprocessing as JSON-able data; :meth:`from_config` takes it back."""
        kinds = {NumberColumn: "number", CategoryColumn: "category"}
        return {
            "features": [{"kind": kinds[type(column)], **_plain(asdict(column))} for column in self.features],
            "target": _plain(asdict(self.target)),
            "ignored": dict(self.ignored),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Make a preprocessing of what :meth:`config` returned.

        Raises
        ------
        TableError
            If `config` is no such data.
        """
        try:
            features = tuple(_column_from(dict(column)) for column in config["features"])
            target = dict(config["target"])
            target["classes"] = tuple(target["classes"])
            return cls(features, Target(**target), dict(config["ignored"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"the preprocessing in the model file is damaged ({error})") from None


def choose_task(table: Table, target: str, task: str = "auto") -> tuple[Task, str]:
    """Whether a column holds classes or quantities, and why.

    Text and few different whole numbers are classes; other numbers are quantities.

    Raises
    ------
    TableError
        If there is no such column (the message names the nearest), all its values are missing, or
        `task` does not suit it.
    """
    if target not in table.names:
        raise TableError(f"{table.source}: no column {target!r}; {_suggestion(target, table.names)}")
    texts = table.texts(target)
    if not any(texts):
        raise TableError(f"{table.source}: every value of the target {target!r} is missing")
    numbers = table.numbers(target)
    if task == "regression":
        _numbers(table, target)
        return "regression", "as asked"
    if task == "classification":
        return "classification", "as asked"
    if task != "auto":
        raise TableError(f"task must be 'auto', 'classification' or 'regression', not {task!r}")
    if numbers is None:
        return "classification", f"{target!r} is text"
    known = numbers[~np.isnan(numbers)]
    different = len(np.unique(known))
    if (known == np.floor(known)).all() and different <= max(2, min(MOST_CLASSES, len(known) // 5)):
        return "classification", f"{target!r} has {different} different whole numbers"
    return "regression", f"{target!r} has {different} different numbers"


def _fit_target(table: Table, name: str, task: Task, rows: NDArray[np.int64]) -> Target:
    if task == "regression":
        known = _numbers(table, name)[rows]
        mean, scale = _mean_and_scale(known[~np.isnan(known)], table, name)
        if scale == 0:
            raise TableError(f"{table.source}: every value of the target {name!r} is {mean:g}")
        return Target(name, task, mean=mean, scale=scale)
    counts = Counter(label for label in _labels(table, name) if label)
    if len(counts) == 1:
        raise TableError(f"{table.source}: the target {name!r} has a single class, {next(iter(counts))!r}")
    if 2 * len(counts) > counts.total():
        raise TableError(
            f"{table.source}: the target {name!r} has {len(counts)} classes in {counts.total()} rows, "
            "too few rows of each to learn from"
        )
    numeric = table.numbers(name) is not None
    return Target(name, task, classes=tuple(sorted(counts, key=float if numeric else None)))


def _fit_column(table: Table, name: str, rows: NDArray[np.int64]) -> NumberColumn | CategoryColumn | str:
    """Make a feature of a column, or give the reason why it is none."""
    numbers = table.numbers(name)
    if numbers is not None:
        known = _finite(numbers, table, name)[rows]
        known = known[~np.isnan(known)]
        if not len(known):
            return "empty"
        if name.startswith("column ") and (np.diff(numbers) == 1).all():
            return "a row number"  # a column without a name, as pandas writes its index
        mean, scale = _mean_and_scale(known, table, name)
        return NumberColumn(name, mean, scale) if scale else "constant"
    texts = table.texts(name)
    counts = Counter(texts[row] for row in rows)
    if len(counts) == 1:
        return "constant"
    if len(counts) > FEW_LEVELS and 2 * len(counts) > len(rows):
        return f"text with {len(counts)} different values in {len(rows)} rows"
    levels = [level for level, _ in counts.most_common(MOST_LEVELS)]
    return CategoryColumn(name, tuple(sorted(levels)))


def _mean_and_scale(values: NDArray[np.float64], table: Table, name: str) -> tuple[float, float]:
    """Mean and standard deviation, 0 for constant values; no square overflows or underflows."""
    if not len(values) or values.min() == values.max():
        return (float(values[0]) if len(values) else 0.0), 0.0
    unit = float(np.abs(values).max())
    parts = values / unit
    mean, scale = float(parts.mean()) * unit, float(parts.std()) * unit
    if not np.isfinite(1 / scale if scale else np.inf):
        raise TableError(f"{table.source}: the values of column {name!r} differ too little to be told apart")
    return mean, scale


def _labels(table: Table, name: str) -> list[str]:
    """Classes as text, numbers in one form: "1", "1.0" and "01" are the same class."""
    numbers = table.numbers(name)
    if numbers is None:
        return table.texts(name)
    return [_label(number) for number in _finite(numbers, table, name).tolist()]


def _label(number: float) -> str:
    if number != number:
        return ""
    return str(int(number)) if number.is_integer() else repr(number)


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    numbers = table.numbers(name)
    if numbers is None:
        row, text = next(
            (row, text) for row, text in enumerate(table.texts(name), start=1) if not _is_number(text)
        )
        raise TableError(f"{table.source}: column {name!r}, row {row}: {text!r} is not a number")
    return _finite(numbers, table, name)


def _finite(numbers: NDArray[np.float64], table: Table, name: str) -> NDArray[np.float64]:
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise TableError(f"{table.source}: column {name!r}, row {infinite[0] + 1}: an infinite number")
    return numbers


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return "_" not in text


def _encode(texts: Sequence[str], levels: Sequence[str]) -> NDArray[np.int64]:
    """Position of each text among the levels, -1 if it is none of them."""
    positions = {level: position for position, level in enumerate(levels)}
    return np.fromiter((positions.get(text, -1) for text in texts), dtype=np.int64, count=len(texts))


def _column_from(config: dict[str, Any]) -> NumberColumn | CategoryColumn:
    kind = config.pop("kind")
    if kind == "number":
        return NumberColumn(config["name"], float(config["mean"]), float(config["scale"]))
    if kind == "category":
        return CategoryColumn(config["name"], tuple(config["levels"]))
    raise ValueError(f"a column of the unknown kind {kind!r}")


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}


def _listing(names: Sequence[str], most: int = 8) -> str:
    listed = ", ".join(repr(name) for name in names[:most])
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed


def _suggestion(name: str, names: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=1) or [other for other in names if other.lower() == name.lower()]
    return f"did you mean {near[0]!r}?" if near else f"its columns are {_listing(names)}"
