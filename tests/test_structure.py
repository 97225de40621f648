"""Residual and Branches: names, plans, what does not fit. Their numbers are in contract/test_layers.py."""

import copy
import pickle

import numpy as np
import pytest

import fastbp
from fastbp.layers import BatchNormalization, Branches, Dense, Dropout, Embedding, ReLU, Residual


def ops(model, *layers):
    return [op.kind for op in model.plan.ops if op.layer in layers and op.phase in ("forward", "backward")]


def test_parameters_have_the_names_of_all_that_holds_them():
    block = Residual([Dense(3), Residual([Dense(3, name="own"), Dense(3)]), BatchNormalization()])
    model = fastbp.Sequential([Dense(3), block, Dense(1)], "mse", "adam", input_size=3, seed=0)
    model.train_on_batch(np.ones((2, 3)), np.ones(2))
    assert [name for name in block.parameters if name.endswith("weight")] == [
        "dense.weight",
        "residual.own.weight",
        "residual.dense.weight",
    ]
    assert set(block.gradients) == set(block.parameters)
    assert list(block.statistics) == [
        "batch_normalization.moving_mean",
        "batch_normalization.moving_variance",
    ]
    inner = block.layers[1].layers[0]
    assert inner.name == "residual.residual.own"
    assert np.shares_memory(inner.weight, block.parameters["residual.own.weight"])
    assert {op.layer for op in model.plan.ops} >= {"residual.residual.own", "residual.residual", "residual"}
    names = set(model._network.tensors(optimizer=True))
    assert {"residual.residual.own.weight", "optimizer.m.residual.residual.own.bias"} <= names
    assert "optimizer.m.residual.batch_normalization.moving_mean" not in names
    assert "residual" in model.summary()
    assert f"{model.parameters.size}" not in model.summary()
    total = sum(view.size for layer in model.layers for view in layer.parameters.values())
    assert f"{total:,} parameters" in model.summary()


def test_initial_values_differ_and_a_seed_repeats_them():
    def make():
        return fastbp.Sequential([Residual([Dense(4), Dense(4)])], input_size=4, seed=3).layers[0]

    one, two = make(), make()
    assert np.array_equal(one.parameters["dense.weight"], two.parameters["dense.weight"])
    assert not np.array_equal(one.parameters["dense.weight"], one.parameters["dense_1.weight"])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_stand_on_their_own(again):
    layers = [Branches([[Residual(Dense(2))], BatchNormalization()], [[0, 1], [2]]), Dense(1)]
    model = fastbp.Sequential(layers, "mse", input_size=3, seed=0)
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.zeros(20)
    model.fit(X, y, epochs=2)
    other = again(model)
    before = model.parameters.copy()
    other.fit(X, y, epochs=1)
    inner, twin = (m.layers[0].branches[1][0] for m in (model, other))
    assert np.array_equal(model.parameters, before)
    assert not np.array_equal(inner.moving_mean, twin.moving_mean)
    model.fit(X, y, epochs=1)
    assert model.parameters.tobytes() == other.parameters.tobytes()


def test_a_partition_of_the_columns_needs_no_sums():
    """Each column used once: copies both ways. A column used twice, or never: sums from zero on."""
    halves = Branches([Dense(2), Dense(2)], [[0, 1], [2, 3]])
    overlap = Branches([Dense(2), Dense(2)], [[0, 1], [1, 2]])
    for layer, clears, adds in ((halves, 0, [False] * 2), (overlap, 1, [True] * 2)):
        model = fastbp.Sequential([Dense(4), layer], "mse", input_size=3)
        back = [op for op in model.plan.ops if op.layer == "branches" and op.phase == "backward"]
        assert [op.kind for op in back].count("clear") == clears
        own = [op for op in back if op.kind == "copy_columns" and op.operands["out"].columns == 4]
        assert [op.attributes["accumulate"] for op in own] == adds


def test_the_delta_of_the_input_waits_until_it_is_wanted():
    """Nothing in the phase "backward" that no gradient depends on."""
    model = fastbp.Sequential(
        [Branches([Embedding(3, 2), Dense(2)], [[0], [1, 2]]), Dense(1)], "mse", input_size=3
    )
    backward = [(op.kind, op.layer) for op in model.plan.ops if op.phase == "backward"]
    assert ("clear", "branches.embedding") not in backward
    assert ("dense_backward_input", "branches.dense") not in backward
    assert ("embedding_backward", "branches.embedding") in backward


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Residual([]), "layers must hold at least one layer"),
        (lambda: Residual([3]), r"layers\[0\] must be a name or an object of Layer, got 3"),
        (lambda: Residual("rleu"), "layers 'rleu' is not known; did you mean 'relu'"),
        (lambda: Branches([]), "branches must hold at least one branch"),
        (lambda: Branches("relu"), "branches must be a list of lists of layers"),
        (lambda: Branches([ReLU()], [[0], [1]]), "an entry for each of the 1 branches, got 2"),
        (lambda: Branches([ReLU()], [[]]), r"columns\[0\] must name at least one column"),
        (lambda: Branches([ReLU()], [3]), r"columns\[0\] must be a list of column numbers or None, got 3"),
        (lambda: Branches([ReLU()], [[-1]]), r"columns\[0\] must hold column numbers"),
        (lambda: Branches([ReLU()], "a"), "columns must be a list of lists"),
        (
            lambda: fastbp.Sequential([Residual(Dense(2))], input_size=3),
            "as many features as they take, 3, but give 2",
        ),
        (
            lambda: fastbp.Sequential([Branches([ReLU()], [[3]])], input_size=3),
            r"'branches': columns\[0\] names column 3, but the input has 3 columns",
        ),
        (lambda: fastbp.Sequential([Residual([Dense(2, name="a"), Dense(2, name="a")])]), "'a' is taken"),
    ],
)
def test_what_does_not_fit(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_layer_is_in_a_model_once():
    shared = Dense(2)
    with pytest.raises(ValueError, match="is in the model already"):
        fastbp.Sequential([shared, Residual(shared)])
    with pytest.raises(ValueError, match="is in the model already"):
        fastbp.Sequential([Residual([shared, Residual(shared)])])


def test_dropout_inside_is_on_in_training_only():
    model = fastbp.Sequential([Residual(Dropout(0.5))], input_size=50, dtype="float64", seed=0)
    x = np.ones((4, 50))
    assert np.array_equal(model.predict(x), 2 * x)
    assert set(np.unique(model.forward(x, training=True))) == {1.0, 3.0}
