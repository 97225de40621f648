"""Mistakes in layers in Python are named with their layer, and the model stays usable."""

import traceback

import numpy as np
import pytest

import fastbp as bp
from fastbp.layers import CustomLayer, Dense, Dropout

pytestmark = pytest.mark.usefixtures("interpreter")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(45, 3)), RNG.normal(size=(45, 2))


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "error", "message"),
    [
        ("units", (1,), ValueError, "parameter 'units': Bad has something named 'units'"),
        ("name", (1,), ValueError, "something named 'name'"),
        ("forward", (1,), ValueError, "something named 'forward'"),
        ("two words", (1,), ValueError, "must be a Python identifier"),
        ("_hidden", (1,), ValueError, "must be a Python identifier"),
        (3, (1,), ValueError, "must be a Python identifier"),
        ("w", 3, TypeError, r"shape of parameter 'w' must be a tuple such as \(3,\), got 3"),
        ("w", (0,), ValueError, r"shape\[0\] of parameter 'w' must be a positive int, got 0"),
        ("w", (2.5,), TypeError, r"shape\[0\] of parameter 'w' must be a positive int"),
    ],
)
def test_declarations_that_cannot_be(name, shape, error, message):
    class Bad(CustomLayer):
        def __init__(self):
            super().__init__()
            self.units = 3

        def build(self, input_size):
            self.add_parameter(name, shape)

    with pytest.raises(error, match=message):
        bp.Sequential([Bad()], input_size=2)


def test_a_parameter_cannot_be_declared_twice_or_assigned_in_build():
    class Twice(CustomLayer):
        def build(self, input_size):
            self.add_parameter("w", (1,))
            self.add_parameter("w", (1,))

    class Assigned(CustomLayer):
        def build(self, input_size):
            self.w = self.add_parameter("w", (1,))

    with pytest.raises(ValueError, match="has something named 'w'"):
        bp.Sequential([Twice()], input_size=2)
    with pytest.raises(AttributeError, match=r"self.w is a view that the model makes"):
        bp.Sequential([Assigned()], input_size=2)


def test_constructors_keep_their_arguments():
    class Careless(CustomLayer):
        def __init__(self, rate):
            super().__init__()
            self._rate = rate

    with pytest.raises(TypeError, match=r"Careless.__init__ must keep its argument 'rate' as self.rate"):
        bp.Sequential([Careless(0.5)], input_size=2)


# ---- errors of users -----------------------------------------------------------------------------


def broken(forward):
    class Broken(CustomLayer):
        def output_size(self, input_size):
            return 4

    Broken.forward = forward
    return bp.Sequential([Dense(3), Broken(), Dense(2)], loss="mse", input_size=3, seed=0)


def wide(x):
    return np.ones((len(x), 4), x.dtype)


MISTAKES = {
    "nothing": (lambda self, x: None, TypeError, r"'broken' must return \(y, backprop\), got NoneType"),
    "only y": (lambda self, x: wide(x), TypeError, r"must return \(y, backprop\), got ndarray"),
    "no function": (lambda self, x: (wide(x), 1), TypeError, "backprop must be a function of dy, got int"),
    "a list": (lambda self, x: ([1], abs), TypeError, r"y, .* must be an array of shape \(32, 4\), got list"),
    "y of another shape": (
        lambda self, x: (x, lambda dy: dy),
        ValueError,
        r"layer 'broken': y, which forward returns, must have shape \(32, 4\), got \(32, 3\)",
    ),
    "y of another dtype": (
        lambda self, x: (wide(x).astype(np.float64), lambda dy: dy),
        TypeError,
        "'broken': y, which forward returns, must have dtype float32, the model's, got float64",
    ),
    "dx of another shape": (
        lambda self, x: (wide(x), lambda dy: dy),
        ValueError,
        r"'broken': dx, which backprop returns, must have shape \(32, 3\), got \(32, 4\)",
    ),
    "dx of another dtype": (
        lambda self, x: (wide(x), lambda dy: x.astype(np.float64)),
        TypeError,
        "'broken': dx, which backprop returns, must have dtype float32, the model's, got float64",
    ),
    "writing to x": (
        lambda self, x: x.fill(0),
        ValueError,
        "read-only",
    ),
}


@pytest.mark.parametrize(("forward", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_returned_is_checked(forward, error, message):
    model = broken(forward)
    before = model.parameters.copy()
    with pytest.raises(error, match=message):
        model.fit(X, Y, shuffle=False)
    assert (model.parameters == before).all()


def test_what_users_code_raises_comes_with_its_own_traceback():
    def forward(self, x):
        def backprop(dy):
            raise ZeroDivisionError("mine")

        return wide(x), backprop

    model = broken(forward)
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        model.train_on_batch(X, Y)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "backprop"
    assert caught.value.__notes__ == ["(in layer 'broken', backward)"]


@pytest.mark.parametrize("place", ["forward", "backward"])
def test_after_an_exception_the_model_goes_on_as_if_nothing_had_been(place):
    class Fragile(CustomLayer):
        fails = False

        def forward(self, x):
            y = np.tanh(x)

            def fragile(dy):
                if self.fails and place == "backward":
                    raise KeyError("later")
                return dy * (1 - y * y)

            if self.fails and place == "forward":
                raise KeyError("now")
            return y, fragile

    def make():
        layers = [Dense(8), Dropout(0.5), Fragile(), Dense(2)]
        return bp.Sequential(layers, loss="mse", input_size=3, seed=0)

    model, untroubled = make(), make()
    for each in (model, untroubled):
        each.fit(X, Y, batch_size=16, shuffle=False)
    model.layers[2].fails = True
    with pytest.raises(KeyError):
        model.fit(X, Y, batch_size=16, shuffle=False)
    model.layers[2].fails = False
    histories = [each.fit(X, Y, batch_size=16, shuffle=False).history for each in (model, untroubled)]
    assert histories[0] == histories[1]
    assert (model.parameters == untroubled.parameters).all()


def test_a_layer_cannot_run_the_pass_that_it_is_part_of():
    class Recursive(CustomLayer):
        def forward(self, x):
            self.model.predict(np.ones((20, 3)))
            return x, lambda dy: dy

    layer = Recursive()
    model = layer.model = bp.Sequential([layer], input_size=3)
    with pytest.raises(RuntimeError, match="not from its own layers"):
        model.predict(np.ones((20, 3)))


def test_without_forward():
    model = bp.Sequential([CustomLayer()], input_size=2)
    with pytest.raises(NotImplementedError, match="CustomLayer must define forward"):
        model.predict([[1, 2]])
