"""Every optimizer on every engine: update rules, and a network after 100 steps of training.

test_optimizer_traces.py compares 1,000 steps with PyTorch's.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import optimizers
from fastbp.layers import Dense, Dropout
from fastbp.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)
from fastbp.schedules import CosineDecay

OPTIMIZERS = {
    "sgd": SGD(0.1),
    "sgd, decay": SGD(0.1, weight_decay=0.01),
    "momentum": SGD(0.03, momentum=0.9),
    "momentum, decay": SGD(0.03, momentum=0.9, weight_decay=0.01),
    "nesterov": SGD(0.03, momentum=0.9, nesterov=True),
    "nesterov, decay": SGD(0.03, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Adam(0.003),
    "adam, other constants": Adam(0.003, beta_1=0.8, beta_2=0.99, epsilon=1e-3),
    "adam, epsilon at the root of v": Adam(0.003, epsilon=1e-3, epsilon_hat=True),
    "adam, decay": Adam(0.003, weight_decay=0.01),
    "adamw": AdamW(0.003),
    "adamw, strong decay": AdamW(0.003, weight_decay=0.3),
    "rmsprop": RMSprop(0.003),
    "rmsprop, other constants": RMSprop(0.003, rho=0.9, epsilon=1e-3),
    "rmsprop, decay": RMSprop(0.003, weight_decay=0.01),
    "rmsprop, momentum": RMSprop(0.001, momentum=0.9),
    "rmsprop, centered": RMSprop(0.003, centered=True),
    "rmsprop, everything": RMSprop(0.001, momentum=0.5, centered=True, weight_decay=0.01),
    "amsgrad": Adam(0.003, amsgrad=True),
    "adagrad": Adagrad(0.03),
    "adadelta": Adadelta(),
    "adamax": Adamax(),
    "nadam": NAdam(),
    "radam": RAdam(0.003),
    "lion": Lion(0.001),
    "rprop": Rprop(0.001, step_size_max=0.1),  # larger steps saturate tanh: gradients of rounding errors
    "clip value": SGD(0.1, clipvalue=0.02),
    "clip norms": SGD(0.1, clipnorm=0.1),
    "clip norm": SGD(0.1, global_clipnorm=0.3),
    "accumulation": Adam(0.01, gradient_accumulation_steps=3),
    "average": SGD(0.1, use_ema=True, ema_momentum=0.9),
    "decay of weights": AdamW(0.003, weight_decay=0.3, decay_biases=False),
    "schedule": SGD(CosineDecay(0.0, 80, 0.1, 0.2, 20)),
    "all together": NAdam(
        CosineDecay(0.01, 80),
        weight_decay=0.01,
        decay_biases=False,
        global_clipnorm=0.3,
        gradient_accumulation_steps=2,
        use_ema=True,
    ),
}
BY_SIGN = (Lion, Rprop)  # the sign of a rounding error would make a difference in float32

# ---- the published rules -------------------------------------------------------------------------
# Each takes the parameters, a list of gradients and the learning rate of each step.


def sgd(o, theta, gradients, rates):
    buffer = np.zeros_like(theta)
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True)):
        g = g + o.weight_decay * theta
        buffer = g if t == 0 else o.momentum * buffer + g
        theta = theta - rate * (g + o.momentum * buffer if o.nesterov else buffer)
    return theta


def adam(o, theta, gradients, rates):
    m = v = np.zeros_like(theta)
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        if isinstance(o, AdamW):
            theta = theta - rate * o.weight_decay * theta
        else:
            g = g + o.weight_decay * theta
        m = o.beta_1 * m + (1 - o.beta_1) * g
        v = o.beta_2 * v + (1 - o.beta_2) * g**2
        m_hat, v_hat = m / (1 - o.beta_1**t), v / (1 - o.beta_2**t)
        epsilon = o.epsilon / np.sqrt(1 - o.beta_2**t) if o.epsilon_hat else o.epsilon
        theta = theta - rate * m_hat / (np.sqrt(v_hat) + epsilon)
    return theta


def rmsprop(o, theta, gradients, rates):
    v = average = buffer = np.zeros_like(theta)
    for g, rate in zip(gradients, rates, strict=True):
        g = g + o.weight_decay * theta
        v = o.rho * v + (1 - o.rho) * g**2
        spread = v
        if o.centered:
            average = o.rho * average + (1 - o.rho) * g
            spread = v - average**2
        change = g / (np.sqrt(spread) + o.epsilon)
        if o.momentum > 0:
            change = buffer = o.momentum * buffer + change
        theta = theta - rate * change
    return theta


RULES = {SGD: sgd, Adam: adam, AdamW: adam, RMSprop: rmsprop}


def test_every_optimizer_is_here():
    known = {
        k for k in vars(optimizers).values() if isinstance(k, type) and issubclass(k, optimizers.Optimizer)
    }
    known = {kind for kind in known if getattr(kind, "kind", "")}  # the others have no step
    assert {type(optimizer) for optimizer in OPTIMIZERS.values()} == known


@pytest.mark.parametrize("name", list(OPTIMIZERS)[: list(OPTIMIZERS).index("amsgrad")])
def test_rule(name, engine, dtype, rng):
    """Five steps by given gradients, the learning rate changing on the way."""
    optimizer = optimizers.get(OPTIMIZERS[name].config())
    model = fastbp.Sequential([Dense(5)], None, optimizer, input_size=7, dtype=dtype)
    layer = model.layers[0]
    layer.weight, layer.bias = rng.normal(size=(5, 7)), rng.normal(size=5)
    start = {"weight": layer.weight.astype(float), "bias": layer.bias.astype(float)}
    steps = [
        {name: rng.normal(size=view.shape).astype(dtype) for name, view in start.items()} for _ in range(5)
    ]
    rates = [0.1, 0.1, 0.05, 0.2, 0.01]
    for gradients, rate in zip(steps, rates, strict=True):
        layer.weight_grad[...], layer.bias_grad[...] = gradients["weight"], gradients["bias"]
        optimizer.learning_rate = rate
        model.step()
    for name, theta in start.items():
        expected = RULES[type(optimizer)](optimizer, theta, [g[name].astype(float) for g in steps], rates)
        tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype] * np.abs(expected).max()
        np.testing.assert_allclose(getattr(layer, name), expected, rtol=0, atol=tolerance, err_msg=name)


# ---- 100 steps -----------------------------------------------------------------------------------

SAMPLES, BATCH, EPOCHS = 157, 16, 10  # ten batches an epoch, the last one ragged


def train(optimizer, dtype):
    """A classifier of noisy blobs; the optimizer is described anew, for its state is the model's."""
    rng = np.random.default_rng(8)
    y = rng.integers(3, size=SAMPLES)
    X = rng.normal(size=(SAMPLES, 9)) + y[:, np.newaxis]
    model = fastbp.Sequential(
        [Dense(17, "relu"), Dropout(0.25), Dense(11, "tanh"), Dense(3, "softmax")],
        "cross_entropy",
        optimizers.get(optimizer.config()),
        dtype=dtype,
        seed=1,
    )
    weights = rng.uniform(0.5, 1.5, SAMPLES)
    history = model.fit(X, y, epochs=EPOCHS, batch_size=BATCH, sample_weight=weights)
    return model, history.history["loss"]


EXPECTED = {}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hundred_steps(name, engine, dtype):
    if isinstance(OPTIMIZERS[name], BY_SIGN):
        dtype = "float64"
    if (name, dtype) not in EXPECTED:
        engine.select_reference()
        EXPECTED[name, dtype] = train(OPTIMIZERS[name], dtype)
        engine.select()
    expected, expected_losses = EXPECTED[name, dtype]
    model, losses = train(OPTIMIZERS[name], dtype)
    assert model._network.counters.tolist() == expected._network.counters.tolist() == [100, 100]
    assert losses[-1] < losses[0]  # it learned something
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    for layer, other in zip(model.layers, expected.layers, strict=True):
        for part, values in layer.parameters.items():
            wanted = other.parameters[part]
            error = np.abs(values - wanted).max() / np.abs(wanted).max()
            assert error <= tolerance, f"{layer.name}.{part} is off by {error:.2g} of its largest value"
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance)


def test_the_same_bits_for_any_number_of_threads(engine, dtype):
    """With all that is summed over many blocks: penalties, and norms of gradients."""
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(40, 60)), rng.normal(size=(40, 2))
    results = []
    for size in engine.teams:
        fastbp.set_num_threads(size)
        dense = Dense(300, "tanh", kernel_regularizer="l1_l2", kernel_constraint="max_norm")
        dense.kernel_regularizer.l1 = dense.kernel_regularizer.l2 = 0.01
        optimizer = optimizers.get(OPTIMIZERS["all together"].config())
        model = fastbp.Sequential([dense, Dense(2)], "mse", optimizer, dtype=dtype, seed=0)
        losses = [model.train_on_batch(X[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)]
        results.append((model.parameters.tobytes(), losses))
    assert all(result == results[0] for result in results)
