"""Going on after an interruption: the same bits as without one, whatever becomes of process and disk."""

import errno
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import fastbp as bp
from fastbp import model_file, optimizers
from fastbp.callbacks import BackupAndRestore, Callback, EarlyStopping, LambdaCallback, ReduceLROnPlateau
from fastbp.layers import Dense, Dropout

HERE = Path(__file__).parent
RNG = np.random.default_rng(0)
X = RNG.normal(size=(45, 3))
LABELS = RNG.integers(0, 3, 45)


def kinds(base=optimizers.Optimizer):
    for kind in base.__subclasses__():
        if kind.key and kind.kind and kind.__module__.startswith("fastbp."):
            yield kind
        yield from kinds(kind)


OPTIMIZERS = [
    *(kind(learning_rate=1e-2) for kind in kinds()),
    optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    optimizers.RMSprop(0.001, momentum=0.9, centered=True),
    optimizers.Adam(bp.schedules.CosineDecay(0.01, decay_steps=20), global_clipnorm=0.1),
    optimizers.SGD(0.1, gradient_accumulation_steps=3, use_ema=True, ema_momentum=0.9),
]


class Killed(Exception):
    """What a test raises in place of a kill."""


class KillAt(Callback):
    """Fails at a batch, or between the epochs without one."""

    def __init__(self, epoch, batch=None):
        self.when = epoch, batch

    def on_epoch_begin(self, epoch):
        self.epoch = epoch
        if self.when == (epoch, None):
            raise Killed

    def on_train_batch_end(self, batch, logs):
        if self.when == (self.epoch, batch):
            raise Killed


def make(optimizer="adam", **arguments):
    layers = [Dense(9, activation="relu"), Dropout(0.3), Dense(3, activation="softmax")]
    arguments = {"metrics": ["accuracy", "log_loss"], "seed": 0} | arguments
    return bp.Sequential(layers, "cross_entropy", optimizer, **arguments)


def fit(model, *callbacks, **arguments):
    arguments = {"epochs": 5, "batch_size": 7} | arguments
    return model.fit(X, LABELS, callbacks=callbacks, **arguments)


def assert_same(model, other):
    mine, its = model._require_network(), other._require_network()
    assert (mine.counters == its.counters).all()
    tensors = its.tensors(optimizer=True)
    for name, values in mine.tensors(optimizer=True).items():  # what lies between them may differ
        assert (values == tensors[name]).all(), name
    assert model.history.history == other.history.history
    assert model.history.epoch == other.history.epoch
    assert model._rng.bit_generator.state == other._rng.bit_generator.state
    assert repr(model.optimizer) == repr(other.optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize(("save_freq", "kill"), [("epoch", (3,)), (2, (2, 4)), (3, (0, 1))])
def test_the_bits_are_those_without_an_interruption(path, optimizer, save_freq, kill):
    config = optimizer.config()
    plain, killed, resumed = (make(config) for _ in range(3))
    fit(plain)
    with pytest.raises(Killed):
        fit(killed, BackupAndRestore(path, save_freq), KillAt(*kill))
    begun = []
    fit(resumed, BackupAndRestore(path, save_freq), LambdaCallback(on_epoch_begin=begun.append))
    assert begun == list(range(kill[0], 5))
    assert_same(resumed, plain)
    assert not path.exists()


@pytest.mark.parametrize("arguments", [{"seed": None}, {"dtype": "float64"}, {"metrics": []}])
def test_a_model_with_other_values_goes_on_as_well(path, arguments):
    """Everything comes from the file, the seed too."""
    killed, resumed = make(**arguments), make(**arguments)
    fit(resumed, epochs=1)  # other weights, other random numbers
    backup = BackupAndRestore(path, save_freq=2, delete_checkpoint=False)
    with pytest.raises(Killed):
        fit(killed, backup, KillAt(2, 3))
    copy = path.read_bytes()
    fit(resumed, backup)
    path.write_bytes(copy)
    again = make(**arguments)
    fit(again, BackupAndRestore(path, save_freq=2))
    assert_same(again, resumed)


def test_often_interrupted(path):
    plain = make()
    fit(plain)
    for place in [(0, 2), (0, 4), (1, None), (1, 3), (3, 1), (4, 5)]:
        with pytest.raises(Killed):
            fit(make(), BackupAndRestore(path, save_freq=1), KillAt(*place))
    resumed = make()
    fit(resumed, BackupAndRestore(path, save_freq=1))
    assert_same(resumed, plain)


def test_checkpoints_change_no_bit(path):
    plain, model = make(), make()
    fit(plain, validation_split=0.2)
    fit(model, BackupAndRestore(path, save_freq=2), validation_split=0.2)
    assert_same(model, plain)


def test_other_callbacks_go_on(path):
    """A patience that is running, the best weights, and a rate that was lowered belong to the state."""

    def callbacks():
        return (
            EarlyStopping("val_loss", patience=3, restore_best_weights=True),
            ReduceLROnPlateau("loss", patience=1, min_delta=1.0, factor=0.5),
        )

    plain, resumed = make(), make()
    arguments = {"epochs": 30, "validation_split": 0.4}
    fit(plain, *callbacks(), **arguments)
    stopped = plain.history.epoch[-1]
    assert 4 < stopped < 29
    for epoch in (stopped - 1, stopped):
        with pytest.raises(Killed):
            fit(make(), *callbacks(), BackupAndRestore(path), KillAt(epoch), **arguments)
    ending = [*callbacks(), BackupAndRestore(path), LambdaCallback(on_train_end=fail)]
    with pytest.raises(Killed):
        fit(make(), *ending, **arguments)
    ran = []
    fit(resumed, *callbacks(), BackupAndRestore(path), LambdaCallback(ran.append), **arguments)
    assert ran == []  # it was stopped before it was killed
    assert_same(resumed, plain)


def fail(*arguments):
    raise Killed


def test_more_epochs_may_follow(path):
    plain, model = make(), make()
    fit(plain, epochs=6)
    fit(model, BackupAndRestore(path, delete_checkpoint=False), epochs=2)
    fit(model, BackupAndRestore(path), epochs=6)
    assert_same(model, plain)


def test_the_checkpoint_is_a_model(path):
    model = make()
    fit(model, BackupAndRestore(path, delete_checkpoint=False))
    loaded = bp.load(path)
    assert (loaded.predict(X) == model.predict(X)).all()
    assert fit(loaded).history == fit(model).history


def test_history_may_hold_nan(path):
    def unknown(y_true, y_pred, sample_weight=None):
        return float("nan")

    model, resumed = make(metrics=[unknown]), make(metrics=[unknown])
    with pytest.raises(Killed):
        fit(model, BackupAndRestore(path), KillAt(2))
    fit(resumed, BackupAndRestore(path))
    assert len(resumed.history.history["unknown"]) == 5 and np.isnan(resumed.history.history["unknown"]).all()


@pytest.mark.parametrize(
    ("arguments", "fit_arguments", "message"),
    [
        ({}, {"batch_size": 8}, "batch_size was 7, and is 8 here"),
        ({}, {"shuffle": False}, "shuffle was True, and is False here"),
        ({}, {"validation_split": 0.2}, "samples was 45, and is 36 here"),
        ({"optimizer": "sgd"}, {}, "optimizer was {'class': 'Adam'"),
        ({"dtype": "float64"}, {}, "dtype was 'float32', and is 'float64' here"),
        ({"optimizer": optimizers.Adam(beta_1=0.8)}, {}, "optimizer was"),
    ],
)
def test_another_training_does_not_go_on(path, arguments, fit_arguments, message):
    with pytest.raises(Killed):
        fit(make(), BackupAndRestore(path), KillAt(2))
    before, model = path.read_bytes(), make(input_size=3, **arguments)
    weights = model.parameters.copy()
    with pytest.raises(ValueError, match=f"no checkpoint of this training: {message}") as caught:
        fit(model, BackupAndRestore(path), **fit_arguments)
    assert "delete it or give another path" in str(caught.value)
    assert path.read_bytes() == before
    assert (model.parameters == weights).all()


def test_what_is_no_checkpoint_is_not_touched(path):
    make(input_size=3).save(path)
    with pytest.raises(ValueError, match="it holds a model, but no training to go on with"):
        fit(make(), BackupAndRestore(path))
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="is no model file of fastbp"):
        fit(make(), BackupAndRestore(path))
    assert path.read_bytes() == b"something else"


def test_a_damaged_checkpoint_is_an_error(path):
    with pytest.raises(Killed):
        fit(make(), BackupAndRestore(path), KillAt(2))
    tensors, description = model_file.read(path)
    del description["training"]["sums"]
    model_file.write(path, tensors, description)
    with pytest.raises(ValueError, match="the checkpoint is damaged: KeyError"):
        fit(make(), BackupAndRestore(path))


def test_arguments():
    with pytest.raises(ValueError, match="save_freq must be a positive int, got 0"):
        BackupAndRestore("x", save_freq=0)
    with pytest.raises(TypeError, match="save_freq must be a positive int, got 'batch'"):
        BackupAndRestore("x", save_freq="batch")
    with pytest.raises(ValueError, match="one BackupAndRestore is enough"):
        fit(make(), BackupAndRestore("x"), BackupAndRestore("y"))


def test_a_diverged_training_keeps_its_last_good_checkpoint(path):
    model = make(optimizers.SGD(0.1), metrics=[])

    def explode(epoch):
        model.optimizer.learning_rate = 1e38 if epoch == 3 else 0.1

    with pytest.warns(RuntimeWarning, match="training diverged in epoch"):
        fit(model, BackupAndRestore(path), LambdaCallback(on_epoch_begin=explode))
    assert np.isfinite(bp.load(path).parameters).all()
    assert model_file.read(path)[1]["training"]["epoch"] >= 3


# ---- processes that are killed ----


def test_killed_at_any_moment(tmp_path):
    """FASTBP_TEST_KILLS says how often; the script looks at what is left each time, and at the end."""
    command = [sys.executable, HERE / "kill_training.py", os.environ.get("FASTBP_TEST_KILLS", "10")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ kills, checkpoints at \d+ different places", done.stdout)


def test_leftovers_of_killed_writers_go(path):
    leftover, other = (
        Path(f"{model_file._temporary(str(p))}00.tmp") for p in (path, path.with_name("other"))
    )
    leftover.write_bytes(b"half")
    other.write_bytes(b"half")
    fit(make(), BackupAndRestore(path))
    assert not leftover.exists() and other.exists()


# ---- disks that are full or read-only ----


def own_file_systems():
    """How to give a process a small file system of its own, where that is possible."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"]).returncode != 0:
        return []
    return ['mount -t tmpfs -o size=256k tmpfs "$1" && exec "$0" "$2" "$1"']


@pytest.mark.parametrize("mount", own_file_systems())
def test_a_disk_that_fills_up_and_one_that_is_read_only(tmp_path, mount):
    script = str(HERE / "full_disk.py")
    command = ["unshare", "-Urm", "sh", "-c", mount, sys.executable, str(tmp_path), script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("device", [Path("/dev/full")] if os.path.exists("/dev/full") else [])
def test_no_space_for_a_checkpoint(path, monkeypatch, device):
    """The kernel itself says that there is no space: the temporary file is /dev/full."""
    plain, model = make(), make()
    fit(plain)
    kept = []

    def open_full(name, mode):
        Path(name).touch()
        return device.open("wb")

    def fill(epoch):
        kept.append(path.read_bytes())
        if epoch == 2:
            monkeypatch.setattr(model_file, "open", open_full, raising=False)

    with pytest.warns(RuntimeWarning, match="no checkpoint after epoch 3: .*No space left on device"):
        fit(model, BackupAndRestore(path, delete_checkpoint=False), LambdaCallback(on_epoch_begin=fill))
    assert_same(model, plain)
    assert kept[0] != kept[1] != kept[2] == kept[3] == path.read_bytes()
    with pytest.raises(OSError, match="the model cannot be saved: No space left on device") as caught:
        model.save(path)
    assert caught.value.errno == errno.ENOSPC
    path.unlink()
    trained = model.parameters.copy()
    with pytest.raises(OSError, match="No space left on device"):  # the first checkpoint: nothing is trained
        fit(model, BackupAndRestore(path))
    assert (model.parameters == trained).all()
    monkeypatch.undo()
    fit(model)


def test_a_folder_that_does_not_exist_is_an_error_before_the_training(tmp_path):
    model = make(input_size=3)
    before = model.parameters.copy()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(model, BackupAndRestore(tmp_path / "missing" / "run.safetensors"))
    assert (model.parameters == before).all()


def test_saving_is_silent_where_it_works(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(make(), BackupAndRestore(path, save_freq=1))


def test_the_file_is_plain_safetensors(path):
    with pytest.raises(Killed):
        fit(make(), BackupAndRestore(path, save_freq=2), KillAt(1, 4))
    tensors = safetensors.numpy.load_file(path)
    assert tensors[".outputs"].shape == (28, 3)
    assert tensors[".history.loss"].shape == (1,)
    assert tensors["optimizer.m.dense.weight"].shape == (9, 3)


def test_optimizers_that_run_the_network_themselves_go_on(path):
    def model():
        return bp.Sequential([Dense(5, "tanh"), Dense(1)], "mse", optimizers.LBFGS(max_iter=3), seed=0)

    Y = X[:, 0] * X[:, 1]
    plain, killed, resumed = model(), model(), model()
    plain.fit(X, Y, epochs=6)
    with pytest.raises(Killed):
        killed.fit(X, Y, epochs=6, callbacks=[BackupAndRestore(path, save_freq=1), KillAt(3)])
    resumed.fit(X, Y, epochs=6, callbacks=[BackupAndRestore(path, save_freq=1)])
    assert_same(resumed, plain)


# ---- other sources of data ----


def chunks():
    yield X[:20], LABELS[:20]
    yield X[20:], LABELS[20:]


@pytest.mark.parametrize("batch_size", [7, None])
def test_functions_of_chunks_go_on_between_epochs(path, batch_size):
    plain, killed, resumed = make(), make(), make()
    arguments = {"epochs": 5, "batch_size": batch_size}
    plain.fit(chunks, **arguments)
    with pytest.raises(Killed):
        killed.fit(chunks, callbacks=[BackupAndRestore(path), KillAt(3, 1)], **arguments)
    resumed.fit(chunks, callbacks=[BackupAndRestore(path)], **arguments)
    assert_same(resumed, plain)


def test_sources_that_cannot_begin_anew_are_named(path):
    for source, arguments in [(iter([*chunks()]), {}), (chunks, {"steps_per_epoch": 1})]:
        with pytest.raises(ValueError, match="BackupAndRestore needs data that begin anew with each epoch"):
            make().fit(source, callbacks=[BackupAndRestore(path)], **arguments)
    with pytest.raises(ValueError, match=r"BackupAndRestore\(save_freq=2\) needs arrays"):
        make().fit(chunks, callbacks=[BackupAndRestore(path, save_freq=2)])


def test_memory_mapped_files_go_on_within_an_epoch(path, tmp_path):
    np.save(tmp_path / "X.npy", X.astype("float32"))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    plain, killed, resumed = make(), make(), make()
    plain.fit(X.astype("float32"), LABELS, epochs=3, batch_size=7)
    with pytest.raises(Killed):
        killed.fit(
            mapped, LABELS, epochs=3, batch_size=7, callbacks=[BackupAndRestore(path, 2), KillAt(1, 3)]
        )
    resumed.fit(mapped, LABELS, epochs=3, batch_size=7, callbacks=[BackupAndRestore(path, 2)])
    assert_same(resumed, plain)
