# cython: language_level=3, binding=False
"""The native interpreter: plans turned into C structs and run by the C core, the GIL released."""

import os

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastbp.engine.plan import ARENAS, PHASES
from fastbp.engine.sparse import SparseRows

# ---- machine -------------------------------------------------------------------------------------


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


cdef const fbp_kernels *find_kernels(size_t element):
    isa = ISA.encode()
    return fbp_find_kernels(isa, element)


def tile_shape(dtype):
    """Sizes whose neighbourhood is worth testing: vector, group, kc, mc and nc of a dtype."""
    cdef const fbp_kernels *k = find_kernels(_element(dtype))
    return {"vector": k.vector, "group": k.group, "kc": k.kc, "mc": k.mc, "nc": k.nc}


# ---- buffers -------------------------------------------------------------------------------------

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

# ---- what the machine can do ---------------------------------------------------------------------


def multiply_adds(dtype, int64_t rounds):
    """Let all threads do so many rounds of fused multiply-adds in registers; return their operations."""
    cdef const fbp_kernels *kernels = find_kernels(_element(dtype))
    cdef double operations
    with nogil:
        operations = fbp_multiply_adds(kernels, rounds)
    return operations


def sweep(x):
    """Let all threads read and write each element of an array once."""
    cdef Buffer xb = Buffer(x, "x", CODES[x.dtype.name], True)
    cdef const fbp_kernels *kernels = find_kernels(xb.view.itemsize)
    with nogil:
        fbp_sweep_memory(kernels, xb.size(), xb.view.buf)


# ---- random numbers ------------------------------------------------------------------------------


def permutation(uint64_t key, int64_t n, order, int64_t first=0):
    """Fill a vector of int64 with where places of 0, …, n - 1 go; see :func:`fastbp.engine.random.permutation`."""
    cdef Buffer held = Buffer(order, "order", "q", True)
    cdef const fbp_kernels *kernels = find_kernels(4)
    cdef int64_t count = held.size()
    if not 0 <= n <= (<int64_t>1 << 40):
        raise ValueError(f"n: expected at most 2**40, got {n}")
    if not 0 <= first <= n - count:
        raise ValueError(f"order: expected at most {n} - {first} elements, got {count}")
    if count > 0:
        with nogil:
            kernels.permutation(key, n, first, count, <int64_t *>held.view.buf)


# ---- plans ---------------------------------------------------------------------------------------


def schema():
    """{operation: (operands, attributes)} as the C core knows them; optional operands end in "?"."""
    found = {}
    cdef int kind = 0
    while fbp_schema(kind) != NULL:
        s = fbp_schema(kind)
        found[s.name.decode()] = (tuple(s.operands.decode().split()), tuple(s.attributes.decode().split()))
        kind += 1
    return found


def row_operations():
    """Names of the operations that take a batch block by block."""
    return frozenset(name for number, name in enumerate(_SCHEMA) if fbp_schema(number).by_rows)


def activation_names():
    cdef int n = 0
    found = []
    while fbp_activation_name(n) != NULL:
        found.append(fbp_activation_name(n).decode())
        n += 1
    return tuple(found)


def loss_names():
    cdef int n = 0
    found = []
    while fbp_loss_name(n) != NULL:
        found.append(fbp_loss_name(n).decode())
        n += 1
    return tuple(found)


def element_names():
    cdef int n = 0
    cdef size_t size
    found = []
    while fbp_element_name(n, &size) != NULL:
        found.append(fbp_element_name(n, &size).decode())
        n += 1
    return tuple(found)


_SCHEMA = schema()
_OP_KINDS = {name: number for number, name in enumerate(_SCHEMA)}
_ACTIVATIONS = {name: number for number, name in enumerate(activation_names())}
_LOSSES = {name: number for number, name in enumerate(loss_names())}
_ELEMENTS = {name: number for number, name in enumerate(element_names())}


def _attribute(name, value):
    if name == "activation":
        return _ACTIVATIONS[value]
    if name == "loss":
        return _LOSSES[value]
    return float(value)


cdef int fill_op(fbp_op *out, op) except -1:
    """Turn an Op into its struct; a missing or a spare name is a KeyError or ValueError."""
    operands, attributes = _SCHEMA[op.kind]
    operand_names = [name.rstrip("?") for name in operands]
    if set(op.operands) != set(operand_names) or set(op.attributes) != set(attributes):
        raise ValueError(
            f"operation {op.kind!r} takes operands {operand_names} and attributes {list(attributes)}, "
            f"got {list(op.operands)} and {list(op.attributes)}"
        )
    memset(out, 0, sizeof(fbp_op))
    out.kind = _OP_KINDS[op.kind]
    out.phase = PHASES.index(op.phase)
    out.flops = op.flops
    cdef int i
    for i in range(FBP_OPERANDS):
        out.operand[i].arena = -1
    for i, name in enumerate(operand_names):
        tensor = op.operands[name]
        if tensor is None:
            continue
        out.operand[i].arena = ARENAS.index(tensor.arena)
        out.operand[i].per_row = tensor.per_row
        out.operand[i].offset = tensor.offset
        out.operand[i].rows = tensor.rows
        out.operand[i].columns = tensor.columns
        out.operand[i].stride = tensor.stride
    for i, name in enumerate(attributes):
        out.attribute[i] = _attribute(name, op.attributes[name])
    return 0


# {the caller's matrix: whose width it has}; sample weights are a vector
_WIDTHS = {
    "inputs": "inputs", "targets": "targets", "outputs": "outputs", "output_gradients": "outputs",
    "input_gradients": "inputs",
}


def _width(plan, arena):
    return plan.columns[_WIDTHS[arena]] if arena in _WIDTHS else 1


def _check_widths(plan):
    """The C core does not know the caller's matrices: their widths are checked here."""
    for number, op in enumerate(plan.ops):
        for name, tensor in op.operands.items():
            if tensor is None or tensor.arena not in ARENAS[4:]:
                continue
            if not tensor.columns == tensor.stride == _width(plan, tensor.arena):
                raise ValueError(
                    f"operation {number} ({op.kind} of layer {op.layer!r}): {name} has {tensor.columns} "
                    f"columns, stride {tensor.stride}; the caller's matrix has "
                    f"{_width(plan, tensor.arena)} columns"
                )


cdef int64_t _first_outside(const int64_t *order, int64_t first, int64_t end, int64_t rows) noexcept nogil:
    """Position of the first sample number that is no row of the samples, -1 without one."""
    cdef int64_t i
    for i in range(first, end):
        if order[i] < 0 or order[i] >= rows:
            return i
    return -1


cdef class Program:
    """A plan that the C core has checked and can run; see :class:`fastbp.engine.backend.Program`."""
    cdef fbp_program *program
    cdef readonly object plan, parameters, gradients, state, counters
    cdef Buffer parameter_buffer, gradient_buffer, state_buffer, counter_buffer, workspace_buffer
    cdef str code
    cdef bint running

    def __cinit__(self, plan, parameters, gradients, state, counters, workspace=None):
        cdef const fbp_kernels *kernels = find_kernels(_element(plan.dtype))
        self.plan, self.parameters, self.gradients = plan, parameters, gradients
        self.state, self.counters = state, counters
        self.code = CODES[plan.dtype]
        self.parameter_buffer = Buffer(parameters, "parameters", self.code, True)
        self.gradient_buffer = Buffer(gradients, "gradients", self.code, True)
        self.state_buffer = Buffer(state, "state", self.code, True)
        self.counter_buffer = Buffer(counters, "counters", "q", True)
        cdef int64_t size[4]
        size[0] = self.parameter_buffer.size()
        size[1] = self.gradient_buffer.size()
        size[2] = self.state_buffer.size()
        size[3] = plan.sizes["workspace"]
        cdef void *shared = NULL
        if workspace is not None:
            self.workspace_buffer = Buffer(workspace, "workspace", self.code, True)
            shared = self.workspace_buffer.view.buf
            if self.workspace_buffer.size() != size[3]:
                got = self.workspace_buffer.size()
                raise ValueError(f"workspace: expected {size[3]} elements, got {got}")
        cdef fbp_schedule schedule
        schedule.batch, schedule.lanes = plan.batch_size, plan.lanes
        schedule.block = plan.block_rows or plan.batch_size
        if plan.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {plan.batch_size}")
        if not 1 <= schedule.block <= schedule.batch or schedule.lanes < 1:
            raise ValueError(
                f"block_rows, lanes: expected 1 to {schedule.batch} and at least 1, got {schedule.block} and "
                f"{schedule.lanes}"
            )
        if self.counter_buffer.size() != 2:
            raise ValueError("counters: expected 2 elements")
        cdef int count = len(plan.ops), bad = 0, status, i
        cdef const char *why = NULL
        cdef fbp_op *ops = <fbp_op *>calloc(count + 1, sizeof(fbp_op))
        if ops == NULL:
            raise MemoryError
        try:
            for i in range(count):
                fill_op(&ops[i], plan.ops[i])
            _check_widths(plan)
            status = fbp_program_create(
                kernels, ops, count, schedule, size, self.parameter_buffer.view.buf,
                self.gradient_buffer.view.buf, self.state_buffer.view.buf, shared,
                <int64_t *>self.counter_buffer.view.buf, plan.seed, &self.program, &bad, &why,
            )
        finally:
            free(ops)
        if status == FBP_NO_MEMORY:
            raise MemoryError(f"no memory for a workspace of {size[3]} elements")
        if status == FBP_BAD_PLAN:
            op = plan.ops[bad]
            raise ValueError(f"operation {bad} ({op.kind} of layer {op.layer!r}): {why.decode()}")

    def __dealloc__(self):
        fbp_program_destroy(self.program)

    cdef int64_t sparse_rows(self, fbp_source *source, rows, int64_t entries, list keep) except -1:
        """Fill in where the entries of sparse inputs belong and return how many rows there are."""
        if rows.width != self.plan.columns["inputs"]:
            expected = self.plan.columns["inputs"]
            raise ValueError(f"inputs: expected rows of {expected} columns, got {rows.width}")
        cdef Buffer columns = Buffer(rows.columns, "columns of inputs", "i")
        cdef Buffer starts = Buffer(rows.starts, "starts of inputs", "q")
        source.columns = <const int32_t *>columns.view.buf
        source.starts = <const int64_t *>starts.view.buf
        source.entries = min(entries, columns.size())
        keep.extend((columns, starts))
        return max(starts.size() - 1, 0)

    def run(
        self, phases, int64_t first, int64_t count, *, inputs=None, targets=None, outputs=None,
        output_gradients=None, input_gradients=None, sample_weights=None, order=None, learning_rates=None,
        batch_losses=None, bint training=False, totals=(0.0, 0.0),
    ):
        cdef fbp_request request
        cdef fbp_result result
        cdef int status, arena
        cdef Buffer held
        memset(&request, 0, sizeof(request))
        for phase in phases:
            request.phases |= 1u << <int>PHASES.index(phase)
        request.training = training
        request.first, request.count = first, count
        request.loss_sum, request.weight_sum = totals
        if first < 0 or count < 0 or count > (<int64_t>1 << 62) - first:
            raise ValueError(f"first, count: expected numbers from 0 on, got {first}, {count}")
        cdef int64_t end = first + count, samples = (<int64_t>1 << 62), place
        cdef list keep = []
        if order is not None:
            held = Buffer(order, "order", "q")
            if held.size() < end:
                raise ValueError(f"order: expected at least {end} elements, got {held.size()}")
            request.order = <const int64_t *>held.view.buf
            keep.append(held)
        if learning_rates is not None:
            held = Buffer(learning_rates, "learning_rates", "d")
            if held.size() * <int64_t>self.plan.batch_size < count:
                raise ValueError(f"learning_rates: expected one for each batch, got {held.size()}")
            request.learning_rates = <const double *>held.view.buf
            keep.append(held)
        elif "update" in phases:
            raise ValueError("learning_rates: needed by the phase 'update'")
        if batch_losses is not None:
            held = Buffer(batch_losses, "batch_losses", "d", True)
            if held.size() // 2 * <int64_t>self.plan.batch_size < count:
                raise ValueError(f"batch_losses: expected two for each batch, got {held.size()}")
            request.batch_losses = <double *>held.view.buf
            keep.append(held)
        for arena, array in (
            (4, inputs), (5, targets), (6, outputs), (7, output_gradients), (8, input_gradients),
            (9, sample_weights),
        ):
            if array is None:
                continue
            name = ARENAS[arena]
            width = _width(self.plan, name)
            if arena == FBP_INPUTS:
                held = Buffer(array.values if isinstance(array, SparseRows) else array, name, None)
                request.source.element = held.element(name)
                request.source.converts = held.letter() != self.code
            else:
                held = Buffer(array, name, self.code, arena == 6 or arena == 8)
            rows = held.size() // max(width, 1)
            if isinstance(array, SparseRows):
                rows = self.sparse_rows(&request.source, array, held.size(), keep)
            if arena in (4, 5, 9) and order is not None:  # samples picked by `order` lie anywhere
                samples = min(samples, rows)
            elif rows < end:
                raise ValueError(f"{name}: expected {end} rows of {width} columns, got {rows}")
            request.data[arena] = held.view.buf
            keep.append(held)
        if order is not None:
            with nogil:
                place = _first_outside(request.order, first, end, samples)
            if place >= 0:
                raise ValueError(f"order: expected numbers of {samples} samples, got {request.order[place]}")
        if self.running:
            raise RuntimeError("this model is running in another thread: use it in one at a time")
        self.running = True
        try:
            with nogil:
                status = fbp_program_run(self.program, &request, &result)
        finally:
            self.running = False
        if status != FBP_OK:
            raise MemoryError("no memory for the team's scratch")
        return result.loss_sum, result.weight_sum


# ---- frozen networks -----------------------------------------------------------------------------

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


# ---- eager kernels -------------------------------------------------------------------------------
# Arrays are C-contiguous and of one dtype here; fastbp/kernels.py sees to that and to the shapes.

cdef Buffer _real(array, str name, bint writable=False):
    return Buffer(array, name, CODES[array.dtype.name], writable)


def matmul(a, b, c, bint transpose_a=False, bint transpose_b=False, bias=None, activation="linear",
           double alpha=0.0):
    """c[:] = activation(op(a) @ op(b) + bias)."""
    cdef Buffer ab = _real(a, "a"), bb = _real(b, "b"), cb = _real(c, "c", True), bias_buffer
    cdef const fbp_kernels *kernels = find_kernels(ab.view.itemsize)
    cdef int64_t m = c.shape[0], n = c.shape[1], k = a.shape[0] if transpose_a else a.shape[1]
    cdef fbp_epilogue epilogue
    memset(&epilogue, 0, sizeof(epilogue))
    epilogue.kind = FBP_BIAS_ACTIVATION
    epilogue.activation = _ACTIVATIONS[activation]
    epilogue.alpha = alpha
    if bias is not None:
        bias_buffer = _real(bias, "bias")
        epilogue.bias = bias_buffer.view.buf
    cdef ptrdiff_t a_row = 1 if transpose_a else k, a_step = m if transpose_a else 1
    cdef ptrdiff_t b_row = 1 if transpose_b else n, b_column = k if transpose_b else 1
    cdef int status
    with nogil:
        status = fbp_matmul(
            kernels, m, n, k, ab.view.buf, a_row, a_step, bb.view.buf, b_row, b_column,
            cb.view.buf, n, &epilogue
        )
    if status != FBP_OK:
        raise MemoryError("no memory for packing")


def activation_forward(x, y, activation, double alpha):
    cdef Buffer xb = _real(x, "x"), yb = _real(y, "y", True)
    cdef const fbp_kernels *kernels = find_kernels(xb.view.itemsize)
    cdef int kind = _ACTIVATIONS[activation]
    with nogil:
        kernels.activation_forward(kind, alpha, 1, xb.size(), xb.view.buf, 0, yb.view.buf, 0)


def activation_backward(saved, dy, dx, activation, double alpha):
    cdef Buffer sb = _real(saved, "saved"), dyb = _real(dy, "dy"), dxb = _real(dx, "dx", True)
    cdef const fbp_kernels *kernels = find_kernels(sb.view.itemsize)
    cdef int kind = _ACTIVATIONS[activation]
    with nogil:
        kernels.activation_backward(
            kind, alpha, 1, sb.size(), sb.view.buf, 0, dyb.view.buf, 0, dxb.view.buf, 0
        )


def softmax_forward(x, y):
    cdef Buffer xb = _real(x, "x"), yb = _real(y, "y", True)
    cdef const fbp_kernels *kernels = find_kernels(xb.view.itemsize)
    cdef int64_t rows = x.shape[0], columns = x.shape[1]
    with nogil:
        kernels.softmax_forward(rows, columns, xb.view.buf, columns, yb.view.buf, columns)


def softmax_backward(y, dy, dx):
    cdef Buffer yb = _real(y, "y"), dyb = _real(dy, "dy"), dxb = _real(dx, "dx", True)
    cdef const fbp_kernels *kernels = find_kernels(yb.view.itemsize)
    cdef int64_t rows = y.shape[0], columns = y.shape[1]
    with nogil:
        kernels.softmax_backward(
            rows, columns, yb.view.buf, columns, dyb.view.buf, columns, dxb.view.buf, columns
        )


def softmax_cross_entropy(logits, target, row_loss, delta, double label_smoothing, double scale):
    """row_loss (float64) and delta = scale * d row_loss / d logits of each row."""
    cdef Buffer zb = _real(logits, "logits"), tb = _real(target, "target"), db = _real(delta, "delta", True)
    cdef Buffer lb = Buffer(row_loss, "row_loss", "d", True)
    cdef const fbp_kernels *kernels = find_kernels(zb.view.itemsize)
    cdef int64_t rows = logits.shape[0], columns = logits.shape[1], target_columns = target.shape[1]
    with nogil:
        kernels.cross_entropy(
            1, label_smoothing, scale, rows, columns, zb.view.buf, columns, tb.view.buf, target_columns,
            target_columns, NULL, <double *>lb.view.buf, db.view.buf, columns
        )


def column_sum(x, out):
    cdef Buffer xb = _real(x, "x"), ob = _real(out, "out", True)
    cdef const fbp_kernels *kernels = find_kernels(xb.view.itemsize)
    cdef int64_t rows = x.shape[0], columns = x.shape[1]
    with nogil:
        kernels.column_sum(rows, columns, xb.view.buf, columns, 0, ob.view.buf)
