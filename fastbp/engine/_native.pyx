# cython: language_level=3, binding=False
"""The native interpreter: plans turned into C structs and run by the C core, the GIL released."""

# One extension, a file per concept: they share their names.
include "native/buffers.pxi"
include "native/machine.pxi"
include "native/schema.pxi"
include "native/program.pxi"
include "native/frozen.pxi"
include "native/shuffle.pxi"
include "native/permutation.pxi"
include "native/kernels.pxi"
