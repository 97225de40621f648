"""Divergence: the step and the value that the warning names, against a loop that looks after every step."""

import re
import warnings

import numpy as np
import pytest
import scipy.sparse

import fastbp as bp
from fastbp import divergence
from fastbp.callbacks import Callback, LambdaCallback
from fastbp.layers import Dense, Dropout, Rescaling
from fastbp.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = RNG.normal(size=(60, 2))


def make(*layers, optimizer="sgd", **arguments):
    arguments = {"loss": "mean_squared_error", "seed": 0} | arguments
    return bp.Sequential(
        layers or [Dense(5, "tanh"), Dense(4, "relu"), Dense(2)], optimizer=optimizer, **arguments
    )


def diverge(model, *callbacks, X=X, Y=Y, **arguments):
    """Train; return epoch, fault and step as the warning names them."""
    arguments = {"epochs": 100, "batch_size": 8} | arguments
    with pytest.warns(RuntimeWarning, match="training diverged") as caught:
        model.fit(X, Y, callbacks=callbacks, **arguments)
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    found = re.match(
        r"training diverged in epoch (\d+): the first value that is not finite is (.*), in step (\d+)\. A s",
        text,
    )
    assert found, text
    return int(found[1]), found[2], int(found[3])


def relu(z):
    return np.maximum(z, 0)


def first_fault(model, X=X, Y=Y, batch_size=8):
    """The same by hand: forward, loss, gradient and weights of every step, in NumPy where it can be."""
    steps = -(-len(X) // batch_size)
    for number in range(100 * steps):
        batch = slice(number % steps * batch_size, (number % steps + 1) * batch_size)
        place = number // steps + 1, number % steps + 1
        before = model.parameters.copy()
        with np.errstate(all="ignore"):
            a = X[batch].astype(model.dtype)
            for layer, function in zip(model.layers, (np.tanh, relu, np.positive), strict=True):
                a = function(a @ layer.weight.T + layer.bias)
                if not np.isfinite(a).all():
                    return place[0], f"an activation of layer {layer.name!r}", place[1], before
        loss = model.train_on_batch(X[batch], Y[batch])
        if not np.isfinite(loss):
            return place[0], "the loss, of finite predictions", place[1], before
        for layer in reversed(model.layers):
            for name, gradient in layer.gradients.items():
                if not np.isfinite(gradient).all():
                    return place[0], f"the gradient of {layer.name}.{name}", place[1], before
        for layer in model.layers:
            for name, values in layer.parameters.items():
                if not np.isfinite(values).all():
                    return place[0], f"a new weight: {layer.name}.{name}", place[1], before
    raise AssertionError("it does not diverge")


@pytest.mark.parametrize("rate", [1.0, 3.0, 30.0, 1e4, 1e10, 1e17, 1e19, 1e25, 1e30, 1e36, 3e38])
@pytest.mark.parametrize("scale", [1, 1e10, 1e18])
def test_the_place_is_the_one_that_a_slow_loop_finds(rate, scale):
    own = make(optimizer=SGD(rate), input_size=3)
    try:
        epoch, fault, step, before = first_fault(own, Y=scale * Y)
    except AssertionError:  # tanh and ReLU may also end in a dead network
        assert rate < 1e4
        return
    model = make(optimizer=SGD(rate))
    assert diverge(model, Y=scale * Y, shuffle=False) == (epoch, fault, step)
    assert (model.parameters == before).all()
    assert np.isfinite(model.parameters).all()


def test_shuffled_epochs_and_dropout_are_done_again_with_the_same_bits():
    model, watched = (make(Dense(8, "relu"), Dropout(0.5), Dense(2), optimizer=SGD(2.0)) for _ in range(2))
    epoch, _, step = diverge(model)

    class Watch(Callback):
        """With batch hooks the fault is found in the call that it happens in."""

        def on_train_batch_end(self, batch, logs):
            self.last = batch

    watch = Watch()
    assert diverge(watched, watch)[::2] == (epoch, step)
    assert (watched.parameters == model.parameters).all()
    assert np.isfinite(model.parameters).all()


def test_a_gradient():
    """The loss is finite, its derivative by a weight is not: 1e25 · 1e25."""
    model = make(Dense(1, use_bias=False), loss="half_squared_error", optimizer=SGD(1e-30), input_size=1)
    model.layers[0].weight[...] = 1e-8
    fault = diverge(model, X=[[1.0], [1e25]], Y=[0.0, 1e18], batch_size=1, shuffle=False)
    assert fault == (1, "the gradient of dense.weight", 2)
    assert model.layers[0].weight == np.float32(1e-8)


def test_an_activation():
    model = make(Dense(1, "relu"), Dense(1), optimizer=SGD(0.0), input_size=1)
    model.layers[0].weight[...] = 2
    fault = diverge(model, X=[[1.0], [2e38]], Y=[0.0, 0.0], batch_size=1, shuffle=False)
    assert fault == (1, "an activation of layer 'dense'", 2)


def test_a_layer_that_scales_the_inputs():
    model = make(Rescaling(1e30), Dense(1), optimizer=SGD(0.0), input_size=1)
    fault = diverge(model, X=[[1e-30], [2e38]], Y=[0.0, 0.0], batch_size=1, shuffle=False)
    assert fault == (1, "an activation of layer 'rescaling'", 2)


def test_a_weight_that_the_loss_does_not_show():
    """A weight becomes infinite in the first step; tanh hides it, and the loss stays finite."""
    model = make(Dense(1, "tanh", use_bias=False), optimizer=SGD(3e38), loss="mse", input_size=1)
    model.layers[0].weight[...] = 0
    assert diverge(model, X=[[1.0]] * 4, Y=[9.0] * 4, batch_size=1) == (1, "a new weight: dense.weight", 1)
    assert model.layers[0].weight == 0


def test_the_optimizers_state_is_put_back_too():
    model, plain = make(optimizer=Adam()), make(optimizer=Adam())

    def explode(epoch):
        model.optimizer.learning_rate = 3e38 if epoch == 2 else 1e-3

    diverge(model, LambdaCallback(on_epoch_begin=explode), shuffle=False)
    plain.fit(X, Y, epochs=2, batch_size=8, shuffle=False)
    network, other = model._require_network(), plain._require_network()
    if network.counters[0] == other.counters[0]:
        assert (network.state == other.state).all()
        assert (network.parameters == other.parameters).all()
    assert np.isfinite(network.state).all()


def test_a_weight_that_was_not_finite_before():
    model = make(input_size=3)

    def spoil(epoch):
        if epoch == 1:
            model.layers[1].bias[0] = np.inf

    with pytest.warns(RuntimeWarning, match=r"in epoch 2: dense_1\.bias was not finite before step 1\."):
        model.fit(X, Y, epochs=5, callbacks=[LambdaCallback(on_epoch_begin=spoil)])


def test_a_network_too_large_for_a_copy(monkeypatch):
    monkeypatch.setattr(divergence, "LARGEST_COPY", 0)
    with pytest.warns(RuntimeWarning, match=r"in epoch 1: \S+ is not finite after step \d+\. A smaller"):
        make(optimizer=SGD(1e30)).fit(X, Y, epochs=3, batch_size=8)


def test_the_history_of_a_diverged_epoch_has_no_other_values():
    model = make(optimizer=SGD(1e30), metrics=["mae"])
    with pytest.warns(RuntimeWarning):
        history = model.fit(X, Y, epochs=3, validation_split=0.1).history
    assert list(history) == ["loss", "mae", "val_loss", "val_mae"]
    assert all(np.isnan(history[name][-1]) for name in ("mae", "val_loss", "val_mae"))


def test_targets_with_large_values_are_no_divergence():
    """A sum of weights that overflows is no weight that is not finite."""
    model = make(Dense(1, use_bias=False), optimizer=SGD(0.0), input_size=4)
    model.layers[0].weight[...] = 3e38
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(np.zeros((3, 4)), np.zeros(3))


@pytest.mark.parametrize("batch_size", [8, None])
def test_streams_count_the_steps_of_all_their_parts(batch_size):
    parts = [(X[:24].astype("f4"), Y[:24].astype("f4")), (X[24:].astype("f4"), 1e25 * Y[24:].astype("f4"))]
    with pytest.warns(
        RuntimeWarning, match="in epoch 1: .* is the loss, of finite predictions, in step"
    ) as caught:
        make(optimizer=SGD(1e-3)).fit(lambda: parts, epochs=2, batch_size=batch_size, shuffle=False)
    assert f"in step {4 if batch_size else 2}." in str(caught[0].message)


def test_memory_mapped_and_sparse_inputs(tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped, sparse = np.load(tmp_path / "X.npy", mmap_mode="r"), scipy.sparse.csr_array(X)
    expected = diverge(make(optimizer=SGD(1e4)))
    for inputs in (mapped, sparse):
        assert diverge(make(optimizer=SGD(1e4)), X=inputs) == expected
