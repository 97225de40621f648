# Arrays of the caller as memory of the C core.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int64_t


cdef size_t _element(dtype) except 0:
    if dtype == "float32":
        return 4
    if dtype == "float64":
        return 8
    raise TypeError(f"dtype must be 'float32' or 'float64', not {dtype!r}")


# {letter of the buffer protocol: its kind}; how wide the integers are depends on the platform
_KINDS = {letter: "int" for letter in "bhilq"} | {letter: "uint" for letter in "BHILQ"}
_KINDS |= {letter: "float" for letter in "efd"}


cdef class Buffer:
    """A C-contiguous array held for as long as this object lives; without a code, of any numbers."""
    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, array, str name, str code, bint writable=False):
        cdef int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0)
        PyObject_GetBuffer(array, &self.view, flags)
        self.held = True
        got = self.letter()
        if got == "l" and code in ("i", "q"):
            got = "q" if self.view.itemsize == 8 else "i"
        if got != code and code is not None:
            raise TypeError(f"{name}: expected elements of type {code!r}, got {got!r}")

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef str letter(self):
        return (self.view.format).decode() if self.view.format != NULL else "B"

    cdef int64_t size(self) noexcept nogil:
        return self.view.len // self.view.itemsize

    cdef int element(self, str name) except -1:
        """Number of the element type among those that inputs may have."""
        letter = self.letter()
        kind = "bool" if letter == "?" else f"{_KINDS.get(letter, letter)}{8 * self.view.itemsize}"
        if kind not in _ELEMENTS:
            raise TypeError(f"{name}: expected elements that are numbers, got {letter!r}")
        return _ELEMENTS[kind]


CODES = {"float32": "f", "float64": "d"}
