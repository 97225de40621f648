# What this machine is, how many of its threads may work, and what they can do at most.

import os

from libc.stdint cimport int64_t
from libc.string cimport memset


def isas():
    """Names of the compiled instruction sets that this machine runs, best first."""
    cdef const char *const *names = fbp_isas()
    found = []
    while names[len(found)] != NULL:
        found.append(names[len(found)].decode())
    return tuple(found)


def _choose_isa():
    available = isas()
    wanted = os.environ.get("FASTBP_ISA", "")
    if not wanted and available:
        return available[0]
    if wanted not in available:
        raise ValueError(
            f"FASTBP_ISA={wanted!r} is not available: this build on this machine can run "
            f"{', '.join(available) or 'nothing (x86-64-v2 is the least)'}"
        )
    return wanted


ISA = _choose_isa()
"""Name of the instruction set in use."""

HAS_OPENMP = bool(fbp_has_openmp())


def set_num_threads(int limit):
    fbp_set_threads(limit)


def get_num_threads():
    return fbp_get_threads()


def members_in_use():
    """Threads of the engine that are at work now."""
    return fbp_members_in_use()


def team_size(double flops):
    """Threads for a pass of that many floating-point operations, as limits stand now."""
    return fbp_team_size(flops)


def set_grain(double flops):
    """Floating-point operations per pass that make one more thread worthwhile; negative: the default."""
    fbp_set_grain(flops)


def get_grain():
    return fbp_get_grain()


def set_intel(int intel):
    """Schedule as for Intel's processors (1) or for others (0); negative: as for this one."""
    fbp_set_intel(intel)


def team_sizes(limits, seconds, int64_t batches):
    """Size of the team of each batch, if run i, of so many, takes n members seconds(i, n)."""
    cdef fbp_pace pace
    cdef int64_t left, rows
    memset(&pace, 0, sizeof(pace))
    sizes = []
    for i, most in enumerate(limits):
        left = batches
        while left > 0:
            size = fbp_pace_size(&pace, most, 1)
            rows = fbp_pace_rows(&pace, size, 1, left)
            fbp_pace_note(&pace, size, most, 1, rows, seconds(i, size) * rows / batches)
            sizes += [size] * rows
            left -= rows
    return sizes


cdef const fbp_kernels *find_kernels(size_t element):
    isa = ISA.encode()
    return fbp_find_kernels(isa, element)


def tile_shape(dtype):
    """Sizes whose neighbourhood is worth testing: vector, group, kc, mc and nc of a dtype."""
    cdef const fbp_kernels *k = find_kernels(_element(dtype))
    group = fbp_gemm_group(k)
    return {"vector": k.vector, "group": group, "kc": k.kc, "mc": k.mc, "nc": k.nc // group * group}


def multiply_adds(dtype, int64_t rounds):
    """Let all threads do so many rounds of fused multiply-adds in registers; return their operations."""
    cdef const fbp_kernels *kernels = find_kernels(_element(dtype))
    cdef double operations
    with nogil:
        operations = fbp_multiply_adds(kernels, rounds)
    return operations


def sweep(x):
    """Let all threads read and write each element of an array once."""
    cdef Buffer xb = _real(x, "x", True)
    cdef const fbp_kernels *kernels = find_kernels(xb.view.itemsize)
    with nogil:
        fbp_sweep_memory(kernels, xb.size(), xb.view.buf)
