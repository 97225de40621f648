"""The reference interpreter's operations on flat arrays: gradients, the optimizers' steps, constraints.

The update rules are PyTorch's. θ stands for the parameters, g for their gradient, η for the learning rate, λ
for the weight decay. :mod:`fastbp.engine.reference` runs them.
"""

from __future__ import annotations

import math

import numpy as np

from fastbp.engine.operations import Array, Run, operation
from fastbp.engine.plan import BLOCK

# ---- gradients ----


@operation
def penalty(run: Run, parameters: Array, sums: Array, *, l1: float, l2: float) -> None:
    """l1 Σ|θ| + l2 Σθ², block by block; the loss of each sample grows by all of it."""
    theta = parameters[0].astype(np.float64)
    value = l1 * np.abs(theta) + l2 * theta * theta
    sums[0] = np.add.reduceat(value, np.arange(0, theta.size, BLOCK))
    run.loss_sum += run.batch_weight * float(sums.sum(dtype=np.float64))


@operation
def penalty_gradient(run: Run, parameters: Array, gradients: Array, *, l1: float, l2: float) -> None:
    """g += l1 sign θ + 2 l2 θ."""
    gradients += run.real(l1) * np.sign(parameters) + run.real(2 * l2) * parameters


@operation
def l2_penalty(run: Run, parameters: Array, gradients: Array, *, strength: float) -> None:
    """Half of s Σθ², s = strength / Σ w of the batch, and its gradient s θ; without a loss nothing."""
    factor = strength / run.batch_weight if run.batch_weight > 0 else 0.0
    gradients += run.real(factor) * parameters
    run.penalty += factor / 2 * float(np.square(parameters, dtype=np.float64).sum())


@operation
def accumulate(run: Run, gradients: Array, total: Array, *, steps: float) -> None:
    """Add up the gradients of so many batches; at the last one their mean becomes the gradient."""
    if run.waiting:
        total += gradients
    else:
        total[...] = gradients
    if run.waiting == steps - 1:
        gradients[...] = total * run.real(1 / steps)


@operation
def clip_value(run: Run, gradients: Array, *, limit: float) -> None:
    """Bring each element into [−limit, limit]."""
    np.clip(gradients, run.real(-limit), run.real(limit), out=gradients)


@operation
def gradient_norms(run: Run, gradients: Array, norms: Array) -> None:
    """‖g‖ of each block."""
    squares = gradients[0].astype(np.float64) ** 2
    norms[0] = np.sqrt(np.add.reduceat(squares, np.arange(0, squares.size, BLOCK)))


@operation
def clip_norm(run: Run, gradients: Array, norms: Array, *, limit: float) -> None:
    """G *= limit / norm where the norm, that of all norms, is larger than the limit."""
    norm = math.sqrt(float((norms.astype(np.float64) ** 2).sum()))
    if norm > limit:
        gradients *= run.real(limit / norm)


# ---- the step ----


def _decayed(run: Run, parameters: Array, gradients: Array, weight_decay: float) -> Array:
    """Weight decay as part of the gradient: g + λθ."""
    return gradients + run.real(weight_decay) * parameters if weight_decay else gradients


def _adam_gradient(
    run: Run, parameters: Array, gradients: Array, weight_decay: float, decoupled: float
) -> Array:
    """Weight decay of the gradient; or, decoupled, of the parameters: θ *= 1 − ηλ."""
    if not decoupled:
        return _decayed(run, parameters, gradients, weight_decay)
    if weight_decay:
        parameters *= run.real(1 - run.learning_rate * weight_decay)
    return gradients


def _average(run: Run, average: Array, beta: float, values: Array) -> None:
    """Average = β average + (1 − β) values."""
    average += run.real(1 - beta) * (values - average)


def _average_of_squares(run: Run, average: Array, beta: float, values: Array) -> None:
    average[...] = run.real(beta) * average + run.real(1 - beta) * values * values


@operation
def sgd(
    run: Run,
    parameters: Array,
    gradients: Array,
    momentum_buffer: Array | None,
    *,
    momentum: float,
    nesterov: float,
    weight_decay: float,
) -> None:
    """g += λθ; b = μ b + g; θ -= η b, with Nesterov θ -= η (g + μ b)."""
    g = _decayed(run, parameters, gradients, weight_decay)
    if momentum_buffer is not None:
        momentum_buffer[...] = run.real(momentum) * momentum_buffer + g
        g = g + run.real(momentum) * momentum_buffer if nesterov else momentum_buffer
    parameters -= run.real(run.learning_rate) * g


@operation
def adam(
    run: Run,
    parameters: Array,
    gradients: Array,
    m: Array,
    v: Array,
    v_max: Array | None,
    *,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: float,
    epsilon_hat: float,
) -> None:
    """Adam; with decoupled weight decay AdamW, with the largest v so far AMSGrad.

    epsilon_hat: ε is added to √v, not to √v̂.
    """
    g = _adam_gradient(run, parameters, gradients, weight_decay, decoupled)
    _average(run, m, beta_1, g)
    _average_of_squares(run, v, beta_2, g)
    if v_max is not None:
        v = np.maximum(v_max, v, out=v_max)
    step_size = run.learning_rate / (1 - beta_1**run.step)
    root = math.sqrt(1 - beta_2**run.step)
    added = run.real(epsilon / root if epsilon_hat else epsilon)
    parameters -= run.real(step_size) * (m / (np.sqrt(v) / run.real(root) + added))


@operation
def adamax(
    run: Run,
    parameters: Array,
    gradients: Array,
    m: Array,
    u: Array,
    *,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
) -> None:
    """Adam with the largest gradient, fading, in place of the root of the mean square."""
    g = _decayed(run, parameters, gradients, weight_decay)
    _average(run, m, beta_1, g)
    np.maximum(run.real(beta_2) * u, np.abs(g) + run.real(epsilon), out=u)
    parameters -= run.real(run.learning_rate / (1 - beta_1**run.step)) * m / u


@operation
def nadam(
    run: Run,
    parameters: Array,
    gradients: Array,
    m: Array,
    v: Array,
    *,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: float,
    momentum_factor: float,
) -> None:
    """Adam with Nesterov's look ahead; its momentum grows from step to step."""

    def momentum(step: int) -> float:
        return beta_1 * (1 - 0.5 * momentum_factor**step)

    product = 1.0
    for step in range(1, run.step + 1):
        product *= momentum(step)
        if product < 1e-18:  # below the rounding of 1 − product
            break
    g = _adam_gradient(run, parameters, gradients, weight_decay, decoupled)
    _average(run, m, beta_1, g)
    _average_of_squares(run, v, beta_2, g)
    now, following = momentum(run.step), momentum(run.step + 1)
    of_gradient = run.real(run.learning_rate * (1 - now) / (1 - product))
    of_average = run.real(run.learning_rate * following / (1 - product * following))
    root = run.real(math.sqrt(1 - beta_2**run.step))
    parameters -= (of_gradient * g + of_average * m) / (np.sqrt(v) / root + run.real(epsilon))


@operation
def radam(
    run: Run,
    parameters: Array,
    gradients: Array,
    m: Array,
    v: Array,
    *,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: float,
) -> None:
    """Adam that divides by √v only when enough steps make it reliable."""
    g = _adam_gradient(run, parameters, gradients, weight_decay, decoupled)
    _average(run, m, beta_1, g)
    _average_of_squares(run, v, beta_2, g)
    correction = 1 - beta_2**run.step
    longest = 2 / (1 - beta_2) - 1
    length = longest - 2 * run.step * beta_2**run.step / correction
    step_size = run.learning_rate / (1 - beta_1**run.step)
    if length > 5:
        variance = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        step_size *= math.sqrt(variance * correction)
        parameters -= run.real(step_size) * m / (np.sqrt(v) + run.real(epsilon))
    else:
        parameters -= run.real(step_size) * m


@operation
def lion(
    run: Run,
    parameters: Array,
    gradients: Array,
    m: Array,
    *,
    beta_1: float,
    beta_2: float,
    weight_decay: float,
) -> None:
    """θ -= η (sign(β₁ m + (1 − β₁) g) + λθ), then m = β₂ m + (1 − β₂) g."""
    direction = np.sign(m + run.real(1 - beta_1) * (gradients - m))
    _average(run, m, beta_2, gradients)
    parameters *= run.real(1 - run.learning_rate * weight_decay)
    parameters -= run.real(run.learning_rate) * direction


@operation
def adagrad(
    run: Run,
    parameters: Array,
    gradients: Array,
    accumulator: Array,
    *,
    initial_accumulator_value: float,
    epsilon: float,
    weight_decay: float,
) -> None:
    """G += g²; θ -= η g / (√(G₀ + G) + ε)."""
    g = _decayed(run, parameters, gradients, weight_decay)
    accumulator += g * g
    root = np.sqrt(run.real(initial_accumulator_value) + accumulator)
    parameters -= run.real(run.learning_rate) * g / (root + run.real(epsilon))


@operation
def adadelta(
    run: Run,
    parameters: Array,
    gradients: Array,
    v: Array,
    delta_average: Array,
    *,
    rho: float,
    epsilon: float,
    weight_decay: float,
) -> None:
    """Δ = g √(u + ε) / √(v + ε), where u and v are the running means of Δ² and g²; θ -= η Δ."""
    g = _decayed(run, parameters, gradients, weight_decay)
    _average_of_squares(run, v, rho, g)
    delta = np.sqrt(delta_average + run.real(epsilon)) / np.sqrt(v + run.real(epsilon)) * g
    _average_of_squares(run, delta_average, rho, delta)
    parameters -= run.real(run.learning_rate) * delta


@operation
def rmsprop(
    run: Run,
    parameters: Array,
    gradients: Array,
    v: Array,
    momentum_buffer: Array | None,
    gradient_average: Array | None,
    *,
    rho: float,
    momentum: float,
    epsilon: float,
    weight_decay: float,
) -> None:
    """RMSprop, centered when it keeps an average of the gradient."""
    g = _decayed(run, parameters, gradients, weight_decay)
    _average_of_squares(run, v, rho, g)
    spread = v
    if gradient_average is not None:
        _average(run, gradient_average, rho, g)
        # a variance; rounding may leave it below 0
        spread = np.maximum(v - gradient_average * gradient_average, run.real(0))
    update = g / (np.sqrt(spread) + run.real(epsilon))
    if momentum_buffer is not None:
        momentum_buffer[...] = run.real(momentum) * momentum_buffer + update
        update = momentum_buffer
    parameters -= run.real(run.learning_rate) * update


@operation
def rprop(
    run: Run,
    parameters: Array,
    gradients: Array,
    previous: Array,
    step_size: Array,
    *,
    eta_minus: float,
    eta_plus: float,
    step_size_min: float,
    step_size_max: float,
) -> None:
    """Steps that grow while the sign of g stays, and shrink, waiting for one step, when it changes."""
    step_size[step_size == 0] = run.real(run.learning_rate)  # the first step
    agreement = np.sign(gradients) * np.sign(previous)
    factor = np.where(agreement > 0, run.real(eta_plus), run.real(1))
    factor[agreement < 0] = run.real(eta_minus)
    np.clip(step_size * factor, run.real(step_size_min), run.real(step_size_max), out=step_size)
    previous[...] = np.where(agreement < 0, run.real(0), gradients)
    parameters -= step_size * np.sign(previous)


# ---- parameters after the step ----


@operation
def max_norm(run: Run, parameters: Array, *, max_value: float) -> None:
    """Shrink columns, the weights that lead to one unit, that are longer than that."""
    norm = np.sqrt((parameters * parameters).sum(axis=0))
    parameters *= np.where(norm > run.real(max_value), run.real(max_value) / norm, run.real(1))


@operation
def moving_average(run: Run, parameters: Array, average: Array, *, momentum: float) -> None:
    """Average = μ average + (1 − μ) θ; at the first step it becomes θ."""
    if run.step == 1:
        average[...] = parameters
    _average(run, average, momentum, parameters)
