"""The command line: version, help, and errors, each a line that says what was wrong."""

import os
import re
import runpy
import tempfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import fastbp as bp

TABLES = runpy.run_path(str(Path(__file__).with_name("tables.py")))
QUICK, read_columns = TABLES["QUICK"], TABLES["read_columns"]
write_flowers, write_prices = TABLES["write_flowers"], TABLES["write_prices"]


def test_version_and_help(run):
    assert run("--version") == (0, f"fastbp {bp.__version__}\n", "")
    for arguments in (["--help"], ["train", "--help"], ["predict", "-h"], ["info", "-h"]):
        code, out, _ = run(*arguments)
        assert code == 0
        assert out.startswith("usage: fastbp")


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
