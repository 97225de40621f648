"""scikit-learn: partial_fit, which goes once through the samples in batches, without its L2 penalty."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers import Train, first
from fastbp.workloads import Net


class TwoColumns:
    """Labels 0 and 1 as two columns: a softmax over two outputs like everyone else's, not one sigmoid."""

    def transform(self, y: Any) -> np.ndarray:
        """Return one row of two truth values for each label."""
        return np.eye(2, dtype=bool)[y]


def make_estimator(net: Net, X: Any, y: Any, shuffle: bool) -> Any:
    """Return an estimator with the weights of the network; X and y are a batch to begin with."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    Estimator = MLPClassifier if net.classes else MLPRegressor
    estimator = Estimator(
        hidden_layer_sizes=net.sizes[1:-1],
        activation=net.hidden,
        alpha=0,
        batch_size=net.batch,
        shuffle=shuffle,
    )
    classes = {"classes": np.arange(net.sizes[-1])} if net.classes else {}
    estimator.partial_fit(X, y, **classes)  # brings its arrays to life
    del estimator._optimizer  # made anew, over the weights that follow
    estimator.coefs_ = [weight for weight, _ in net.weights()]
    estimator.intercepts_ = [bias for _, bias in net.weights()]
    if net.classes and net.sizes[-1] == 2:
        estimator.n_outputs_, estimator.out_activation_ = 2, "softmax"
        estimator._label_binarizer = TwoColumns()
    return estimator


def make(net: Net, X: Any, y: Any, cores: int, shuffle: bool, batches: int | None) -> Train:
    """Return ``train(epochs)``; the threads of BLAS follow the environment."""
    X, y = first(net, batches, X, y)
    if not net.classes and net.sizes[-1] == 1:
        y = y.ravel()
    estimator = make_estimator(net, X[: net.batch], y[: net.batch], shuffle)

    def train(epochs: int) -> float:
        for _ in range(epochs):
            estimator.partial_fit(X, y)
        return estimator.loss_ * (1 if net.classes else 2)  # its squared error has a factor 1/2

    return train
