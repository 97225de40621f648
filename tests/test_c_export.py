"""The C export: it compiles without a warning, computes what predict computes, and says what it takes."""

import ctypes
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import fastbp as bp
from fastbp import layers

NETWORKS = runpy.run_path(str(Path(__file__).with_name("networks.py")))
CC = shutil.which("gcc") or shutil.which("cc")
ARM = shutil.which("arm-none-eabi-gcc")
WARNINGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic"]
X = np.random.default_rng(0).normal(0, 2, (20, 6)).astype("f4")

if CC is None or os.name != "posix":
    pytest.skip("these tests compile C with gcc or cc and load it: POSIX only", allow_module_level=True)


def compile_c(source, *options):
    result = subprocess.run([CC, *WARNINGS, *options, str(source), "-lm"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not result.stderr


def self_test(source, name="NET"):
    program = source.with_suffix(".out")
    compile_c(source, f"-D{name}_SELF_TEST", "-o", program)
    return subprocess.run([program], capture_output=True, text=True)


def computed(source, inputs, outputs, function="net_predict"):
    """What the exported function returns for each row."""
    library = source.with_suffix(".so")
    compile_c(source, "-shared", "-fPIC", "-o", library)
    predict = getattr(ctypes.CDLL(str(library)), function)
    rows = np.ascontiguousarray(inputs, np.float32)
    results = np.empty((len(rows), outputs), np.float32)
    pointer = ctypes.POINTER(ctypes.c_float)
    for row, result in zip(rows, results, strict=True):
        predict(row.ctypes.data_as(pointer), result.ctypes.data_as(pointer))
    return results


def compile_for_cortex_m(source):
    """Compile for a processor without and one with floating-point unit; return bytes of text, data, zeros."""
    sizes = []
    for processor in ("cortex-m0plus", "cortex-m4"):
        target = source.with_suffix(".o")
        command = [ARM, f"-mcpu={processor}", "-mthumb", *WARNINGS, "-c", source, "-o", target]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        table = subprocess.run(
            [ARM.replace("gcc", "size"), target], capture_output=True, text=True, check=True
        )
        sizes.append([int(size) for size in table.stdout.splitlines()[1].split()[:3]])
    return sizes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.c"


EVERYTHING = [
    layers.Dense(9, activation="relu"),
    layers.Dropout(0.25),
    layers.LeakyReLU(0.2),
    layers.Dense(8, activation=layers.ELU(0.7)),
    layers.Dense(8, activation="selu", use_bias=False),
    layers.Dense(7, activation="gelu"),
    layers.GELU("tanh"),
    layers.Dense(7, activation="silu"),
    layers.Dense(7, activation="mish"),
    layers.Dense(7, activation="softplus"),
    layers.Dense(7, activation="tanh"),
    layers.Dense(7, activation="sigmoid"),
    layers.Linear(),
    layers.Dense(3, activation="softmax"),
]


@pytest.fixture(scope="module")
def everything():
    return bp.Sequential(EVERYTHING, input_size=6, seed=0)


@pytest.fixture(scope="module")
def digits():
    x, y = bp.datasets.load_digits()
    x = x / 16
    stack = [
        layers.Dense(64, activation="relu"),
        layers.Dense(32, activation="relu"),
        layers.Dense(10, "softmax"),
    ]
    model = bp.Sequential(stack, loss="cross_entropy", metrics=["accuracy"], seed=0)
    model.fit(x[:1400], y[:1400], epochs=20, verbose=0)
    return model, x, y


@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish"])
def test_each_activation_far_from_zero(path, kind):
    """Where both tails are: overflow must not become NaN."""
    model = bp.Sequential([layers.Activation(kind)], input_size=6)
    inputs = np.array([[-200, -90, -20, -5, -1, -0.0], [0.0, 1, 5, 20, 90, 200]], "f4")
    model.export_c(path)
    expected = model.predict(inputs)
    np.testing.assert_allclose(computed(path, inputs, 6), expected, rtol=2e-6, atol=1e-7)


def test_float32_is_what_predict_gives(path, everything):
    everything.export_c(path)
    expected = everything.predict(X)
    np.testing.assert_allclose(computed(path, X, 3), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    result = self_test(path)
    assert result.returncode == 0, result.stdout
    assert result.stdout.startswith("largest difference ")


@pytest.mark.parametrize("name", [name for name in NETWORKS["STACKS"] if name not in NETWORKS["ACTIVATIONS"]])
def test_every_layer(path, name):
    model, inputs = NETWORKS["make"](name)
    model.export_c(path)
    expected = model.predict(inputs)
    got = computed(path, inputs, model.output_size)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    model.export_c(path, dtype="int8", calibration=inputs)
    result = self_test(path)
    assert result.returncode == 0, result.stdout


def test_int8_on_digits(path, digits):
    """Within one point of accuracy, in a quarter of the size."""
    model, x, y = digits
    held_out, labels = x[1400:], y[1400:]
    exact = (model.predict(held_out).argmax(axis=1) == labels).mean()
    model.export_c(path, dtype="int8", calibration=x[:1400])
    got = computed(path, held_out, 10)
    assert (got.argmax(axis=1) == labels).mean() >= exact - 0.01
    assert np.abs(got - model.predict(held_out)).max() < 0.1
    assert self_test(path).returncode == 0
    eight = flash(path)
    model.export_c(path)
    assert flash(path) == 4 * sum(layer.weight.size + layer.bias.size for layer in model.layers)
    assert eight < 0.3 * flash(path)


def flash(path):
    return int(re.search(r"flash +([\d,]+) bytes", path.read_text())[1].replace(",", ""))


def ram(path):
    return int(re.search(r"RAM +([\d,]+) bytes", path.read_text())[1].replace(",", ""))


def test_the_comment_tells_the_memory(path, digits):
    model, x, _ = digits
    model.export_c(path)
    assert ram(path) == 4 * (64 + 32)  # the output holds the last values
    model.export_c(path, dtype="int8", calibration=x[:100])
    assert ram(path) == 4 * (64 + 32) + 64
    text = path.read_text()
    assert "malloc" not in text
    assert re.findall(r"#include (.*)", text) == ['"net.h"', "<math.h>", "<stdint.h>", "<stdio.h>"]
    assert text.index("<stdio.h>") > text.index("#ifdef NET_SELF_TEST")


def test_two_exports_are_equal(path, tmp_path, digits):
    model, x, _ = digits
    (tmp_path / "other").mkdir()
    for dtype in ("float32", "int8"):
        for target in (path, tmp_path / "other" / "net.c"):
            model.export_c(target, dtype=dtype, calibration=x[:100])
        assert path.read_bytes() == (tmp_path / "other" / "net.c").read_bytes()
        assert path.with_suffix(".h").read_bytes() == (tmp_path / "other" / "net.h").read_bytes()


def test_the_self_test_can_fail(path, everything):
    everything.export_c(path)
    text = path.read_text()
    changed, count = re.subn(r"(dense_weight\[54\] = \{\n +)", r"\g<1>9.0f + ", text)
    assert count == 1
    path.write_text(changed)
    result = self_test(path)
    assert result.returncode == 1
    path.write_text(text.replace("sum += weight[j] * x[j];", "sum = NAN * x[j];"))
    assert self_test(path).returncode == 1


def test_names_that_c_does_not_allow(tmp_path):
    stack = [layers.Dense(2, name="1/*ä*/"), layers.Dense(2, name="1___*_"), layers.Dense(1, name="int")]
    model = bp.Sequential(stack, input_size=6, seed=0)
    path = tmp_path / "2-müller net.c"
    model.export_c(path)
    assert (tmp_path / "2-müller net.h").exists()
    expected = model.predict(X)
    got = computed(path, X, 1, "net_2_m_ller_net_predict")
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert self_test(path, "NET_2_M_LLER_NET").returncode == 0


def test_a_network_that_changes_nothing(path):
    bp.Sequential([layers.Linear(), layers.Dropout(0.5)], input_size=6).export_c(path)
    np.testing.assert_array_equal(computed(path, X, 6), X)


def test_doubles_are_rounded(path):
    model = bp.Sequential([layers.Dense(4, activation="tanh")], input_size=6, dtype="float64", seed=0)
    model.export_c(path)
    np.testing.assert_allclose(computed(path, X, 4), model.predict(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("net.txt",), ValueError, r'path must end in ".c", got \'net.txt\''),
        (("net.c", "float16"), ValueError, "dtype must be one of 'float32', 'int8', got 'float16'"),
        (("net.c", "int8"), ValueError, "calibration must hold typical samples"),
        (("net.c", "int8", X[:, :2]), ValueError, "calibration has 2 columns"),
        (("net.c", "int8", X * np.nan), ValueError, "calibration"),
    ],
)
def test_arguments_that_are_wrong(tmp_path, monkeypatch, everything, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    path, *rest = arguments
    with pytest.raises(error, match=message):
        everything.export_c(path, **dict(zip(("dtype", "calibration"), rest, strict=False)))
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_exported(path):
    with pytest.raises(RuntimeError, match="the model has no weights yet"):
        bp.Sequential([layers.Dense(1)]).export_c(path)
    model = bp.Sequential([layers.Dense(1)], input_size=2)
    model.layers[0].weight[...] = np.inf
    with pytest.raises(ValueError, match="the model has weights that are not finite"):
        model.export_c(path)


@pytest.mark.skipif(ARM is None, reason="needs gcc-arm-none-eabi and libnewlib-arm-none-eabi of Debian")
def test_it_compiles_for_cortex_m(path, everything, digits):
    everything.export_c(path)
    compile_for_cortex_m(path)
    everything.export_c(path, dtype="int8", calibration=X)
    compile_for_cortex_m(path)
    model, x, _ = digits
    model.export_c(path, dtype="int8", calibration=x[:1400])
    for text, data, zeros in compile_for_cortex_m(path):
        assert flash(path) < text < flash(path) + 2000
        assert data == zeros == 0
