"""Batches of an iterable, chunks of a function: trained on as arrays are, one in memory at a time."""

import gc
import traceback
import weakref

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import fastbp as bp
from fastbp.layers import Dense

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)).astype("f4")
Y = (X[:, :1] * X[:, 1:2] + X[:, 2:]).astype("f4")
W = RNG.uniform(0.5, 2, 50).astype("f4")
SIZES = (20, 7, 1, 22)


def make(**arguments):
    arguments = {"loss": "mean_squared_error", "optimizer": "adam", "seed": 0} | arguments
    return bp.Sequential([Dense(5, activation="tanh"), Dense(1)], **arguments)


def batches(sizes=SIZES, weights=False):
    begin = 0
    for size in sizes:
        rows = slice(begin, begin + size)
        yield (X[rows], Y[rows], W[rows]) if weights else (X[rows], Y[rows])
        begin += size


class Loader:
    """An iterable that is begun anew, as data loaders are."""

    def __init__(self):
        self.begun = 0

    def __iter__(self):
        self.begun += 1
        return batches()


def by_steps(epochs, weights=False, **arguments):
    model = make(**arguments)
    for _ in range(epochs):
        for batch in batches(weights=weights):
            model.train_on_batch(*batch[:2], sample_weight=batch[2] if weights else None)
    return model.parameters


@pytest.mark.parametrize(
    "source", [lambda: list(batches()), Loader, lambda: [list(batch) for batch in batches()]]
)
def test_what_an_iterable_gives_is_one_batch_each(source):
    model = make()
    history = model.fit(source(), epochs=3)
    np.testing.assert_array_equal(model.parameters, by_steps(3))
    assert len(history.history["loss"]) == 3


def test_a_generator_is_gone_through_once():
    model = make()
    model.fit(batches(weights=True))
    np.testing.assert_array_equal(model.parameters, by_steps(1, weights=True))
    with pytest.raises(ValueError, match="X can be gone through only once, but there are 2 epochs"):
        make().fit(batches(), epochs=2)
    spent = batches()
    make().fit(spent)
    with pytest.raises(ValueError, match="X gave no batch, expected at least one"):
        make().fit(spent)


def test_steps_per_epoch_go_on_behind_each_other():
    model = make()
    seen = []
    count = bp.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(model.parameters.copy()))
    model.fit(batches(), steps_per_epoch=2, epochs=2, callbacks=[count])
    np.testing.assert_array_equal(model.parameters, by_steps(1))
    half = make()
    half.fit(batches(SIZES[:2]))
    np.testing.assert_array_equal(seen[0], half.parameters)
    with pytest.raises(ValueError, match="X ended after 1 batches of an epoch, expected steps_per_epoch=3"):
        make().fit(batches(), steps_per_epoch=3, epochs=2)
    loader, model = Loader(), make()
    model.fit(loader, steps_per_epoch=3, epochs=4)  # three times through four batches
    np.testing.assert_array_equal(model.parameters, by_steps(3))
    assert loader.begun == 3


def test_a_function_gives_chunks_for_each_epoch():
    calls = []

    def chunks():
        calls.append(len(calls))
        return batches((32, 18))

    model = make()
    model.fit(chunks, epochs=3, batch_size=4, shuffle=False)
    assert calls == [0, 1, 2]
    whole = make()
    for _ in range(3):
        whole.fit(X[:32], Y[:32], batch_size=4, shuffle=False)
        whole.fit(X[32:], Y[32:], batch_size=4, shuffle=False)
    np.testing.assert_array_equal(model.parameters, whole.parameters)
    shuffled, again = make(), make()
    shuffled.fit(chunks, epochs=3, batch_size=4)
    again.fit(chunks, epochs=3, batch_size=4)
    np.testing.assert_array_equal(shuffled.parameters, again.parameters)
    assert not np.array_equal(shuffled.parameters, whole.parameters)
    usual, explicit = make(), make()
    usual.fit(lambda: [(X, Y)], shuffle=False)
    explicit.fit(X, Y, batch_size=32, shuffle=False)
    np.testing.assert_array_equal(usual.parameters, explicit.parameters)


def test_chunks_of_an_iterable_are_cut_with_a_batch_size():
    model, other = make(), make()
    model.fit([(X, Y)], batch_size=8, shuffle=False)
    other.fit(X, Y, batch_size=8, shuffle=False)
    np.testing.assert_array_equal(model.parameters, other.parameters)


def test_only_one_part_is_alive():
    made, most = [], []

    def chunks():
        for _ in range(6):
            part = np.ones((10, 3), "f4")
            made.append(weakref.ref(part))
            gc.collect()
            most.append(sum(reference() is not None for reference in made))
            yield part, np.zeros((10, 1), "f4")

    make().fit(chunks, epochs=2)
    assert max(most) <= 2  # the one that was just made, and the one that the loop still holds


def test_losses_metrics_and_validation_are_those_of_all_parts():
    model = make(metrics=["mae", "r2"])
    history = model.fit(
        lambda: batches(weights=True), epochs=2, shuffle=False, validation_data=lambda: batches(weights=True)
    ).history
    scores = model.evaluate(X, Y, sample_weight=W)
    for name, value in scores.items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-5)
    frozen = make(metrics=["mae"], optimizer=bp.optimizers.SGD(1e-30))
    history = frozen.fit(lambda: batches(weights=True)).history
    scores = frozen.evaluate(X, Y, sample_weight=W)
    assert {name: history[name][0] for name in scores} == pytest.approx(scores, rel=1e-5)
    for source in (batches(weights=True), list(batches(weights=True)), lambda: batches(weights=True)):
        assert frozen.evaluate(source) == pytest.approx(scores, rel=1e-5)
    mixed = [(X[:20], Y[:20]), (X[20:], Y[20:], W[20:])]
    both = np.concatenate([np.ones(20, "f4"), W[20:]])
    assert frozen.evaluate(mixed) == pytest.approx(frozen.evaluate(X, Y, sample_weight=both), rel=1e-5)
    two = [(X[:20], Y[:20]), (X[20:], Y[20:])]
    history = frozen.fit(X, Y, validation_data=two).history  # two batches, not a pair
    assert history["val_loss"][0] == pytest.approx(frozen.evaluate(X, Y)["loss"], rel=1e-5)


def test_errors_of_a_generator_surface_with_their_traceback():
    def broken():
        yield X, Y
        raise OSError("the disk is gone")

    model = make()
    with pytest.raises(OSError, match="the disk is gone") as caught:
        model.fit(broken)
    assert "broken" in {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}
    trained = make()
    trained.fit(X, Y, batch_size=32)
    assert np.isfinite(model.parameters).all()
    before = model.parameters.copy()
    model.fit(X, Y)  # still usable
    assert not np.array_equal(model.parameters, before)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ([], {}, ValueError, "X gave no batch, expected at least one"),
        (list, {}, ValueError, "X gave no batch"),
        (lambda: 3, {}, TypeError, r"X\(\) must return an iterable of batches, got 3"),
        (
            [X],
            {},
            TypeError,
            r"batch 0 of X must be \(X, y\) or .*, got of type ndarray",
        ),
        ([(X, Y), (X,)], {}, TypeError, "batch 1 of X must be .*, got 1 items"),
        ([(X, Y), (X[:, :2], Y)], {}, ValueError, "batch 1 of X: X has 2 columns, expected 3"),
        ([(X, Y), (X, Y[:4])], {}, ValueError, "batch 1 of X: y has 4 rows, expected 50"),
        ([(X, Y, -W)], {}, ValueError, "batch 0 of X: sample_weight must not be negative"),
        ([(X * np.nan, Y)], {}, ValueError, "batch 0 of X: X holds 150 values that are NaN"),
        (X, {}, TypeError, "y is None: only an iterable of batches, or a function, as X"),
        (pd.DataFrame(X), {}, TypeError, "y is None"),
        ({"X": X, "y": Y}, {}, TypeError, "y is None"),
        ("data.csv", {}, TypeError, "y is None"),
        (None, {}, TypeError, "y is None"),
        ([(X, Y)], {"sample_weight": W}, ValueError, "sample_weight without y"),
        ([(X, Y)], {"validation_split": 0.1}, ValueError, "validation_split needs arrays"),
        ([(X, Y)], {"class_weight": "balanced"}, ValueError, "class_weight='balanced' needs arrays"),
        ([(X, Y)], {"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be a positive int"),
        ([(X, Y)], {"validation_data": batches(), "epochs": 2}, ValueError, "validation_data can be gone"),
        ([(X, Y)], {"validation_data": []}, ValueError, "validation_data gave no batch"),
    ],
)
def test_what_is_wrong_is_named(source, options, error, message):
    with pytest.raises(error, match=message):
        make().fit(source, **options)


def test_steps_per_epoch_are_for_iterables():
    with pytest.raises(ValueError, match="steps_per_epoch needs an iterable or a function as X"):
        make().fit(X, Y, steps_per_epoch=3)


def test_an_epoch_of_nothing_in_a_later_epoch():
    turns = iter([[(X, Y)], []])
    with pytest.raises(ValueError, match="X gave no batch"):
        make().fit(lambda: next(turns), epochs=2)


def test_frames_sparse_matrices_and_class_weights_in_batches():
    names = ["a", "b", "c"]
    labels = (Y[:, 0] > 0).astype(int)
    model = bp.Sequential(
        [Dense(4, activation="tanh"), Dense(1, activation="sigmoid")], loss="binary_cross_entropy", seed=0
    )
    model.fit([(pd.DataFrame(X, columns=names), labels)], class_weight={0: 2.0})
    assert model.feature_names == tuple(names)
    with pytest.raises(ValueError, match="batch 0 of X: X has the column 'b' at position 0, expected 'a'"):
        model.fit([(pd.DataFrame(X, columns=["b", "a", "c"]), labels)])
    before = model.parameters.copy()
    model.fit([(sparse.csr_matrix(X), labels)])
    assert not np.array_equal(model.parameters, before)


def test_a_bar_without_an_end(capsys):
    make().fit(lambda: batches(), epochs=2, verbose=1)
    assert "epoch 2/2" in capsys.readouterr().err
