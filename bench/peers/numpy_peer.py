"""NumPy by hand, as a careful user writes it: in-place updates, no needless copies."""

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from bench.nets import Net


def make(net: Net, threads: int) -> Callable[[int], float]:
    """Return a function that trains for one epoch of so many batches."""
    threadpool_limits(threads)
    parameters = [array for pair in net.weights() for array in pair]
    m = [np.zeros_like(p) for p in parameters]
    v = [np.zeros_like(p) for p in parameters]
    rng = np.random.default_rng(0)
    data: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    t = 0

    def step(x: np.ndarray, y: np.ndarray) -> float:
        nonlocal t
        activations = [x]
        depth = len(parameters) // 2
        for i in range(depth):
            z = activations[-1] @ parameters[2 * i]
            z += parameters[2 * i + 1]
            if i < depth - 1:
                z = np.maximum(z, 0, out=z) if net.hidden == "relu" else np.tanh(z, out=z)
            activations.append(z)
        z = activations[-1]
        rows = np.arange(len(z))
        if net.classes:
            z = z - z.max(axis=1, keepdims=True)
            delta = np.exp(z)
            total = delta.sum(axis=1, keepdims=True)
            loss = float((np.log(total[:, 0]) - z[rows, y]).mean())
            delta /= total
            delta[rows, y] -= 1
            delta /= len(z)
        else:
            error = z - y
            loss = float(np.mean(error**2))
            delta = error * np.float32(2 / error.size)
        gradients = [np.empty(0)] * len(parameters)
        for i in reversed(range(depth)):
            gradients[2 * i] = activations[i].T @ delta
            gradients[2 * i + 1] = delta.sum(axis=0)
            if i:
                delta = delta @ parameters[2 * i].T
                a = activations[i]
                delta *= a > 0 if net.hidden == "relu" else 1 - a * a
        t += 1
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        for p, g, mi, vi in zip(parameters, gradients, m, v, strict=True):
            mi *= 0.9
            mi += 0.1 * g
            vi *= 0.999
            vi += 0.001 * g * g
            p -= (1e-3 / c1) * mi / (np.sqrt(vi) / np.sqrt(c2) + 1e-8)
        return loss

    def epoch(steps: int) -> float:
        if steps not in data:
            data[steps] = net.samples(steps)
        X, y = data[steps]
        order = rng.permutation(len(X)).reshape(steps, net.batch)
        return sum(step(X[batch], y[batch]) for batch in order) / steps

    return epoch
