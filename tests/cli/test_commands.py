"""Commands: what they learn, predict, write and show."""

import os
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import fastbp as bp
from fastbp import machine
from fastbp.datasets import load_digits

TABLES = runpy.run_path(str(Path(__file__).with_name("tables.py")))
QUICK, read_columns = TABLES["QUICK"], TABLES["read_columns"]
write_flowers, write_prices = TABLES["write_flowers"], TABLES["write_prices"]


# ---- the digits ----


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_train_learns_the_digits(run, seed):
    code, out, err = run("train", "--seed", seed)
    assert (code, err) == (0, "")
    assert float(re.search(r"test +accuracy ([0-9.]+)", out)[1]) >= 0.97
    assert re.search(r"[0-9,]+ parameters", out)  # the network
    assert re.search(r"epoch +1/\d+ +loss [0-9.]+ +accuracy", out)
    assert re.search(r"[0-9,]+ samples per second", out)
    assert bp.config.config()["isa"] in (None, *re.findall(r"\((\w+),", out))
    assert re.search(r"\d+ threads?\)", out)
    assert "fastbp train table.csv --target" in out


def test_train_digits_and_save(run):
    assert run("train", "--epochs", 1, "--out", "digits.safetensors")[0] == 0
    model = bp.load("digits.safetensors")
    X, _ = load_digits()
    assert model.predict(X[:3] / 16).shape == (3, 10)


def test_same_seed_same_model(run):
    for name in ("a", "b"):
        assert run("train", "--epochs", 1, "--seed", 7, "--out", f"{name}.safetensors")[0] == 0
    a, b = bp.load("a.safetensors"), bp.load("b.safetensors")
    assert np.array_equal(a.parameters, b.parameters)


def test_options_reach_the_network(run):
    options = ["--layers", "20,10", "--activation", "tanh", "--dropout", "0.3", "--optimizer", "sgd"]
    more = ["--learning-rate", "0.05", "--dtype", "float64", "--epochs", "1", "--threads", "1"]
    code, out, _ = run("train", *options, *more, "--out", "m.safetensors")
    assert code == 0
    model = bp.load("m.safetensors")
    assert [type(layer).__name__ for layer in model.layers] == [
        "Dense",
        "Dropout",
        "Dense",
        "Dropout",
        "Dense",
    ]
    assert model.layers[0].weight.shape == (20, 64)
    assert model.dtype == "float64"
    assert type(model.optimizer).__name__ == "SGD"
    assert model.optimizer.learning_rate == 0.05
    assert "epoch 1/1" in out
    assert "epoch 2" not in out


def test_threads_are_restored(run):
    before = bp.get_num_threads()
    assert run("train", "--epochs", 1, "--threads", before + 1)[0] == 0
    assert bp.get_num_threads() == before


# ---- tables ----


def test_classify_a_table(run):
    code, out, err = run("train", write_flowers(), "--target", "species", "--out", "m.safetensors")
    assert (code, err) == (0, "")
    assert "classification, 'species' is text, 3 classes" in out
    assert "'constant': constant" in out
    accuracy, trivial = re.search(r"accuracy ([0-9.]+); always saying '\w+': ([0-9.]+)", out).groups()
    assert float(accuracy) > 0.95
    assert float(trivial) == pytest.approx(1 / 3, abs=0.05)

    code, out, err = run("predict", "m.safetensors", "flowers.csv", "--out", "p.csv", "--proba")
    assert (code, out, err) == (0, "", "")
    predicted, table = read_columns("p.csv"), read_columns("flowers.csv")
    assert list(predicted) == [
        "prediction",
        "probability of iris",
        "probability of lily",
        "probability of rose",
    ]
    right = [p == s for p, s in zip(predicted["prediction"], table["species"], strict=True)]
    assert np.mean(right) > 0.95
    proba = np.array([predicted[f"probability of {name}"] for name in ("iris", "lily", "rose")], dtype=float)
    assert np.allclose(proba.sum(axis=0), 1, atol=1e-5)
    names = np.array(["iris", "lily", "rose"])
    assert names[proba.argmax(axis=0)].tolist() == predicted["prediction"]


def test_regression_on_a_table(run):
    path = write_prices()
    code, out, err = run("train", path, "--target", "price", "--layers", "16", "--out", "m.safetensors")
    assert (code, err) == (0, "")
    assert "regression" in out
    rmse, trivial = re.search(r"RMSE ([0-9.e+]+), .* always saying the mean: RMSE ([0-9.e+]+)", out).groups()
    assert float(rmse) < 0.1 * float(trivial)
    assert float(trivial) > 50_000  # original units

    code, out, _ = run("predict", "m.safetensors", path)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "prediction"
    predicted = np.array(lines[1:], dtype=float)
    prices = np.array(read_columns(path)["price"], dtype=float)
    assert 1 - np.sum((predicted - prices) ** 2) / np.sum((prices - prices.mean()) ** 2) > 0.98


@pytest.mark.parametrize("loss", ["mean_squared_error", "mean_absolute_error", "huber"])
def test_losses(run, loss):
    assert run("train", write_prices(), "--target", "price", "--loss", loss, *QUICK)[0] == 0


def test_default_file_is_named_after_the_table(run, folder):
    (folder / "data").mkdir()
    path = write_flowers("data/my.flowers.csv")
    code, out, _ = run("train", path, "--target", "species", *QUICK)
    assert code == 0
    assert (folder / "my.flowers.safetensors").is_file()
    assert "my.flowers.safetensors" in out


def test_linear_model_and_no_held_out_rows(run):
    code, out, _ = run(
        "train", write_prices(), "--target", "price", "--layers", 0, "--epochs", 1, "--validation-split", 0
    )
    assert code == 0
    assert "200 for training, 0 held out" in out
    assert "RMSE" not in out


def test_task_may_be_forced(run, folder):
    (folder / "t.csv").write_text("a,y\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    assert "task       classification" in run("train", "t.csv", "--target", "y", *QUICK)[1]
    assert (
        "task       regression" in run("train", "t.csv", "--target", "y", "--task", "regression", *QUICK)[1]
    )


def test_rows_without_a_target_are_left_out(run, folder):
    lines = [f"{row},{'' if row % 4 == 0 else 'pq'[row % 2]}\n" for row in range(80)]
    (folder / "t.csv").write_text("a,y\n" + "".join(lines))
    code, out, _ = run("train", "t.csv", "--target", "y", *QUICK)
    assert code == 0
    assert "20 without a target left out" in out
    assert run("predict", "t.safetensors", "t.csv")[1].count("\n") == 81  # predicted all the same


def test_predict_from_another_kind_of_table(run, folder):
    """Other order, other delimiter, more columns, no target, gaps and unknown categories."""
    run("train", write_flowers(), "--target", "species", "--out", "m.safetensors")
    (folder / "new.tsv").write_text("colour\textra\twidth\tlength\nblue\tx\t10\t1\npurple\ty\tNA\t\n")
    code, out, err = run("predict", "m.safetensors", "new.tsv")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ["prediction", "iris"]
    assert out.splitlines()[2] in ("iris", "lily", "rose")


def test_delimiters_byte_order_mark_and_unicode(run, folder):
    text = "\ufeffgröße;farbe;ziel\n" + "".join(
        f"{row};{'rot' if row % 2 else 'grün'};{'äö'[row % 2]}\n" for row in range(60)
    )
    (folder / "ü.csv").write_text(text, encoding="utf-8")
    code, _, err = run("train", "ü.csv", "--target", "ziel", "--out", "m.safetensors", "--epochs", 20)
    assert (code, err) == (0, "")
    assert set(run("predict", "m.safetensors", "ü.csv")[1].split()) == {"prediction", "ä", "ö"}


# ---- info, version, help ----


def test_info(run):
    code, out, _ = run("info")
    assert code == 0
    assert bp.__version__ in out
    assert "threads" in out


def test_info_of_a_file(run):
    run("train", write_flowers(), "--target", "species", *QUICK, "--out", "m.safetensors")
    code, out, _ = run("info", "m.safetensors")
    assert code == 0
    assert "classification of 'species'" in out
    assert "iris, lily, rose" in out
    assert "length, width, colour" in out


# ---- bench ----


def test_bench(run, monkeypatch):
    monkeypatch.setattr(machine, "ROUNDS", 1000)
    monkeypatch.setattr(machine, "SWEEP_BYTES", 2**16)
    options = ["--nets", "tiny,tabular", "--threads", 2, "--seconds", 0.01, "--plot", "speed.svg"]
    code, out, err = run("bench", *options)
    assert (code, err) == (0, "")
    for name in ("tiny", "tabular"):
        assert re.search(rf"^{name} .* [0-9.]+x$", out, re.MULTILINE)
    native = bp.config.config()["backend"] == "native"
    found = re.findall(r"^(\d) threads? +(.*)$", out, re.MULTILINE)
    assert [count for count, _ in found] == (["1", "2"] if native else ["2"])
    assert all(("GFLOP/s in float32" in limits) == native for _, limits in found)
    assert os.path.getsize("speed.svg") > 1000
