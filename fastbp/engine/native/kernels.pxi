# Kernels as functions of arrays. These are C-contiguous and of one dtype here; fastbp/kernels.py sees to that
# and to the shapes.

from libc.stdint cimport int64_t
from libc.string cimport memset


cdef Buffer _real(array, str name, bint writable=False):
    code = array.dtype.char  # not its name, which NumPy puts together anew each time
    if code not in ("f", "d"):
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    return Buffer(array, name, code, writable)


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


def all_finite(x):
    cdef Buffer xb = _real(x, "x")
    cdef const fbp_kernels *kernels = find_kernels(xb.view.itemsize)
    cdef int finite
    with nogil:
        finite = kernels.all_finite(xb.size(), xb.view.buf)
    return finite != 0
