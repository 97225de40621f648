# A plan that is checked once and run as often as wanted.

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastbp.engine.plan import ARENAS, PHASES
from fastbp.engine.sparse import SparseRows


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
    cdef bint running, reads_sparse

    def __cinit__(self, plan, parameters, gradients, state, counters, workspace=None):
        cdef const fbp_kernels *kernels = find_kernels(_element(plan.dtype))
        self.plan, self.parameters, self.gradients = plan, parameters, gradients
        self.state, self.counters = state, counters
        self.code, self.reads_sparse = CODES[plan.dtype], plan.reads_sparse
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
        batch_losses=None, bint training=False, bint goes_on=False, totals=(0.0, 0.0),
    ):
        cdef fbp_request request
        cdef fbp_result result
        cdef int status, arena
        cdef Buffer held
        memset(&request, 0, sizeof(request))
        for phase in phases:
            request.phases |= 1u << <int>PHASES.index(phase)
        request.training, request.goes_on = training, goes_on
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
                if self.reads_sparse and not isinstance(array, SparseRows):
                    raise TypeError("inputs: this plan takes sparse rows only")
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
