"""Saving and loading: the same bits, training that goes on, and files that cannot be right."""

import json
import os

import numpy as np
import pandas
import pytest
import safetensors
import safetensors.numpy

import fastbp as bp
from fastbp import optimizers
from fastbp.layers import ELU, Activation, Dense, Dropout, LeakyReLU
from fastbp.losses import CrossEntropy, Huber

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = RNG.normal(size=(40, 2))

OPTIMIZERS = [
    optimizers.SGD(0.01),
    optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    optimizers.Adam(0.01, weight_decay=0.1),
    optimizers.AdamW(0.01),
    optimizers.RMSprop(0.01, momentum=0.5, centered=True),
]


def make(optimizer="adam", **arguments):
    layers = [
        Dense(9, activation="relu", name="first"),
        Dropout(0.3),
        Dense(5, activation=LeakyReLU(0.2), use_bias=False),
        ELU(0.5),
        Activation("gelu_tanh"),
        Dense(2),
    ]
    arguments = {"loss": Huber(0.7), "metrics": ["mae"], "seed": 0} | arguments
    return bp.Sequential(layers, optimizer=optimizer, **arguments)


@pytest.fixture
def rewrite(path):
    """Save a trained model, let a function change tensors and description, write the file again."""

    def change(function):
        model = make()
        model.fit(X, Y)
        model.save(path)
        tensors = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "np") as file:
            header = file.metadata()
        description = json.loads(header["metadata"])
        function(tensors, description, header)
        header["metadata"] = json.dumps(description)
        safetensors.numpy.save_file(tensors, path, header)

    return change


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("keep", [True, False])
def test_predictions_have_the_same_bits(path, dtype, keep):
    model = make(dtype=dtype)
    model.fit(X, Y, epochs=3)
    model.save(path, optimizer=keep)
    loaded = bp.load(str(path))
    assert (loaded.predict(X) == model.predict(X)).all()
    assert loaded.evaluate(X, Y) == model.evaluate(X, Y)
    assert loaded.dtype == dtype
    assert loaded.summary() == model.summary()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_training_goes_on_with_the_same_bits(path, optimizer):
    model = make(optimizer)
    model.fit(X, Y, epochs=2, batch_size=7)
    model.save(path)
    loaded = bp.load(path)
    assert repr(loaded.optimizer) == repr(optimizer)
    expected = model.fit(X, Y, epochs=3, batch_size=7)
    assert loaded.fit(X, Y, epochs=3, batch_size=7).history == expected.history
    assert (loaded.parameters == model.parameters).all()


@pytest.mark.parametrize(
    "generator", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM]
)
def test_any_generator_of_numpy_goes_on(path, generator):
    model = make(seed=np.random.Generator(generator(3)))
    model.fit(X, Y, batch_size=7)
    model.save(path)
    loaded = bp.load(path)
    assert model.fit(X, Y, batch_size=7).history == loaded.fit(X, Y, batch_size=7).history


def test_saving_changes_nothing(path):
    model, plain = make(), make()
    for each in (model, plain):
        each.fit(X, Y)
    model.save(path)
    assert model.fit(X, Y).history == plain.fit(X, Y).history


def test_without_the_optimizer_it_starts_afresh(path):
    model = make()
    model.fit(X, Y, epochs=3)
    model.save(path, optimizer=False)
    assert not any(name.startswith("optimizer") for name in safetensors.numpy.load_file(path))
    loaded, fresh = bp.load(path), make(input_size=3)
    fresh.parameters[...] = model.parameters
    assert loaded.evaluate(X, Y) == fresh.evaluate(X, Y)
    assert loaded.fit(X, Y).epoch == [0]


def test_a_model_that_was_never_trained(path):
    model = make(input_size=3)
    model.save(path)
    assert model.fit(X, Y).history == bp.load(path).fit(X, Y).history


def test_tensors_have_names_and_the_shapes_of_the_textbook(path):
    model = make(input_size=3)
    model.save(path)
    shapes = {name: tensor.shape for name, tensor in safetensors.numpy.load_file(path).items()}
    assert shapes["first.weight"] == shapes["optimizer.m.first.weight"] == (9, 3)
    assert shapes["first.bias"] == shapes["optimizer.v.first.bias"] == (9,)
    assert shapes["dense.weight"] == (5, 9) and "dense.bias" not in shapes
    assert (safetensors.numpy.load_file(path)["first.weight"] == model.layers[0].weight).all()


def test_descriptions_survive(path):
    model = bp.Sequential(
        [Dense(4, kernel_initializer="he_normal"), Dense(3, activation="softmax")],
        loss=CrossEntropy(label_smoothing=0.1),
        input_size=3,
    )
    model.save(path)
    loaded = bp.load(path)
    assert list(map(repr, loaded.layers)) == list(map(repr, model.layers))
    assert repr(loaded.loss) == "CrossEntropy(label_smoothing=0.1)"


def test_metadata_and_feature_names(path):
    frame = pandas.DataFrame(X, columns=["a", "b", "größe"])
    model = make()
    model.fit(frame, Y)
    model.metadata = {"unit": "m²", "scale": [1, 2.5, None]}
    model.save(path)
    loaded = bp.load(path)
    assert loaded.metadata == model.metadata
    assert loaded.feature_names == ("a", "b", "größe")
    with pytest.raises(ValueError, match="X has the column 'b' at position 0"):
        loaded.predict(frame[["b", "a", "größe"]])
    model.save(path, metadata={"other": True})
    assert bp.load(path).metadata == {"other": True}
    assert model.metadata == {"unit": "m²", "scale": [1, 2.5, None]}


def test_a_model_without_a_loss(path):
    model = make(loss=None, metrics=[], input_size=3)
    model.save(path)
    assert bp.load(path).loss is None


# ---- what cannot be saved leaves the old file ----


@pytest.mark.parametrize(
    ("arguments", "metadata", "message"),
    [
        ({"metrics": [lambda y_true, y_pred, sample_weight: 0.0]}, None, "metrics: '<lambda>' is a function"),
        ({}, {"data": {1, 2}}, "metadata"),
    ],
)
def test_what_has_no_form_in_json_is_named_and_the_old_file_stays(path, arguments, metadata, message):
    make(input_size=3).save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match=message):
        make(input_size=3, **arguments).save(path, metadata)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_function_as_initializer_cannot_be_saved(path):
    layer = Dense(2, kernel_initializer=lambda rng, rows, columns, dtype: np.ones((rows, columns)))
    with pytest.raises(TypeError, match="kernel_initializer of Dense cannot be saved"):
        bp.Sequential([layer], input_size=3).save(path)


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    model = make(input_size=3)
    model.save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        make(input_size=3, seed=1).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        make(input_size=3).save(tmp_path / "missing" / "model.safetensors")


# ---- what cannot be loaded ----


def no_bias(tensors, description, header):
    del tensors["first.bias"]


def wrong_shape(tensors, description, header):
    tensors["first.weight"] = np.ascontiguousarray(tensors["first.weight"].T)


def wrong_dtype(tensors, description, header):
    tensors["first.weight"] = tensors["first.weight"].astype("float64")


def one_more(tensors, description, header):
    tensors["third.weight"] = np.zeros((2, 2), "float32")


def no_state(tensors, description, header):
    del tensors["optimizer.m.first.weight"]


def future(tensors, description, header):
    header["version"] = "99"


def foreign(tensors, description, header):
    header["format"] = "pt"


def no_layers(tensors, description, header):
    del description["layers"]


def unknown_layer(tensors, description, header):
    description["layers"][0]["class"] = "Convolution"


def unknown_argument(tensors, description, header):
    description["layers"][0]["depth"] = 3


def unknown_generator(tensors, description, header):
    description["resume"]["random"]["bit_generator"] = "seed"


def broken_generator(tensors, description, header):
    description["resume"]["random"]["state"] = 3


def too_many_counters(tensors, description, header):
    description["resume"]["counters"] = [1, 2, 3]


def text_for_layers(tensors, description, header):
    description["layers"] = "dense"


def wrong_units(tensors, description, header):
    description["layers"][0]["units"] = -1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_bias, "'first.bias' is missing"),
        (wrong_shape, r"'first.weight' has shape \(3, 9\), expected \(9, 3\)"),
        (wrong_dtype, "'first.weight' has dtype float64, expected float32"),
        (one_more, "'third.weight' is not expected"),
        (no_state, "'optimizer.m.first.weight' is missing"),
        (future, "its version is '99', and this fastbp knows version 1"),
        (foreign, "it is a safetensors file of another program"),
        (no_layers, "the description of the model is damaged"),
        (unknown_layer, "class 'Convolution' is no Layer, or was not imported"),
        (unknown_argument, "Dense has no argument 'depth'"),
        (unknown_generator, "'seed' is no bit generator of NumPy"),
        (broken_generator, "the description of the model is damaged"),
        (too_many_counters, "model.safetensors"),
        (text_for_layers, "model.safetensors"),
        (wrong_units, "units must be a positive int"),
    ],
)
def test_files_that_cannot_be_right(path, rewrite, damage, message):
    rewrite(damage)
    with pytest.raises(ValueError, match=message) as caught:
        bp.load(path)
    assert "model.safetensors" in str(caught.value)


def test_a_rewritten_file_without_damage_loads(path, rewrite):
    rewrite(lambda tensors, description, header: None)
    bp.load(path)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.999])
def test_truncated_files(path, part):
    make(input_size=3).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="is no model file of fastbp"):
        bp.load(path)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" * 20, b"a,b\n1,2\n", b"\0" * 100])
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no model file of fastbp"):
        bp.load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        bp.load(tmp_path / "model.safetensors")
    with pytest.raises(OSError, match=str(tmp_path)):
        bp.load(tmp_path)
