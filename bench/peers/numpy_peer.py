"""NumPy by hand, as a careful user writes it.

All parameters lie in one array, so that Adam is one sweep; products go straight to where they belong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.peers import Train, first
from fastbp.workloads import Net


def make(net: Net, X: Any, y: Any, cores: int, shuffle: bool, batches: int | None) -> Train:
    """Return ``train(epochs)``; the threads of BLAS follow the environment."""
    X, y = first(net, batches, X, y)
    arrays = [array for pair in net.weights() for array in pair]
    parameters = np.concatenate([array.ravel() for array in arrays])
    gradients, m, v, scratch = (np.zeros_like(parameters) for _ in range(4))
    places = np.cumsum([array.size for array in arrays])[:-1]

    def layers(flat: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        views = [part.reshape(a.shape) for part, a in zip(np.split(flat, places), arrays, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))

    weights, weight_gradients = layers(parameters), layers(gradients)
    rows = np.arange(net.batch)
    rng = np.random.default_rng(0)
    steps = 0

    def step(x: np.ndarray, target: np.ndarray) -> float:
        nonlocal steps
        activations = [x]
        for number, (weight, bias) in enumerate(weights):
            z = activations[-1] @ weight
            z += bias
            if number < len(weights) - 1:
                z = np.maximum(z, 0, out=z) if net.hidden == "relu" else np.tanh(z, out=z)
            activations.append(z)
        if net.classes:
            z -= z.max(axis=1, keepdims=True)
            delta = np.exp(z)
            total = delta.sum(axis=1, keepdims=True)
            loss = np.mean(np.log(total[:, 0]) - z[rows, target])
            delta /= total
            delta[rows, target] -= 1
            delta /= net.batch
        else:
            z -= target
            loss = np.dot(z.ravel(), z.ravel()) / z.size
            delta = z * np.float32(2 / z.size)
        for number in reversed(range(len(weights))):
            a = activations[number]
            weight_gradient, bias_gradient = weight_gradients[number]
            np.matmul(a.T, delta, out=weight_gradient)
            np.sum(delta, axis=0, out=bias_gradient)
            if number:
                delta = delta @ weights[number][0].T
                delta *= a > 0 if net.hidden == "relu" else 1 - a * a
        steps += 1
        adam()
        return float(loss)

    def adam() -> None:
        """No array is made here: fresh memory would cost more than the arithmetic."""
        np.multiply(m, 0.9, out=m)
        np.add(m, np.multiply(gradients, 0.1, out=scratch), out=m)
        np.multiply(v, 0.999, out=v)
        np.multiply(gradients, gradients, out=scratch)
        np.add(v, np.multiply(scratch, 0.001, out=scratch), out=v)
        np.sqrt(np.divide(v, 1 - 0.999**steps, out=scratch), out=scratch)
        np.divide(m, np.add(scratch, 1e-8, out=scratch), out=scratch)
        np.multiply(scratch, 1e-3 / (1 - 0.9**steps), out=scratch)
        np.subtract(parameters, scratch, out=parameters)

    def train(epochs: int) -> float:
        for _ in range(epochs):
            order = rng.permutation(len(X)) if shuffle else np.arange(len(X))
            losses = [step(X[batch], y[batch]) for batch in order.reshape(-1, net.batch)]
        return float(np.mean(losses))

    return train
