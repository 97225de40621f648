"""ONNX export: ONNX Runtime computes what predict computes, and nothing of the model is lost."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import fastbp as bp
from fastbp import layers
from fastbp import onnx as fastbp_onnx
from fastbp.onnx import exporting

NETWORKS = runpy.run_path(str(Path(__file__).parents[1] / "networks.py"))
STRUCTURES = ("residual", "embedding", "branches")
X = np.random.default_rng(0).normal(0, 2, (33, 4))


def network(*between, dtype="float32"):
    """A network with layers in its middle, and weights that let activations leave their linear part."""
    stack = [layers.Dense(7), *between, layers.Dense(3)]
    model = bp.Sequential(stack, input_size=4, dtype=dtype, seed=0)
    for layer in (model.layers[0], model.layers[-1]):
        layer.weight *= 3
        layer.bias = np.linspace(-1, 1, layer.units)
    return model


def run(path, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    (output,) = session.run(["output"], {"input": inputs})
    return output


def assert_same(got, batch, rows=None):
    """Equal, in the first `rows` of a batch, to 1e-6 of the largest output of the batch."""
    atol = 1e-6 * np.abs(batch).max()
    np.testing.assert_allclose(got, batch[:rows], rtol=0, atol=atol, strict=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS["STACKS"])
def test_every_layer(path, name, dtype):
    model, inputs = NETWORKS["make"](name, dtype)
    expected = model.predict(inputs)
    for opset in (17, exporting.DEFAULT_OPSET):
        fastbp_onnx.export(model, path, opset=opset)
        assert_same(run(path, inputs), expected)
        assert_same(run(path, inputs[:1]), expected, rows=1)
        again = fastbp_onnx.load(path)
        assert_same(again.predict(inputs), expected)
        if name in STRUCTURES:
            assert repr(again.layers) == repr(model.layers)


def test_there_and_back_gives_the_same_bits(path):
    model = network(layers.ReLU(), layers.Dropout(0.25), layers.Dense(5, activation="gelu", use_bias=False))
    fastbp_onnx.export(model, path)
    again = fastbp_onnx.load(path)
    assert repr(again.layers) == "(Dense(7, activation='relu'), Dropout(0.25), " + (
        "Dense(5, activation='gelu', use_bias=False), Dense(3))"
    )
    np.testing.assert_array_equal(again.parameters, model.parameters)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    again.loss = "mean_squared_error"
    before = again.evaluate(X, X[:, :3])["loss"]
    again.fit(X, X[:, :3], epochs=5, verbose=0)
    assert again.evaluate(X, X[:, :3])["loss"] < before


@pytest.mark.parametrize(
    "first",
    [
        lambda: layers.Branches([[layers.Embedding(4, 2)]], [[2, 0]]),
        lambda: layers.Branches([[]], [[3, 1]]),
        lambda: layers.Branches(
            [[], layers.Branches([[layers.Embedding(4, 3)], []], [[1], [0]])], [[0], [1, 2]]
        ),
        lambda: layers.Branches([[layers.Residual([layers.Branches([[], []], [[0], [1]])])]], [[0, 3]]),
    ],
)
def test_columns_come_back(path, first):
    model = bp.Sequential([first(), layers.Dense(2)], input_size=4, seed=0)
    fastbp_onnx.export(model, path)
    again = fastbp_onnx.load(path)
    rows = np.random.default_rng(0).integers(0, 4, size=(9, 4))
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    assert {p.name.rpartition(".")[2] for p in again.plan.parameters} == {
        p.name.rpartition(".")[2] for p in model.plan.parameters
    }


def test_a_network_that_changes_nothing(path):
    model = bp.Sequential([layers.Linear()], input_size=4)
    fastbp_onnx.export(model, path)
    np.testing.assert_array_equal(run(path, X.astype("f4")), X.astype("f4"))
    assert fastbp_onnx.load(path).input_size == 4


def test_names_shapes_and_metadata(path):
    model = network()
    model.metadata = {"units": "mm", "scales": [1, 2.5]}
    model.feature_names = ("a", "b", "ç", "d")
    model.loss = bp.losses.Huber(0.5)
    fastbp_onnx.export(model, path, opset=18)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.producer_name == "fastbp"
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 18)]
    (given,), (result,) = proto.graph.input, proto.graph.output
    assert [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim] == ["batch", 4]
    assert [axis.dim_param or axis.dim_value for axis in result.type.tensor_type.shape.dim] == ["batch", 3]
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert sorted(tensors) == ["dense.bias", "dense.weight", "dense_1.bias", "dense_1.weight"]
    np.testing.assert_array_equal(tensors["dense.weight"], model.layers[0].weight)
    again = fastbp_onnx.load(path)
    assert again.metadata == model.metadata
    assert again.feature_names == model.feature_names
    assert repr(again.loss) == repr(model.loss)


def test_two_exports_are_equal(path, tmp_path):
    fastbp_onnx.export(network(layers.GELU()), path)
    fastbp_onnx.export(network(layers.GELU()), tmp_path / "other.onnx")
    assert path.read_bytes() == (tmp_path / "other.onnx").read_bytes()


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("model", {}, TypeError, "model must be a Sequential, got 'model'"),
        (network(), {"opset": 16}, ValueError, "opset must be between 17 and "),
        (network(), {"opset": 999}, ValueError, "opset must be between 17 and .*, got 999"),
        (network(), {"opset": "20"}, TypeError, "opset must be a positive int, got '20'"),
        (bp.Sequential([layers.Dense(1)]), {}, RuntimeError, "the model has no weights yet"),
    ],
)
def test_what_cannot_be_exported(path, model, options, error, message):
    with pytest.raises(error, match=message):
        fastbp_onnx.export(model, path, **options)
    assert not path.exists()


def test_metadata_that_is_no_json(path):
    model = network()
    model.metadata = {"a": object()}
    with pytest.raises(TypeError, match="metadata has no form in JSON"):
        fastbp_onnx.export(model, path)
    assert not os.listdir(path.parent)


def test_an_operation_without_a_form_is_named(path, monkeypatch):
    monkeypatch.delitem(exporting._TRANSLATIONS, "softmax_forward")
    with pytest.raises(ValueError, match="layer 'softmax': softmax_forward has no form in ONNX"):
        fastbp_onnx.export(network(layers.Softmax()), path)


@pytest.mark.parametrize("call", ["export(None, 'x')", "load('x')"])
def test_without_the_package_the_error_says_what_to_install(call):
    code = f"import sys; sys.modules['onnx'] = None; from fastbp import onnx; onnx.{call}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'ImportError: ONNX needs the onnx package: pip install "fastbp[onnx]"' in result.stderr
