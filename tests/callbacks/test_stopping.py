"""EarlyStopping and TerminateOnNaN: when a training ends, and with which weights."""

import math
import runpy
from pathlib import Path

import pytest

import fastbp as bp
from fastbp.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, TerminateOnNaN
from fastbp.layers import Dense

LINE = runpy.run_path(str(Path(__file__).with_name("line.py")))
X, Y, make, replay = LINE["X"], LINE["Y"], LINE["make"], LINE["replay"]
NAN = math.nan


# ---- EarlyStopping ----


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


# ---- NaN ----


def test_terminate_on_nan_looks_at_the_validation_too():
    def unknown(y_true, y_pred, sample_weight):
        return NAN if len(y_true) == 2 else 0.0

    model = bp.Sequential([Dense(1)], loss="mse", metrics=[unknown], seed=0)
    history = model.fit(X, Y, epochs=5, validation_data=(X[:2], Y[:2]), callbacks=[TerminateOnNaN()])
    assert history.epoch == [0]
    assert len(model.fit(X, Y, epochs=5, callbacks=[TerminateOnNaN()]).epoch) == 5


# ---- optimizers with more than a rate ----


def test_the_best_weights_outlast_the_average():
    """With an average of the weights, fit ends with it, unless the best ones are asked for."""
    optimizer = bp.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = bp.Sequential([Dense(1)], loss="mse", optimizer=optimizer, seed=0)
    stop = EarlyStopping(patience=100, restore_best_weights=True)
    history = model.fit(X, Y, epochs=5, validation_data=(X, Y), callbacks=[stop]).history
    assert model.evaluate(X, Y)["loss"] == min(history["val_loss"])
