"""Inputs that are not read whole: memory-mapped files and integers train as arrays do."""

import runpy
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.format import open_memmap
from scipy import sparse

import fastbp as bp
from fastbp import data, sources
from fastbp.engine.plan import ELEMENTS
from fastbp.layers import Dense
from fastbp.sources import MappedRows

DATA = runpy.run_path(str(Path(__file__).with_name("source_data.py")))
ROWS = DATA["ROWS"]
COLUMNS = DATA["COLUMNS"]
RNG = DATA["RNG"]
X = DATA["X"]
Y = DATA["Y"]
SPARSE = DATA["SPARSE"]
make = DATA["make"]
mapped = DATA["mapped"]
check_same = DATA["check_same"]


# ---- memory-mapped files -------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks and many parts of a block, however small a file is."""
    monkeypatch.setattr(sources, "BLOCK", 40 * COLUMNS * 4)
    monkeypatch.setattr(sources, "MAPPED", 3 << 16)


@pytest.mark.parametrize("shuffle", [False, True, "batch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mapped_file_is_as_good_as_an_array(dtype, shuffle, tmp_path, small_blocks):
    file = mapped(tmp_path, X.astype(dtype))
    check_same(file, X.astype(dtype), dtype, shuffle=shuffle)
    assert isinstance(data.features(file, dtype=dtype), MappedRows)


@pytest.mark.parametrize("element", [">f4", "f8", "f2", "u1", ">i8", "?", "g"])
@pytest.mark.parametrize("fortran", [False, True])
def test_of_any_element_and_layout(element, fortran, tmp_path, small_blocks):
    values = (X % 2 if element == "?" else X).astype(element)
    check_same(mapped(tmp_path, values, fortran=fortran), values.astype("f4"))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_views_of_a_file_and_what_was_written_to_it(mode, tmp_path, small_blocks):
    wide = np.concatenate([X, X[:, ::-1]], axis=1).astype("f4")
    file = mapped(tmp_path, wide, mode)
    if mode != "r":
        file[5] = wide[5] = 0.25  # in mode "c" only in memory
    check_same(np.asarray(file)[:, 3 : 3 + COLUMNS], wide[:, 3 : 3 + COLUMNS].copy())
    np.testing.assert_array_equal(file, wide)


def test_rows_are_read_ahead_of_the_engine(tmp_path, small_blocks):
    rows = MappedRows(mapped(tmp_path, X.astype("f4")), "float32", "X")
    readers = []
    whole = rows.load
    rows.load = lambda *rows: (readers.append(threading.current_thread().name), whole(*rows))[1]
    blocks = rows.blocks(None, 10)
    next(blocks)
    blocks.close()
    assert len(readers) >= 2
    assert all(name.startswith("fastbp-read-ahead") for name in readers)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastbp-read-ahead")]


def test_all_rows_come_in_whole_batches(tmp_path, small_blocks):
    file = mapped(tmp_path, X.astype("f4"))
    order = RNG.permutation(ROWS)
    for turns in (None, order):
        position = 0
        for rows, values, places in MappedRows(file, "float32", "X").blocks(turns, 9):
            expected = (np.arange(ROWS) if turns is None else turns)[position : position + len(values)]
            got = values if places is None else values[places]
            np.testing.assert_array_equal(got, X[expected])
            np.testing.assert_array_equal(values, X[rows])
            assert len(values) <= 40
            position += len(values)
            assert position % 9 == 0 or position == ROWS
        assert position == ROWS
    wide = MappedRows(file, "float32", "X").blocks(None, 1000)
    assert [len(values) for _, values, _ in wide] == [ROWS]


def test_what_is_not_finite_is_noticed_when_it_is_read(tmp_path, small_blocks):
    values = X.astype("f8")
    values[111, 4] = np.nan
    file = mapped(tmp_path, values)
    rest, last = file[50:], Y[50:]
    for row, use in (
        (111, lambda: make().fit(file, Y)),
        (111, lambda: make().predict(file)),
        (61, lambda: make().evaluate(rest, last)),
        (61, lambda: make().fit(rest, last, validation_split=0.5)),
        (111, lambda: make().train_on_batch(file, Y)),
        (111, lambda: make().forward(file)),
    ):
        with pytest.raises(ValueError, match=rf"X holds a value that is NaN, .*: nan at row {row}, column 4"):
            use()
    values[111, 4] = 1e300
    file = mapped(tmp_path, values)
    with pytest.raises(ValueError, match=r"out of the range of float32: 1e\+300 at row 111, column 4; scale"):
        make().predict(file)
    assert np.isfinite(make("float64").predict(file)).all()


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"use X.reshape\(len\(X\), -1\)"):
        make().predict(mapped(tmp_path, np.zeros((3, 2, 2), "u1")))
    with pytest.raises(TypeError, match="X holds complex numbers"):
        make().predict(mapped(tmp_path, np.zeros((3, 2), "c8")))
    with pytest.raises(ValueError, match="X has 2 columns, expected 3"):
        make(input_size=3).predict(mapped(tmp_path, np.zeros((3, 2))))


def test_the_targets_may_be_mapped_too(tmp_path, small_blocks):
    path = tmp_path / "y.npy"
    np.save(path, Y.astype("f4"))
    model, other = make(), make()
    model.fit(mapped(tmp_path, X.astype("f4")), np.load(path, mmap_mode="r"), batch_size=10)
    other.fit(X.astype("f4"), Y, batch_size=10)
    np.testing.assert_array_equal(model.parameters, other.parameters)


MEMORY = """
    import sys
    import numpy as np
    import fastbp as bp

    def peak():  # of this process alone, in bytes
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        return 1024 * int(status["VmHWM"].split()[0])

    X = np.load(sys.argv[1], mmap_mode="r")
    y = np.zeros((len(X), 1), "f4")
    model = bp.Sequential([bp.layers.Dense(4), bp.layers.Dense(1)], loss="mse", seed=0)
    model.fit(np.ones((512, 1024), "f4"), y[:512], batch_size=512)
    before = peak()
    for shuffle in (False, "batch", True):
        model.fit(X, y, batch_size=512, shuffle=shuffle)
    model.predict(X), model.evaluate(X, y)
    training = peak() - before
    np.array(X)
    print(training, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one process")
def test_memory_stays_constant(tmp_path):
    """A fraction of the file, and the order; reading it whole is seen by the same measure."""
    size = 128 << 20
    file = open_memmap(tmp_path / "X.npy", "w+", "f4", (size // 4096, 1024))
    file[:] = 1
    file.flush()
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path / "X.npy")]
    training, everything = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(training) < 48 << 20
    assert int(everything) > size // 2


# ---- integers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_of_every_element(element, dtype):
    values = (X % 2 if element == "bool" else X).astype(element)
    check_same(values, values.astype(dtype), dtype)


def test_integers_are_not_copied():
    for element in ELEMENTS:
        values = np.ones((4, 3), element)
        found = data.features(values, dtype="float32")
        assert (found is values) == (element != "float64")
    turned = data.features(np.asfortranarray(X.astype("u1")), dtype="float32")
    assert turned.dtype == np.uint8
    assert turned.flags.c_contiguous
    marked = np.ones((2, 2), np.dtype(">i4").newbyteorder())  # native, and says so
    assert make().predict(marked).shape == (2, 2)
    swapped = data.features(X.astype(">i2"), dtype="float32")
    assert swapped.dtype == np.dtype("=i2")
    np.testing.assert_array_equal(swapped, X)


def test_float16_must_be_finite():
    largest = np.full((300, 300), np.finfo("f2").max)
    assert data.features(largest, dtype="float32") is largest
    largest[7, 8] = np.inf
    with pytest.raises(ValueError, match="inf at row 7, column 8"):
        data.features(largest, dtype="float32")


# ---- whatever the source ----


def test_frozen_networks_take_every_source(tmp_path):
    model = make(input_size=COLUMNS)
    f, dense = model.freeze(), SPARSE.toarray()
    for source in (SPARSE, SPARSE.tocsc(), mapped(tmp_path, dense), dense.astype("f2")):
        np.testing.assert_allclose(f(source), model.predict(source), rtol=1e-6)
    np.testing.assert_allclose(f(X[5].astype("u1")), model.predict(X)[5], rtol=1e-6)


def test_targets_and_weights_are_dense():
    for arguments in ({"y": SPARSE[:, :2]}, {"y": Y, "sample_weight": SPARSE[:, 0]}):
        with pytest.raises(TypeError, match=r"is sparse .* expected a dense array"):
            make().fit(SPARSE, **arguments)


def test_layers_that_look_up_rows_check_every_source(tmp_path):
    def lookup():
        layers = [bp.layers.Embedding(50, 3), Dense(2)]
        return bp.Sequential(layers, loss="mean_squared_error", seed=0)

    for source in (X % 50, (X % 50).astype("u1"), mapped(tmp_path, X % 50), sparse.csc_array(X % 50)):
        model = lookup()
        model.fit(source, Y)
        np.testing.assert_array_equal(model.predict(source), model.predict((X % 50).astype("f4")))
    wrong = X % 50
    wrong[7, 0] = 50
    for source in (wrong, wrong.astype("u1"), mapped(tmp_path, wrong), sparse.csr_array(wrong)):
        with pytest.raises(ValueError, match=r"from 0 to 49 in column 0, .* but is 50 at row 7"):
            lookup().fit(source, Y)
