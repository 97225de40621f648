"""The solvers: epochs of stochastic gradient descent with its stopping rules, and L-BFGS.

They fill in the fitted attributes of an estimator under scikit-learn's names and with its arithmetic.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.optimize import _check_optimize_result
from threadpoolctl import threadpool_limits

from fastbp.network import Array, Network
from fastbp.optimizers import SGD
from fastbp.samples import Samples
from fastbp.sklearn.construction import dense_layers, make_optimizer
from fastbp.sklearn.epochs import Epochs, Objective, dense, shuffle

SMALLEST_RATE = 1e-6
"""Where the adaptive learning rate ends."""


def takes_steps(estimator: Any) -> bool:
    """Tell whether an estimator's solver can go on from batch to batch.

    Raises
    ------
    AttributeError
        When it cannot.
    """
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
        )
    return True


@dataclass
class Rows:
    """Rows for training or validation.

    Attributes
    ----------
    X : ndarray or sparse matrix, shape (n, features)
    y : ndarray
        Targets as the user gave them.
    targets : ndarray, shape (n, columns)
        Targets as the engine reads them.
    weights : ndarray, shape (n,), or None
    """

    X: Any
    y: Any
    targets: Array
    weights: Array | None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Any) -> Rows:
        """Return some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        X = self.X.tocsr() if hasattr(self.X, "tocsr") else self.X
        return Rows(X[rows], self.y[rows], self.targets[rows], weights)

    def samples(self, dtype: Any) -> Samples:
        """Return them in the engine's form."""
        return Samples(dense(self.X, dtype), self.targets, self.weights)


# ---- stochastic gradient descent -----------------------------------------------------------------


def train_stochastic(
    estimator: Any, rows: Rows, validation: Rows | None, incremental: bool, fresh: bool
) -> None:
    """Train for up to ``max_iter`` epochs; for one when it is incremental.

    A `fresh` network has the optimizer that it needs. Early stopping ends with the best weights. When it is
    incremental, the call after which the score stood still for too long puts them back, and later calls leave
    them alone.
    """
    if incremental and hasattr(estimator, "stopped_"):
        return
    network: Network = estimator.model_._require_network()
    if not fresh and not (incremental and estimator._optimizing):
        estimator.model_.optimizer = make_optimizer(estimator)
    elif network.optimizer.l2_penalty != estimator.alpha:
        _change_penalty(estimator, network)
    estimator._optimizing = True
    if estimator.early_stopping and validation is None:
        rows, validation = _split(estimator, rows)
    batch_size = _batch_size(estimator, len(rows))
    epochs = Epochs(network, rows.X, rows.targets, rows.weights, batch_size, estimator._loss_scale())
    held_out = None if validation is None else validation.samples(network.dtype)
    order = np.arange(len(rows))
    if not incremental or not hasattr(estimator, "_best"):
        estimator._best = network.parameters.copy() if estimator.early_stopping else None
    most = 1 if incremental else estimator.max_iter
    converged = False
    with _hooks(estimator, most) as hooks:
        try:
            estimator.n_iter_ = 0
            for epoch in range(most):
                hooks.begin(epoch)
                if estimator.shuffle:
                    shuffle(order, estimator._random_state)
                estimator.loss_ = epochs.run(order)
                estimator.n_iter_ += 1
                estimator.t_ += len(rows)
                estimator.loss_curve_.append(estimator.loss_)
                if estimator.verbose:
                    print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
                logs = {"loss": estimator.loss_}
                if validation is not None and held_out is not None:
                    logs |= _validate(estimator, network, validation, held_out)
                if _improved(estimator) and estimator.early_stopping:
                    estimator._best = network.parameters.copy()
                if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
                    rate = float(estimator.learning_rate_init) / (estimator.t_ + 1) ** estimator.power_t
                    _change_rate(network, rate)
                hooks.end(epoch, logs)
                converged = _converged(estimator, network)
                if converged or estimator.model_.stop_training:
                    break
                if not incremental and estimator.n_iter_ == estimator.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the "
                        "optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=4,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
    if estimator.early_stopping and (converged or not incremental):
        network.parameters[...] = estimator._best
        if incremental:
            estimator.stopped_ = True
    elif not incremental:
        network.adopt_average()


def _split(estimator: Any, rows: Rows) -> tuple[Rows, Rows]:
    """Hold out ``validation_fraction`` of the rows, of each of two classes alike."""
    stratify = rows.targets.astype(bool) if estimator._stratified() else None
    train, held_out = train_test_split(
        np.arange(len(rows)),
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=stratify,
    )
    if len(held_out) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
        )
    return rows.take(train), rows.take(held_out)


def _batch_size(estimator: Any, rows: int) -> int:
    if isinstance(estimator.batch_size, str):  # "auto"
        return min(200, rows)
    if estimator.batch_size > rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=5,
        )
    return int(min(estimator.batch_size, rows))


def _validate(estimator: Any, network: Network, validation: Rows, samples: Samples) -> dict[str, float]:
    """Record loss and score on validation rows."""
    (loss_sum, weight_sum), outputs = network.evaluate(samples)
    logs = {"val_loss": estimator._loss_scale() * (loss_sum / weight_sum if weight_sum else 0.0)}
    estimator.validation_loss_curve_.append(logs["val_loss"])
    if estimator.early_stopping:
        logs["val_score"] = float(estimator._score_outputs(outputs, validation.y, validation.weights))
        estimator.validation_scores_.append(logs["val_score"])
        if estimator.verbose:
            print(f"Validation score: {logs['val_score']:f}")
    return logs


def _improved(estimator: Any) -> bool:
    """Count epochs that gained less than ``tol``; tell whether this one is the best so far."""
    if estimator.early_stopping:
        score, least = estimator.validation_scores_[-1], estimator.best_validation_score_ + estimator.tol
        stands_still, better = score < least, score > estimator.best_validation_score_
        if better:
            estimator.best_validation_score_ = score
    else:
        loss = estimator.loss_curve_[-1]
        stands_still, better = loss > estimator.best_loss_ - estimator.tol, loss < estimator.best_loss_
        if better:
            estimator.best_loss_ = loss
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if stands_still else 0
    return bool(better)


def _converged(estimator: Any, network: Network) -> bool:
    """Tell whether the epochs without improvement were too many; an adaptive rate falls first."""
    if estimator._no_improvement_count <= estimator.n_iter_no_change:
        return False
    what = "Validation score" if estimator.early_stopping else "Training loss"
    message = (
        f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} "
        "consecutive epochs."
    )
    adaptive = estimator.solver == "sgd" and estimator.learning_rate == "adaptive"
    rate = network.optimizer.learning_rate
    stop = not adaptive or rate <= SMALLEST_RATE
    if stop:
        message += " Learning rate too small. Stopping." if adaptive else " Stopping."
    else:
        _change_rate(network, rate / 5)
        estimator._no_improvement_count = 0
        message += f" Setting learning rate to {rate / 5:f}"
    if estimator.verbose:
        print(message)
    return stop


def _change_rate(network: Network, rate: float) -> None:
    """Change the learning rate of descent with momentum, whose velocity −η b stays what it is."""
    optimizer = network.optimizer
    if isinstance(optimizer, SGD) and optimizer.momentum and rate > 0:
        buffer = network._slot("momentum_buffer")
        buffer *= optimizer.learning_rate / rate
    optimizer.learning_rate = rate


def _change_penalty(estimator: Any, network: Network) -> None:
    """Go on with another ``alpha``, the optimizer's memory kept."""
    state, step = network.state.copy(), int(network.counters[0])
    optimizer = copy.copy(network.optimizer)
    optimizer.l2_penalty = float(estimator.alpha)
    estimator.model_.optimizer = optimizer
    network.state[...], network.counters[0] = state, step


class _Hooks:
    """The callbacks and the progress bar of one training."""

    def __init__(self, estimator: Any, epochs: int) -> None:
        self.callbacks, self.bar = list(estimator.callbacks or ()), None
        for callback in self.callbacks:
            callback.model = estimator.model_
        if estimator.progress_bar:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=epochs, unit=" epochs", dynamic_ncols=True, mininterval=0.1)

    def begin(self, epoch: int) -> None:
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch)

    def end(self, epoch: int, logs: dict[str, float]) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)
        if self.bar is not None:
            self.bar.set_postfix({name: f"{value:.4f}" for name, value in logs.items()}, refresh=False)
            self.bar.update()


@contextmanager
def _hooks(estimator: Any, epochs: int) -> Iterator[_Hooks]:
    hooks = _Hooks(estimator, epochs)
    estimator.model_.stop_training = False
    try:
        for callback in hooks.callbacks:
            callback.on_train_begin()
        yield hooks
        for callback in hooks.callbacks:
            callback.on_train_end()
    finally:
        if hooks.bar is not None:
            hooks.bar.close()


# ---- L-BFGS --------------------------------------------------------------------------------------


def train_lbfgs(estimator: Any, rows: Rows, fresh: bool) -> None:
    """Minimise the loss on all rows with SciPy's L-BFGS-B; a `fresh` network knows `alpha`."""
    network: Network = estimator.model_._require_network()
    if not fresh:
        estimator.model_.optimizer = make_optimizer(estimator)  # it makes no step, but knows alpha
    estimator._optimizing = False
    layers = dense_layers(estimator.model_)
    views = [layer.weight.T for layer in layers] + [layer.parameters["bias"] for layer in layers]
    gradients = [layer.weight_grad.T for layer in layers] + [layer.gradients["bias"] for layer in layers]
    objective = Objective(network, views, gradients, rows.samples(network.dtype), estimator._loss_scale())
    iteration = 0

    def report(intermediate_result: Any) -> None:
        nonlocal iteration
        iteration += 1
        print(f"Iteration {iteration}, loss = {intermediate_result.fun:.8f}")

    # Its vectors are too short for the threads of BLAS, which would only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        result = scipy.optimize.minimize(
            objective,
            objective.pack(),
            method="L-BFGS-B",
            jac=True,
            callback=report if estimator.verbose else None,
            options={"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol},
        )
    estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
    estimator.loss_ = result.fun
    objective.unpack(result.x)
