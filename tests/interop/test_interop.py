"""Weights of other libraries: the same outputs as there, the same bits there and back, nothing imported."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

import fastbp as bp
from fastbp import interop, layers

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors" / "interop"
NETWORKS = runpy.run_path(str(HERE.parent / "networks.py"))
STAND_INS = runpy.run_path(str(HERE / "stand_ins.py"))
DTYPES = ("float32", "float64")
# What each library has no single layer for.
NOT_IN_TORCH = {"noise", "batch_normalization", "layer_normalization", "scaling"}
NOWHERE = {"residual", "flatten", "embedding", "branches"}


def tensors(model):
    return [view for layer in model.layers for view in (layer.parameters | layer.statistics).values()]


def assert_same_bits(model, other):
    assert other.dtype == model.dtype
    for array, copy in zip(tensors(model), tensors(other), strict=True):
        np.testing.assert_array_equal(array, copy, strict=True)
        assert not np.shares_memory(array, copy)


def torch_like():
    """A network as tests/vectors/make_interop.py made it in PyTorch."""
    stack = [
        layers.Dense(8),
        layers.BatchNormalization(0.9, 1e-5, unbiased=True),
        layers.ReLU(),
        layers.Dense(8, use_bias=False),
        layers.LayerNormalization(1e-5),
        layers.PReLU(),
        layers.Dropout(0.25),
        layers.Dense(3),
    ]
    return bp.Sequential(stack, input_size=6, seed=0)


# ---- PyTorch ----


def test_a_state_of_pytorch_loads_by_name():
    model = torch_like()
    interop.load_weights(model, VECTORS / "torch.safetensors")
    stored = np.load(VECTORS / "torch.npz")
    np.testing.assert_allclose(model.predict(stored["x"]), stored["y"], rtol=0, atol=1e-6)
    state = safetensors.numpy.load_file(VECTORS / "torch.safetensors")
    np.testing.assert_array_equal(model.layers[0].weight, state["net.0.weight"])
    np.testing.assert_array_equal(model.layers[1].moving_variance, state["net.1.running_var"])


def test_a_module_of_pytorch():
    nn = SimpleNamespace(**STAND_INS["NN"])
    state = safetensors.numpy.load_file(VECTORS / "torch.safetensors")
    modules = [
        nn.Linear(6, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 8, bias=False),
        nn.LayerNorm(8),
        nn.PReLU(8),
        nn.Dropout(0.25),
        nn.Linear(8, 3),
    ]
    for name, array in state.items():
        _, number, role = name.split(".")
        setattr(modules[int(number)], role, STAND_INS["Tensor"](array))
    nested = STAND_INS["Sequential"](STAND_INS["Sequential"](*modules[:3]), *modules[3:])
    model = interop.from_torch(nested)
    assert repr(model.layers) == repr(torch_like().layers)
    stored = np.load(VECTORS / "torch.npz")
    np.testing.assert_allclose(model.predict(stored["x"]), stored["y"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(set(NETWORKS["STACKS"]) - NOT_IN_TORCH - NOWHERE))
def test_there_and_back_through_pytorch(monkeypatch, name, dtype):
    monkeypatch.setitem(sys.modules, "torch", STAND_INS["torch"]())
    model, x = NETWORKS["make"](name, dtype)
    again = interop.from_torch(interop.to_torch(model))
    assert_same_bits(model, again)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize("name", sorted(NOT_IN_TORCH | NOWHERE))
def test_what_pytorch_does_not_have_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torch", STAND_INS["torch"]())
    with pytest.raises(ValueError, match=r"layer '\w+'.*: PyTorch|layer '\w+', .*, has no module in PyTorch"):
        interop.to_torch(NETWORKS["make"](name)[0])


def test_modules_without_a_layer_are_named():
    nn, sequential = SimpleNamespace(**STAND_INS["NN"]), STAND_INS["Sequential"]
    with pytest.raises(
        ValueError, match=r"module '0.1', Conv1d, has no layer in fastbp; known are BatchNorm1d, "
    ):
        interop.from_torch(sequential(sequential(nn.ReLU(), nn.Conv1d())))
    with pytest.raises(ValueError, match="no layer tells the number of inputs; give input_size="):
        interop.from_torch(nn.ReLU())
    assert interop.from_torch(nn.ReLU(), input_size=3).input_size == 3
    for module, message in (
        (nn.Softmax(0), "Softmax must go over the features"),
        (nn.Softplus(2.0), "Softplus must have beta=1"),
        (nn.BatchNorm1d(2, track_running_stats=False), "must keep running averages"),
    ):
        with pytest.raises(ValueError, match=message):
            interop.from_torch(module, input_size=2)


# ---- safetensors ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_through_a_file(tmp_path, dtype):
    model, _ = NETWORKS["make"]("batch_normalization", dtype)
    path = tmp_path / "net.safetensors"
    interop.save_weights(model, path)
    state = safetensors.numpy.load_file(path)
    assert sorted(state)[:5] == ["0.bias", "0.weight", "1.bias", "1.running_mean", "1.running_var"]
    again = bp.Sequential(NETWORKS["STACKS"]["batch_normalization"](), input_size=8, dtype=dtype)
    interop.load_weights(again, path)
    assert_same_bits(model, again)


def test_other_names_of_modules(tmp_path):
    model = bp.Sequential(
        [layers.Dense(4, "relu", name="a"), layers.Dense(2, name="b")], input_size=3, seed=0
    )
    weights = [layer.weight.copy() for layer in model.layers]
    path = tmp_path / "net.safetensors"

    def saved(first, second):
        arrays = {f"{first}.weight": weights[0], f"{first}.bias": np.ones(4, "f4")}
        arrays |= {f"{second}.weight": weights[1], f"{second}.bias": np.ones(2, "f4")}
        safetensors.numpy.save_file(arrays, path)

    for first, second in (("b_", "a"), ("net.2", "other.4"), ("fc1", "fc2")):
        saved(first, second)
        with pytest.raises(ValueError, match=r"its modules are called .*; expected numbers, or the names"):
            interop.load_weights(model, path)
    for first, second in (("a", "b"), ("2", "10"), ("net.layers.7", "net.layers.11")):
        saved(first, second)
        model.parameters[...] = 0
        interop.load_weights(model, path)
        np.testing.assert_array_equal(model.layers[0].weight, weights[0])
        np.testing.assert_array_equal(model.layers[1].bias, np.ones(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"7.weight": None}, "'7.weight' is missing"),
        ({"7.weight": np.zeros((3, 9), "f4")}, r"'7.weight' has shape \(3, 9\), expected \(3, 8\)"),
        ({"7.weight": np.zeros((3, 8))}, "'7.weight' has dtype float64, expected float32"),
        ({"7.extra": np.zeros(1, "f4")}, "'7.extra' is not expected"),
        ({"9.weight": np.zeros(1, "f4")}, "it has weights for 7 layers .*, and the model has 6"),
    ],
)
def test_states_that_do_not_fit(tmp_path, change, message):
    model = torch_like()
    state = safetensors.numpy.load_file(VECTORS / "torch.safetensors")
    for name, array in change.items():
        state.pop(f"net.{name}", None)
        if array is not None:
            state[f"net.{name}"] = array
    path = tmp_path / "net.safetensors"
    safetensors.numpy.save_file(state, path)
    before = [array.copy() for array in tensors(model)]
    with pytest.raises(ValueError, match=f"net.safetensors': .*{message}".replace("'7", "'net.7")):
        interop.load_weights(model, path)
    for array, copy in zip(tensors(model), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", ["residual", "branches", "scaling"])
def test_weights_without_names_are_refused(tmp_path, name):
    model, _ = NETWORKS["make"](name)
    with pytest.raises(ValueError, match=r"layer '\w+', .*, has weights without names in PyTorch"):
        interop.save_weights(model, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"layer '\w+', .*, has weights without names in PyTorch"):
        interop.load_weights(model, VECTORS / "torch.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_that_are_damaged(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes((VECTORS / "torch.safetensors").read_bytes()[:-3])
    with pytest.raises(ValueError, match="cannot be read: it is damaged"):
        interop.load_weights(torch_like(), path)
    header = b'{"0.weight":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(
        ValueError, match=r"tensor '0.weight' has the element type BF16, which NumPy does not"
    ):
        interop.load_weights(torch_like(), path)


# ---- Keras ----


def test_a_model_of_keras():
    stored = np.load(VECTORS / "keras.npz")
    described = json.loads((VECTORS / "keras.json").read_text())
    kept = []
    for number, one in enumerate(described):
        weights = [stored[key] for key in stored.files if key.split(".")[0] == str(number) and "." in key]
        kept.append(STAND_INS["keras_layer"](one["class"], one["config"], weights))
    inner = SimpleNamespace(layers=kept[4:9])
    model = interop.from_keras(SimpleNamespace(layers=[*kept[:4], inner, *kept[9:]], input_shape=(None, 6)))
    np.testing.assert_allclose(model.predict(stored["x"]), stored["y"], rtol=0, atol=1e-6)
    assert isinstance(model.layers[-1].activation, layers.Softmax)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(set(NETWORKS["STACKS"]) - NOWHERE))
def test_there_and_back_through_keras(monkeypatch, name, dtype):
    monkeypatch.setitem(sys.modules, "keras", STAND_INS["keras"]())
    model, x = NETWORKS["make"](name, dtype)
    net = interop.to_keras(model)
    assert [layer.config["name"] for layer in net.layers] == [layer.name for layer in model.layers]
    again = interop.from_keras(net)
    assert_same_bits(model, again)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize("name", sorted(NOWHERE))
def test_what_keras_does_not_have_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "keras", STAND_INS["keras"]())
    with pytest.raises(ValueError, match=r"layer '\w+', .*, is not in Keras"):
        interop.to_keras(NETWORKS["make"](name)[0])


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("Conv2D", {}, "layer 'a', Conv2D, is not in fastbp; known are Activation, "),
        ("Activation", {"activation": "relu6"}, "activation 'relu6' of Keras is not in fastbp"),
        ("ReLU", {"max_value": 6, "threshold": 0, "negative_slope": 0}, "a ReLU with max_value or threshold"),
        (
            "LayerNormalization",
            {"rms_scaling": True, "epsilon": 1e-3, "center": True, "scale": True},
            "rms_scaling is not in",
        ),
    ],
)
def test_layers_of_keras_without_a_layer_are_named(kind, config, message):
    layer = STAND_INS["keras_layer"](kind, {"name": "a"} | config)
    with pytest.raises(ValueError, match=message):
        interop.from_keras(SimpleNamespace(layers=[layer]))


# ---- scikit-learn ----


def perceptron(**changes):
    stored = np.load(VECTORS / "sklearn.npz")
    coefs, intercepts = ([stored[f"{kind}.{i}"] for i in range(3)] for kind in ("coefs", "intercepts"))
    given = {
        "coefs_": coefs,
        "intercepts_": intercepts,
        "activation": "tanh",
        "out_activation_": "softmax",
        "loss": "log_loss",
        "classes_": np.array([0, 1, 2]),
    }
    return SimpleNamespace(**given | changes), stored


def test_a_classifier_of_scikit_learn():
    estimator, stored = perceptron(feature_names_in_=np.array(["a", "b", "c", "d"], object))
    model = interop.from_sklearn(estimator)
    np.testing.assert_allclose(model.predict(stored["x"]), stored["y"], rtol=0, atol=1e-12)
    assert model.metadata == {"classes": [0, 1, 2]}
    assert model.feature_names == ("a", "b", "c", "d")
    assert repr(model.loss) == "CrossEntropy()"
    binary, _ = perceptron(out_activation_="logistic")
    assert repr(interop.from_sklearn(binary).loss) == "BinaryCrossEntropy()"


class Estimator(SimpleNamespace):
    """Stands for MLPClassifier and MLPRegressor."""


class LabelBinarizer:
    def fit(self, labels):
        self.classes_ = np.unique(labels)


@pytest.fixture
def sklearn(monkeypatch):
    neural = SimpleNamespace(MLPClassifier=type("MLPClassifier", (Estimator,), {}), MLPRegressor=Estimator)
    monkeypatch.setitem(sys.modules, "sklearn", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", neural)
    preprocessing = SimpleNamespace(LabelBinarizer=LabelBinarizer)
    monkeypatch.setitem(sys.modules, "sklearn.preprocessing", preprocessing)
    return neural


def test_there_and_back_through_scikit_learn(sklearn):
    estimator, _ = perceptron()
    model = interop.from_sklearn(estimator)
    again = interop.to_sklearn(model)
    assert type(again) is sklearn.MLPClassifier
    assert (again.hidden_layer_sizes, again.activation, again.out_activation_) == ([5, 4], "tanh", "softmax")
    for name in ("coefs_", "intercepts_"):
        for array, copy in zip(getattr(estimator, name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(again._label_binarizer.classes_, [0, 1, 2])
    again = interop.to_sklearn(model, classes=["a", "b", "c"])
    np.testing.assert_array_equal(again.classes_, ["a", "b", "c"])
    with pytest.raises(ValueError, match="classes must hold 3 labels, got 2"):
        interop.to_sklearn(model, classes=["a", "b"])
    with pytest.raises(ValueError, match="classes must be sorted"):
        interop.to_sklearn(model, classes=["b", "a", "c"])
    regressor = bp.Sequential([layers.Dense(3, "relu", use_bias=False), layers.Dense(1)], input_size=2)
    made = interop.to_sklearn(regressor)
    assert not hasattr(made, "classes_")
    np.testing.assert_array_equal(made.intercepts_[0], np.zeros(3))


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (
            [layers.Dense(3, "relu"), layers.Dense(3, "tanh"), layers.Dense(1)],
            "one of identity, logistic, tanh",
        ),
        ([layers.Dense(3, "gelu"), layers.Dense(1)], "got .'gelu', 'linear'."),
        ([layers.Dense(3), layers.Dense(1, "relu")], "got .'linear', 'relu'."),
        (
            [layers.Dense(3), layers.ReLU(), layers.Dense(1)],
            r"layer 're_?lu', ReLU\(\), is not in scikit-learn",
        ),
        ([layers.Dropout(0.5)], "the model must have a Dense layer"),
    ],
)
def test_what_scikit_learn_does_not_have(stack, message):
    with pytest.raises(ValueError, match=message):
        interop.to_sklearn(bp.Sequential(stack, input_size=2))


def test_estimators_that_are_not_fitted():
    with pytest.raises(ValueError, match="estimator must be a fitted MLPClassifier or MLPRegressor"):
        interop.from_sklearn(SimpleNamespace())
    estimator, _ = perceptron(activation="sine")
    with pytest.raises(ValueError, match="activation 'sine' of scikit-learn is not in fastbp"):
        interop.from_sklearn(estimator)


# ---- none of them is imported ----


def test_reading_imports_no_library():
    code = "import fastbp.interop, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "keras", "sklearn", "onnx"} & set(result.stdout.split())


@pytest.mark.parametrize("name", ["torch", "keras", "sklearn"])
def test_writing_says_what_is_missing(monkeypatch, name):
    for module in ("torch", "keras", "sklearn.neural_network"):
        monkeypatch.setitem(sys.modules, module, None)
    model = bp.Sequential([layers.Dense(1)], input_size=2)
    with pytest.raises(ImportError, match=f"to_{name} needs {name}.*, which is not installed"):
        getattr(interop, f"to_{name}")(model)
