"""Anything array-like, in any layout and dtype, becomes the same matrix, or a clear error."""

import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from fastbp.array_like import read, require, require_finite

DTYPES = ("float32", "float64")
NUMERIC = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")


class OnlyArray:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


class OnlyDlpack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def misaligned(array):
    buffer = np.empty(array.nbytes + 1, np.uint8)[1:]
    out = buffer.view(array.dtype).reshape(array.shape)
    out[...] = array
    assert not out.flags.aligned
    return out


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "as it is": lambda a: a,
    "list": lambda a: a.tolist(),
    "list of tuples": lambda a: [tuple(row) for row in a.tolist()],
    "list of arrays": list,
    "F-ordered": np.asfortranarray,
    "transposed": lambda a: a.T.copy().T,
    "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3],
    "negatively strided": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": read_only,
    "misaligned": misaligned,
    "objects": lambda a: a.astype(object),
    "__array__": OnlyArray,
    "__dlpack__": OnlyDlpack,
    "masked, nothing masked": np.ma.MaskedArray,
    "memoryview": memoryview,
    "pandas": pd.DataFrame,
    "polars": lambda a: pl.DataFrame(a, schema=[f"c{j}" for j in range(a.shape[1])]),
}


def engine_ready(array, dtype):
    return (
        type(array) is np.ndarray
        and array.dtype == np.dtype(dtype)
        and array.dtype.isnative
        and array.flags.c_contiguous
        and array.flags.aligned
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (7, 3), (16, 17)])
def test_every_layout_gives_the_same_matrix(layout, dtype, shape):
    source = np.random.default_rng(0).normal(size=shape).astype(dtype)
    table = read(LAYOUTS[layout](source), dtype, "X")
    assert engine_ready(table.values, dtype)
    np.testing.assert_array_equal(table.values, source)
    index = (shape[0] - 1, shape[1] // 2)
    assert float(table.original(index)) == source[index]


@settings(deadline=None)
@given(
    array=st.sampled_from(NUMERIC).flatmap(
        lambda code: hnp.arrays(
            np.dtype(code),
            hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
            elements=hnp.from_dtype(np.dtype(code), allow_nan=False, allow_infinity=False, max_value=1e30)
            if code in ("f8",)
            else None,
        )
    ),
    layout=st.sampled_from(
        ["as it is", "list", "F-ordered", "strided", "negatively strided", "big-endian", "objects", "pandas"]
    ),
    dtype=st.sampled_from(DTYPES),
)
def test_every_dtype_is_rounded_once(array, layout, dtype):
    with np.errstate(all="ignore"):
        expected = array.astype(dtype)
    values = read(LAYOUTS[layout](array), dtype, "X").values
    assert engine_ready(values, dtype)
    if layout == "objects" or layout == "list":  # by way of Python's float
        expected = array.astype(np.float64).astype(dtype) if array.dtype.kind in "iu" else expected
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_right_already_is_not_copied(dtype, tmp_path):
    array = np.ones((3, 4), dtype)
    assert read(array, dtype, "X").values is array
    assert read(read_only(array), dtype, "X").values.flags.writeable is False
    assert np.shares_memory(read(array[1:], dtype, "X").values, array)
    assert np.shares_memory(read(OnlyDlpack(array), dtype, "X").values, array)
    path = tmp_path / "X.bin"
    array.tofile(path)
    mapped = np.memmap(path, dtype, "r", shape=(3, 4))
    values = read(mapped, dtype, "X").values
    assert np.shares_memory(values, mapped)
    assert engine_ready(values, dtype)
    del mapped, values


def test_python_numbers_of_every_kind():
    values = read(
        [[Decimal("1.5"), Fraction(1, 4)], [10**30, np.float16(2)], [True, np.bool_(False)]], "float64", "X"
    )
    np.testing.assert_array_equal(values.values, [[1.5, 0.25], [1e30, 2], [1, 0]])


def test_frames_of_mixed_columns():
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, 2], dtype="Int64"),
            "flag": [True, False],
            "nullable flag": pd.array([True, False], dtype="boolean"),
            "real": np.array([0.5, 0.25], "f4"),
            "sparse": pd.arrays.SparseArray([0.0, 3.0]),
            "objects": np.array([1, 2.5], object),
            "decimal": [Decimal("1.5"), Decimal(2)],
        }
    )
    expected = [[1, 1, 1, 0.5, 0, 1, 1.5], [2, 0, 0, 0.25, 3, 2.5, 2]]
    for dtype in DTYPES:
        plain = read(frame.drop(columns=["objects", "decimal"]), dtype, "X")
        np.testing.assert_array_equal(plain.values, np.array(expected)[:, :5])
        table = read(frame, dtype, "X")
        assert engine_ready(table.values, dtype)
        assert table.names == tuple(frame.columns)
        np.testing.assert_array_equal(table.values, expected)
    columns = {
        "i": pl.Series([1, 2], dtype=pl.Int8),
        "b": [True, False],
        "f": [0.5, 0.25],
        "d": [Decimal("1.5"), Decimal(2)],
    }
    for dtype in DTYPES:
        table = read(pl.DataFrame(columns), dtype, "X")
        assert engine_ready(table.values, dtype)
        assert table.names == ("i", "b", "f", "d")
        np.testing.assert_array_equal(table.values, [[1, 1, 0.5, 1.5], [2, 0, 0.25, 2]])


def test_frames_with_treacherous_columns():
    twice = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])
    np.testing.assert_array_equal(read(twice, "float64", "X").values, [[1, 2], [3, 4]])
    attributes = pd.DataFrame({"toarray": [1], "columns": [2], "dtype": [3]})
    np.testing.assert_array_equal(read(attributes, "float64", "X").values, [[1, 2, 3]])
    reindexed = pd.DataFrame({"a": [1.0, np.nan]}, index=[5, 5])
    with pytest.raises(ValueError, match="nan at row 1, column 'a'"):
        require_finite(read(reindexed, "float64", "X"))


@pytest.mark.parametrize("make", [pd.Series, pl.Series])
def test_series_are_vectors(make):
    table = read(make([1, 2, 3]), "float32", "y")
    np.testing.assert_array_equal(table.values, np.array([1, 2, 3], "f4"))
    assert table.place((1,)) == "row 1"
    assert table.original((1,)) == 2


BAD_TYPES = [
    (None, "X is None, expected numbers"),
    ("text", "X holds text"),
    (b"bytes", "X holds text"),
    ({"a": [1]}, "X is of type dict"),
    ({1, 2}, "X is of type set"),
    ((i for i in range(3)), "X is of type generator"),
    (object(), "X is of type object"),
    ([["a", "b"]], "X holds text"),
    ([[1, "b"]], "X holds text"),
    ([[1.0, None]], "X is None at row 0, column 1"),
    ([[1.0, {}]], "X is of type dict at row 0, column 1"),
    (np.array([[1, "1"]], object), "X is '1' at row 0, column 1"),
    (np.array([[1j]]), "X holds complex numbers"),
    (np.array([[1, 1j]], object), "X is 1j at row 0, column 1"),
    (np.array([["2020-01-01"]], "M8[D]"), "X holds dates"),
    (np.array([[1]], "m8[s]"), "X holds time differences"),
    (np.array([np.timedelta64(1, "s")], object), "X is "),
    (np.zeros(2, [("a", "f4")]), "X holds values (dtype [('a', '<f4')])"),
    (sparse.csr_matrix([[1.0]]), "X is sparse (csr_matrix), expected a dense array: use X.toarray()"),
    (sparse.coo_array([[1.0]]), "use X.toarray()"),
    (pd.DataFrame({"a": [1], "name": ["Ada"]}), "X column 'name' is 'Ada' at row 0"),
    (pd.DataFrame({"a": [1], "kind": pd.Categorical(["x"])}), "X column 'kind' is 'x' at row 0"),
    (pd.DataFrame({"a": [1], "day": pd.to_datetime(["2020-01-01"])}), "X column 'day' holds dates"),
    (
        pd.DataFrame({"a": [1, 2], "o": np.array([1, None], object)}),
        "X column 'o' is None at row 1",
    ),
    (pd.DataFrame({"z": [1j]}), "X column 'z' holds complex numbers"),
    (pl.DataFrame({"a": [1], "name": ["Ada"]}), "X column 'name' is 'Ada' at row 0"),
    (pl.DataFrame({"a": [1], "l": [[1, 2]]}), "X column 'l' holds List(Int64), expected numbers"),
    (pl.DataFrame({"s": [{"a": 1}]}), "X column 's' holds Struct({'a': Int64}), expected numbers"),
    (pl.Series("v", [[1]], dtype=pl.Array(pl.Int8, 1)), "X column 'v' holds Array("),
    (pl.DataFrame({"a": [1]}).lazy(), "X is of type LazyFrame"),
]


@pytest.mark.parametrize(("value", "message"), BAD_TYPES, ids=range(len(BAD_TYPES)))
def test_what_is_not_numbers_is_a_type_error(value, message):
    with pytest.raises(TypeError) as caught:
        read(value, "float32", "X")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "X is a ragged list: row 1 has 1 values, row 0 has 2 values"),
        ([[1, 2], 3], "X is a ragged list: row 1 has one value, row 0 has 2 values"),
        ([[[1], [1, 2]], [[1], [1, 2]]], "X is a ragged list: its rows differ in shape"),
        (np.ma.MaskedArray([[1.0, 2.0]], mask=[[True, False]]), "X holds 1 masked values"),
    ],
)
def test_what_has_no_shape_is_a_value_error(value, message):
    with pytest.raises(ValueError, match="X") as caught:
        read(value, "float32", "X")
    assert message in str(caught.value)


def test_errors_of_foreign_objects_are_explained():
    class Refuses:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("needs .detach()")

    with pytest.raises(TypeError, match=r"X \(Refuses\) gives no NumPy array: needs \.detach\(\)"):
        read(Refuses(), "float32", "X")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, 65535, 65536, 65537, 200_003])
def test_the_first_value_that_is_not_finite_is_found(dtype, size):
    array = np.full((size, 1), np.finfo(dtype).max / 2, dtype)  # sums overflow, values do not
    require_finite(read(array, dtype, "X"))
    array[size // 2] = np.inf
    array[-1] = -np.inf if size > 2 else np.inf
    with pytest.raises(ValueError, match=f"inf at row {size // 2}, column 0"):
        require_finite(read(array, dtype, "X"))


@settings(deadline=None)
@given(
    places=st.sets(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    make=st.sampled_from(["as it is", "list", "F-ordered", "objects", "pandas", "polars"]),
    dtype=st.sampled_from(DTYPES),
)
def test_count_and_place_of_what_is_not_finite(places, bad, make, dtype):
    array = np.zeros((7, 5), dtype)
    for place in places:
        array[place] = bad
    table = read(LAYOUTS[make](array), dtype, "X")
    with pytest.raises(ValueError, match="NaN, infinite or missing") as caught:
        require_finite(table)
    message = str(caught.value)
    assert f"{float(bad)!r} at {table.place(min(places))}" in message
    assert (f"holds {len(places)} values" if len(places) > 1 else "holds a value") in message


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.array([[0, 1e300]]), "1e+300"),
        ([[0, 1e300]], "1e+300"),
        ([[0, 10**400]], "1.000000e+400"),
        ([[0, 10**5000]], "1.000000e+5000"),
        ([[Fraction(0), Fraction(10**5000)]], "of type Fraction"),
        ([[Decimal(0), Decimal("1e400")]], "Decimal('1E+400')"),
        (pd.DataFrame({"a": [0], "b": [1e300]}), "1e+300"),
        (pl.DataFrame({"a": [0], "b": [1e300]}), "1e+300"),
    ],
)
def test_overflow_is_told_from_infinity(value, shown):
    with pytest.raises(ValueError, match="out of the range of float32") as caught:
        require_finite(read(value, "float32", "X"))
    assert (
        f"X holds a value that is NaN, infinite or out of the range of float32: {shown} at row 0, column"
        in str(caught.value)
    )
    assert str(caught.value).endswith("scale the data or use dtype='float64'")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1.0, 2], "b": pd.array([1, None], dtype="Int64")}),
        pd.DataFrame({"a": [1.0, 2], "b": pd.array([True, None], dtype="boolean")}),
        pl.DataFrame({"a": [1.0, 2], "b": [1, None]}),
        pl.DataFrame({"a": [1.0, 2], "b": [True, None]}),
    ],
)
def test_missing_values_of_frames(frame):
    with pytest.raises(ValueError, match=r"(None|<NA>) at row 1, column 'b'"):
        require_finite(read(frame, "float32", "X"))


def test_signalling_nan():
    with pytest.raises(ValueError, match="NaN, infinite or missing"):
        require_finite(read([[Decimal("sNaN")]], "float32", "X"))


def test_require_names_the_first_of_many():
    table = read([[1, -2], [-3, 4]], "float64", "w")
    with pytest.raises(
        ValueError, match=r"^w must not be negative, but is -2 at row 0, column 1 \(and at 1 other"
    ):
        require(table.values >= 0, table, "must not be negative")


def test_no_frame_library_is_imported():
    code = (
        "import sys, numpy, fastbp.array_like as a; a.read([[1]], 'float32', 'X');"
        "assert not {'pandas', 'polars', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
