"""Callbacks that write files: ModelCheckpoint and CSVLogger."""

import os
import runpy
from pathlib import Path

import pytest

import fastbp as bp
from fastbp.callbacks import CSVLogger, ModelCheckpoint

LINE = runpy.run_path(str(Path(__file__).with_name("line.py")))
X, Y, make, replay = LINE["X"], LINE["Y"], LINE["make"], LINE["replay"]


def test_model_checkpoint_fills_in_the_name(tmp_path, capsys):
    model = make()
    name = tmp_path / "{epoch:02d}-{val_loss:.3f}.safetensors"
    history = model.fit(
        X, Y, epochs=2, validation_data=(X, Y), callbacks=[ModelCheckpoint(name, verbose=1)]
    ).history
    expected = [f"{n + 1:02d}-{loss:.3f}.safetensors" for n, loss in enumerate(history["val_loss"])]
    assert sorted(os.listdir(tmp_path)) == expected
    assert (bp.load(tmp_path / expected[1]).parameters == model.parameters).all()
    assert capsys.readouterr().out.count("saved") == 2


def test_model_checkpoint_keeps_the_best(tmp_path):
    path, model = tmp_path / "best", make()
    save = ModelCheckpoint(path, "val_loss", save_best_only=True, save_weights_only=True)
    replay(save, [3, 1, 2], model=model)
    assert bp.load(path).layers[0].weight == 1
    assert save.best == 1
    path.unlink()
    replay(ModelCheckpoint(path, "val_loss", save_best_only=True, initial_value_threshold=0.5), [3, 1])
    assert not path.exists()


def test_model_checkpoint_after_batches(tmp_path):
    model = make()
    save = ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=2)
    model.fit(X, Y, epochs=2, batch_size=1, callbacks=[save])
    assert sorted(os.listdir(tmp_path)) == ["1-2", "2-1", "2-3"]
    assert bp.load(tmp_path / "2-1")._require_network().counters[0] == 4


@pytest.mark.parametrize("name", ["{val_los}", "{epoch:z}", "{", "{0}"])
def test_a_name_that_cannot_be_filled_in_is_an_error_before_the_training(name):
    model = make()
    with pytest.raises(ValueError, match="cannot be filled in with epoch, batch, loss"):
        model.fit(X, Y, callbacks=[ModelCheckpoint(name)])
    assert model.history.epoch == []


def test_a_folder_that_does_not_exist_surfaces_and_training_can_go_on(tmp_path):
    model, plain = make(), make()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        model.fit(X, Y, epochs=2, callbacks=[ModelCheckpoint(tmp_path / "missing" / "x")])
    model.fit(X, Y, epochs=2, initial_epoch=1)
    plain.fit(X, Y, epochs=2)
    assert (model.parameters == plain.parameters).all()


def test_csv_logger(tmp_path):
    path, model = tmp_path / "log.csv", make()
    history = model.fit(X, Y, epochs=2, callbacks=[CSVLogger(path)]).history
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert rows[0] == ["epoch", "loss"]
    assert [(int(epoch), float(loss)) for epoch, loss in rows[1:]] == list(enumerate(history["loss"]))
    model.fit(X, Y, epochs=3, initial_epoch=2, callbacks=[CSVLogger(path, append=True)])
    assert len(path.read_text().splitlines()) == 4
    model.fit(X, Y, callbacks=[CSVLogger(path, separator=";")])
    assert path.read_text().startswith("epoch;loss\n0;") and len(path.read_text().splitlines()) == 2
    with pytest.raises(ValueError, match="separator must be one character"):
        CSVLogger(path, separator=", ")
