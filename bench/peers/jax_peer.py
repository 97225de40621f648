"""JAX: the data on the device, everything compiled, the state donated so that it is updated in place."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bench.peers import Train, first
from fastbp.workloads import Net


def make(net: Net, X: Any, y: Any, cores: int, shuffle: bool, batches: int | None, scan: bool) -> Train:
    """Return ``train(epochs)``: a call for each epoch, or for each step. Threads follow the affinity."""
    import jax
    from jax import numpy as jnp

    activation = jax.nn.relu if net.hidden == "relu" else jnp.tanh
    X, y = map(jnp.asarray, first(net, batches, X, y))
    parameters = jax.tree.map(jnp.asarray, net.weights())
    zeros = partial(jax.tree.map, jnp.zeros_like)
    state = parameters, zeros(parameters), zeros(parameters), jnp.float32(0)

    def mean_loss(parameters: Any, x: Any, target: Any) -> Any:
        *hidden, last = parameters
        for weight, bias in hidden:
            x = activation(x @ weight + bias)
        z = x @ last[0] + last[1]
        if net.classes:
            return -jnp.take_along_axis(jax.nn.log_softmax(z), target[:, None], axis=1).mean()
        return jnp.mean((z - target) ** 2)

    def step(X: Any, y: Any, state: Any, batch: Any) -> Any:
        parameters, m, v, t = state
        loss, gradients = jax.value_and_grad(mean_loss)(parameters, X[batch], y[batch])
        t += 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
        rate, correction = 1e-3 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        parameters = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v * correction) + 1e-8), parameters, m, v
        )
        return (parameters, m, v, t), loss

    @partial(jax.jit, donate_argnums=2)
    def scanned(X: Any, y: Any, state: Any, order: Any) -> Any:
        state, losses = jax.lax.scan(partial(step, X, y), state, order, unroll=2)
        return state, losses.mean()

    single = jax.jit(step, donate_argnums=2)
    rng = np.random.default_rng(0)

    def train(epochs: int) -> float:
        nonlocal state
        for _ in range(epochs):
            order = rng.permutation(len(X)) if shuffle else np.arange(len(X))
            batches = order.astype(np.int32).reshape(-1, net.batch)
            if scan:
                state, loss = scanned(X, y, state, batches)
            else:
                losses = []
                for batch in batches:
                    state, loss = single(X, y, state, batch)
                    losses.append(loss)
                loss = np.mean(jax.device_get(losses))
        return float(loss)

    return train
