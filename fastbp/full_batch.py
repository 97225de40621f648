"""How the optimizers of :mod:`fastbp.second_order` train a network: with losses and gradients of all samples.

The samples stay where they are; what is copied is the vector of parameters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastbp import kernels
from fastbp.engine import backend, planner
from fastbp.engine.layout import SLACK
from fastbp.engine.plan import Op, Plan, Tensor
from fastbp.losses import HalfSquaredError, MeanSquaredError
from fastbp.samples import Samples, dense, in_memory
from fastbp.second_order import LBFGS, LevenbergMarquardt

if TYPE_CHECKING:
    from fastbp.network import Network

Vector = NDArray[np.float64]

# Rows that go through the network at once: the sums over them do not depend on the number of threads.
ROWS = 4096
# Rows of the Jacobian that are in memory at once.
JACOBIAN_ROWS = 1024
# Most parameters for Levenberg-Marquardt: JᵀJ of so many takes 200 MB, and seconds to solve.
MOST_PARAMETERS = 5000
EPSILON = 2.0**-52


def minimize(network: Network, samples: Samples) -> float:
    """Run one minimisation of the network's optimizer and return the loss it ends with.

    Raises
    ------
    ImportError
        When it needs SciPy and there is none.
    ValueError
        When the optimizer cannot minimise this loss of this network.
    """
    optimizer = network.optimizer
    if any("stream" in op.attributes for op in network.plan.ops):
        raise ValueError(f"{optimizer!r} needs the same loss each time: dropout and noise make it random")
    if not network.plan.trained_size:
        (loss_sum, weight_sum), _ = network.evaluate(samples)
        return loss_sum / weight_sum if weight_sum else 0.0
    samples = Samples(in_memory(samples.inputs), samples.targets, samples.weights)
    if isinstance(optimizer, LBFGS):
        return _lbfgs(network, samples, optimizer)
    assert isinstance(optimizer, LevenbergMarquardt)
    return _levenberg_marquardt(network, samples, optimizer)


# ---- L-BFGS ----


def _lbfgs(network: Network, samples: Samples, optimizer: LBFGS) -> float:
    try:
        from scipy.optimize import minimize as scipy_minimize
    except ImportError as error:
        raise ImportError('optimizer "lbfgs" needs SciPy: pip install "fastbp[scipy]"') from error
    theta = network.parameters[: network.plan.trained_size]
    best_loss, best = np.inf, theta.copy()

    def value(point: Vector) -> tuple[float, Vector]:
        nonlocal best_loss, best
        theta[...] = point
        loss, gradient = _loss_and_gradient(network, samples)
        if loss < best_loss:
            best_loss, best = loss, theta.copy()
        return loss, gradient

    try:
        scipy_minimize(
            value,
            theta.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            options={
                "maxiter": optimizer.max_iter,
                "maxfun": 20 * optimizer.max_iter,  # a line search takes one or two
                "gtol": optimizer.tolerance_grad,
                "ftol": optimizer.tolerance_change,
                "maxcor": optimizer.history_size,
            },
        )
    finally:  # an interruption included
        theta[...] = best
    return best_loss


def _loss_and_gradient(network: Network, samples: Samples) -> tuple[float, Vector]:
    """The mean loss over all samples, and its gradient."""
    phases = ("gather", "gather_targets", "forward", "loss", "backward")
    columns, rows = samples.targets.shape[1], min(len(samples), ROWS)
    program = network._program(rows, columns, "training", samples.inputs)
    gradients = network.gradients[: network.plan.trained_size]
    total = np.zeros(gradients.size)
    loss_sum = weight_sum = 0.0
    for first in range(0, len(samples), ROWS):
        count = min(ROWS, len(samples) - first)
        loss, weight = program.run(phases, first, count, training=True, **samples.arenas())
        total += weight * gradients
        loss_sum, weight_sum = loss_sum + loss, weight_sum + weight
    return loss_sum / weight_sum, total / weight_sum


# ---- Levenberg-Marquardt ----


def _levenberg_marquardt(network: Network, samples: Samples, optimizer: LevenbergMarquardt) -> float:
    squares = _Squares(network, samples)
    place = squares.place
    theta = network.parameters[place].astype(np.float64)

    def residuals_at(point: Vector) -> tuple[float, Vector]:
        network.parameters[place] = point
        residuals = squares.residuals()
        return 0.5 * float((residuals * residuals).sum()), residuals

    try:
        loss, residuals = residuals_at(theta)
        matrix, gradient = squares.normal_equations(residuals)
        largest = float(matrix.diagonal().max())
        damping, growth = optimizer.damping * largest, 2.0
        for _ in range(optimizer.max_iter):
            if np.abs(gradient).max() <= optimizer.tolerance_grad or not np.isfinite(loss):
                break
            step = np.linalg.solve(matrix + damping * np.eye(theta.size), -gradient)
            if np.linalg.norm(step) <= optimizer.tolerance_change * np.linalg.norm(theta):
                break
            new_loss, new_residuals = residuals_at(theta + step)
            promised = 0.5 * float(step @ (damping * step - gradient))  # by the linear model
            if not promised > 0:
                break
            gain = (loss - new_loss) / promised
            if gain > 0:
                theta, loss = theta + step, new_loss
                matrix, gradient = squares.normal_equations(new_residuals)
                damping, growth = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
                damping = max(damping, EPSILON * largest)  # JᵀJ alone may be singular
            else:
                damping, growth = damping * growth, 2 * growth
    finally:  # the last good parameters, after an interruption too
        network.parameters[place] = theta
    return loss


class _Squares:
    """The loss as half a sum of squared residuals, and their Jacobian.

    Attributes
    ----------
    place : ndarray of int
        Where the parameters lie in the flat array.
    """

    def __init__(self, network: Network, samples: Samples) -> None:
        loss, optimizer = network.loss, network.optimizer
        if not isinstance(loss, MeanSquaredError | HalfSquaredError):
            raise ValueError(
                f"{optimizer!r} minimises mean_squared_error or half_squared_error, the loss is {loss!r}"
            )
        if any(op.kind == "penalty" for op in network.plan.ops):
            raise ValueError(f"{optimizer!r} minimises squares alone: the layers must have no regularizers")
        tensors = [p.tensor for p in network.plan.parameters if p.trained]
        count = sum(t.rows * t.columns for t in tensors)
        if count > MOST_PARAMETERS:
            raise ValueError(
                f"{optimizer!r} takes at most {MOST_PARAMETERS} parameters, this network has {count}: "
                "use LBFGS"
            )
        self.network, self.samples = network, samples
        self.inputs = dense(samples.inputs, network.dtype)
        self.place = np.concatenate([t.matrix(np.arange(network.parameters.size)).ravel() for t in tensors])
        weights = np.ones(len(samples)) if samples.weights is None else samples.weights.astype(np.float64)
        factor = 2 / network.output_size if isinstance(loss, MeanSquaredError) else 1.0
        self.roots = np.sqrt(factor * weights / weights.sum())[:, np.newaxis]
        plan = _jacobian_plan(network)
        self.program = backend.compile(
            plan, network.parameters, network.gradients, network.state, np.zeros(2, np.int64)
        )

    def residuals(self) -> Vector:
        """Return the weighted residuals, shape (n, output_size)."""
        outputs = self.network.predict(self.samples.inputs).astype(np.float64)
        weighted: Vector = self.roots * (outputs - self.samples.targets)
        return weighted

    def normal_equations(self, residuals: Vector) -> tuple[Vector, Vector]:
        """Return JᵀJ and Jᵀr, the gradient, at the network's parameters."""
        matrix, gradient = np.zeros((self.place.size, self.place.size)), np.zeros(self.place.size)
        for first in range(0, len(self.samples), JACOBIAN_ROWS):
            rows = slice(first, first + JACOBIAN_ROWS)
            for output in range(self.network.output_size):
                block = self._jacobian(rows, output)
                matrix += kernels.matmul(block, block, transpose_a=True)
                gradient += kernels.matmul(residuals[rows, output : output + 1], block, transpose_a=True)[0]
        return matrix, gradient

    def _jacobian(self, rows: slice, output: int) -> Vector:
        """Derivatives of one output's weighted residuals: the gradients of one-row batches."""
        inputs, roots = self.inputs[rows], self.roots[rows]
        seeds = np.zeros((len(inputs), self.network.output_size), self.network.dtype)
        seeds[:, output] = roots[:, 0]
        gradients = np.empty((len(inputs), self.program.plan.columns["outputs"]), self.network.dtype)
        phases = ("gather", "forward", "output_backward", "backward", "input_gradient")
        self.program.run(phases, 0, len(inputs), inputs=inputs, targets=seeds, outputs=gradients)
        return gradients[:, self.place].astype(np.float64)


def _jacobian_plan(network: Network) -> Plan:
    """A plan for one-row batches: inputs, and the output's delta as targets, in; the flat gradient out."""
    plan = planner.build(
        network.layers, network.input_size, dtype=network.dtype, batch_size=1, seed=network.seed
    )
    outputs, size = plan.columns["outputs"], plan.sizes["gradients"] - SLACK
    ops = [op for op in plan.ops if op.phase not in ("output", "input_gradient")]
    for number, op in enumerate(ops):
        if op.phase == "output_backward" and op.kind == "gather":
            seeds = Tensor("targets", 0, 1, outputs, outputs, per_row=True)
            ops[number] = replace(op, operands=op.operands | {"source": seeds})
    operands: dict[str, Tensor | None] = {
        "source": Tensor("gradients", 0, 1, size, size),
        "out": Tensor("outputs", 0, 1, size, size, per_row=True),
    }
    ops.append(Op("scatter", "input_gradient", operands))
    return replace(plan, ops=tuple(ops), columns=plan.columns | {"targets": outputs, "outputs": size})
