"""Callbacks: which hooks run when, what they may do, and what happens when they fail."""

import pytest

import fastbp as bp
from fastbp.callbacks import Callback, LambdaCallback
from fastbp.layers import Dense

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
