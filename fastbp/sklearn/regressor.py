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
    {scikit-learn's parameters}
    quantile : float
        Of the loss "quantile": 0.5 gives the median.
    huber_delta : float
        Of the loss "huber": the error where its square turns into a line.
    {fastbp's parameters}

    Attributes
    ----------
    {attributes}
    out_activation_ : {"identity", "exp"}

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
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), incremental=True)

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
