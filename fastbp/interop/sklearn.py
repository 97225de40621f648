"""scikit-learn: MLPClassifier and MLPRegressor from and to a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp import layers
from fastbp.activations import ActivationLayer
from fastbp.interop.building import Part, build, copied, imported, steps
from fastbp.model import Sequential

# Names of scikit-learn, and of ours.
_ACTIVATIONS = {
    "identity": "linear",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
}
_LOSSES = {
    "squared_error": "mean_squared_error",
    "poisson": "poisson",
    "log_loss": "cross_entropy",
    "binary_log_loss": "binary_cross_entropy",
}


def from_sklearn(estimator: Any) -> Sequential:
    """Make a model of a fitted MLPClassifier or MLPRegressor.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted.

    Returns
    -------
    Sequential
        With copies of the weights and their dtype, and the loss that the estimator was trained with.
        ``predict`` gives what ``predict_proba`` gives, one column for two classes: the probability of the
        second one. ``model.metadata["classes"]`` holds the classes.

    Raises
    ------
    ValueError
        When the estimator is not fitted, or no multilayer perceptron.

    Examples
    --------
    ::

        model = from_sklearn(MLPClassifier((64, 32)).fit(X, y))
    """
    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"estimator must be a fitted MLPClassifier or MLPRegressor, got {estimator!r}")
    hidden = [_known(estimator.activation)] * (len(estimator.coefs_) - 1)
    parts: list[Part] = []
    for weight, bias, activation in zip(
        estimator.coefs_, estimator.intercepts_, [*hidden, _known(estimator.out_activation_)], strict=True
    ):
        layer = layers.Dense(weight.shape[1], activation=activation)
        parts.append((layer, {"weight": copied(weight.T), "bias": copied(bias)}))
    loss = estimator.loss
    if loss == "log_loss" and estimator.out_activation_ == "logistic":
        loss = "binary_log_loss"
    model = build(parts, loss=_LOSSES.get(loss))
    if hasattr(estimator, "classes_"):
        model.metadata["classes"] = np.asarray(estimator.classes_).tolist()
    names = getattr(estimator, "feature_names_in_", None)
    model.feature_names = None if names is None else tuple(map(str, names))
    return model


def _known(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} of scikit-learn is not in fastbp")
    return _ACTIVATIONS[name]


def to_sklearn(model: Sequential, *, classes: Sequence[Any] | None = None) -> Any:
    """Make a fitted MLPClassifier or MLPRegressor of a model.

    Parameters
    ----------
    model : Sequential
        Built, of dense layers and dropout, with one of scikit-learn's activations in all hidden layers.
        With softmax or sigmoid at the end it becomes a classifier, with no activation a regressor.
    classes : sequence, optional
        Labels of the classes; by default ``model.metadata["classes"]``, else 0, 1, ….

    Returns
    -------
    MLPClassifier or MLPRegressor
        Ready to predict.

    Raises
    ------
    ImportError
        Without scikit-learn.
    ValueError
        When scikit-learn has no such network.
    """
    dense = _dense_layers(model)
    ours = {theirs: name for name, theirs in _ACTIVATIONS.items()}
    kinds = [ours.get(_kind(layer)) for layer in dense]
    inner = set(kinds[:-1]) or {"relu"}
    if len(inner) != 1 or inner & {None, "softmax"} or kinds[-1] not in ("identity", "logistic", "softmax"):
        raise ValueError(
            "scikit-learn wants one of identity, logistic, tanh, relu in all hidden layers and identity, "
            f"logistic or softmax at the end, got {[_kind(layer) for layer in dense]}"
        )
    neural = imported("sklearn.neural_network", "to_sklearn")
    classifies = kinds[-1] != "identity"
    kind = neural.MLPClassifier if classifies else neural.MLPRegressor
    estimator = kind(hidden_layer_sizes=[layer.units for layer in dense[:-1]], activation=inner.pop())
    estimator.coefs_ = [copied(layer.weight.T) for layer in dense]
    estimator.intercepts_ = [
        np.zeros(layer.units, model.dtype) if layer.bias is None else copied(layer.bias) for layer in dense
    ]
    estimator.out_activation_ = kinds[-1]
    estimator.n_layers_ = len(dense) + 1
    estimator.n_outputs_ = model.output_size
    estimator.n_features_in_ = model.input_size
    estimator.n_iter_, estimator.t_, estimator.loss_curve_ = len(model.history.epoch), 0, []
    if model.feature_names is not None:
        estimator.feature_names_in_ = np.array(model.feature_names, object)
    if classifies:
        _set_classes(estimator, model, classes)
    return estimator


def _dense_layers(model: Sequential) -> list[layers.Dense]:
    """The layers that compute, each with its activation; a model must have no others."""
    dense: list[layers.Dense] = []
    for layer in model.layers:
        if isinstance(layer, layers.Dense):
            dense.append(layer)
        elif not isinstance(layer, layers.Dropout):
            raise ValueError(
                f"layer {layer.name!r}, {layer!r}, is not in scikit-learn; only Dense and Dropout are"
            )
    if not dense:
        raise ValueError("the model must have a Dense layer")
    steps(model)  # an error before it is built
    return dense


def _kind(layer: layers.Dense) -> str:
    activation: ActivationLayer = layer.activation
    return activation.kind


def _set_classes(estimator: Any, model: Sequential, classes: Sequence[Any] | None) -> None:
    """Labels, and the encoder that scikit-learn decodes its predictions with."""
    count = max(2, model.output_size)
    labels = classes if classes is not None else model.metadata.get("classes", range(count))
    if len(labels) != count:
        raise ValueError(f"classes must hold {count} labels, got {len(labels)}")
    binarizer = imported("sklearn.preprocessing", "to_sklearn").LabelBinarizer()
    binarizer.fit(np.asarray(labels))
    if list(binarizer.classes_) != list(labels):
        raise ValueError(f"classes must be sorted, as scikit-learn keeps them, got {list(labels)}")
    estimator._label_binarizer = binarizer
    estimator.classes_ = binarizer.classes_
