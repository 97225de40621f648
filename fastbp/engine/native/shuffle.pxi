# The order of samples.

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint32_t, uint64_t


# How NumPy's bit generators begin in C: numpy/random/bitgen.h.
cdef struct BitGenerator:
    void *state
    uint64_t (*next_uint64)(void *) noexcept nogil
    uint32_t (*next_uint32)(void *) noexcept nogil


def shuffle(order, capsule):
    """Shuffle int64 numbers in place as RandomState.shuffle does, whose bit generator gives the capsule."""
    cdef Buffer numbers = Buffer(order, "order", "q", True)
    cdef BitGenerator *generator = <BitGenerator *>PyCapsule_GetPointer(capsule, "BitGenerator")
    with nogil:
        fbp_shuffle(
            numbers.size(), <int64_t *>numbers.view.buf, generator.next_uint32, generator.state
        )
