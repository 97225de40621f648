"""The regressor."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from fastbp.losses import HalfSquaredError, Loss, PoissonDeviance
from fastbp.network import Array
from fastbp.sklearn.base import DTYPES, SPARSE, BaseMLP
from fastbp.sklearn.construction import LOSSES, make_loss
from fastbp.sklearn.solvers import takes_steps


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multilayer perceptron for regression; scikit-learn's ``MLPRegressor`` on fastbp's engine.

    With an int as ``random_state`` it goes the way of scikit-learn's, step by step. Parameters from
    `quantile` on are fastbp's own.

    Parameters
    ----------
    loss : str or Loss
        "squared_error", half of it; "poisson", half the deviance, with an exponential output; and beyond
        scikit-learn "absolute_error", "huber", "quantile", or an object from :mod:`fastbp.losses`.
    hidden_layer_sizes : int or list of int
        Units of each hidden layer.
    activation : str, activation layer, or list of them
        Of the hidden layers, one for all or one for each: "relu", "tanh", "logistic" or "identity", or any
        other activation of fastbp, such as "gelu", "silu", "mish" or ``fastbp.layers.LeakyReLU(0.2)``.
    solver : {"adam", "sgd", "lbfgs", "adamw", "rmsprop"} or Optimizer
        An object from :mod:`fastbp.optimizers` brings its own learning rate.
    alpha : float
        Strength of the penalty ½ alpha Σ W² on the weights, divided by the sum of the sample weights.
    batch_size : int or "auto"
        Rows of one step; "auto" is 200, or all rows if they are fewer. No matter to L-BFGS.
    learning_rate : {"constant", "invscaling", "adaptive"}
        For "sgd": the rate stays at `learning_rate_init`; becomes ``learning_rate_init / (t + 1)**power_t``
        after t rows; or falls to a fifth each time that training would have stopped.
    learning_rate_init : float
        Learning rate of the first step.
    power_t : float
        Exponent of "invscaling".
    max_iter : int
        Most epochs, or iterations of L-BFGS.
    shuffle : bool
        Take the rows in a new random order each epoch.
    random_state : int, RandomState or None
        Of the initial weights, the rows held out, their order, and dropout.
    tol : float
        An epoch that gains less counts as none.
    verbose : bool
        Print loss and score of each epoch.
    warm_start : bool
        Let `fit` go on from where the last one ended.
    momentum : float
        Of "sgd", from 0 to 1.
    nesterovs_momentum : bool
        Look ahead along the momentum.
    early_stopping : bool
        Stop by R² on rows held out, or on `X_val`, instead of by the training loss, and end with the weights
        that scored best.
    validation_fraction : float
        Share of the rows that early stopping holds out.
    beta_1, beta_2, epsilon : float
        Of "adam" and "adamw".
    n_iter_no_change : int or inf
        Epochs without gain that are borne before training stops.
    max_fun : int
        Most evaluations of the loss by L-BFGS.
    quantile : float
        Of the loss "quantile": 0.5 gives the median.
    huber_delta : float
        Of the loss "huber": the error where its square turns into a line.
    weight_decay : float
        Decoupled decay of "adamw".
    normalization : {"batch", "layer"} or None
        Of the hidden layers' sums before their activation.
    dropout : float or list of float
        Share of the outputs of the hidden layers, or of each of them, that a training step drops.
    n_threads : int, optional
        Most threads while this estimator works; by default those of :func:`fastbp.get_num_threads`.
    callbacks : list of Callback, optional
        Called between epochs with ``model_`` as their model and "loss", "val_loss" and "val_score" in logs.
    progress_bar : bool
        Show a bar of the epochs.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights, shape (inputs, outputs) each, and biases of the layers: live views of the network's.
    loss_, best_loss_ : float
        Loss of the last epoch, and the least one (None with early stopping).
    loss_curve_ : list of float
        Loss of each epoch, penalty included.
    validation_loss_curve_ : list of float
        The same on validation rows where there are some, without penalty.
    validation_scores_, best_validation_score_ : list of float, float; or None
        R² on validation rows, with early stopping.
    n_iter_, t_ : int
        Epochs of the last fit, and rows seen.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : ndarray
        Column names, when X was a data frame.
    out_activation_ : {"identity", "exp"}
    stopped_ : bool
        Set, to True, once `partial_fit` with early stopping has come to an end.
    model_ : Sequential
        The network itself: ``model_.plan``, ``model_.save(path)``, ``model_.freeze()``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 300).reshape(-1, 1)
    >>> net = MLPRegressor(activation="tanh", solver="lbfgs", tol=1e-6, random_state=0)
    >>> round(float(net.fit(X, X.ravel() ** 2).predict([[0.5]])[0]), 2)
    0.25
    >>> upper = MLPRegressor("quantile", quantile=0.9, learning_rate_init=0.01, random_state=0)
    >>> noisy = X.ravel() ** 2 + np.random.default_rng(0).normal(scale=0.1, size=300)
    >>> float(np.mean(noisy < upper.fit(X, noisy).predict(X))) > 0.8
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(LOSSES)), Loss],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
    }

    loss: Any
    quantile: float
    huber_delta: float

    def __init__(
        self,
        loss: Any = "squared_error",
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
        quantile: float = 0.5,
        huber_delta: float = 1.0,
        weight_decay: float = 0.01,
        normalization: str | None = None,
        dropout: Any = 0.0,
        n_threads: int | None = None,
        callbacks: Any = None,
        progress_bar: bool = False,
    ) -> None:
        self._keep(locals())

    # ---- rows and targets ----

    def _validate_rows(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(
            self, X, y, accept_sparse=SPARSE, multi_output=True, y_numeric=True, dtype=DTYPES, reset=reset
        )
        return X, self._targets(y)

    def _targets(self, y: Any) -> Any:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if isinstance(self._make_loss(), PoissonDeviance) and np.min(y) < 0:
            raise ValueError("loss='poisson' needs y of at least 0")
        return y

    def _validation_targets(self, y: Any) -> Any:
        return self._targets(check_array(y, ensure_2d=False, dtype="numeric", input_name="y_val"))

    def _encode(self, y: Any, dtype: Any) -> tuple[Array, int]:
        targets = np.ascontiguousarray(y if y.ndim == 2 else y.reshape(-1, 1), dtype)
        return targets, targets.shape[1]

    def _make_loss(self) -> Loss:
        return make_loss(self.loss, self.quantile, self.huber_delta)

    def _output_activation(self) -> str:
        return "exp" if isinstance(self._make_loss(), PoissonDeviance) else "identity"

    def _loss_scale(self) -> float:
        """Squared errors are reported as their mean over the outputs, though the gradient is their sum's."""
        return 1 / self.n_outputs_ if isinstance(self._make_loss(), HalfSquaredError) else 1.0

    # ---- fitting ----

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n, features)
            In float32 the network computes in float32, else in float64.
        y : array_like, shape (n,) or (n, outputs)
        sample_weight : array_like, shape (n,), optional
        X_val, y_val, sample_weight_val : array_like, optional
            Rows to validate on after each epoch, instead of some held out by early stopping.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For data that cannot be right, and when the weights diverge.
        """
        validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation, incremental=False)

    @available_if(takes_steps)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train for one epoch on these rows.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val : array_like
            As in :meth:`fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As in :meth:`fit`.
        """
        validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, validation, incremental=True)

    # ---- using ----

    def predict(self, X: Any) -> Array:
        """Return the network's outputs.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n, features)

        Returns
        -------
        ndarray, shape (n,) or (n, outputs)
        """
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _score_outputs(self, outputs: Array, y: Any, sample_weight: Array | None) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        y = y if y.ndim == 2 else y.reshape(-1, 1)
        return float(r2_score(y, outputs, sample_weight=sample_weight))
