# The order of an epoch.

from libc.stdint cimport int64_t, uint64_t


def permutation(uint64_t key, int64_t n, order, int64_t first=0):
    """Fill a vector of int64 with where places of 0, …, n - 1 go; see fastbp.engine.random.permutation."""
    cdef Buffer held = Buffer(order, "order", "q", True)
    cdef const fbp_kernels *kernels = find_kernels(4)
    cdef int64_t count = held.size()
    if not 0 <= n <= (<int64_t>1 << 40):
        raise ValueError(f"n: expected at most 2**40, got {n}")
    if not 0 <= first <= n - count:
        raise ValueError(f"order: expected at most {n} - {first} elements, got {count}")
    if count > 0:
        with nogil:
            fbp_permutation(kernels, key, n, first, count, <int64_t *>held.view.buf)
