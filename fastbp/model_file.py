"""Model files: named arrays and JSON metadata in the safetensors format. No pickle, no code.

A file is replaced as a whole or not at all: it is written beside its target under another name, forced to
the disk, and renamed.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

Tensors = dict[str, NDArray[Any]]
StrPath = str | os.PathLike[str]

FORMAT = "fastbp"
VERSION = 1  # raise it when a reader of the old one would misunderstand the new one
_KNOWN_VERSIONS = (1,)
_NUMPY_TYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def write(path: StrPath, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write a model file.

    The folder never holds half a model: on any error an existing file at `path` stays as it was. A new
    file gets the usual permissions, a replaced one hands its own on; a symbolic link is followed.

    Parameters
    ----------
    path : str or path-like
        The file; its folder must exist.
    tensors : mapping of str to ndarray
        Any dtype of numbers and any memory layout.
    metadata : mapping
        Anything that JSON can say.

    Raises
    ------
    OSError
        If the file cannot be written: no folder, no permission, no space.
    TypeError, ValueError
        If `metadata` has no form in JSON, or safetensors has no dtype for a tensor.

    Examples
    --------
    >>> import numpy, os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "model.safetensors")
    >>> write(path, {"dense.bias": numpy.zeros(2)}, {"units": 2})
    >>> read(path)
    ({'dense.bias': array([0., 0.])}, {'units': 2})
    >>> folder.cleanup()
    """
    replace(path, _serialize(tensors, metadata))


def read(path: StrPath) -> tuple[Tensors, dict[str, Any]]:
    """Read a model file.

    Returns
    -------
    tensors : dict of str to ndarray
        They may be read-only.
    metadata : dict

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, is no model of fastbp, or is of a version that is not known here.
    """
    with open(path, "rb") as file:
        try:
            header = _read_header(file)
            metadata = _metadata(header)
            file.seek(0)
            tensors = _deserialize(file.read())
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r} is no model file of fastbp: {error}") from error
    return tensors, metadata


def read_tensors(path: StrPath) -> Tensors:
    """Read the arrays of a safetensors file of any program.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged or holds other numbers than NumPy's.
    """
    with open(path, "rb") as file:
        try:
            for name, entry in _read_header(file).items():
                kind = entry.get("dtype", "F32") if isinstance(entry, dict) else "F32"
                if kind not in _NUMPY_TYPES:
                    raise ValueError(
                        f"tensor {name!r} has the element type {kind}, which NumPy does not have"
                    )
            file.seek(0)
            return _deserialize(file.read())
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)!r} cannot be read: {error}") from error


def write_tensors(path: StrPath, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays for other programs, marked as PyTorch's, which is what its tools ask for."""
    replace(path, _pack(tensors, {"format": "pt"}))


def check_tensors(
    expected: Mapping[str, tuple[tuple[int, ...], DTypeLike]], tensors: Mapping[str, NDArray[Any]]
) -> None:
    """Check that tensors are those that an architecture asks for.

    Parameters
    ----------
    expected : mapping of str to (shape, dtype)
        What each tensor must be.
    tensors : mapping of str to ndarray

    Raises
    ------
    ValueError
        Naming every tensor that is missing, not expected, of another shape or of another dtype.

    Examples
    --------
    >>> check_tensors({"a": ((2,), "float32"), "b": ((1,), "float32")}, {"a": np.zeros(3, "float32")})
    Traceback (most recent call last):
        ...
    ValueError: the tensors do not fit the architecture: 'a' has shape (3,), expected (2,); 'b' is missing
    """
    problems = []
    for name, (shape, dtype) in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            problems.append(f"{name!r} is missing")
            continue
        if tensor.shape != tuple(shape):
            problems.append(f"{name!r} has shape {tensor.shape}, expected {tuple(shape)}")
        if tensor.dtype != np.dtype(dtype):
            problems.append(f"{name!r} has dtype {tensor.dtype}, expected {np.dtype(dtype)}")
    problems += [f"{name!r} is not expected" for name in tensors if name not in expected]
    if problems:
        raise ValueError(f"the tensors do not fit the architecture: {'; '.join(problems)}")


def _serialize(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> bytes:
    import json  # here and below: what only files need shall not slow down `import fastbp`

    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"metadata has no form in JSON: {error}") from error
    return _pack(tensors, {"format": FORMAT, "version": str(VERSION), "metadata": text})


def _pack(tensors: Mapping[str, NDArray[Any]], entries: dict[str, str]) -> bytes:
    import safetensors.numpy

    # The library reads memory as if it were contiguous and in the machine's byte order.
    plain = {
        name: np.require(tensor, np.asarray(tensor).dtype.newbyteorder("="), ["C_CONTIGUOUS", "ALIGNED"])
        for name, tensor in tensors.items()
    }
    try:
        return safetensors.numpy.save(plain, entries)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        kinds = ", ".join(sorted({str(tensor.dtype) for tensor in plain.values()}))
        raise ValueError(f"tensors of dtype {kinds} have no form in safetensors: {error}") from error


def replace(path: StrPath, content: bytes) -> None:
    """Put a file with this content at `path`, in one step; see :func:`write`."""
    target, shown = os.path.realpath(path), os.fspath(path)
    temporary = f"{_temporary(target)}{os.urandom(8).hex()}.tmp"
    try:
        mode = _mode_to_keep(target)
        try:
            with open(temporary, "xb") as file:
                if mode is not None:
                    os.chmod(temporary, mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(os.path.dirname(target))
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.ENOENT:
            reason = f"there is no folder {os.path.dirname(target)!r}"
        # OSError picks the subclass, such as PermissionError, by the number
        raise OSError(error.errno, f"the model cannot be saved: {reason}", shown) from error


def remove_leftovers(path: StrPath) -> None:
    """Delete what writers of this file left when they were killed; nobody may be writing it now."""
    for leftover in glob.glob(f"{glob.escape(_temporary(os.path.realpath(path)))}*.tmp"):
        with suppress(OSError):
            os.unlink(leftover)


def _temporary(target: str) -> str:
    """How the names of temporary files beside a target begin."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".fastbp-{zlib.crc32(os.fsencode(name)):08x}-")


def _mode_to_keep(target: str) -> int | None:
    """Permissions of the file that is replaced; None without one."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "this is a folder")
    if not stat.S_ISREG(mode):  # a rename would put a file in place of a device or pipe
        raise OSError(errno.EINVAL, "this is no regular file")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file there is write-protected")
    return stat.S_IMODE(mode) & 0o777


def _sync_folder(folder: str) -> None:
    """Force the new name to the disk, where the system can do that for folders."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one may write into this folder, but not list it
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system knows no fsync of folders
            raise
    finally:
        os.close(descriptor)


def _read_header(file: BinaryIO) -> dict[str, Any]:
    """Read the JSON at the beginning: enough to reject a foreign file before its bulk is read."""
    import json

    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError(f"it is truncated or not in the safetensors format ({size} bytes)")
    try:
        header = json.loads(file.read(length).decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is not in the safetensors format ({error})") from error
    if not isinstance(header, dict):
        raise ValueError("its header is not in the safetensors format (no JSON object)")
    return header


def _metadata(header: dict[str, Any]) -> dict[str, Any]:
    import json

    entries = header.get("__metadata__")
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise ValueError("it is a safetensors file of another program")
    version = entries.get("version")
    if version not in [str(known) for known in _KNOWN_VERSIONS]:
        known = ", ".join(map(str, _KNOWN_VERSIONS))
        raise ValueError(f"its version is {version!r}, and this fastbp knows version {known}")
    try:
        metadata = json.loads(entries["metadata"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its metadata is not JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not a JSON object")
    return metadata


def _deserialize(content: bytes) -> Tensors:
    import safetensors.numpy

    try:
        return safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"it is damaged ({error})") from error
