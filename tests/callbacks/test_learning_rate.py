"""Callbacks that set the learning rate."""

import runpy
from pathlib import Path

import pytest

import fastbp as bp
from fastbp.callbacks import LambdaCallback, LearningRateScheduler, ReduceLROnPlateau
from fastbp.layers import Dense

LINE = runpy.run_path(str(Path(__file__).with_name("line.py")))
X, Y, make, replay = LINE["X"], LINE["Y"], LINE["make"], LINE["replay"]


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


def test_a_schedule_is_not_lowered():
    schedule = bp.schedules.ExponentialDecay(0.1, 10, 0.9)
    model = bp.Sequential([Dense(1)], loss="mse", optimizer=bp.optimizers.SGD(schedule), seed=0)
    with pytest.raises(TypeError, match="ReduceLROnPlateau needs a learning rate that is a number"):
        model.fit(X, Y, callbacks=[ReduceLROnPlateau("loss")])
