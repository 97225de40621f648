"""The classifier."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastbp.losses import CrossEntropy, Loss, MultilabelCrossEntropy
from fastbp.network import Array
from fastbp.sklearn.base import DTYPES, SPARSE, BaseMLP
from fastbp.sklearn.solvers import takes_steps


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multilayer perceptron that minimises the log-loss; scikit-learn's ``MLPClassifier`` on fastbp's engine.

    With an int as ``random_state`` it goes the way of scikit-learn's, step by step. Parameters from
    `class_weight` on are fastbp's own.

    Parameters
    ----------
    {scikit-learn's parameters}
    class_weight : dict of class to weight, "balanced" or None
        Multiplied into the sample weights.
    {fastbp's parameters}

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    {attributes}
    out_activation_ : {"softmax", "logistic"}

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.sklearn import MLPClassifier
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    >>> net = MLPClassifier((32,), activation="gelu", learning_rate_init=0.02, random_state=0).fit(X, y)
    >>> net.predict([[1, 1], [1, -1]])
    array(['same', 'other'], dtype='<U5')
    >>> net.score(X, y) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, list, str, None],
    }

    class_weight: Any
    classes_: Any

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
        weight_decay: float = 0.01,
        normalization: str | None = None,
        dropout: Any = 0.0,
        n_threads: int | None = None,
        callbacks: Any = None,
        progress_bar: bool = False,
    ) -> None:
        self._keep(locals())

    # ---- rows, classes, targets ----

    def _validate_rows(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(self, X, y, accept_sparse=SPARSE, multi_output=True, dtype=DTYPES, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(y)
        return X, y

    def _check_classes(self, y: Any) -> None:
        classes = unique_labels(y)
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to "
                    f"fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {classes}."
            )

    def _validation_targets(self, y: Any) -> Any:
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        strangers = np.setdiff1d(unique_labels(y), self.classes_)
        if len(strangers):
            raise ValueError(f"y_val has classes that y has not: {strangers}")
        return y

    def _encode(self, y: Any, dtype: Any) -> tuple[Array, int]:
        """Class numbers for softmax, zeros and ones for the logistic function."""
        if np.ndim(y) == 1:
            numbers = np.searchsorted(self.classes_, y)
            many = self._label_binarizer.y_type_ == "multiclass"
            return numbers.astype(dtype).reshape(-1, 1), len(self.classes_) if many else 1
        bits = self._label_binarizer.transform(y)
        return np.ascontiguousarray(bits, dtype), bits.shape[1]

    def _weigh(self, y: Any, sample_weight: Array | None, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" needs all rows, but partial_fit sees some of them: '
                "give a dict of class to weight"
            )
        of_class: Array = compute_sample_weight(self.class_weight, y)
        return of_class if sample_weight is None else sample_weight * of_class

    def _output_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _make_loss(self) -> Loss:
        return CrossEntropy() if self.out_activation_ == "softmax" else MultilabelCrossEntropy()

    def _stratified(self) -> bool:
        return self.n_outputs_ == 1

    # ---- fitting ----

    @available_if(takes_steps)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train for one epoch on these rows.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val : array_like
            As in :meth:`fit`.
        classes : array_like, shape (n_classes,), optional
            All classes of all calls; needed by the first one.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As in :meth:`fit`, and for classes that were not announced.
        """
        if _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if several else classes)
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), incremental=True)

    # ---- using ----

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each row; with several labels, those above ½.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n, features)

        Returns
        -------
        ndarray, shape (n,) or (n, labels)
        """
        return self._classes(self._outputs(X))

    def _classes(self, outputs: Array) -> Any:
        return self._label_binarizer.inverse_transform(outputs.ravel() if self.n_outputs_ == 1 else outputs)

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n, features)

        Returns
        -------
        ndarray, shape (n, n_classes)
            In the order of ``classes_``.
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of :meth:`predict_proba`."""
        probabilities = self.predict_proba(X)
        logarithms: Array = np.log(probabilities, out=probabilities)
        return logarithms

    def _score_outputs(self, outputs: Array, y: Any, sample_weight: Array | None) -> float:
        return float(accuracy_score(y, self._classes(outputs), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
