"""Features, targets, weights and order: what is right passes, what is wrong is named."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbp import data

DTYPES = ("float32", "float64")


def fails(call, message, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


class TestFeatures:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_matrix_passes_through(self, dtype):
        X = np.ones((4, 3), dtype)
        assert data.features(X, dtype=dtype, columns=3) is X

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (np.float64(3), "X must have 2 dimensions (samples, features), not shape ()"),
            (np.ones(3), "use X.reshape(-1, 1) for one feature or X.reshape(1, -1) for one sample"),
            (pd.Series([1.0, 2]), "X must have 2 dimensions (samples, features), not shape (2,)"),
            (np.ones((2, 3, 4)), "not shape (2, 3, 4): use X.reshape(len(X), -1)"),
            (np.ones((0, 3)), "X is empty: shape (0, 3)"),
            (np.ones((3, 0)), "X is empty: shape (3, 0)"),
            ([], "not shape (0,)"),
            (pd.DataFrame({"a": []}), "X is empty: shape (0, 1)"),
            (pl.DataFrame({"a": []}), "X is empty: shape (0, 1)"),
            (pd.DataFrame(), "X is empty: shape (0, 0)"),
            (pl.DataFrame(), "X is empty: shape (0, 0)"),
            ([[1, 2, 3]], "X has 3 columns, expected 2, the input size of the model"),
            ([[1, np.nan]], "X holds a value that is NaN, infinite or missing: nan at row 0, column 1"),
        ],
    )
    def test_what_is_wrong(self, X, message):
        fails(lambda: data.features(X, dtype="float32", columns=2), message)

    def test_the_argument_is_named(self):
        fails(lambda: data.features([1], dtype="float32", argument="validation X"), "validation X must")

    @settings(deadline=None)
    @given(
        value=st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.binary()
            | st.complex_numbers(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
            max_leaves=12,
        ),
        dtype=st.sampled_from(DTYPES),
    )
    def test_anything_at_all(self, value, dtype):
        """A finite matrix, or an error that begins with the name of the argument."""
        for call in (
            lambda: data.features(value, dtype=dtype),
            lambda: data.targets(value, dtype=dtype, rows=2, kind="classes", columns=2, argument="X"),
            lambda: data.sample_weights(value, rows=2, dtype=dtype, argument="X"),
        ):
            result, message = None, "X "
            try:
                result = call()
            except (TypeError, ValueError) as error:
                message = str(error)
            assert message.startswith("X ")
            assert result is None or (result.dtype == dtype and np.isfinite(result).all())


class TestTargets:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("kind", ["values", "probabilities"])
    def test_matrices(self, dtype, kind):
        y = np.linspace(0, 1, 6).reshape(3, 2).astype(dtype)
        assert data.targets(y, dtype=dtype, rows=3, kind=kind, columns=2) is y
        vector = data.targets(y[:, 0], dtype=dtype, rows=3, kind=kind, columns=1)
        np.testing.assert_array_equal(vector, y[:, :1])
        assert vector.flags.c_contiguous

    @pytest.mark.parametrize(
        "y",
        [
            [0, 2, 1],
            [[0], [2], [1]],
            [0.0, 2.0, 1.0],
            np.array([0, 2, 1], np.uint8),
            np.array([0, 2, 1], object),
            pd.Series([0, 2, 1]),
            pd.Series(pd.Categorical([0, 2, 1])),
            pl.Series([0, 2, 1]),
            pd.DataFrame({"label": [0, 2, 1]}),
        ],
    )
    def test_labels(self, y):
        labels = data.targets(y, dtype="float32", rows=3, kind="classes", columns=3)
        np.testing.assert_array_equal(labels, np.array([[0], [2], [1]], "f4"))

    def test_rows_of_probabilities(self):
        for y in (np.eye(3), np.eye(3, dtype=bool), np.full((3, 3), 1 / 3, "f2")):
            rows = data.targets(y, dtype="float64", rows=3, kind="classes", columns=3)
            np.testing.assert_array_equal(rows, y)

    @pytest.mark.parametrize(
        ("y", "kind", "columns", "message"),
        [
            ([1, 2], "values", 1, "y has 2 rows, expected 3: one per sample"),
            ([1, 2, 3], "values", 2, "y has shape (3,), expected (3, 2)"),
            ([[1, 2]] * 3, "values", 1, "y has shape (3, 2), expected (3,) or (3, 1)"),
            (np.ones((3, 1, 1)), "values", 1, "y has shape (3, 1, 1), expected"),
            (3.0, "values", 1, "y has shape (), expected"),
            ([1, np.inf, 0], "values", 1, "y holds a value that is NaN, infinite or missing: inf at row 1"),
            ([0, 1, 1.5], "probabilities", 1, "y must lie between 0 and 1, but is 1.5 at row 2"),
            ([0, -1, -1], "probabilities", 1, "but is -1 at row 1 (and at 1 other places)"),
            ([0, 1, 2.5], "classes", 4, "y must hold integer labels from 0 to 3"),
            ([0, 1, 2.5], "classes", 4, "but is 2.5 at row 2"),
            ([0, -1, 1], "classes", 4, "but is -1 at row 1"),
            ([0, 4, 1], "classes", 4, "as the model has 4 outputs, but is 4 at row 1"),
            ([0, 1, 1], "classes", 1, "1 output (for two classes: 2 outputs or a sigmoid)"),
            ([0, np.nan, 1], "classes", 4, "nan at row 1"),
            (
                np.eye(3),
                "classes",
                4,
                "y has shape (3, 3), expected (3,) for labels or (3, 4) for one probability",
            ),
            (
                np.ones((3, 2)),
                "classes",
                2,
                "probabilities of 2 classes that sum to 1, but the sum is 2 in row 0",
            ),
            ([[0.5, 0.5], [1, 0], [2, -1]], "classes", 2, "between 0 and 1, but is 2.0 at row 2, column 0"),
            (pd.DataFrame({"p": [0, 1, 7]}), "probabilities", 1, "but is 7 at row 2, column 'p'"),
        ],
    )
    def test_what_is_wrong(self, y, kind, columns, message):
        fails(lambda: data.targets(y, dtype="float32", rows=3, kind=kind, columns=columns), message)

    @pytest.mark.parametrize("y", [["cat", "dog"], pd.Series(["cat", "dog"]), pl.Series(["cat", "dog"])])
    def test_names_of_classes_get_a_hint(self, y):
        with pytest.raises(TypeError, match="y") as caught:
            data.targets(y, dtype="float32", rows=2, kind="classes", columns=2)
        assert "numpy.unique(y, return_inverse=True)" in caught.value.__notes__[0]

    @settings(deadline=None)
    @given(
        y=hnp.arrays(np.int64, st.integers(1, 20), elements=st.integers(-2, 6)),
        classes=st.integers(2, 6),
        dtype=st.sampled_from(DTYPES),
    )
    def test_labels_in_range_and_no_others(self, y, classes, dtype):
        def call():
            return data.targets(y, dtype=dtype, rows=len(y), kind="classes", columns=classes)

        wrong = np.flatnonzero((y < 0) | (y >= classes))
        if wrong.size:
            fails(call, f"but is {y[wrong[0]]} at row {wrong[0]}")
        else:
            np.testing.assert_array_equal(call()[:, 0], y)


class TestWeights:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        "w", [[0, 1, 2.5], [[0], [1], [2.5]], pd.Series([0, 1, 2.5]), pl.Series([0.0, 1.0, 2.5])]
    )
    def test_vectors(self, w, dtype):
        weights = data.sample_weights(w, rows=3, dtype=dtype)
        assert weights.dtype == dtype
        np.testing.assert_array_equal(weights, [0, 1, 2.5])

    def test_none_and_what_is_right_already(self):
        assert data.sample_weights(None, rows=3, dtype="float32") is None
        w = np.ones(3)
        assert np.shares_memory(data.sample_weights(w, rows=3, dtype="float64"), w)

    @pytest.mark.parametrize(
        ("w", "message"),
        [
            ([1, 1], "sample_weight has 2 rows, expected 3: one per sample"),
            (np.ones((3, 2)), "sample_weight has shape (3, 2), expected (3,): one weight per sample"),
            (1.0, "sample_weight has shape (), expected (3,)"),
            ([1, -1, 1], "sample_weight must not be negative, but is -1 at row 1"),
            ([1, np.nan, 1], "sample_weight holds a value that is NaN, infinite or missing: nan at row 1"),
            ([0, 0, 0], "sample_weight must have a positive sum, but all 3 weights are zero"),
        ],
    )
    def test_what_is_wrong(self, w, message):
        fails(lambda: data.sample_weights(w, rows=3, dtype="float32"), message)

    def test_of_classes(self):
        labels = np.array([[0], [2], [2], [1]], "f4")
        one_hot = np.eye(3, dtype="f4")[[0, 2, 2, 1]]
        for y in (labels, labels[:, 0], one_hot):
            weights = data.class_weights({0: 2, np.int64(2): 0.5}, y, 3)
            assert weights.dtype == np.float32
            np.testing.assert_array_equal(weights, [2, 0.5, 0.5, 1])
        np.testing.assert_array_equal(data.class_weights({1.0: 3}, np.array([[0.0], [1.0]]), 2), [1, 3])

    @settings(deadline=None)
    @given(y=hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 4)))
    def test_balanced(self, y):
        weights = data.class_weights("balanced", y[:, None].astype(float), 6)
        totals = [weights[y == label].sum() for label in np.unique(y)]
        np.testing.assert_allclose(totals, totals[0])
        np.testing.assert_allclose(weights.mean(), 1)

    @pytest.mark.parametrize(
        ("weights", "error", "message"),
        [
            ("equal", TypeError, "class_weight must be a dict of class to weight or 'balanced', not 'equal'"),
            (
                [1, 2],
                TypeError,
                "class_weight must be a dict of class to weight or 'balanced', not of type list",
            ),
            ({2: 1.0}, ValueError, "class_weight names class 2, expected classes from 0 to 1"),
            ({-1: 1.0}, ValueError, "class_weight names class -1"),
            ({"0": 1.0}, ValueError, "class_weight names class '0'"),
            ({0.5: 1.0}, ValueError, "class_weight names class 0.5"),
            ({0: "1"}, TypeError, "class_weight[0]"),
            ({0: -1}, ValueError, "class_weight[0]"),
            ({1: np.nan}, ValueError, "class_weight[1]"),
            (
                {0: 0, 1: 0},
                ValueError,
                "class_weight must give some sample a positive weight, but all 2 weigh 0",
            ),
        ],
    )
    def test_of_classes_what_is_wrong(self, weights, error, message):
        fails(lambda: data.class_weights(weights, np.array([[0.0], [1.0]]), 2), message, error)
