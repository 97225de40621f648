/* Dense layer: Y = g(X W + b) with W as (in, out), dW = X^T dY, db = sum of dY's rows, dX = (dY W^T) * g'. */
#include "../gemm.h"
#include "ops.h"

/* rows end with whole vectors: columns <= stride holds for every tensor, so their padding is inside the row */
static int padded(const fbp_tensor *t, const fbp_batch *batch) { return t->stride % batch->kernels->vector == 0; }

/* Rows of the workspace, or samples where the caller has them. */
typedef struct {
    const void *first;
    ptrdiff_t stride;
    const int64_t *order;
    int padded;
} rows;

static rows rows_of_x(const fbp_op *op, const fbp_batch *batch) {
    const fbp_tensor *x = &op->operand[0];
    if (!op->in_place || !batch->in_place) return (rows){at(x, batch, 0), x->stride, NULL, padded(x, batch)};
    const int64_t *order = batch->order ? batch->order + batch->position : NULL;
    const int64_t skip = order ? 0 : batch->position * x->columns;
    return (rows){batch->arena[FBP_INPUTS] + skip * (int64_t)batch->kernels->element, x->columns, order, 0};
}

/* Products of a lower depth and of fewer columns are not worth a cut in the middle, and larger weights come from
 * farther away than another core's cache. */
enum { CUT_DEPTH = 256, CUT_COLUMNS = 64, CUT_BYTES = 1 << 20 };

static int64_t middle_of(const fbp_tensor *w, const fbp_batch *batch) {
    if (w->rows < CUT_DEPTH || w->columns < CUT_COLUMNS) return 0;
    if (w->rows * w->columns * (int64_t)batch->kernels->element >= CUT_BYTES) return 0;
    return fbp_gemm_middle(batch->kernels, w->rows);
}

void fbp_op_dense_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *w = &op->operand[1], *bias = &op->operand[2], *y = &op->operand[3];
    const rows x = rows_of_x(op, batch);
    fbp_epilogue epilogue = {
        .kind = FBP_BIAS_ACTIVATION,
        .activation = (int)op->attribute[0],
        .alpha = op->attribute[1],
        .bias = at(bias, batch, 0),
    };
    fbp_gemm gemm = {
        .kernels = batch->kernels,
        .m = batch->rows,
        .n = w->columns,
        .k = w->rows,
        .a = x.first,
        .a_row = x.stride,
        .a_step = 1,
        .a_order = x.order,
        .b = at(w, batch, 0),
        .b_row = w->stride,
        .b_column = 1,
        .b_padded = 1,
        .c = at(y, batch, 0),
        .c_row = y->stride,
        .c_padded = padded(y, batch),
        .epilogue = &epilogue,
        .cut = middle_of(w, batch),
        .by_depth = batch->training,
    };
    fbp_gemm_share(&gemm, member);
}

/* In a weight gradient there is time to ask: in that of the first layer for the next batch, in others for what other
 * members computed of the delta below, which this one will read next. */
static fbp_ahead *meanwhile(const fbp_tensor *x, const fbp_batch *batch, const fbp_member *member) {
    if (!member->ahead) return NULL;
    fbp_ahead *inputs = &member->ahead[FBP_NEXT_INPUTS];
    return inputs->replace == at(x, batch, 0) ? inputs : &member->ahead[FBP_NEXT_DELTA];
}

enum { FEW_BYTES = 1 << 18 }; /* find room in the second-level cache beside what a product reads */

/* Notes what the others compute of it, to be asked for meanwhile. */
static void note_delta(const fbp_tensor *dx, const fbp_batch *batch, const fbp_member *member) {
    if (member->size == 1 || !member->ahead) return;
    const int64_t element = (int64_t)batch->kernels->element;
    if (batch->rows * dx->columns * element > FEW_BYTES) return;
    const fbp_range own = fbp_share(dx->columns, batch->kernels->vector, member->size, member->index);
    const int64_t begin = own.begin > 0 ? 0 : own.end, end = own.end < dx->columns ? dx->columns : own.begin;
    member->ahead[FBP_NEXT_DELTA] = (fbp_ahead){.rows = at_column(dx, batch, 0, begin),
                                                .step = (size_t)(dx->stride * element),
                                                .length = (size_t)((end - begin) * element),
                                                .end = end > begin ? batch->rows : 0};
}

void fbp_op_dense_backward_weight(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *x = &op->operand[0], *dy = &op->operand[1], *dw = &op->operand[2], *db = &op->operand[3];
    const rows samples = rows_of_x(op, batch);
    fbp_step step;
    if (op->step) step = fbp_step_of(op->step, batch, member);
    if (op->begins_steps) batch->kernels->begin_steps(&step);
    fbp_gemm gemm = {
        .kernels = batch->kernels,
        .m = x->columns,
        .n = dy->columns,
        .k = batch->rows,
        .a = samples.first,
        .a_row = 1,
        .a_step = samples.stride,
        .a_order = samples.order,
        .a_padded = samples.padded,
        .b = at(dy, batch, 0),
        .b_row = dy->stride,
        .b_column = 1,
        .b_padded = 1,
        .c = at(dw, batch, 0),
        .c_row = dw->stride,
        .c_padded = padded(dw, batch),
        .accumulate = batch->accumulate,
        .ahead = meanwhile(x, batch, member),
        .step = op->step ? &step : NULL,
        .whole_rows = 1, /* as the optimizer shares the flat arrays: gradients stay in the cache of who uses them */
    };
    fbp_gemm_share(&gemm, member);
    if (op->ends_steps) batch->kernels->end_steps(&step);
    if (!present(db)) return;
    fbp_range share = fbp_share(dy->columns, batch->kernels->vector, member->size, member->index);
    int64_t skip = share.begin * (int64_t)batch->kernels->element;
    if (share.end > share.begin)
        batch->kernels->column_sum(batch->rows, share.end - share.begin, (char *)at(dy, batch, 0) + skip, dy->stride,
                                   batch->accumulate, (char *)at(db, batch, 0) + skip);
}

void fbp_op_dense_backward_input(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *dy = &op->operand[0], *w = &op->operand[1], *saved = &op->operand[2], *dx = &op->operand[3];
    fbp_epilogue epilogue = {
        .kind = FBP_DERIVATIVE,
        .activation = (int)op->attribute[0],
        .alpha = op->attribute[1],
        .saved = at(saved, batch, 0),
        .saved_row = saved->stride,
    };
    fbp_gemm gemm = {
        .kernels = batch->kernels,
        .m = batch->rows,
        .n = w->rows,
        .k = w->columns,
        .a = at(dy, batch, 0),
        .a_row = dy->stride,
        .a_step = 1,
        .b = at(w, batch, 0),
        .b_row = 1,
        .b_column = w->stride,
        .c = at(dx, batch, 0),
        .c_row = dx->stride,
        .c_padded = padded(dx, batch) && (!present(saved) || padded(saved, batch)),
        .epilogue = present(saved) ? &epilogue : NULL,
    };
    fbp_gemm_share(&gemm, member);
    note_delta(dx, batch, member);
}
