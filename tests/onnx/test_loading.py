"""ONNX files of other libraries become models; what is not in reach, damaged or dangerous is refused."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fastbp import layers
from fastbp import onnx as fastbp_onnx
from fastbp.onnx import reading

FILES = Path(__file__).resolve().parents[1] / "vectors" / "onnx"
EXPORTED = sorted(path.stem for path in FILES.glob("*.npz"))


def graph(nodes, initializers=(), shape=("batch", 3), element=TensorProto.FLOAT, outputs=("y",), opset=18):
    """A model with the input x."""
    made = helper.make_graph(
        [
            helper.make_node(*node[:3], name=node[1][0], **(node[3] if len(node) > 3 else {}))
            for node in nodes
        ],
        "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info(name, element, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in dict(initializers).items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])


def write(path, model):
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


# ---- other libraries ----


@pytest.mark.parametrize("name", EXPORTED)
def test_models_of_other_libraries(name):
    """Written by tests/vectors/make_onnx.py, with the outputs of the library that they come from."""
    model = fastbp_onnx.load(FILES / f"{name}.onnx")
    stored = np.load(FILES / f"{name}.npz")
    x = stored["x"].reshape(len(stored["x"]), -1)
    got = model.predict(x)
    np.testing.assert_allclose(got, stored["y"], rtol=2e-6, atol=2e-6 * np.abs(stored["y"]).max())
    model.loss = "mean_squared_error"
    before = model.parameters.copy()
    assert np.isfinite(model.train_on_batch(x, stored["y"][::-1]))
    assert np.isfinite(model.parameters).all()
    assert (model.parameters != before).any()


def test_classes_of_scikit_learn():
    for name in ("sklearn_classifier", "sklearn_zipmap"):
        model = fastbp_onnx.load(FILES / f"{name}.onnx")
        assert model.metadata["classes"] == ["setosa", "versicolor", "virginica"]
    assert fastbp_onnx.load(FILES / "sklearn_two_classes.onnx").metadata["classes"] == [0, 1]


# ---- single graphs ----

W = np.arange(6, dtype="f4").reshape(2, 3) / 7
B = np.array([0.5, -0.5], "f4")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Gemm", ["x", "w", "b"], ["y"], {"transB": 1})], lambda x: x @ W.T + B),
        (
            [("Gemm", ["x", "w", "b"], ["y"], {"transB": 1, "alpha": 2.0, "beta": 0.5})],
            lambda x: 2 * x @ W.T + 0.5 * B,
        ),
        ([("MatMul", ["x", "v"], ["y"])], lambda x: x @ W.T),
        ([("MatMul", ["x", "v"], ["z"]), ("Add", ["z", "b"], ["y"])], lambda x: x @ W.T + B),
        ([("MatMul", ["x", "v"], ["z"]), ("Add", ["b", "z"], ["y"])], lambda x: x @ W.T + B),
        (
            [("Transpose", ["w"], ["t"], {"perm": [1, 0]}), ("MatMul", ["x", "t"], ["y"])],
            lambda x: x @ W.T,
        ),
        ([("Swish", ["x"], ["y"])], lambda x: x / (1 + np.exp(-x))),
        ([("Sub", ["two", "x"], ["n"]), ("Mul", ["n", "three"], ["y"])], lambda x: (2 - x) * 3),
        ([("Neg", ["x"], ["n"]), ("Neg", ["n"], ["d"]), ("Div", ["d", "c"], ["y"])], lambda x: x / [1, 2, 4]),
        (
            [("Mul", ["x", "c"], ["m"]), ("Sub", ["m", "two"], ["s"]), ("Add", ["s", "x"], ["y"])],
            lambda x: x * [1, 2, 4] - 2 + x,
        ),
        (
            [("Mul", ["x", "three"], ["m"]), ("Add", ["m", "two"], ["s"]), ("Add", ["s", "m"], ["y"])],
            lambda x: 6 * x + 2,
        ),
        ([("Identity", ["x"], ["y"])], lambda x: x),
    ],
)
def test_products(path, nodes, expected):
    numbers = {"two": np.float32(2), "three": np.float32(3), "c": np.array([1, 2, 4], "f4")}
    model = graph(nodes, {"w": W, "v": W.T.copy(), "b": B} | numbers, opset=24)
    loaded = fastbp_onnx.load(write(path, model))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")
    np.testing.assert_allclose(loaded.predict(x), expected(x), rtol=1e-5, atol=1e-6)


def test_samples_with_several_axes_become_rows(path):
    nodes = [("Relu", ["x"], ["r"]), ("Flatten", ["r"], ["f"]), ("MatMul", ["f", "v"], ["y"])]
    loaded = fastbp_onnx.load(write(path, graph(nodes, {"v": W.T.copy()}, shape=("n", 1, 3))))
    assert loaded.input_size == 3
    nodes = [("Reshape", ["x", "s"], ["f"]), ("MatMul", ["f", "v"], ["y"])]
    constants = {"v": W.T.copy(), "s": np.array([-1, 3])}
    assert fastbp_onnx.load(write(path, graph(nodes, constants, shape=("n", 1, 3)))).input_size == 3


def test_one_of_several_outputs(path):
    nodes = [("MatMul", ["x", "v"], ["y"]), ("Softmax", ["y"], ["p"])]
    model = graph(nodes, {"v": W.T.copy()}, outputs=("y", "p"))
    write(path, model)
    with pytest.raises(ValueError, match=r"it has the outputs \['y', 'p'\]; choose one with output"):
        fastbp_onnx.load(path)
    assert isinstance(fastbp_onnx.load(path, output="p").layers[0].activation, layers.Softmax)
    with pytest.raises(ValueError, match=r"output must be one of \['y', 'p'\], got 'q'"):
        fastbp_onnx.load(path, output="q")


# ---- side by side ----

TABLE = np.arange(8, dtype="f4").reshape(4, 2) / 3
COLUMNS = {"one": np.array([1]), "two": np.array([2]), "end": np.array([2**62]), "back": np.array([-1])}
FIRST = ("Slice", ["x", "zero", "two", "one"], ["first"])


@pytest.mark.parametrize(
    ("nodes", "expected", "found"),
    [
        (
            [FIRST, ("MatMul", ["first", "u"], ["m"]), ("Concat", ["m", "x"], ["y"], {"axis": -1})],
            lambda x: np.hstack([x[:, :2] @ W[:, :2].T, x]),
            "(Branches(((Dense(2, use_bias=False),), ()), columns=((0, 1), (0, 1, 2))),)",
        ),
        (
            [("Slice", ["x", "back", "zero", "one", "back"], ["y"])],
            lambda x: x[:, :0:-1],
            "(Branches(((),), columns=((2, 1),)),)",
        ),
        (
            [("Gather", ["x", "order"], ["g"], {"axis": 1}), ("Slice", ["g", "one", "end", "one"], ["y"])],
            lambda x: x[:, [0, 1]],
            "(Branches(((),), columns=((0, 1),)),)",
        ),
        (
            [("Relu", ["x"], ["r"]), ("Tanh", ["r"], ["t"]), ("Concat", ["r", "t", "r"], ["y"], {"axis": 1})],
            lambda x: np.hstack([np.maximum(x, 0), np.tanh(np.maximum(x, 0)), np.maximum(x, 0)]),
            "(ReLU(), Branches(((), (Tanh(),), ())))",
        ),
    ],
)
def test_branches(path, nodes, expected, found):
    constants = COLUMNS | {"zero": np.array([0]), "u": W[:, :2].T.copy(), "order": np.array([-1, 0, 1])}
    loaded = fastbp_onnx.load(write(path, graph(nodes, constants)))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")
    np.testing.assert_allclose(loaded.predict(x), expected(x), rtol=1e-5, atol=1e-6)
    assert repr(loaded.layers) == found


def test_tables_of_row_numbers(path):
    """As PyTorch writes an embedding: whole numbers come in, and the rows of a sample are laid out flat."""
    nodes = [("Gather", ["t", "x"], ["g"]), ("Flatten", ["g"], ["f"]), ("MatMul", ["f", "v"], ["y"])]
    constants = {"t": TABLE, "v": np.ones((6, 1), "f4")}
    model = graph(nodes, constants, element=TensorProto.INT64)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    loaded = fastbp_onnx.load(write(path, model))
    assert repr(loaded.layers) == "(Embedding(4, 2), Dense(1, use_bias=False))"
    x = np.array([[0, 3, 1], [2, 2, 2]])
    np.testing.assert_allclose(loaded.predict(x), TABLE[x].sum(axis=(1, 2))[:, np.newaxis], rtol=1e-6)


# ---- what has no layer ----


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph([("Sin", ["x"], ["y"])]), "node Sin 'x' has no layer in fastbp: fastbp does not know this op"),
        (graph([("Softmax", ["x"], ["y"], {"axis": 0})]), "node Softmax 'x' .*axis must be 1 or -1, got 0"),
        (graph([("Softmax", ["x"], ["y"])], shape=("n", 2, 3)), r"shape \(2, 3\), expected a row"),
        (graph([("Selu", ["x"], ["y"], {"alpha": 2.0})]), "alpha 2 and gamma 1.0507 are not SELU's"),
        (graph([("Relu", ["x"], ["y"], {"extra": 1})]), "node Relu 'x' has the attribute 'extra', which"),
        (graph([("Flatten", ["x"], ["y"], {"axis": 0})]), "it must keep the batch, axis=1"),
        (graph([("Reshape", ["x", "s"], ["y"])], {"s": [-1]}), r"one row per sample, got the shape \[-1\]"),
        (
            graph([("Reshape", ["x", "s"], ["y"])], {"s": [6, -1]}),
            r"one row per sample, got the shape \[6, -1\]",
        ),
        (graph([("Reshape", ["x", "s"], ["y"])], {"s": [-1, 6]}), "it takes 6 features, and 3 come in"),
        (graph([("Gemm", ["x", "w"], ["y"], {"transA": 1})], {"w": W}), "its data is transposed"),
        (graph([("Gemm", ["x", "w"], ["y"])], {"w": W}), "it takes 2 features, and 3 come in"),
        (
            graph([("Mul", ["x", "c"], ["y"])], {"c": np.ones((3, 1), "f4")}),
            r"the shape \(3, 1\), expected one row",
        ),
        (graph([("Mul", ["x", "c"], ["y"])], {"c": [1.0, 0, 2]}), "by numbers that are not between 0"),
        (graph([("Div", ["x", "c"], ["y"])], {"c": [1.0, 0, 2]}), "by constants that are not 0"),
        (graph([("Add", ["x", "x"], ["y"])]), "expected a sum of two values"),
        (graph([("Relu", ["x"], ["r"]), ("Tanh", ["x"], ["t"]), ("Add", ["r", "t"], ["y"])]), "must be x"),
        (graph([("MatMul", ["v", "x"], ["y"])], {"v": W}), "expected data as input 0 and constants besides"),
        (graph([("MatMul", ["x", "x"], ["y"])]), "expected data as input 0"),
        (graph([("Sin", ["x"], ["s"]), ("Mul", ["x", "s"], ["y"])]), "node Mul"),
        (graph([("Cast", ["x"], ["y"], {"to": TensorProto.INT64})]), "it casts to INT64"),
        (graph([("Relu", ["x"], ["y"])], shape=("n", "m")), "a known number of features"),
        (graph([("Relu", ["x"], ["y"])], shape=(3,)), r"must have the shape \(batch, features\)"),
        (graph([("Relu", ["z"], ["y"])]), "comes from 'z', which nothing makes of the input"),
        (graph([("Relu", ["y"], ["y"])]), "node Relu 'y' depends on its own result"),
        (graph([("Mul", ["y", "c"], ["y"])], {"c": 2.0}), "node Mul 'y' depends on its own result"),
        (graph([("Mul", ["x", "c"], ["y"])], {"c": [1.0, 1, 1e9]}), "by numbers that are not between 0"),
        (graph([("Relu", ["x"], ["y"]), ("Tanh", ["x"], ["y"])]), "it makes 'y' twice"),
        (
            graph(
                [("Relu", ["x"], ["r"]), ("Gather", ["t", "r"], ["g"]), ("Flatten", ["g"], ["y"])],
                {"t": TABLE},
            ),
            "node Gather 't' .*row numbers must come straight from the input",
        ),
        (graph([("Gather", ["t", "x"], ["g"]), ("Softmax", ["g"], ["y"])], {"t": TABLE}), "expected a row"),
        (graph([("Gather", ["t", "x"], ["y"], {"axis": 1})], {"t": TABLE}), "rows of a matrix, axis=0"),
        (graph([("Gather", ["x", "i"], ["y"], {"axis": 1})], {"i": [3]}), r"takes the columns \[3\] of sam"),
        (graph([("Gather", ["x", "i"], ["y"], {"axis": 0})], {"i": [0]}), "a list of their numbers, axis=1"),
        (graph([("Slice", ["x", "a", "b", "a"], ["y"])], {"a": [0], "b": [1]}), r"axes \[1\], got \[0\]"),
        (
            graph([("Slice", ["x", "a", "a", "a"], ["y"])], {"a": [1]}),
            r"the columns range\(1, 1\) of samples",
        ),
        (graph([("Concat", ["x", "x"], ["y"], {"axis": 0})]), "must join columns that come from the data"),
        (graph([("Concat", ["x", "c"], ["y"], {"axis": 1})], {"c": W}), "must join columns that come from"),
        (
            graph([("Gather", ["t", "x"], ["g"]), ("Concat", ["g", "x"], ["y"], {"axis": 1})], {"t": TABLE}),
            r"node Concat 'g' .*a branch gives samples of the shape \(3, 2\)",
        ),
        (
            graph(
                [
                    ("Relu", ["x"], ["r"]),
                    ("Tanh", ["x"], ["t"]),
                    ("Concat", ["r", "t"], ["a"], {"axis": 1}),
                    ("Concat", ["t", "r"], ["b"], {"axis": 1}),
                    ("Concat", ["a", "b"], ["y"], {"axis": 1}),
                ]
            ),
            "node Tanh 'x' has no layer in fastbp: its result goes two ways that do not meet again",
        ),
        (
            graph([("Concat", ["x", "z"], ["y"], {"axis": 1}), ("Relu", ["y"], ["z"])]),
            "node Concat 'x' .*'z' is used before it is made",
        ),
        (graph([("Concat", ["x", "z"], ["y"], {"axis": 1})]), "which nothing makes of the input"),
        (graph([("LeakyRelu", ["x"], ["y"], {"alpha": -1.0})]), "negative_slope must be a number in"),
        (graph([("LeakyRelu", ["x"], ["y"], {"alpha": "a"})]), "it is damaged"),
    ],
)
def test_what_has_no_layer_is_named(path, model, message):
    write(path, model)
    with pytest.raises(ValueError, match=f"model.onnx' cannot be loaded: .*{message}"):
        fastbp_onnx.load(path)


def test_element_types_are_named(path):
    model = graph([("Relu", ["x"], ["y"])])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(ValueError, match="its input 'x' has the element type FLOAT16; fastbp computes in"):
        fastbp_onnx.load(write(path, model))


def test_foreign_domains_are_named(path):
    model = graph([("Relu", ["x"], ["y"])])
    model.graph.node[0].domain = "com.example"
    with pytest.raises(ValueError, match=r"node com\.example\.Relu 'x' has no layer"):
        fastbp_onnx.load(write(path, model))


# ---- what nobody should trust ----


def with_tensor(**changes):
    model = graph([("MatMul", ["x", "v"], ["y"])], {"v": W.T.copy()})
    tensor = model.graph.initializer[0]
    for name, value in changes.items():
        if name == "dims":
            tensor.dims[:] = value
        else:
            setattr(tensor, name, value)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (with_tensor(dims=[3, 3]), r"tensor 'v' does not fit its shape \[3, 3\]"),
        (with_tensor(dims=[-3, 2]), r"tensor 'v' has the impossible shape \[-3, 2\]"),
        (with_tensor(dims=[2**40, 2**40]), "tensor 'v' has the impossible shape"),
        (with_tensor(raw_data=b""), "tensor 'v' does not fit its shape"),
        (with_tensor(data_type=TensorProto.FLOAT16), "tensor 'v' has the element type FLOAT16"),
        (with_tensor(data_type=12345), "tensor 'v' has the element type number 12345"),
        (b"", "it is not in the ONNX format"),
        (b"hello, world", "it is not in the ONNX format"),
        (graph([("Relu", ["x"], ["y"])]).SerializeToString()[:-9], "it is not in the ONNX format"),
    ],
)
def test_damaged_files(path, model, message):
    with pytest.raises(ValueError, match=f"model.onnx' cannot be loaded: {message}"):
        fastbp_onnx.load(write(path, model))


def test_tensors_outside_of_the_file_are_never_opened(path, tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(W.tobytes())
    model = with_tensor()
    folder = tmp_path / "folder"
    folder.mkdir()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    write(folder / "model.onnx", model)
    opened, really_open = [], os.open
    monkeypatch.setattr(os, "open", lambda path, *flags: (opened.append(path), really_open(path, *flags))[1])
    with pytest.raises(ValueError, match="tensor 'v' is kept in another file, which fastbp does not open"):
        fastbp_onnx.load(folder / "model.onnx")
    assert list(map(str, opened)) == [str(folder / "model.onnx")]
    with pytest.raises(ValueError, match="is kept in another file"):
        fastbp_onnx.load(FILES / "torch_external.onnx")


def test_files_that_are_too_large(path, monkeypatch):
    write(path, with_tensor())
    monkeypatch.setattr(reading, "LARGEST_FILE", 100)
    with pytest.raises(ValueError, match=r"it has \d+ bytes; an ONNX model has at most 100"):
        fastbp_onnx.load(path)


def test_files_with_too_many_nodes(path, monkeypatch):
    write(path, graph([("Relu", ["x"], ["r"]), ("Tanh", ["r"], ["y"])]))
    monkeypatch.setattr(reading, "MOST_NODES", 1)
    with pytest.raises(ValueError, match="it has 2 nodes, and fastbp reads at most 1"):
        fastbp_onnx.load(path)


@pytest.mark.skipif(os.name != "posix", reason="pipes are files on POSIX only")
def test_a_pipe_does_not_wait(path):
    os.mkfifo(path)
    with pytest.raises(ValueError, match="it is no regular file"):
        fastbp_onnx.load(path)


def test_a_file_that_is_not_there(path):
    with pytest.raises(FileNotFoundError):
        fastbp_onnx.load(path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "model.onnx"


@given(
    name=st.sampled_from(EXPORTED),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5),
    keep=st.floats(0.3, 1.7),
)
@settings(deadline=None, max_examples=60)
def test_any_damage_is_a_value_error(scratch, name, changes, keep):
    content = bytearray((FILES / f"{name}.onnx").read_bytes())
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    write(scratch, bytes(content[: int(keep * len(content))]))
    with suppress(ValueError):
        assert fastbp_onnx.load(scratch).built
