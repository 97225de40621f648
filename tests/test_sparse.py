"""Sparse matrices train as dense ones do."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import fastbp as bp
from fastbp import data
from fastbp.engine.backend import native
from fastbp.engine.sparse import SparseRows
from fastbp.layers import Dense

DATA = runpy.run_path(str(Path(__file__).with_name("source_data.py")))
ROWS = DATA["ROWS"]
COLUMNS = DATA["COLUMNS"]
X = DATA["X"]
Y = DATA["Y"]
SPARSE = DATA["SPARSE"]
VERY_SPARSE = DATA["VERY_SPARSE"]
make = DATA["make"]
check_same = DATA["check_same"]


FORMATS = ("csr", "csc", "coo", "bsr", "lil", "dok")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_matrices_of_any_format(name, dtype):
    for matrix in (SPARSE, VERY_SPARSE, sparse.csr_array(VERY_SPARSE)):
        check_same(matrix.asformat(name), matrix.toarray().astype(dtype), dtype, shuffle=True)


@pytest.mark.parametrize("element", ["u1", "?", "i8", "f8"])
def test_sparse_matrices_of_any_element(element):
    for matrix in (SPARSE, VERY_SPARSE):
        values = (matrix * 9).astype(element)
        check_same(values, values.toarray().astype("f4"))


def test_a_first_layer_reads_sparse_rows_where_that_is_faster():
    model = make(input_size=COLUMNS)
    for use, matrix, where_they_lie in (
        (model.fit, SPARSE, False),
        (model.fit, VERY_SPARSE, True),
        (model.train_on_batch, VERY_SPARSE, True),
        (model.evaluate, SPARSE, True),
        (model.fit, VERY_SPARSE.toarray(), False),
    ):
        use(matrix, Y)
        assert model.plan.reads_sparse == where_they_lie
        assert ("sparse_forward" in str(model.plan)) == where_they_lie


def test_predictions_of_sparse_rows_do_not_depend_on_the_other_rows():
    model = make(input_size=COLUMNS)
    tolerance = 0 if native() else 1e-6  # NumPy's products round by the batch
    expected = model.predict(SPARSE)
    for row in range(0, ROWS, 10):
        alone = model.predict(SPARSE[row : row + 1])[0]
        np.testing.assert_allclose(alone, expected[row], tolerance, tolerance)


def test_a_first_layer_that_is_no_dense_one_gets_dense_rows():
    scaled = [bp.layers.Rescaling(2.0), Dense(2)]
    branches = [bp.layers.Branches([Dense(3), []]), Dense(2)]
    dropped = [bp.layers.Dropout(0.1), Dense(2)]
    for layers in (scaled, branches, dropped):
        model = bp.Sequential(layers, "mse", "adam", seed=0)
        model.fit(VERY_SPARSE, Y)
        expected = model.predict(VERY_SPARSE.toarray())
        np.testing.assert_allclose(model.predict(VERY_SPARSE), expected, rtol=1e-5)


def test_gradients_on_sparse_rows():
    model = make("float64", input_size=COLUMNS)
    samples = data.features(VERY_SPARSE, dtype="float64")
    network = model._require_network()
    found = []
    for inputs in (samples, VERY_SPARSE.toarray().astype(float)):
        _, dX = network.differentiate(bp.samples.Samples(inputs, Y, None), training=True)
        found.append((network.gradients.copy(), dX))
    for got, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


def test_full_batch_optimizers_on_sparse_rows():
    ends = []
    for inputs in (VERY_SPARSE, VERY_SPARSE.toarray()):
        model = make("float64", optimizer=bp.optimizers.LBFGS(max_iter=10))
        model.fit(inputs, Y)
        ends.append(model.parameters.copy())
    np.testing.assert_allclose(*ends, rtol=1e-6, atol=1e-8)


def test_compressed_rows_are_not_copied():
    rows = data.features(SPARSE, dtype="float32")
    assert isinstance(rows, SparseRows)
    assert np.shares_memory(rows.values, SPARSE.data)
    assert np.shares_memory(rows.columns, SPARSE.indices)


def test_unsorted_and_repeated_entries_and_what_lies_behind_them():
    matrix = sparse.csr_matrix(
        (np.array([1, 2, 3, 4, 9.0]), np.array([2, 0, 2, 1, 99]), np.array([0, 3, 3, 4])), shape=(3, 3)
    )
    expected = make(seed=1).predict(np.array([[2, 0, 4], [0, 0, 0], [0, 4, 0.0]]))
    np.testing.assert_allclose(make(seed=1).predict(matrix), expected, rtol=1e-6)
    empty = sparse.csr_matrix((4, 3), dtype="f4")
    np.testing.assert_array_equal(make(seed=1).predict(empty), make(seed=1).predict(np.zeros((4, 3))))


def spoiled(name, **arrays):
    matrix = SPARSE.asformat(name).copy()
    for attribute, change in arrays.items():
        setattr(matrix, attribute, change(getattr(matrix, attribute)))
    return matrix


def put(place, value):
    def change(array):
        array = array.copy()
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        (spoiled("csr", indices=put(5, COLUMNS)), ValueError, "entry in column 7, expected columns from 0"),
        (spoiled("csr", indices=put(5, -1)), ValueError, "X has an entry in column -1"),
        (spoiled("csr", indptr=put(5, 10**6)), ValueError, "X.indptr must ascend from 0"),
        (spoiled("csr", indptr=put(0, -3)), ValueError, "X.indptr must ascend from 0"),
        (spoiled("csr", indptr=put(-1, 10**6)), ValueError, "X.indptr must ascend from 0"),
        (spoiled("csr", indptr=lambda a: a[:-1]), ValueError, "X.indptr has shape"),
        (spoiled("csr", data=lambda a: a[:-1]), ValueError, "X.indptr must ascend from 0"),
        (spoiled("csc", indices=put(5, ROWS)), ValueError, "entry in row 121, expected rows from 0 to 120"),
        (spoiled("csc", indptr=put(1, 10**6)), ValueError, "X.indptr must ascend"),
        (spoiled("coo", coords=lambda a: (a[0] + 1, a[1])), ValueError, "X has an entry in row 121"),
        (spoiled("coo", coords=lambda a: (a[0], a[1] - 1)), ValueError, "X has an entry in column -1"),
        (spoiled("bsr", indices=put(0, 10**6)), ValueError, "X has an entry in column 1000000"),
        (spoiled("csr", data=put(7, np.nan)), ValueError, "X holds a value that is NaN, .*: nan at row"),
        (sparse.csr_matrix((0, 3)), ValueError, r"X is empty: shape \(0, 3\)"),
        (sparse.csr_matrix((3, 2)), ValueError, "X has 2 columns, expected 7"),
        (SPARSE.astype("c8"), TypeError, "X holds complex numbers"),
        (sparse.coo_array(np.ones(7)), ValueError, r"X must have 2 dimensions .*, not shape \(7,\)"),
        (sparse.csr_matrix((3, 2**40)), ValueError, "X has 1099511627776 columns, expected at most"),
    ],
)  # fmt: skip
def test_wrong_sparse_matrices_are_named(matrix, error, message):
    with pytest.raises(error, match=message):
        make(input_size=COLUMNS).predict(matrix)


def test_where_a_sparse_value_lies():
    matrix = SPARSE.copy()
    matrix.data[7] = np.inf
    row, column = np.argwhere(np.isinf(matrix.toarray()))[0]
    with pytest.raises(ValueError, match=f"inf at row {row}, column {column}$"):
        data.features(matrix, dtype="float32")
