"""Reading model files: what is damaged, foreign or does not fit is a clear error."""

import json
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import model_file

TENSORS = {"weight": np.linspace(-1, 1, 12).reshape(3, 4).astype("f4"), "step": np.array([7], np.int64)}


def content(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tagged(**entries):
    return {"__metadata__": {"format": "fastbp", "version": "1", "metadata": "{}"} | entries}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file and what it holds: a test may write over it."""
    path = tmp_path_factory.mktemp("written") / "m"
    model_file.write(path, TENSORS, {"name": "é ∂L/∂w"})
    return path, path.read_bytes()


class TestReading:
    def test_no_file(self, path):
        with pytest.raises(FileNotFoundError):
            model_file.read(path)
        with pytest.raises(OSError, match=r"irectory|denied"):
            model_file.read(path.parent)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", r"it is truncated or not in the safetensors format \(0 bytes\)"),
            (b"1234567", "it is truncated"),
            (b"\xff" * 8, "it is truncated"),
            (b"a,b,c\n1,2,3\n4,5,6\n", "it is truncated or not in the safetensors format"),
            (content(b"{not json"), "its header is not in the safetensors format"),
            (content(b"\xff\xfe"), "its header is not in the safetensors format"),
            (content(b"[" * 100_000), "its header is not in the safetensors format"),
            (content(b"9" * 5000), "its header is not in the safetensors format"),
            (content([1]), "no JSON object"),
            (content({}), "it is a safetensors file of another program"),
            (content({"__metadata__": {"format": "pt"}}), "it is a safetensors file of another program"),
            (content({"__metadata__": [1]}), "it is a safetensors file of another program"),
            (content(tagged(version="2")), "its version is '2', and this fastbp knows version 1$"),
            (content(tagged(version=None)), "its version is None"),
            (content(tagged(metadata="{")), "its metadata is not JSON"),
            (content(tagged(metadata="[" * 100_000)), "its metadata is not JSON"),
            (content(tagged(metadata=3)), "its metadata is not JSON"),
            (content(tagged(metadata="[]")), "its metadata is not a JSON object"),
            (content({"__metadata__": {"format": "fastbp", "version": "1"}}), "its metadata is not JSON"),
            (
                content(tagged() | {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"0123"),
                "it is damaged",
            ),
            (
                content(tagged() | {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"012"),
                "it is damaged",
            ),
            (
                content(
                    tagged() | {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"01234567"
                ),
                "it is damaged",
            ),
            (
                content(tagged() | {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}),
                "it is damaged",
            ),
            (
                content(tagged() | {"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"01"),
                "it is damaged",
            ),
            (content(tagged() | {"a": 1}), "it is damaged"),
        ],
    )
    def test_what_is_no_model(self, path, data, message):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as caught:
            model_file.read(path)
        assert str(caught.value).startswith(f"{str(path)!r} is no model file of fastbp: ")

    @given(data=st.data())
    @settings(max_examples=300, deadline=None)
    def test_damaged_files_never_crash(self, written, data):
        """A truncated file is always noticed; a flipped byte at least never changes shapes unnoticed."""
        path, good = written
        if data.draw(st.booleans()):
            path.write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
            with pytest.raises(ValueError, match="is no model file of fastbp"):
                model_file.read(path)
            return
        bad = bytearray(good)
        header = 8 + int.from_bytes(good[:8], "little")
        for _ in range(data.draw(st.integers(1, 3))):
            bad[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bad)
        try:
            read, metadata = model_file.read(path)
        except ValueError:
            return
        assert sum(tensor.nbytes for tensor in read.values()) == len(good) - header
        assert isinstance(metadata, dict)

    @given(data=st.binary(max_size=200))
    @settings(deadline=None)
    def test_noise_is_rejected(self, data):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "m")
            for noise in (data, content(data)):
                path.write_bytes(noise)
                with pytest.raises(ValueError, match="is no model file of fastbp"):
                    model_file.read(path)

    def test_nothing_is_unpickled(self, path):
        import pickle

        path.write_bytes(pickle.dumps(TENSORS))
        with pytest.raises(ValueError, match="is no model file of fastbp"):
            model_file.read(path)


EXPECTED = {"w": ((3, 2), "float32"), "b": ((3,), "float32")}


class TestCheckTensors:
    def test_what_fits(self):
        model_file.check_tensors(EXPECTED, {"w": np.ones((3, 2), "f4"), "b": np.ones(3, "f4")})

    def test_every_problem_is_named(self):
        with pytest.raises(ValueError, match="the tensors do not fit the architecture: ") as caught:
            model_file.check_tensors(EXPECTED, {"w": np.ones((2, 3)), "c": np.ones(3)})
        assert str(caught.value).split(": ")[1].split("; ") == [
            "'w' has shape (2, 3), expected (3, 2)",
            "'w' has dtype float64, expected float32",
            "'b' is missing",
            "'c' is not expected",
        ]
