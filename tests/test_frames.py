"""Frames of pandas, polars and Arrow: names of columns, and categories as codes."""

import subprocess
import sys
import types

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fastbp as bp
from fastbp import frames
from fastbp.frames import as_frame, categories, encode, feature_names
from fastbp.layers import Dense

SIZES = ["L", "S", "S", "M"]
AGES = [1.0, 2.0, 3.0, 4.0]
Y = [0.0, 1.0, 2.0, 3.0]


class ArrowTable:
    """A table that speaks Arrow and nothing else."""

    schema = None

    def __init__(self, frame):
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema=None):
        return self._frame.__arrow_c_stream__(requested_schema)


def pandas_frame(sizes, order=("S", "M", "L", "XL")):
    return pd.DataFrame({"age": AGES[: len(sizes)], "size": pd.Categorical(sizes, order)})


def polars_enum(sizes, order=("S", "M", "L", "XL")):
    return pl.DataFrame({"age": AGES[: len(sizes)], "size": pl.Series(sizes, dtype=pl.Enum(order))})


def polars_categorical(sizes, order=None):
    return pl.DataFrame({"age": AGES[: len(sizes)], "size": pl.Series(sizes, dtype=pl.Categorical)})


def arrow(sizes, order=("S", "M", "L", "XL")):
    return ArrowTable(polars_enum(sizes, order))


KINDS = (pandas_frame, polars_enum, polars_categorical, arrow)


def make():
    return bp.Sequential([Dense(3, activation="tanh"), Dense(1)], loss="mse", seed=0)


def test_names():
    frame = {"age": [1], "height": [2]}
    assert feature_names(pd.DataFrame(frame)) == ("age", "height")
    assert feature_names(pl.DataFrame(frame)) == ("age", "height")
    assert feature_names(pd.Series([1], name="age")) == ("age",)
    assert feature_names(pd.Series([1], index=["columns"], name="age")) == ("age",)
    assert feature_names(pl.Series("age", [1])) == ("age",)
    assert feature_names(pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", 1)]))) == ("('a', 1)",)
    assert feature_names(pd.DataFrame([[1, 2]])) is None
    assert feature_names(pd.Series([1])) is None
    assert feature_names(np.ones((1, 2))) is None
    assert feature_names([[1]]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_categories_train_as_their_codes(kind):
    model, other = make(), make()
    model.fit(kind(SIZES), Y, epochs=2)
    known = model.categories["size"]
    assert known == (("L", "M", "S") if kind is polars_categorical else ("S", "M", "L", "XL"))
    codes = np.column_stack([AGES, [known.index(size) for size in SIZES]])
    other.fit(codes, Y, epochs=2)
    np.testing.assert_array_equal(model.parameters, other.parameters)
    assert model.feature_names == ("age", "size")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("later", KINDS)
def test_later_frames_get_the_codes_of_the_training(kind, later, tmp_path):
    """Whatever categories they declare, in whatever order, of whatever library; after a file too."""
    model = make()
    model.fit(kind(SIZES), Y)
    model.save(tmp_path / "model.safetensors")
    expected = model.predict(kind(SIZES))[[1, 0]]
    for one in (model, bp.load(tmp_path / "model.safetensors")):
        frame = later(["S", "L"], ["L", "S"])
        frame = as_frame(frame, "X")
        ages = [AGES[1], AGES[0]]
        frame = frame.assign(age=ages) if later is pandas_frame else frame.with_columns(age=pl.Series(ages))
        np.testing.assert_array_equal(one.predict(frame), expected)


def test_text_of_known_categories_is_read_and_other_text_is_not():
    model = make()
    model.fit(pandas_frame(SIZES), Y)
    expected = model.predict(pandas_frame(SIZES))
    for frame in (pd.DataFrame, pl.DataFrame):
        np.testing.assert_array_equal(model.predict(frame({"age": AGES, "size": SIZES})), expected)
    with pytest.raises(TypeError, match="X column 'size'"):
        make().fit(pd.DataFrame({"age": AGES, "size": SIZES}), Y)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_and_missing_categories_are_named(kind):
    model = make()
    model.fit(kind(SIZES), Y)
    with pytest.raises(
        ValueError, match="X column 'size' is 'XXL' at row 1, a category that training did not"
    ):
        model.predict(kind(["S", "XXL"], ["S", "XXL"]))
    with pytest.raises(ValueError, match="NaN, infinite or missing: nan at row 2, column 'size'"):
        model.predict(kind(["S", "L", None]))


def test_numbers_as_categories_have_codes_too():
    frame = pd.DataFrame({"a": pd.Categorical([30, 10, 30]), "b": [1, 2, 3]})
    assert categories(frame) == {"a": ("10", "30")}
    assert encode(frame, {}, "X")["a"].tolist() == [1, 0, 1]
    assert frame["a"].tolist() == [30, 10, 30]  # untouched
    many = pd.DataFrame({"a": pd.Categorical(range(300))})
    assert encode(many, {}, "X")["a"].tolist() == list(range(300))


def test_what_has_no_categories_is_returned_as_it_is():
    for value in (pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]}), np.ones(3), [[1]], pd.Series([1])):
        assert encode(value, {}, "X") is value
        assert categories(value) == {}
        assert as_frame(value, "X") is value


def test_columns_that_share_a_name():
    frame = pandas_frame(SIZES)
    frame.columns = ["same", "same"]
    assert encode(frame, {}, "X").iloc[:, 1].tolist() == [2, 0, 0, 1]


def test_streams_of_frames_keep_the_categories_of_the_first():
    model = make()
    model.fit([(pandas_frame(SIZES), Y), (pandas_frame(["L", "S"], ["L", "S"]), Y[:2])])
    assert model.categories == {"size": ("S", "M", "L", "XL")}
    with pytest.raises(ValueError, match="a category that training did not know"):
        model.fit([(pandas_frame(["huge"], ["huge"]), Y[:1])])


def test_arrow_targets():
    model, other = make(), make()
    model.fit(np.ones((4, 1)), ArrowTable(pl.DataFrame({"y": Y})))
    other.fit(np.ones((4, 1)), Y)
    np.testing.assert_array_equal(model.parameters, other.parameters)


def test_arrow_without_polars(monkeypatch):
    table = arrow(SIZES)
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setattr(frames, "frame_library", lambda value: None)
    with pytest.raises(ImportError, match=r'X is an Arrow table; .*pip install "fastbp\[arrow\]"'):
        as_frame(table, "X")
    by_itself = types.SimpleNamespace(
        schema=None, __arrow_c_stream__=None, to_pandas=lambda: pandas_frame(SIZES)
    )
    assert as_frame(by_itself, "X").equals(pandas_frame(SIZES))


def test_no_frame_library_is_imported_for_arrays():
    code = "import numpy, sys, fastbp; m = fastbp.Sequential([fastbp.layers.Dense(1)], loss='mse');"
    code += "m.fit(numpy.ones((2, 2), 'u1'), [0, 1]); print({'pandas', 'polars'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
