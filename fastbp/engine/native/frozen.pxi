# Networks whose parameters do not change any more.

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastbp.engine.plan import PHASES

# Programs that one frozen network keeps: so many threads can be inside it without making another.
cdef enum:
    KEPT = 64
# Fewer floating-point operations than this are not worth giving up the interpreter's lock.
cdef double QUICK = 2e5


cdef class Frozen:
    """Forward passes over parameters that nobody changes; see :class:`fastbp.frozen.Frozen`.

    A program belongs to one call at a time. The ones that are free lie on a stack that is only touched with
    the interpreter's lock held; a call that finds none makes another.
    """
    cdef readonly object plan
    cdef object parameters, counters, empty, convert, dtype
    cdef fbp_program *free_programs[KEPT]
    cdef int count
    cdef char code
    cdef int64_t inputs, outputs
    cdef double flops

    def __cinit__(self, plan, parameters, counters, empty, convert):
        """empty(shape, dtype) makes an array, convert(x) a C-contiguous one of the right type and width."""
        self.plan, self.parameters, self.counters = plan, parameters, counters
        self.empty, self.convert = empty, convert
        self.dtype, self.code = parameters.dtype, ord(CODES[plan.dtype])
        self.inputs, self.outputs = plan.columns["inputs"], plan.columns["outputs"]
        self.flops = sum([op.flops for op in plan.ops]) / plan.batch_size
        self.free_programs[0] = self.make()
        self.count = 1

    def __dealloc__(self):
        while self.count > 0:
            self.count -= 1
            fbp_program_destroy(self.free_programs[self.count])

    cdef fbp_program *make(self) except NULL:
        # Only forward phases run: nothing writes to what stands here for the gradients.
        cdef Program made = Program(
            self.plan, self.parameters, self.parameters, self.empty(0, self.dtype), self.counters
        )
        cdef fbp_program *program = made.program
        made.program = NULL  # ours now; the arrays live as long as this object
        return program

    def __call__(self, x, out=None):
        cdef Py_buffer source, target
        cdef fbp_request request
        cdef fbp_result result
        cdef fbp_program *program
        cdef int status, flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
        cdef int64_t rows
        if PyObject_CheckBuffer(x) == 0:
            x = self.convert(x)
        try:
            PyObject_GetBuffer(x, &source, flags)
        except (BufferError, ValueError):
            x = self.convert(x)
            PyObject_GetBuffer(x, &source, flags)
        try:
            if source.format[0] != self.code or source.format[1] != 0 or source.ndim == 0 or source.ndim > 2 \
                    or source.shape[source.ndim - 1] != self.inputs:
                return self(self.convert(x), out)
            rows = source.shape[0] if source.ndim == 2 else 1
            if out is None:
                out = self.empty(self.shape(source.ndim, rows), self.dtype)
            PyObject_GetBuffer(out, &target, flags | PyBUF_WRITABLE)
            try:
                if target.format[0] != self.code or target.format[1] != 0 or target.ndim != source.ndim \
                        or target.shape[0] != (rows if target.ndim == 2 else self.outputs) \
                        or target.shape[target.ndim - 1] != self.outputs:
                    shape = self.shape(source.ndim, rows)
                    raise ValueError(
                        f"out: expected an array of {self.dtype} and shape {shape}, got "
                        f"{getattr(out, 'dtype', type(out))} of shape {getattr(out, 'shape', '?')}"
                    )
                memset(&request, 0, sizeof(request))
                request.phases = _FORWARD
                request.count = rows
                request.data[4], request.data[6] = source.buf, target.buf
                if self.count > 0:
                    self.count -= 1
                    program = self.free_programs[self.count]
                else:
                    program = self.make()
                if self.flops * rows < QUICK:
                    status = fbp_program_run(program, &request, &result)
                else:
                    with nogil:
                        status = fbp_program_run(program, &request, &result)
                if self.count < KEPT:
                    self.free_programs[self.count] = program
                    self.count += 1
                else:
                    fbp_program_destroy(program)
                if status != FBP_OK:
                    raise MemoryError("no memory for the team's scratch")
            finally:
                PyBuffer_Release(&target)
        finally:
            PyBuffer_Release(&source)
        return out

    cdef tuple shape(self, int dimensions, int64_t rows):
        if dimensions == 2:
            return rows, self.outputs
        return (self.outputs,)


cdef unsigned _FORWARD = sum([1 << PHASES.index(phase) for phase in ("gather", "forward", "output")])
