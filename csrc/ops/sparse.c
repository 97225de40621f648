/* A first dense layer on sparse inputs, which are read where they lie: Y = g(X W + b) adds up the rows of W that the
 * entries of X name, dW = X^T dY adds to them. Members share the rows of Y and of dW. */
#include <string.h>

#include "ops.h"

/* The entries of a sample, some at a time, as numbers of the model. */
enum { SOME_ENTRIES = 256 };
typedef struct {
    int64_t next, last;
    const int32_t *column;
    int64_t count;
    double values[SOME_ENTRIES]; /* room for either element type */
} entries;

static void find_entries(entries *some, const fbp_batch *batch, int64_t row) {
    const fbp_source *s = &batch->source;
    const int64_t position = batch->position + row, sample = batch->order ? batch->order[position] : position;
    some->next = s->starts[sample], some->last = s->starts[sample + 1];
    /* checked when the arrays came, but they are the caller's: whoever changes them meanwhile may get wrong rows */
    if (some->next < 0 || some->last > s->entries) some->next = some->last;
}

static int take_some(entries *some, const fbp_batch *batch) {
    const fbp_source *s = &batch->source;
    size_t bytes;
    fbp_element_name(s->element, &bytes);
    some->count = some->last - some->next < SOME_ENTRIES ? some->last - some->next : SOME_ENTRIES;
    if (some->count <= 0) return 0;
    some->column = s->columns + some->next;
    batch->kernels->convert(s->element, some->count, batch->arena[FBP_INPUTS] + (size_t)some->next * bytes,
                            some->values);
    some->next += some->count;
    return 1;
}

void fbp_op_sparse_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *w = &op->operand[1], *bias = &op->operand[2], *y = &op->operand[3];
    const fbp_kernels *kernels = batch->kernels;
    if (!batch->source.starts) return; /* no inputs */
    const fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    entries some;
    for (int64_t i = share.begin; i < share.end; i++) {
        const size_t bytes = (size_t)y->columns * kernels->element;
        if (present(bias))
            memcpy(at(y, batch, i), at(bias, batch, 0), bytes);
        else
            memset(at(y, batch, i), 0, bytes);
        find_entries(&some, batch, i);
        while (take_some(&some, batch))
            kernels->add_weighted_rows(some.count, some.values, some.column, w->rows, w->columns, at(w, batch, 0),
                                       w->stride, at(y, batch, i));
    }
    if (op->attribute[0] != FBP_linear && share.begin < share.end)
        kernels->activation_forward((int)op->attribute[0], op->attribute[1], share.end - share.begin, y->columns,
                                    at(y, batch, share.begin), y->stride, at(y, batch, share.begin), y->stride);
}

void fbp_op_sparse_backward_weight(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *dy = &op->operand[1], *dw = &op->operand[2], *db = &op->operand[3];
    const fbp_kernels *kernels = batch->kernels;
    if (!batch->source.starts) return;
    const fbp_range share = fbp_share(dw->rows, 1, member->size, member->index);
    const int64_t own = share.end - share.begin;
    if (own > 0 && !batch->accumulate)
        memset(at(dw, batch, share.begin), 0, (size_t)((own - 1) * dw->stride + dw->columns) * kernels->element);
    entries some;
    for (int64_t i = 0; i < batch->rows && own > 0; i++) {
        find_entries(&some, batch, i);
        while (take_some(&some, batch))
            kernels->add_to_rows(some.count, some.values, some.column, share.begin, share.end, dw->columns,
                                 at(dy, batch, i), at(dw, batch, 0), dw->stride);
    }
    if (!present(db)) return;
    const fbp_range columns = fbp_share(dy->columns, kernels->vector, member->size, member->index);
    if (columns.end > columns.begin)
        kernels->column_sum(batch->rows, columns.end - columns.begin, at_column(dy, batch, 0, columns.begin),
                            dy->stride, batch->accumulate, at_column(db, batch, 0, columns.begin));
}
