"""The reference's updates, beside formulas for one number at a time."""

import math

import numpy as np
import pytest

from fastbp.engine import reference
from fastbp.engine.plan import Op, Plan, Tensor


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def trace(kind, gradients, rates, h, p):
    """Parameters after each step, one number at a time."""
    m = v = average = buffer = 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        if h.get("decoupled"):
            p -= rate * h["weight_decay"] * p
        else:
            g += h["weight_decay"] * p
        if kind == "sgd":
            buffer = h["momentum"] * buffer + g
            p -= rate * (g + h["momentum"] * buffer if h["nesterov"] else buffer)
        elif kind == "adam":
            m = h["beta_1"] * m + (1 - h["beta_1"]) * g
            v = h["beta_2"] * v + (1 - h["beta_2"]) * g**2
            m_hat, v_hat = m / (1 - h["beta_1"] ** t), v / (1 - h["beta_2"] ** t)
            epsilon = h["epsilon"] / (math.sqrt(1 - h["beta_2"] ** t) if h["epsilon_hat"] else 1)
            p -= rate * m_hat / (math.sqrt(v_hat) + epsilon)
        else:
            v = h["rho"] * v + (1 - h["rho"]) * g**2
            average = h["rho"] * average + (1 - h["rho"]) * g
            spread = v - average**2 if h["centered"] else v
            buffer = h["momentum"] * buffer + g / (math.sqrt(spread) + h["epsilon"])
            p -= rate * buffer
    return p


ADAM = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3, "weight_decay": 0.1}

RMSPROP = {"rho": 0.9, "epsilon": 1e-3, "weight_decay": 0.1}

OPTIMIZERS = [
    ("sgd", {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}, ()),
    ("sgd", {"momentum": 0.9, "nesterov": False, "weight_decay": 0.1}, ("momentum_buffer",)),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, ("momentum_buffer",)),
    ("adam", ADAM | {"decoupled": False, "epsilon_hat": False}, ("m", "v")),
    ("adam", ADAM | {"decoupled": False, "epsilon_hat": True}, ("m", "v")),
    ("adam", ADAM | {"decoupled": True, "epsilon_hat": False}, ("m", "v")),
    ("rmsprop", RMSPROP | {"momentum": 0.0}, ("v",)),
    ("rmsprop", RMSPROP | {"momentum": 0.5}, ("v", "momentum_buffer")),
    ("rmsprop", RMSPROP | {"momentum": 0.5}, ("v", "momentum_buffer", "gradient_average")),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "attributes", "slots"), OPTIMIZERS)
def test_optimizers(kind, attributes, slots, dtype, rng):
    count, rates = 6, [0.1, 0.05, 0.2, 0.01]
    start, g = rng.normal(size=count).astype(dtype), rng.normal(size=(len(rates), count)).astype(dtype)
    parameters, gradients, state = start.copy(), np.zeros(count, dtype), np.zeros(count * len(slots), dtype)
    places = {"parameters": ("parameters", 0), "gradients": ("gradients", 0)}
    places |= {slot: ("state", count * i) for i, slot in enumerate(slots)}
    operands = {name.rstrip("?"): None for name in reference.schema()[kind][0]}
    operands |= {name: Tensor(arena, at, 1, count, count) for name, (arena, at) in places.items()}
    sizes = {"parameters": count, "gradients": count, "state": state.size, "workspace": 0}
    columns = {"inputs": 1, "outputs": 1, "targets": 1}
    plan = Plan((Op(kind, "update", operands, attributes),), dtype, 1, sizes, columns, (), slots, 0)
    counters = np.zeros(2, np.int64)
    program = reference.Program(plan, parameters, gradients, state, counters)
    for values, rate in zip(g, rates, strict=True):
        gradients[:] = values
        program.run(("update",), 0, 1, learning_rates=np.array([rate]))
        np.testing.assert_array_equal(gradients, values)  # the gradients are the user's to read
    h = attributes | {"centered": "gradient_average" in slots}
    expected = [trace(kind, [float(v) for v in g[:, i]], rates, h, float(start[i])) for i in range(count)]
    np.testing.assert_allclose(parameters, expected, rtol={"float32": 1e-4, "float64": 1e-11}[dtype])
    assert counters.tolist() == [len(rates), 0]
