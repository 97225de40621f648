"""Callbacks: which hooks run when, what they may do, and what happens when they fail."""

import os
import runpy
from pathlib import Path

import pytest

import fastbp as bp
from fastbp.callbacks import Callback, EarlyStopping, LambdaCallback, ModelCheckpoint
from fastbp.layers import Dense

LINE = runpy.run_path(str(Path(__file__).with_name("line.py")))
X, Y, make = LINE["X"], LINE["Y"], LINE["make"]


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
