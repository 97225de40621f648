"""Layers in Python: they train like native ones, however one trains, and say what is wrong with them."""

import copy
import pickle
import re

import numpy as np
import pytest

import fastbp as bp
from fastbp.engine import segments
from fastbp.layers import CustomLayer, Dense, Dropout

pytestmark = pytest.mark.usefixtures("interpreter")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(45, 3)), RNG.normal(size=(45, 2))
W = RNG.uniform(0.1, 2, 45)


class Linear(CustomLayer):
    """Dense without activation, in Python."""

    def __init__(self, units, initializer="glorot_uniform", **arguments):
        super().__init__(**arguments)
        self.units, self.initializer = units, initializer

    def output_size(self, input_size):
        return self.units

    def build(self, input_size):
        self.add_parameter("weight", (self.units, input_size), self.initializer)
        self.add_parameter("bias", (self.units,), "zeros", decay=False)

    def forward(self, x):
        def backprop(dy):
            self.weight_grad = dy.T @ x
            self.bias_grad += dy.sum(axis=0)
            return dy @ self.weight

        return x @ self.weight.T + self.bias, backprop


class Tanh(CustomLayer):
    def forward(self, x):
        y = np.tanh(x)
        return y, lambda dy: dy * (1 - y * y)


def squared(y, y_hat):
    return ((y_hat - y) ** 2).mean(axis=1), (y_hat - y) * (2 / y.shape[1])


def native(optimizer="adam", dtype="float32", **arguments):
    layers = [Dense(8, activation="tanh"), Dropout(0.3), Dense(7), bp.layers.Tanh(), Dropout(0.2), Dense(2)]
    arguments = {"loss": "mean_squared_error", "seed": 3} | arguments
    return bp.Sequential(layers, optimizer=optimizer, dtype=dtype, **arguments)


def custom(optimizer="adam", dtype="float32", **arguments):
    """The same network, with the middle and the loss in Python."""
    layers = [Dense(8, activation="tanh"), Dropout(0.3), Linear(7), Tanh(), Dropout(0.2), Dense(2)]
    arguments = {"loss": squared, "seed": 3} | arguments
    return bp.Sequential(layers, optimizer=optimizer, dtype=dtype, **arguments)


class Drop(CustomLayer):
    """Dropout, from the generator that the engine hands in."""

    def forward(self, x, training, rng):
        mask = (rng.random(x.shape) < 0.5).astype(x.dtype) * 2 if training else np.ones_like(x)
        return x * mask, lambda dy: dy * mask


def close(model, other):
    """Parameters of both, layer by layer: the flat arrays may be laid out differently."""
    tolerance = 1e-12 if model.dtype == "float64" else 2e-5
    for one, two in zip(model.layers, other.layers, strict=True):
        for name in two.parameters:
            np.testing.assert_allclose(one.parameters[name], two.parameters[name], 0, tolerance)
            np.testing.assert_allclose(one.gradients[name], two.gradients[name], 0, tolerance)


# ---- the same as native --------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_fit_trains_like_the_native_layer(optimizer, dtype):
    models = custom(optimizer, dtype), native(optimizer, dtype)
    histories = [
        model.fit(
            X, Y, epochs=4, batch_size=16, sample_weight=W, validation_data=(X[:9], Y[:9])
        ).history  # 45 = 2 · 16 + 13: the last batch is smaller
        for model in models
    ]
    close(*models)
    for name in ("loss", "val_loss"):
        assert histories[0][name] == pytest.approx(histories[1][name], rel=1e-6)


def test_every_way_of_running_agrees(dtype):
    one, two = custom(dtype=dtype), native(dtype=dtype)
    tolerance = {"rtol": 1e-12 if dtype == "float64" else 1e-4, "atol": 1e-6}
    for step in range(3):
        weights = W if step == 1 else None
        losses = [model.train_on_batch(X, Y, sample_weight=weights) for model in (one, two)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
        close(one, two)
    np.testing.assert_allclose(one.predict(X), two.predict(X), **tolerance)
    assert one.evaluate(X, Y, sample_weight=W)["loss"] == pytest.approx(
        two.evaluate(X, Y, sample_weight=W)["loss"], rel=1e-6
    )
    for training in (False, True):
        outputs = [model.forward(X, training=training) for model in (one, two)]
        np.testing.assert_allclose(*outputs, **tolerance)
        deltas = [model.backward(Y) for model in (one, two)]
        np.testing.assert_allclose(*deltas, **tolerance)
        close(one, two)
        one.step(), two.step()
        close(one, two)
    assert one._require_network().counters.tolist() == two._require_network().counters.tolist()


def test_batches_larger_than_a_pass_of_predict():
    inputs = np.random.default_rng(1).normal(size=(700, 3))
    one, two = custom(), native()
    np.testing.assert_allclose(one.predict(inputs), two.predict(inputs), 1e-5, 1e-6)


def test_one_seed_gives_the_same_bits():
    models = custom(seed=5), custom(seed=5)
    histories = [model.fit(X, Y, epochs=3, batch_size=16).history for model in models]
    assert histories[0] == histories[1]
    assert (models[0].parameters == models[1].parameters).all()


def test_a_net_without_python_is_one_program():
    model = native()
    model.fit(X, Y)
    (program,) = model._require_network()._programs.values()
    assert not isinstance(program, segments.Program)


def test_the_plan_shows_python():
    model = custom(input_size=3)
    lines = str(model.plan).splitlines()
    (forward,) = (line for line in lines if "Linear.forward" in line)
    assert "python_forward" in forward and "linear" in forward and "self.weight 7×8" in forward
    (backward,) = (line for line in lines if "python_backward" in line and "linear" in line)
    assert "self.weight_grad 7×8" in backward
    assert any("python_loss" in line and "squared" in line for line in lines)


def test_as_the_first_and_only_layer(dtype):
    models = [
        bp.Sequential([kind(2)], loss="mse", optimizer=bp.optimizers.SGD(0.1), dtype=dtype, seed=0)
        for kind in (Linear, Dense)
    ]
    for model in models:
        model.fit(X, Y, epochs=3, batch_size=16)
    close(*models)
    dxs = [(model.forward(X), model.backward(Y))[1] for model in models]
    np.testing.assert_allclose(*dxs, rtol=1e-5, atol=1e-6)


def test_after_a_layer_in_python_activations_still_fuse_with_the_loss():
    layers = [Linear(4), bp.layers.Softmax()], [Dense(4, activation="softmax")]
    models = [bp.Sequential(stack, loss="cross_entropy", dtype="float64", seed=0) for stack in layers]
    labels = np.arange(45) % 4
    losses = [model.fit(X, labels, epochs=3, batch_size=16).history["loss"] for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert any(op.kind == "softmax_cross_entropy_loss" for op in models[0].plan.ops)


def test_backprop_that_nothing_needs_is_not_called():
    class Shy(CustomLayer):
        calls = 0

        def forward(self, x):
            def backprop(dy):
                Shy.calls += 1
                return dy

            return x, backprop

    model = bp.Sequential([Shy(), Dense(2)], loss="mse", seed=0)
    model.fit(X, Y)
    assert Shy.calls == 0
    model.forward(X)
    assert (model.backward(Y) == model.layers[1].weight.T.dot(Y.T.astype("float32")).T).shape == (45, 3)
    assert Shy.calls == 1


# ---- random numbers ------------------------------------------------------------------------------


def test_random_numbers_follow_from_seed_and_step():
    def make(seed):
        return bp.Sequential([Dense(8), Drop(), Drop(), Dense(2)], loss="mse", input_size=3, seed=seed)

    model, again, other = make(1), make(1), make(2)
    assert (model.predict(X) == model.predict(X)).all()
    passes = [model.forward(X, training=True) for _ in range(2)]
    assert (passes[0] != passes[1]).any()
    assert (again.forward(X, training=True) == passes[0]).all()
    other.parameters[...] = model.parameters
    assert (other.forward(X, training=True) != passes[0]).any()
    histories = [make(3).fit(X, Y, epochs=2, batch_size=16).history for _ in range(2)]
    assert histories[0] == histories[1]


def test_layers_draw_different_numbers():
    model = bp.Sequential([Drop(), Drop()], input_size=1000, seed=0)
    kept = model.forward(np.ones((1, 1000)), training=True)
    assert set(kept.ravel()) == {0, 4} and 150 < np.count_nonzero(kept) < 350


# ---- parameters ----------------------------------------------------------------------------------


class Odd(CustomLayer):
    """Parameters of every kind of shape."""

    def build(self, input_size):
        self.add_parameter("single", (), "ones")
        self.add_parameter("vector", (input_size,), lambda rng, out, into, dtype: np.arange(out)[:, None])
        self.add_parameter("cube", (2, 3, 4), "he_normal")

    def forward(self, x):
        def backprop(dy):
            self.single_grad += (dy * x).sum()
            self.vector_grad += dy.sum(axis=0)
            return dy * self.single

        return x * self.single + self.vector, backprop


def test_parameters_have_the_shapes_they_were_declared_with(dtype):
    layer = Odd()
    bp.Sequential([layer], input_size=3, dtype=dtype, seed=0)
    assert {name: view.shape for name, view in layer.parameters.items()} == {
        "single": (),
        "vector": (3,),
        "cube": (2, 3, 4),
    }
    assert layer.single == 1 and layer.vector.tolist() == [0, 1, 2]
    assert layer.cube.std() > 0 and layer.cube.dtype == dtype
    assert layer.cube_grad.shape == (2, 3, 4)


def test_parameters_are_live_views():
    layer = Odd()
    model = bp.Sequential([layer], input_size=3, seed=0)
    layer.vector = [1, 2, 3]
    layer.single[...] = 2
    assert (model.predict(np.ones((1, 3))) == [[3, 4, 5]]).all()
    with pytest.raises(ValueError, match=r"odd.vector must have shape \(3,\), got \(2,\)"):
        layer.vector = [1, 2]


def test_weight_decay_leaves_alone_what_lies_behind():
    model = bp.Sequential([Linear(2)], input_size=3, seed=0)
    assert [p.name for p in model.plan.parameters if not p.decay] == ["linear.bias"]


def test_gradients_are_zero_when_backprop_begins():
    class Forgetful(Linear):
        def forward(self, x):
            y, backprop = super().forward(x)
            return y, lambda dy: (backprop(dy), self.gradients["bias"].fill(0))[0] * 1

    layer = Forgetful(2)
    model = bp.Sequential([Dense(3), layer], loss="mse", seed=0)
    model.train_on_batch(X, Y)
    first = layer.bias_grad.copy()
    model.train_on_batch(X, Y)
    assert (first == 0).all() and (layer.bias_grad == 0).all()
    layer = Linear(2)
    model = bp.Sequential([layer], loss="mse", optimizer=bp.optimizers.SGD(0.0), seed=0)
    gradients = [(model.train_on_batch(X, Y), layer.bias_grad.copy())[1] for _ in range(2)]
    assert (gradients[0] == gradients[1]).all()  # += does not pile up


def test_before_the_model_is_built():
    layer = Linear(2)
    with pytest.raises(AttributeError, match="Linear has no attribute 'weight': parameters exist once"):
        _ = layer.weight


def test_it_is_shown_by_its_arguments():
    assert repr(Linear(3)) == "Linear(3)"
    assert repr(Linear(3, "he_normal", name="mine")) == "Linear(3, initializer='he_normal', name='mine')"
    model = custom(input_size=3)
    assert re.search(r"linear +Linear\(7\)", model.summary()) and "FunctionLoss(squared)" in model.summary()


# ---- errors of users -----------------------------------------------------------------------------


def test_it_cannot_be_frozen():
    model = custom(input_size=3)
    with pytest.raises(TypeError, match="layer 'linear' is written in Python and cannot be frozen"):
        model.freeze()
    only_loss = native(loss=squared, input_size=3)
    np.testing.assert_allclose(only_loss.freeze()(X), only_loss.predict(X), 1e-6)


# ---- copying and saving --------------------------------------------------------------------------


def test_copies_are_independent():
    model = custom()
    model.fit(X, Y, batch_size=16)
    twins = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    expected = model.fit(X, Y, epochs=2, batch_size=16).history
    for twin in twins:
        assert twin.fit(X, Y, epochs=2, batch_size=16).history == expected
        assert (twin.parameters == model.parameters).all()
        assert not np.shares_memory(twin.layers[2].weight, model.layers[2].weight)


@pytest.mark.parametrize("optimizer", ["adam", bp.optimizers.SGD(0.1, momentum=0.9)], ids=repr)
def test_a_saved_model_goes_on_with_the_same_bits(tmp_path, optimizer):
    model = custom(optimizer)
    model.fit(X, Y, epochs=2, batch_size=16)
    model.save(tmp_path / "model.safetensors")
    loaded = bp.load(tmp_path / "model.safetensors", custom_objects={"squared": squared})
    assert loaded.summary() == model.summary()
    assert (loaded.predict(X) == model.predict(X)).all()
    expected = model.fit(X, Y, epochs=2, batch_size=16).history
    assert loaded.fit(X, Y, epochs=2, batch_size=16).history == expected
    assert (loaded.parameters == model.parameters).all()


def test_a_class_that_is_not_known_here_can_be_passed(tmp_path):
    path = tmp_path / "model.safetensors"
    model = bp.Sequential([Linear(2, name="out")], input_size=3, seed=0)
    model.save(path)
    file = path.read_bytes()
    path.write_bytes(file.replace(b"Linear", b"Lineal"))
    with pytest.raises(ValueError, match=r"class 'Lineal' is no Layer.*custom_objects=\{'Lineal': Lineal\}"):
        bp.load(path)
    loaded = bp.load(path, custom_objects={"Lineal": Linear})
    assert repr(loaded.layers) == "(Linear(2, name='out'),)"
    assert (loaded.predict(X) == model.predict(X)).all()
    with pytest.raises(ValueError, match="'Lineal' is no Layer"):
        bp.load(path, custom_objects={"Lineal": dict})
    with pytest.raises(TypeError, match="custom_objects must be a dict"):
        bp.load(path, custom_objects=Linear)
    with pytest.raises(ValueError, match="'Lineal' is no Layer"):
        bp.load(path)  # what was passed before is forgotten


def test_classes_with_the_names_of_ours_stay_apart(tmp_path):
    path = tmp_path / "model.safetensors"
    model = bp.Sequential([Dense(4, activation="tanh"), Tanh(), bp.layers.Tanh(), Linear(2)], input_size=3)
    model.save(path)
    kinds = [type(layer) for layer in bp.load(path).layers]
    assert kinds == [Dense, Tanh, bp.layers.Tanh, Linear]


def test_a_name_does_not_stand_for_what_derives_from_its_class(tmp_path):
    class Steep(bp.layers.Tanh):
        pass

    assert type(bp.layers.Dense(2, activation="tanh").activation) is bp.layers.Tanh
    layer = Dense(2, activation=Steep())
    assert repr(layer) == "Dense(2, activation=Steep())"
    bp.Sequential([layer], input_size=3).save(tmp_path / "model.safetensors")
    assert type(bp.load(tmp_path / "model.safetensors").layers[0].activation) is Steep


def test_of_two_classes_of_one_name_the_last_one_counts(tmp_path):
    def define(sign):
        class Redefined(CustomLayer):
            def forward(self, x):
                return sign * x, lambda dy: sign * dy

        return Redefined

    kinds = define(1), define(-1)
    bp.Sequential([kinds[0]()], input_size=3).save(tmp_path / "model.safetensors")
    loaded = bp.load(tmp_path / "model.safetensors")
    assert (loaded.predict(X) == -X.astype("float32")).all()
    loaded = bp.load(tmp_path / "model.safetensors", custom_objects={"Redefined": kinds[0]})
    assert (loaded.predict(X) == X.astype("float32")).all()
