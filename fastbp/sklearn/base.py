"""What classifier and regressor have in common: parameters, fitting, the network behind ``coefs_``."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from fastbp.callbacks import Callback
from fastbp.engine.plan import ACTIVATIONS
from fastbp.layer import Layer
from fastbp.losses import Loss
from fastbp.model import Sequential
from fastbp.network import Array
from fastbp.optimizers import Optimizer
from fastbp.sklearn.construction import build_model, dense_layers, initial_weights, make_optimizer
from fastbp.sklearn.documentation import complete
from fastbp.sklearn.epochs import DENSE_BYTES, dense
from fastbp.sklearn.solvers import Rows, train_lbfgs, train_stochastic
from fastbp.threads import threads

SPARSE = ("csr", "csc")
DTYPES = (np.float64, np.float32)


class BaseMLP(BaseEstimator):
    """Base of :class:`MLPClassifier` and :class:`MLPRegressor`, which document it."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", *ACTIVATIONS}), Layer, list, tuple],
        "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw", "rmsprop"}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "normalization": [StrOptions({"batch", "layer"}), None],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "callbacks": [list, tuple, None],
        "progress_bar": ["boolean"],
    }

    # parameters
    hidden_layer_sizes: Any
    activation: Any
    solver: Any
    alpha: float
    random_state: Any
    warm_start: bool
    early_stopping: bool
    normalization: str | None
    dropout: Any
    n_threads: int | None
    callbacks: Sequence[Callback] | None
    # fitted attributes
    _recipe: str
    _optimizing: bool
    coefs_: list[Array]
    intercepts_: list[Array]
    model_: Sequential
    n_outputs_: int
    out_activation_: str

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.__doc__ = complete(cls.__doc__)

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Keep the constructor's arguments under their names."""
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    # ---- what a subclass knows ----

    def _validate_rows(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        """Check training rows and learn the classes."""
        raise NotImplementedError

    def _encode(self, y: Any, dtype: Any) -> tuple[Array, int]:
        """Return targets as the engine reads them, shape (n, columns), and the number of outputs."""
        raise NotImplementedError

    def _weigh(self, y: Any, sample_weight: Array | None, incremental: bool) -> Array | None:
        """Return the weights of the rows once the classes have theirs."""
        return sample_weight

    def _output_activation(self) -> str:
        raise NotImplementedError

    def _make_loss(self) -> Loss:
        raise NotImplementedError

    def _loss_scale(self) -> float:
        """What scikit-learn calls the loss, divided by what the engine does."""
        return 1.0

    def _stratified(self) -> bool:
        """Tell whether rows held out have the classes of all rows."""
        return False

    def _score_outputs(self, outputs: Array, y: Any, sample_weight: Array | None) -> float:
        """Return the score of the network's outputs; NaN where they are not finite."""
        raise NotImplementedError

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
            Numbers; of a classifier classes, or zeros and ones for several labels.
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
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), incremental=False)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any, Any], incremental: bool
    ) -> Self:
        self._validate_params()
        hidden = _hidden_sizes(self.hidden_layer_sizes)
        _check_callbacks(self.callbacks)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._validate_rows(X, y, incremental, reset=first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        sample_weight = self._weigh(y, sample_weight, incremental)
        if not first:
            dtype = self.coefs_[0].dtype
        else:  # L-BFGS wants to tell small differences of the loss
            dtype = np.dtype(np.float64) if self.solver == "lbfgs" else X.dtype
        targets, self.n_outputs_ = self._encode(y, dtype)
        self._random_state = check_random_state(self.random_state)
        if first:
            self._start([X.shape[1], *hidden, self.n_outputs_], X.dtype, dtype)
        rows = Rows(X, y, targets, None if sample_weight is None else sample_weight.astype(dtype))
        held_out = None if validation[0] is None else self._validation_rows(*validation, dtype)
        with self._lock, threads(self.n_threads) if self.n_threads else nullcontext():
            fresh = self._synchronise()
            if self.solver == "lbfgs":
                if np.any(self.dropout) or self.normalization == "batch":
                    what = "dropout" if np.any(self.dropout) else "batch normalization"
                    raise ValueError(f"{what} needs a stochastic solver, but solver is 'lbfgs'")
                train_lbfgs(self, rows, fresh)
            else:
                train_stochastic(self, rows, held_out, incremental, fresh)
        if not all(np.isfinite(values).all() for values in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and "
                "need to be preprocessed."
            )
        return self

    def _start(self, units: list[int], drawn: Any, dtype: Any) -> None:
        """Draw weights, rounded to one dtype and kept in another, and forget what was learned."""
        self.n_iter_, self.t_, self.n_layers_ = 0, 0, len(units)
        self.out_activation_ = self._output_activation()
        weights = initial_weights(units, self.activation, drawn, self._random_state)
        self.coefs_, self.intercepts_ = ([values.astype(dtype) for values in kind] for kind in weights)
        for name in ("model_", "stopped_"):
            self.__dict__.pop(name, None)
        if self.solver != "lbfgs":
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_ = None if self.early_stopping else np.inf
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None

    def _validation_rows(self, X: Any, y: Any, sample_weight: Any, dtype: Any) -> Rows:
        """Check validation rows given by the user."""
        X = validate_data(self, X, accept_sparse=SPARSE, dtype=DTYPES, reset=False)
        y = self._validation_targets(y)
        check_consistent_length(X, y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X).astype(dtype)
        return Rows(X, y, self._encode(y, dtype)[0], sample_weight)

    def _validation_targets(self, y: Any) -> Any:
        raise NotImplementedError

    # ---- the network behind coefs_ ----

    @property
    def _lock(self) -> threading.RLock:
        """The engine runs a network in one thread at a time: others wait."""
        lock: threading.RLock = self.__dict__.setdefault("_one_at_a_time", threading.RLock())
        return lock

    @property
    def _optimizer(self) -> Optimizer:
        """The optimizer, with the learning rate that training has come to."""
        return self.model_.optimizer

    def _synchronise(self) -> bool:
        """Let the network hold ``coefs_`` and ``intercepts_``, which a user may have replaced.

        From then on they are live views of the network's weights. Returns whether the network is a new one.
        """
        shapes = [np.shape(coef) for coef in self.coefs_]
        parts = self.activation, self.out_activation_, self.normalization, self.dropout, self._make_loss()
        recipe = repr((shapes, parts))
        fresh = "model_" not in self.__dict__ or recipe != self._recipe
        if fresh:
            seed = check_random_state(self.random_state).randint(2**31 - 1) if np.any(self.dropout) else 0
            self.model_ = build_model(
                [np.asarray(coef) for coef in self.coefs_],
                activation=self.activation,
                out_activation=self.out_activation_,
                normalization=self.normalization,
                dropout=self.dropout,
                loss=self._make_loss(),
                optimizer=make_optimizer(self),
                seed=seed,
            )
            self._recipe, self._optimizing = recipe, False
            self._views = self._make_views()
        for given, views in zip((self.coefs_, self.intercepts_), self._views, strict=True):
            for number, view in enumerate(views):
                if given[number] is not view:
                    view[...] = given[number]
                    given[number] = view
        return fresh

    def _make_views(self) -> tuple[list[Array], list[Array]]:
        layers = dense_layers(self.model_)
        return [layer.weight.T for layer in layers], [layer.parameters["bias"] for layer in layers]

    def __getstate__(self) -> dict[str, Any]:
        # The weights are the network's; their views are made anew.
        with self._lock:
            state = dict(super().__getstate__())
            if "model_" in state:
                self._synchronise()
                for name in ("coefs_", "intercepts_", "_views"):
                    del state[name]
            state.pop("_one_at_a_time", None)
            return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            self._views = self._make_views()
            self.coefs_, self.intercepts_ = (list(views) for views in self._views)

    # ---- using ----

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs for rows of a user."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=SPARSE, reset=False)
        with self._lock, threads(self.n_threads) if self.n_threads else nullcontext():
            self._synchronise()
            network = self.model_._require_network()
            if not hasattr(X, "tocsr"):
                return network.predict(dense(X, network.dtype))
            step = max(1, DENSE_BYTES // (8 * X.shape[1]))
            X = X.tocsr()
            blocks = (X[begin : begin + step] for begin in range(0, X.shape[0], step))
            return np.concatenate([network.predict(dense(block, network.dtype)) for block in blocks])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _hidden_sizes(given: Any) -> list[int]:
    sizes = list(given) if hasattr(given, "__iter__") else [given]
    if np.any(np.array(sizes) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [int(size) for size in sizes]


def _check_callbacks(callbacks: Any) -> None:
    for number, callback in enumerate(callbacks or ()):
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks[{number}] must be a Callback object, got {callback!r}")
