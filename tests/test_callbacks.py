"""Callbacks: which hooks run when, what they may do, and what happens when they fail."""

import math
import os

import pytest

import fastbp as bp
from fastbp.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from fastbp.layers import Dense

NAN = math.nan

X, Y = [[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]


def make():
    return bp.Sequential([Dense(1)], loss="mean_squared_error", optimizer="sgd", seed=0)


class Recorder(Callback):
    def __init__(self, name, events):
        self.name, self.events = name, events

    def on_train_begin(self):
        self.events.append((self.name, "train begins", self.model.stop_training))

    def on_train_end(self):
        self.events.append((self.name, "train ends"))

    def on_epoch_begin(self, epoch):
        self.events.append((self.name, "begins", epoch))

    def on_epoch_end(self, epoch, logs):
        self.events.append((self.name, "ends", epoch, list(logs)))


def test_hooks_run_in_the_order_of_the_list():
    events = []
    make().fit(X, Y, epochs=2, callbacks=[Recorder("a", events), Recorder("b", events)])
    expected = [[(n, "train begins", False) for n in "ab"]]
    for epoch in range(2):
        expected.append([(n, "begins", epoch) for n in "ab"])
        expected.append([(n, "ends", epoch, ["loss"]) for n in "ab"])
    expected.append([(n, "train ends") for n in "ab"])
    assert events == [event for group in expected for event in group]


def test_hooks_see_what_the_history_gets():
    seen = []
    model = make()
    callback = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, dict(logs))))
    history = model.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=(callback,))
    assert [epoch for epoch, _ in seen] == history.epoch
    for name in ("loss", "val_loss"):
        assert [logs[name] for _, logs in seen] == history.history[name]


def test_the_history_holds_the_epoch_when_its_hook_runs():
    model = make()
    lengths = []
    callback = LambdaCallback(on_epoch_end=lambda *_: lengths.append(len(model.history.epoch)))
    model.fit(X, Y, epochs=2, callbacks=[callback])
    assert lengths == [1, 2]


def test_stop_training_ends_it_after_the_epoch():
    class Stop(Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.stop_training = epoch == 1

    model, events = make(), []
    model.fit(X, Y, epochs=10, callbacks=[Stop(), Recorder("a", events)])
    assert model.history.epoch == [0, 1]
    assert events[-1] == ("a", "train ends")
    model.fit(X, Y, epochs=2)  # the wish does not outlive its training
    assert model.history.epoch == [0, 1]


def test_hooks_may_change_the_model():
    class Schedule(Callback):
        def on_epoch_begin(self, epoch):
            self.model.optimizer.learning_rate = 0.0 if epoch else 0.1

    class Reset(Callback):
        def on_epoch_begin(self, epoch):
            self.model.layers[0].weight[...] = 0.5
            self.model.layers[0].bias[...] = 0

    model = make()
    model.fit(X, Y, epochs=3, callbacks=[Schedule()])
    first, second, third = model.history.history["loss"]
    assert first != second == third
    losses = model.fit(X, Y, epochs=2, callbacks=[Reset()]).history["loss"]
    assert losses[0] == losses[1] == pytest.approx((0.5**2 + 1**2) / 3)


def test_hooks_may_use_the_model():
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.predict(X)
            self.model.forward(X)
            seen.append(self.model.evaluate(X, Y)["loss"])

    watched, plain = make(), make()
    watched.fit(X, Y, epochs=3, callbacks=[Watch()])
    plain.fit(X, Y, epochs=3)
    assert (watched.parameters == plain.parameters).all()
    assert seen[-1] == plain.evaluate(X, Y)["loss"]


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
def test_errors_surface_and_the_model_stays_usable(hook):
    def fail(*arguments):
        raise ZeroDivisionError("in a hook")

    model = make()
    with pytest.raises(ZeroDivisionError, match="in a hook"):
        model.fit(X, Y, epochs=2, callbacks=[LambdaCallback(**{hook: fail})])
    assert len(model.history.epoch) == {"on_epoch_end": 1, "on_train_end": 2}.get(hook, 0)
    assert len(model.fit(X, Y, epochs=2).epoch) == 2


def test_without_an_epoch_the_training_begins_and_ends():
    events = []
    make().fit(X, Y, epochs=0, callbacks=[Recorder("a", events)])
    assert events == [("a", "train begins", False), ("a", "train ends")]


def test_a_lambda_callback_takes_functions():
    with pytest.raises(TypeError, match="on_train_begin: expected a function, got 3"):
        LambdaCallback(on_train_begin=3)
    LambdaCallback()


def test_a_lambda_callback_may_take_the_logs_that_keras_passes():
    seen = []
    callback = LambdaCallback(
        on_train_begin=lambda logs: seen.append(logs),
        on_epoch_begin=lambda epoch, logs: seen.append((epoch, logs)),
        on_epoch_end=lambda epoch, logs: seen.append(list(logs)),
    )
    make().fit(X, Y, callbacks=[callback])
    assert seen == [{}, (0, {}), ["loss"]]


def test_params_tell_what_will_happen():
    seen = []
    model = bp.Sequential([Dense(1)], loss="mse", metrics=["mae"], seed=0)

    class Look(Callback):
        def on_train_begin(self):
            seen.append(self.params)

    model.fit(X, Y, epochs=3, batch_size=2, validation_data=(X, Y), callbacks=[Look()])
    assert seen == [{"epochs": 3, "steps": 2, "metrics": ["loss", "mae", "val_loss", "val_mae"]}]


# ---- hooks of batches ----


class Batches(Callback):
    def __init__(self):
        self.events = []

    def on_train_batch_begin(self, batch):
        self.events.append(("begins", batch, int(self.model._require_network().counters[0])))

    def on_train_batch_end(self, batch, logs):
        self.events.append(("ends", batch, int(self.model._require_network().counters[0]), logs["loss"]))


def test_batch_hooks_run_around_each_step_and_change_no_bit():
    model, plain, batches = make(), make(), Batches()
    history = model.fit(X, Y, epochs=2, batch_size=2, callbacks=[batches])
    assert plain.fit(X, Y, epochs=2, batch_size=2).history == history.history
    assert (model.parameters == plain.parameters).all()
    assert [event[:3] for event in batches.events] == [
        ("begins", 0, 0), ("ends", 0, 1), ("begins", 1, 1), ("ends", 1, 2),
        ("begins", 0, 2), ("ends", 0, 3), ("begins", 1, 3), ("ends", 1, 4),
    ]  # fmt: skip
    assert [batches.events[n][3] for n in (3, 7)] == history.history["loss"]


def test_without_batch_hooks_the_engine_is_called_for_many_batches(monkeypatch, tmp_path):
    def count_calls(*callbacks):
        calls = []
        model = make()
        model.build(1)
        network = model._require_network()
        train_epoch = network.train_epoch

        def count(*arguments):
            calls.append(1)
            return train_epoch(*arguments)

        monkeypatch.setattr(network, "train_epoch", count)
        model.fit([[0.0]] * 50, [0.0] * 50, batch_size=1, callbacks=callbacks)
        return len(calls)

    assert count_calls() == count_calls(Callback(), LambdaCallback(on_epoch_end=print)) == 1
    assert count_calls(ModelCheckpoint(tmp_path / "never"), EarlyStopping("loss")) == 1
    assert count_calls(Batches()) == count_calls(LambdaCallback(on_train_batch_end=lambda *_: None)) == 50


def test_stop_training_in_a_batch_ends_the_epoch_there():
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs):
            self.model.stop_training = batch == 1

    model = bp.Sequential([Dense(1)], loss="mse", optimizer="sgd", metrics=["mse"], seed=0)
    history = model.fit(
        X, Y, epochs=3, batch_size=1, callbacks=[Stop()], shuffle=False, validation_data=(X, Y)
    )
    assert model._require_network().counters[0] == 2
    assert history.epoch == [0] and list(history.history) == ["loss", "mse", "val_loss", "val_mse"]
    assert history.history["loss"] == [pytest.approx(history.history["mse"][0], rel=1e-6)]


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])
def test_errors_of_batch_hooks_surface_and_the_model_stays_usable(hook):
    model = make()
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y, callbacks=[LambdaCallback(**{hook: lambda *_: 1 / 0})])
    assert len(model.fit(X, Y, epochs=2).epoch) == 2


# ---- EarlyStopping ----


def replay(callback, values, monitor="val_loss", model=None):
    """Feed a callback the logs of epochs; return the epochs that ran."""
    model = model or make()
    model.build(1)
    callback.model, callback.params = model, {"metrics": ["loss", monitor], "epochs": len(values), "steps": 1}
    model.stop_training = False
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        model.parameters[...] = epoch
        callback.on_epoch_end(epoch, {"loss": 0.0, monitor: value})
        if model.stop_training:
            break
    callback.on_train_end()
    return epoch + 1


@pytest.mark.parametrize(
    ("arguments", "values", "epochs"),
    [
        ({}, [3, 2, 1, 1, 0], 4),  # patience 0: the first epoch without improvement
        ({"patience": 2}, [3, 4, 2, 3, 4, 0], 5),
        ({"patience": 2}, [3, 4, 4, 0], 3),
        ({"patience": 2, "min_delta": 1.5}, [3, 2, 1, 0.9, 0], 5),
        ({"patience": 2, "min_delta": -1.5}, [3, 2, 1, 0.9, 0], 5),  # its sign does not matter, as in Keras
        ({"patience": 3, "baseline": 1}, [9, 8, 7, 6], 3),
        ({"patience": 3, "baseline": 8.5}, [9, 8, 8, 8, 8], 5),
        ({"start_from_epoch": 3}, [1, 2, 3, 4, 3, 3], 6),
        ({"mode": "max"}, [1, 2, 3, 3], 4),
        ({"monitor": "val_accuracy"}, [0.1, 0.2, 0.15, 0.3], 3),
        ({"monitor": "val_auc", "mode": "min"}, [0.3, 0.2, 0.25], 3),
        ({"patience": 1}, [NAN, NAN, 1], 2),
        ({"patience": 2}, [1, NAN, 0.5, NAN, NAN, 0], 5),
        ({"patience": 9}, [1, 1, 1], 3),
    ],
)
def test_early_stopping(arguments, values, epochs):
    callback = EarlyStopping(**arguments)
    assert replay(callback, values, arguments.get("monitor", "val_loss")) == epochs
    stopped = epochs < len(values) or callback.wait >= callback.patience
    assert callback.stopped_epoch == (epochs - 1 if stopped else None)


@pytest.mark.parametrize(
    ("values", "best"), [([3, 1, 2, 2, 2], 1), ([3, 2, 1], 2), ([NAN, NAN, NAN], 0), ([NAN, 2, 1, NAN], 2)]
)
def test_the_best_weights_come_back_also_when_it_did_not_stop(values, best):
    model, callback = make(), EarlyStopping(patience=3, restore_best_weights=True)
    replay(callback, values, model=model)
    assert callback.best_epoch == best
    assert (model.parameters == best).all()


def test_early_stopping_in_training():
    model = bp.Sequential([Dense(1)], loss="mse", optimizer=bp.optimizers.SGD(0.1), seed=0)
    stop = EarlyStopping(patience=2, min_delta=1e-3, restore_best_weights=True)
    history = model.fit(X, Y, epochs=500, validation_data=(X, Y), callbacks=[stop])
    assert len(history.epoch) < 100
    losses = history.history["val_loss"]
    assert stop.best == losses[stop.best_epoch] == model.evaluate(X, Y)["loss"]
    again = model.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=[stop])  # it starts afresh
    assert len(again.epoch) == 3


def test_a_value_that_is_not_in_the_logs_is_an_error_before_the_training():
    for callback in (EarlyStopping(), ReduceLROnPlateau(), ModelCheckpoint("x", save_best_only=True)):
        model = make()
        with pytest.raises(
            ValueError, match=r"'val_loss' is not in the logs .* hold loss; give fit validation"
        ):
            model.fit(X, Y, callbacks=[callback])
        assert model.history.epoch == []
    with pytest.raises(ValueError, match="mode must be 'min' or 'max' for monitor='val_mine'"):
        EarlyStopping("val_mine")
    EarlyStopping("val_mine", mode="min")
    with pytest.raises(ValueError, match="mode must be one of 'auto', 'min', 'max', got 'least'"):
        EarlyStopping(mode="least")
    with pytest.raises(TypeError, match="monitor must be a name"):
        EarlyStopping(3)


# ---- learning rates ----


@pytest.mark.parametrize(
    ("arguments", "values", "rates"),
    [
        ({"patience": 1}, [3, 3, 3], [1.0, 0.5, 0.25]),
        ({"patience": 2}, [3, 3, 3, 2, 2, 2], [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]),
        ({"patience": 1, "cooldown": 2}, [3] * 5, [1.0, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 1, "min_lr": 0.4}, [3] * 4, [1.0, 0.5, 0.4, 0.4]),
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 2], [1.0, 1.0, 1.0, 0.5]),
        ({"patience": 1, "min_delta": 1.0}, [3, 2.5, 1], [1.0, 0.5, 0.5]),
    ],
)
def test_reduce_on_plateau(arguments, values, rates):
    model = make()
    model.optimizer.learning_rate = 1.0
    seen = []

    class Look(ReduceLROnPlateau):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs)
            seen.append(self.model.optimizer.learning_rate)

    replay(Look(factor=0.5, **arguments), values, model=model)
    assert seen == rates


def test_learning_rate_scheduler(capsys):
    model, seen = make(), []
    look = LambdaCallback(on_epoch_end=lambda *_: seen.append(model.optimizer.learning_rate))
    schedules = [lambda epoch: 1 / (epoch + 1), lambda epoch, rate: rate / 2]
    for schedule in schedules:
        model.fit(X, Y, epochs=2, callbacks=[LearningRateScheduler(schedule, verbose=1), look])
    assert seen == [1.0, 0.5, 0.25, 0.125]
    assert capsys.readouterr().out.splitlines()[-1] == "epoch 2: learning rate 0.125"
    with pytest.raises(
        ValueError, match=r"learning rate of the schedule must be a number in \[0, inf\), got -1"
    ):
        model.fit(X, Y, callbacks=[LearningRateScheduler(lambda epoch: -1)])
    with pytest.raises(TypeError, match="schedule must be a function"):
        LearningRateScheduler(0.1)


# ---- files ----


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


# ---- NaN ----


def test_terminate_on_nan_looks_at_the_validation_too():
    def unknown(y_true, y_pred, sample_weight):
        return NAN if len(y_true) == 2 else 0.0

    model = bp.Sequential([Dense(1)], loss="mse", metrics=[unknown], seed=0)
    history = model.fit(X, Y, epochs=5, validation_data=(X[:2], Y[:2]), callbacks=[TerminateOnNaN()])
    assert history.epoch == [0]
    assert len(model.fit(X, Y, epochs=5, callbacks=[TerminateOnNaN()]).epoch) == 5


# ---- initial_epoch ----


def test_initial_epoch_numbers_the_epochs():
    events, model, plain = [], make(), make()
    plain.fit(X, Y, epochs=5)
    model.fit(X, Y, epochs=2)
    history = model.fit(X, Y, epochs=5, initial_epoch=2, callbacks=[LambdaCallback(events.append)])
    assert events == history.epoch == [2, 3, 4]
    assert (model.parameters == plain.parameters).all()
    assert model.fit(X, Y, epochs=2, initial_epoch=2).epoch == []
    with pytest.raises(ValueError, match="initial_epoch must be an int of at least 0, got -1"):
        model.fit(X, Y, initial_epoch=-1)


# ---- optimizers with more than a rate ----


def test_a_schedule_is_not_lowered():
    schedule = bp.schedules.ExponentialDecay(0.1, 10, 0.9)
    model = bp.Sequential([Dense(1)], loss="mse", optimizer=bp.optimizers.SGD(schedule), seed=0)
    with pytest.raises(TypeError, match="ReduceLROnPlateau needs a learning rate that is a number"):
        model.fit(X, Y, callbacks=[ReduceLROnPlateau("loss")])


def test_the_best_weights_outlast_the_average():
    """With an average of the weights, fit ends with it, unless the best ones are asked for."""
    optimizer = bp.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = bp.Sequential([Dense(1)], loss="mse", optimizer=optimizer, seed=0)
    stop = EarlyStopping(patience=100, restore_best_weights=True)
    history = model.fit(X, Y, epochs=5, validation_data=(X, Y), callbacks=[stop]).history
    assert model.evaluate(X, Y)["loss"] == min(history["val_loss"])


def test_an_optimizer_that_runs_the_network_itself_has_one_batch():
    optimizer, batches = bp.optimizers.LBFGS(max_iter=2), []
    model = bp.Sequential([Dense(1)], loss="mse", optimizer=optimizer, metrics=["mae"], seed=0)
    callback = LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    history = model.fit(X, Y, epochs=3, batch_size=1, callbacks=[callback])
    assert batches == [0, 0, 0] and history.history["loss"][-1] < 1e-3


def test_streams_of_unknown_length(tmp_path):
    seen = []
    look = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model = make()
    save = ModelCheckpoint(tmp_path / "{epoch}-{batch}")
    model.fit(lambda: iter([(X, Y), (X, Y)]), epochs=2, batch_size=2, callbacks=[look, save])
    assert seen == [0, 1, 2, 3] * 2
    assert save.params["steps"] is None
    assert sorted(os.listdir(tmp_path)) == ["1-0", "2-0"]
