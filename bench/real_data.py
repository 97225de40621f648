"""``python -m bench.real_data``: quality on real data beside scikit-learn's perceptron and boosted trees.

Splits, standardised inputs, layers, epochs, batches and optimizer (Adam) are the same for all networks.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

import fastbp as bp
from bench import accuracy

SEEDS = 5
HIDDEN = (64, 64)
EPOCHS = 60
BATCH = 32

Arrays = tuple[NDArray[Any], NDArray[Any]]


def fashion_mnist(rows: int = 10_000) -> Arrays:
    """Return the first images and labels of Fashion-MNIST's training files."""
    X, y = accuracy.load(accuracy.FOLDER, "train")
    return X[:rows], y[:rows]


DATA: dict[str, tuple[Callable[[], Arrays], int]] = {
    "digits": (partial(datasets.load_digits, return_X_y=True), 10),
    "breast_cancer": (partial(datasets.load_breast_cancer, return_X_y=True), 2),
    "wine": (partial(datasets.load_wine, return_X_y=True), 3),
    "diabetes": (partial(datasets.load_diabetes, return_X_y=True), 0),
    "fashion_mnist": (fashion_mnist, 10),
}
"""How each is loaded, and its number of classes: 0 for regression."""


def fastbp_score(train: Arrays, test: Arrays, classes: int, seed: int, dropout: float = 0.0) -> float:
    """Accuracy of a network of fastbp, or R² if there are no classes."""
    output = bp.layers.Dense(classes, activation="softmax") if classes else bp.layers.Dense(1)
    layers: list[Any] = []
    for units in HIDDEN:
        layers.append(bp.layers.Dense(units, activation="relu"))
        if dropout:
            layers.append(bp.layers.Dropout(dropout))
    loss = "cross_entropy" if classes else "mean_squared_error"
    model = bp.Sequential([*layers, output], loss=loss, optimizer="adam", seed=seed)
    model.fit(*train, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    return quality(model.predict(test[0]), test[1], classes)


def quality(predicted: NDArray[Any], y: NDArray[Any], classes: int) -> float:
    """Accuracy of probabilities, or R² of values."""
    if classes:
        return float((predicted.argmax(axis=1) == y).mean())
    return float(1 - ((predicted.ravel() - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def perceptron(classes: int, seed: int) -> Any:
    """Return scikit-learn's network of the same size, which runs all of its epochs."""
    kind = MLPClassifier if classes else MLPRegressor
    return kind(
        hidden_layer_sizes=HIDDEN,
        batch_size=BATCH,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    )


def trees(classes: int, seed: int) -> Any:
    """Return scikit-learn's boosted trees as they come."""
    return (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(random_state=seed)


def sklearn_score(estimator: Any, train: Arrays, test: Arrays) -> float:
    """Accuracy or R² of an estimator of scikit-learn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it ran all of its epochs, as it was asked to
        return float(estimator.fit(*train).score(*test))


def scores(X: NDArray[Any], y: NDArray[Any], classes: int) -> list[list[float]]:
    """Scores of each method, one for each seed, on a quarter of the data that nobody trained with."""
    found: list[list[float]] = [[], [], [], []]
    for seed in range(SEEDS):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.25, random_state=seed, stratify=y if classes else None
        )
        scaler = StandardScaler().fit(X_train)
        if not classes:
            center, spread = y_train.mean(), y_train.std()
            y_train, y_test = (y_train - center) / spread, (y_test - center) / spread
        train, test = (scaler.transform(X_train), y_train), (scaler.transform(X_test), y_test)
        found[0].append(fastbp_score(train, test, classes, seed))
        found[1].append(fastbp_score(train, test, classes, seed, dropout=0.2))
        found[2].append(sklearn_score(perceptron(classes, seed), train, test))
        found[3].append(sklearn_score(trees(classes, seed), train, test))
    return found


def print_scores(names: Sequence[str]) -> None:
    """Print means and standard deviations, a row for each data set."""
    print("| Data | fastbp | fastbp, dropout 0.2 | scikit-learn MLP | HistGradientBoosting |")
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        load, classes = DATA[name]
        columns = scores(*load(), classes)
        cells = [f"{statistics.mean(each):.3f} ± {statistics.stdev(each):.3f}" for each in columns]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.real_data", description=__doc__)
    parser.add_argument("--data", default=",".join(DATA), help=f"of {', '.join(DATA)} (default: all)")
    print_scores(parser.parse_args().data.split(","))


if __name__ == "__main__":
    main()
