"""The forward pass as operations: computed one by one they give what predict gives."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import fastbp as bp
from fastbp import inference

NETWORKS = runpy.run_path(str(Path(__file__).with_name("networks.py")))


@pytest.mark.parametrize("name", NETWORKS["STACKS"])
def test_the_operations_compute_what_predict_computes(name):
    model, x = NETWORKS["make"](name, "float64")
    np.testing.assert_allclose(inference.trace(model).run(x), model.predict(x), rtol=1e-10, atol=1e-12)


def test_parameters_are_those_of_the_model():
    model, _ = NETWORKS["make"]("relu")
    traced = inference.trace(model)
    named = dict(traced.parameters.values())
    assert sorted(named) == ["dense.bias", "dense.weight", "dense_1.bias", "dense_1.weight"]
    np.testing.assert_array_equal(named["dense.weight"].T, model.layers[0].weight)
    assert [node.kind for node in traced.nodes] == ["dense_forward", "activation_forward", "dense_forward"]


def test_other_functions_may_take_the_place_of_operations():
    model, x = NETWORKS["make"]("relu")
    seen = []

    def observe(run, x, y, **_):
        seen.append(x.copy())
        y[...] = 1

    out = inference.trace(model).run(x, {"activation_forward": observe})
    assert (seen[0] < 0).any()
    layer = model.layers[2]
    np.testing.assert_allclose(out, np.tile(layer.weight.sum(axis=1) + layer.bias, (len(x), 1)), rtol=1e-5)


def test_columns_that_are_rows_of_tables():
    model, _ = NETWORKS["make"]("branches")
    found = {(index.column, index.count) for index in inference.trace(model).indices}
    assert found == {(0, 5), (3, 4), (1, 4)}


def test_a_model_without_weights():
    with pytest.raises(RuntimeError, match="the model has no weights yet"):
        inference.trace(bp.Sequential([bp.layers.Dense(1)]))
