import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastbp as bp
from fastbp import machine
from fastbp.cli import main
from fastbp.datasets import load_digits

QUICK = ["--epochs", "2", "--layers", "4"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def start(*arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "fastbp", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def write_flowers(path="flowers.csv", rows=120, delimiter=","):
    """Classes that two numbers and a colour tell apart."""
    rng = np.random.default_rng(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["length", "width", "colour", "constant", "species"])
        for row in range(rows):
            kind = row % 3
            length, width = rng.normal(kind, 0.2), rng.normal(10 * kind, 2)
            colour = ["white", "blue", ""][kind] if rng.random() < 0.9 else "white"
            writer.writerow([f"{length:.3f}", f"{width:.2f}", colour, 1, ["rose", "iris", "lily"][kind]])
    return path


def write_prices(path="prices.csv", rows=200):
    rng = np.random.default_rng(1)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "town", "price"])
        for _ in range(rows):
            size, town = rng.uniform(20, 200), rng.integers(2)
            writer.writerow([f"{size:.1f}", ["Ulm", "Bonn"][town], f"{3000 * size + 50_000 * town:.0f}"])
    return path


def read_columns(path) -> dict[str, list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True))


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


def test_version_and_help(run):
    assert run("--version") == (0, f"fastbp {bp.__version__}\n", "")
    for arguments in (["--help"], ["train", "--help"], ["predict", "-h"], ["info", "-h"]):
        code, out, _ = run(*arguments)
        assert code == 0
        assert out.startswith("usage: fastbp")


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


# ---- errors ----


def assert_refused(result: tuple[int, str, str], *messages: str) -> None:
    code, _, err = result
    assert code == 2
    assert err.startswith("fastbp: ")
    assert err.count("\n") == 1
    for message in messages:
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--target", "y"], "--target needs a table"),
        (["train", "t.csv"], "--target NAME is needed"),
        (["train", "--layers", "12,x"], "argument --layers: expected a whole number from 1, not 'x'"),
        (["train", "--layers", "-4"], "--layers"),
        (["train", "--epochs", "0"], "argument --epochs: expected a whole number from 1"),
        (["train", "--batch-size", "many"], "argument --batch-size"),
        (["train", "--learning-rate", "nan"], "argument --learning-rate: expected a number above 0"),
        (["train", "--learning-rate", "inf"], "argument --learning-rate"),
        (["train", "--dropout", "1"], "argument --dropout: expected a number from 0 to below 1"),
        (["train", "--validation-split", "1.5"], "argument --validation-split"),
        (["train", "--seed", "-1"], "argument --seed"),
        (["train", "--dtype", "float16"], "argument --dtype: invalid choice"),
        (["train", "--optimizer", "newton"], "argument --optimizer: invalid choice"),
        (["train", "--activation", "zigzag"], "zigzag"),
        (["train", "--loss", "huber"], "--loss for classification must be cross_entropy, not huber"),
        (["train", "--delimiter", "ab"], "argument --delimiter: expected one character"),
        (["train", "--threads", "0"], "argument --threads"),
        (["train", "--unknown"], "--unknown"),
        (["predict", "m.safetensors"], "arguments are required: table"),
        (["bench", "--nets", "tiny,huge"], "--nets: 'huge' is not one of tiny, tabular"),
        (["bench", "--threads", "0"], "argument --threads"),
        (["bench", "--seconds", "0"], "argument --seconds"),
        (["bench", "--plot", "nowhere/speed.png"], "--plot nowhere/speed.png: cannot write"),
        (["bench", "--plot", "speed.xyz"], "--plot speed.xyz: the name must end in one of"),
    ],
)
def test_bad_arguments(run, arguments, message):
    assert_refused(run(*arguments), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"a,y\n", "a header, but no rows"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not"),
        (b"\x00\x01\x02\x03\n" * 30, "binary"),
        (b"a,y\n1,p\n2\n3,q\n", "line 3 has 1 field, the header has 2"),
        (b"a,y\n\xe9,p\n", "not UTF-8"),
        (b"a,z\n1,p\n2,q\n", "no column 'y'; its columns are 'a', 'z'"),
        (b"a,Y\n1,p\n2,q\n", "did you mean 'Y'?"),
        (b"a,y\n1,\n2,NA\n", "every value of the target 'y' is missing"),
        (b"a,y\n1,p\n2,q\n", "2 rows with a target; training needs 10 at least"),
        (b"a,y\n" + b"1,p\n2,p\n" * 20, "single class, 'p'"),
        (b"a,y\n" + b"1,p\n1,q\n" * 20, "no column to learn from: 'a' is constant"),
        (b"y\n" + b"p\nq\n" * 20, "no column to learn from"),
        (b"a,y\n" + b"1,p\n,q\n" * 20 + b"inf,p\n", "column 'a', row 41: an infinite number"),
        (b'a,y\n"1,p\n2,q\n', "unexpected end of data"),
        (b"a;y\n" + b"".join(b"%d;id%d\n" % (row, row) for row in range(30)), "30 classes in 30 rows"),
    ],
)
def test_bad_tables(run, folder, content, message):
    (folder / "t.csv").write_bytes(content)
    assert_refused(run("train", "t.csv", "--target", "y"), "t.csv", message)
    assert not (folder / "t.safetensors").exists()


def test_no_such_file_and_folders(run, folder):
    assert_refused(run("train", "nowhere.csv", "--target", "y"), "nowhere.csv: No such file")
    assert_refused(run("train", folder, "--target", "y"), str(folder))
    assert_refused(run("predict", "nowhere.safetensors", "t.csv"), "nowhere.safetensors")
    assert_refused(run("info", "nowhere.safetensors"), "nowhere.safetensors")
    assert_refused(run("info", folder), str(folder))


def test_out_is_checked_before_training(run, folder, monkeypatch):
    def no_training(*args, **kwargs):
        raise AssertionError("trained before --out was checked")

    monkeypatch.setattr(bp.Sequential, "fit", no_training)
    path = write_flowers()
    before = (folder / path).read_bytes()
    train = ["train", path, "--target", "species", "--out"]
    assert_refused(run(*train, "nowhere/m.safetensors"), "--out", "nowhere")
    assert_refused(run(*train, folder), "not a regular file")
    assert_refused(run(*train, path), "--out flowers.csv: this is an input")
    assert_refused(run(*train, f"{path}/m.safetensors"), "--out")
    assert_refused(run("train", "--out", "nowhere/m.safetensors"), "--out", "nowhere")
    assert (folder / path).read_bytes() == before


def test_read_only_folder(run, monkeypatch):
    def refuse(**where):  # root may write anywhere, so permissions would show nothing
        raise PermissionError(13, "Permission denied", str(where["dir"]))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert_refused(
        run("train", "--out", "m.safetensors"), "--out m.safetensors: cannot write", "Permission denied"
    )


def test_a_model_that_cannot_be_saved_is_saved_elsewhere(run, folder, monkeypatch):
    save = bp.Sequential.save

    def full_disk(self, path, *args, **kwargs):
        if str(path) == "m.safetensors":
            raise OSError(28, "No space left on device", str(path))
        save(self, path, *args, **kwargs)

    monkeypatch.setattr(bp.Sequential, "save", full_disk)
    result = run("train", write_flowers(), "--target", "species", *QUICK, "--out", "m.safetensors")
    assert_refused(result, "No space left on device", "the model is in")
    rescue = re.search(r"the model is in (.*) instead", result[2])[1]
    assert bp.load(rescue).metadata["table"]["target"]["name"] == "species"
    os.remove(rescue)
    os.rmdir(os.path.dirname(rescue))


def test_divergence_is_an_error(run, folder):
    options = ["--learning-rate", "1e30", "--optimizer", "sgd", "--epochs", "3"]
    assert_refused(run("train", write_prices(), "--target", "price", *options), "training diverged")
    assert not (folder / "prices.safetensors").exists()


def test_predict_refuses(run, folder):
    path = write_flowers()
    run("train", path, "--target", "species", *QUICK, "--out", "m.safetensors")
    run("train", write_prices(), "--target", "price", *QUICK, "--out", "price.safetensors")
    run("train", "--epochs", 1, "--out", "digits.safetensors")
    (folder / "less.csv").write_text("length,species\n1,rose\n")
    (folder / "text.csv").write_text("length,width,colour\n1,2,blue\nlong,2,blue\n")
    (folder / "huge.csv").write_text("length,width,colour\n1,1e300,blue\n")
    whole = (folder / "m.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.safetensors").write_bytes(b"")

    assert_refused(run("predict", "m.safetensors", "less.csv"), "less.csv", "'width', 'colour'")
    assert_refused(
        run("predict", "m.safetensors", "text.csv"), "column 'length', row 2: 'long' is not a number"
    )
    assert_refused(run("predict", "m.safetensors", "huge.csv"), "column 'width', row 1", "out of range")
    assert_refused(run("predict", "m.safetensors", "nowhere.csv"), "nowhere.csv: No such file")
    assert_refused(run("predict", path, path), path)
    assert_refused(run("predict", "cut.safetensors", path), "cut.safetensors")
    assert_refused(run("predict", "empty.safetensors", path), "empty.safetensors")
    assert_refused(run("predict", "digits.safetensors", path), "digits.safetensors", "without a table")
    assert_refused(
        run("predict", "price.safetensors", "prices.csv", "--proba"), "--proba is for classification"
    )
    assert_refused(run("predict", "m.safetensors", path, "--out", "no/p.csv"), "--out")
    assert_refused(run("predict", "m.safetensors", path, "--out", path), "this is an input")
    assert_refused(run("predict", "m.safetensors", path, "--out", "m.safetensors"), "this is an input")
    assert_refused(run("info", path), path)
    assert (folder / "m.safetensors").read_bytes() == whole


def test_a_file_that_others_wrote(run):
    save_file({"weight": np.zeros(3)}, "other.safetensors")
    assert_refused(run("info", "other.safetensors"), "other.safetensors")
    assert_refused(run("predict", "other.safetensors", write_flowers()), "other.safetensors")


def test_preprocessing_that_does_not_fit_the_network(run):
    run("train", write_flowers(), "--target", "species", *QUICK, "--out", "m.safetensors")
    model = bp.load("m.safetensors")
    table = model.metadata["table"]
    table["target"]["classes"].pop()
    model.save("m.safetensors", metadata={"table": table})
    assert_refused(run("predict", "m.safetensors", "flowers.csv"), "does not fit its network")
    model.save("m.safetensors", metadata={"table": "?"})
    assert_refused(
        run("predict", "m.safetensors", "flowers.csv"), "preprocessing in the model file is damaged"
    )


# ---- as a process ----


def test_module_and_exit_codes():
    process = start("--version")
    assert process.communicate() == (f"fastbp {bp.__version__}\n", "")
    assert process.returncode == 0
    process = start("train", "nowhere.csv", "--target", "y")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("fastbp: nowhere.csv")
    assert "Traceback" not in err


def test_train_as_a_process():
    process = start("train", "--epochs", 3)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.count("\nepoch ") == 3
    assert "\r" not in out


def test_a_stream_that_knows_only_ascii(folder):
    (folder / "t.csv").write_text(
        "größe,y\n" + "".join(f"{row},{'äö'[row % 2]}\n" for row in range(60)), "utf-8"
    )
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    out, err = start("train", "t.csv", "--target", "y", *QUICK, env=ascii_only).communicate()
    assert "saved      t.safetensors" in out
    assert err == ""
    process = start("predict", "t.safetensors", "t.csv", env=ascii_only)
    assert process.communicate()[1].startswith("fastbp: standard output (ascii) cannot show all classes")
    assert process.returncode == 2
    process = start("predict", "t.safetensors", "t.csv", "--out", "p.csv", env=ascii_only)
    assert process.communicate() == ("", "")
    assert set(read_columns("p.csv")["prediction"]) <= {"ä", "ö"}


def test_reader_of_predictions_may_leave(folder):
    rows = 20_000
    (folder / "t.csv").write_text("a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(rows)))
    assert main(["train", "t.csv", "--target", "y", "--epochs", "1", "--layers", "2"]) == 0
    process = start("predict", "t.safetensors", "t.csv")
    assert process.stdout.readline() == "prediction\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_reader_of_training_may_leave_and_the_model_is_saved(folder):
    process = start("train", write_flowers(), "--target", "species", "--out", "m.safetensors")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
    assert bp.load("m.safetensors").metadata["table"]["target"]["name"] == "species"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c(folder):
    process = start("train", write_flowers(rows=3000), "--target", "species", "--epochs", 1_000_000)
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - begin < 10
    assert (process.returncode, err) == (130, "fastbp: interrupted\n")
    assert not list(folder.glob("*.safetensors*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_a_bar(folder):
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "fastbp", "train", "--epochs", "2"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other side has closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    assert b"epoch 2/2: 100%" in shown
    assert b"test       accuracy" in shown
