"""Model files: what goes in comes out; what is damaged, foreign or unwritable is a clear error."""

import errno
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbp import model_file

METADATA = {"layers": [{"class": "Dense", "units": 3}], "name": "é ∂L/∂w", "rate": 0.1, "none": None}
POSIX = os.name == "posix"


def tensors():
    rng = np.random.default_rng(0)
    return {
        "dense.weight": rng.normal(size=(3, 4)).astype("f4"),
        "dense.bias": rng.normal(size=3),
        "step": np.array([7], np.int64),
    }


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(left[name], right[name], strict=True)


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_round_trip(path, kind):
    model_file.write(kind(path), tensors(), METADATA)
    read, metadata = model_file.read(kind(path))
    same(read, tensors())
    assert metadata == METADATA
    assert os.listdir(path.parent) == [path.name]


def test_a_relative_path_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model_file.write("m", tensors(), {})
    same(model_file.read("m")[0], tensors())


@given(
    arrays=st.dictionaries(
        st.text(max_size=8).filter(lambda name: name != "__metadata__"),
        hnp.arrays(
            st.sampled_from(["<f4", "<f8", ">f4", ">f8", "i8", "u1", "?"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ).map(lambda a: a[::-1] if a.ndim else a),
        max_size=4,
    )
)
@settings(deadline=None)
def test_any_names_layouts_and_byte_orders(arrays):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m")
        model_file.write(path, arrays, {})
        read, _ = model_file.read(path)
    same(read, {name: a.astype(a.dtype.newbyteorder("=")) for name, a in arrays.items()})


def test_other_programs_can_read_it(path):
    model_file.write(path, tensors(), METADATA)
    same(safetensors.numpy.load_file(path), tensors())
    with safetensors.safe_open(path, "np") as file:
        entries = file.metadata()
    assert entries["format"] == "fastbp"
    assert entries["version"] == "1"
    assert json.loads(entries["metadata"]) == METADATA


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "message"),
    [
        ({}, {"a": object()}, TypeError, "metadata has no form in JSON: Object of type object"),
        ({}, {"a": float("nan")}, ValueError, "metadata has no form in JSON: Out of range"),
        ({"a": np.array([None])}, {}, ValueError, "tensors of dtype object have no form in safetensors"),
        ({"a": np.array(["x"])}, {}, ValueError, "tensors of dtype <U1 have no form in safetensors"),
    ],
)
def test_what_cannot_be_written(path, arrays, metadata, error, message):
    path.write_bytes(b"before")
    with pytest.raises(error, match=message):
        model_file.write(path, arrays, metadata)
    assert path.read_bytes() == b"before"


class TestReplacing:
    def test_a_failing_disk_leaves_the_old_file(self, path, monkeypatch):
        model_file.write(path, tensors(), METADATA)
        before = path.read_bytes()

        def fail(descriptor):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="the model cannot be saved: Input/output error") as caught:
            model_file.write(path, {}, {})
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == str(path)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]

    def test_an_interruption_leaves_the_old_file(self, path, monkeypatch):
        path.write_bytes(b"before")

        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model_file.write(path, tensors(), {})
        assert path.read_bytes() == b"before"
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
    def test_folders_that_cannot_be_synced(self, path, monkeypatch, number, passes):
        fsync = os.fsync

        def only_files(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", only_files)
        if passes or not POSIX:
            model_file.write(path, tensors(), {})
        else:
            with pytest.raises(OSError, match="the model cannot be saved"):
                model_file.write(path, tensors(), {})
        same(model_file.read(path)[0], tensors())

    def test_file_and_folder_are_synced_in_order(self, path, monkeypatch):
        calls = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(
            os, "fsync", lambda d: (calls.append(stat.S_ISDIR(os.fstat(d).st_mode)), fsync(d))[1]
        )
        monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b))[1])
        model_file.write(path, tensors(), {})
        assert calls == [False, "replace", True] if POSIX else [False, "replace"]

    def test_no_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="the model cannot be saved: there is no folder"):
            model_file.write(tmp_path / "absent" / "m", tensors(), {})

    def test_a_folder_as_target(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="the model cannot be saved: this is a folder"):
            model_file.write(tmp_path, tensors(), {})
        assert os.listdir(tmp_path) == []

    def test_a_file_as_folder(self, path):
        path.write_bytes(b"")
        with pytest.raises(OSError, match="the model cannot be saved"):
            model_file.write(path / "m", tensors(), {})


if POSIX:

    def run(code, *arguments):
        """Run code in a process of its own, as an ordinary user who may not write everywhere."""
        prelude = (
            "import os, resource, signal, sys\n"
            "import json, numpy as np, safetensors.numpy\n"  # the other user may not reach them
            "from fastbp import model_file\n"
            "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        )
        command = [sys.executable, "-W", "ignore", "-c", prelude + code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    SAVE = (
        "try: model_file.write(sys.argv[1], {'a': np.ones(100_000)}, {})\n"
        "except OSError as error: print(type(error).__name__, error.errno, error.strerror)\n"
    )

    @pytest.fixture
    def open_folder():
        """A folder that any user can reach and write into."""
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            yield pathlib.Path(folder)

    class TestOtherUsers:
        def test_a_full_disk(self, open_folder):
            """The system itself refuses to write on, as it does on a full disk."""
            path = open_folder / "m"
            path.write_bytes(b"before")
            path.chmod(0o666)
            limit = (
                "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
                "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            )
            printed = run(limit + SAVE, path)
            assert printed == f"OSError {errno.EFBIG} the model cannot be saved: {os.strerror(errno.EFBIG)}"
            assert path.read_bytes() == b"before"
            assert os.listdir(open_folder) == ["m"]

        def test_a_read_only_folder(self, open_folder):
            path = open_folder / "m"
            path.write_bytes(b"before")
            path.chmod(0o666)
            open_folder.chmod(0o555)
            printed = run(SAVE, path)
            open_folder.chmod(0o777)
            assert printed.startswith(f"PermissionError {errno.EACCES} the model cannot be saved: ")
            assert path.read_bytes() == b"before"

        def test_a_write_protected_file(self, open_folder):
            path = open_folder / "m"
            path.write_bytes(b"before")
            path.chmod(0o444)
            expected = (
                f"PermissionError {errno.EACCES} the model cannot be saved: the file there is write-protected"
            )
            assert run(SAVE, path) == expected
            assert path.read_bytes() == b"before"

        def test_a_folder_that_cannot_be_listed(self, open_folder):
            open_folder.chmod(0o333)
            assert run(SAVE, open_folder / "m") == ""
            open_folder.chmod(0o777)
            same(model_file.read(open_folder / "m")[0], {"a": np.ones(100_000)})

    class TestPermissions:
        @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
        def test_a_new_file_follows_the_umask(self, path, mask):
            before = os.umask(mask)
            try:
                model_file.write(path, tensors(), {})
            finally:
                os.umask(before)
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask

        @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
        def test_a_replaced_file_hands_its_own_on(self, path, mode):
            path.write_bytes(b"before")
            path.chmod(mode)
            model_file.write(path, tensors(), {})
            assert stat.S_IMODE(path.stat().st_mode) == mode

        def test_a_symbolic_link_stays_one(self, tmp_path, path):
            link = tmp_path / "link"
            link.symlink_to(path.name)
            for _ in range(2):  # at first it leads nowhere
                model_file.write(link, tensors(), {})
                assert link.is_symlink()
                same(model_file.read(path)[0], tensors())

        def test_a_device_or_pipe_stays_one(self, tmp_path):
            pipe = tmp_path / "pipe"
            os.mkfifo(pipe)
            with pytest.raises(OSError, match="this is no regular file"):
                model_file.write(pipe, tensors(), {})
            assert stat.S_ISFIFO(pipe.stat().st_mode)
