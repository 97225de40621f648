"""What a plan computes backward is the derivative of what it computes forward."""

import numpy as np
import pytest

from fastbp import layers, losses
from fastbp.engine import reference
from fastbp.engine.planner import build
from fastbp.layers import Dense, Dropout

ROWS, INPUTS, STEP = 5, 4, 1e-6

NETS = {
    "classifier": ([Dense(7, "tanh"), Dense(3, "softmax")], "cross_entropy"),
    "logits": ([Dense(7, "gelu"), Dense(3)], losses.CrossEntropy(from_logits=True, label_smoothing=0.1)),
    "binary": ([Dense(6, "silu"), Dense(2, "sigmoid")], "binary_cross_entropy"),
    "softmax in the middle": ([Dense(5, "softmax"), Dense(4, "mish"), Dense(2, "elu")], "mse"),
    "softmax without its loss": ([Dense(3, "softmax")], "huber"),
    "dropout": ([Dropout(0.3), Dense(9, "softplus"), Dropout(0.5), Dense(2, "tanh")], "half_squared_error"),
    "activations in a row": ([layers.Tanh(), Dense(5), layers.SELU(), layers.Sigmoid(), Dense(1)], "mse"),
    "no parameters": ([layers.Sigmoid(), Dropout(0.4), layers.Softmax()], "mse"),
    "deep": ([Dense(width, "tanh", use_bias=width != 17) for width in (3, 17, 16, 5, 33, 2)], "mse"),
}


class Net:
    """A plan, arrays for it, and a batch."""

    def __init__(self, stack, loss):
        self.plan = build(
            stack,
            INPUTS,
            loss=None if loss is None else losses.get(loss),
            dtype="float64",
            batch_size=ROWS + 2,
        )
        rng = np.random.default_rng(0)
        self.parameters = np.zeros(self.plan.sizes["parameters"])
        for parameter in self.plan.parameters:
            tensor = parameter.tensor
            matrix = tensor.matrix(self.parameters)
            matrix[...] = rng.normal(scale=0.7, size=matrix.shape)
        self.gradients = np.full(self.plan.sizes["gradients"], np.nan)
        self.program = reference.Program(
            self.plan, self.parameters, self.gradients, np.zeros(0), np.zeros(2, np.int64)
        )
        self.inputs = rng.normal(size=(ROWS, INPUTS))
        columns = self.plan.columns["targets"]
        self.targets = rng.integers(0, 2, (ROWS, columns)).astype(float)
        self.weights = rng.uniform(0.5, 2.0, ROWS)
        self.direction = rng.normal(size=(ROWS, self.plan.columns["outputs"]))

    def loss(self):
        self.program.counters[:] = 0  # the same dropout each time
        total, weight = self.program.run(
            ("gather", "gather_targets", "forward", "loss"),
            0,
            ROWS,
            inputs=self.inputs,
            targets=self.targets,
            sample_weights=self.weights,
            training=True,
        )
        return total / weight

    def product(self):
        """Outputs times a fixed direction."""
        self.program.counters[:] = 0
        outputs = np.empty_like(self.direction)
        phases = ("gather", "forward", "output")
        self.program.run(phases, 0, ROWS, inputs=self.inputs, outputs=outputs, training=True)
        return np.sum(outputs * self.direction)

    def differences(self, function, array):
        """Central differences of a function by the elements of an array."""
        found = np.empty(array.size)
        flat = array.reshape(-1)
        for i in range(array.size):
            kept = flat[i]
            flat[i] = kept + STEP
            above = function()
            flat[i] = kept - STEP
            found[i] = (above - function()) / (2 * STEP)
            flat[i] = kept
        return found.reshape(array.shape)

    def check_gradients(self, function):
        expected = self.differences(function, self.parameters)
        for parameter in self.plan.parameters:
            tensor = parameter.tensor
            found, wanted = tensor.matrix(self.gradients), tensor.matrix(expected)
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8, err_msg=parameter.name)


@pytest.mark.parametrize("name", NETS)
def test_gradients_of_the_loss(name):
    net = Net(*NETS[name])
    net.loss()
    input_gradients = np.empty_like(net.inputs)
    net.program.run(("backward", "input_gradient"), 0, ROWS, input_gradients=input_gradients, training=True)
    net.check_gradients(net.loss)
    np.testing.assert_allclose(input_gradients, net.differences(net.loss, net.inputs), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("with_loss", [True, False])
def test_gradients_of_the_outputs(name, with_loss):
    stack, loss = NETS[name]
    net = Net(stack, loss if with_loss else None)
    net.product()
    input_gradients = np.empty_like(net.inputs)
    net.program.run(
        ("output_backward", "backward", "input_gradient"),
        0,
        ROWS,
        output_gradients=net.direction,
        input_gradients=input_gradients,
        training=True,
    )
    net.check_gradients(net.product)
    np.testing.assert_allclose(
        input_gradients, net.differences(net.product, net.inputs), rtol=1e-6, atol=1e-8
    )
