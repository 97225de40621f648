/* Element by element; members share the rows of the batch, and where the rows are summed up the columns. */
#include <string.h>

#include "ops.h"

void fbp_op_prelu_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *x = &op->operand[0], *alpha = &op->operand[1], *y = &op->operand[2];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->prelu_forward(r.end - r.begin, x->columns, at(x, batch, r.begin), x->stride, at(alpha, batch, 0),
                                  at(y, batch, r.begin), y->stride);
}

void fbp_op_prelu_backward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand, *x = &o[0], *dy = &o[2], *dx = &o[4];
    fbp_range r = fbp_share(x->columns, batch->kernels->vector, member->size, member->index);
    batch->kernels->prelu_backward(batch->rows, r.end - r.begin, at_column(x, batch, 0, r.begin), x->stride,
                                   at_column(&o[1], batch, 0, r.begin), at_column(dy, batch, 0, r.begin), dy->stride,
                                   batch->accumulate, at_column(&o[3], batch, 0, r.begin),
                                   at_column(dx, batch, 0, r.begin), dx->stride);
}

void fbp_op_gaussian_noise(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *x = &op->operand[0], *y = &op->operand[1];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    if (batch->training) {
        fbp_draw draw = {batch->seed, batch->draw, (uint32_t)op->attribute[1]};
        batch->kernels->gaussian_noise(draw, op->attribute[0], batch->first_row + r.begin, r.end - r.begin, x->columns,
                                       at(x, batch, r.begin), x->stride, at(y, batch, r.begin), y->stride);
    } else {
        for (int64_t i = r.begin; i < r.end; i++)
            memcpy(at(y, batch, i), at(x, batch, i), (size_t)x->columns * batch->kernels->element);
    }
}

void fbp_op_rescale(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *x = &op->operand[0], *y = &op->operand[1];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->rescale(op->attribute[0], op->attribute[1], r.end - r.begin, x->columns, at(x, batch, r.begin),
                            x->stride, at(y, batch, r.begin), y->stride);
}

void fbp_op_normalize(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand, *x = &o[0], *y = &o[3];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->normalize(r.end - r.begin, x->columns, at(x, batch, r.begin), x->stride, at(&o[1], batch, 0),
                              at(&o[2], batch, 0), at(y, batch, r.begin), y->stride);
}

void fbp_op_copy_columns(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *source = &op->operand[0], *out = &op->operand[1];
    const int64_t begin = (int64_t)op->attribute[0], place = (int64_t)op->attribute[1];
    const int64_t count = (int64_t)op->attribute[2];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    for (int64_t i = r.begin; i < r.end; i++) {
        void *from = at_column(source, batch, i, begin), *to = at_column(out, batch, i, place);
        if (op->attribute[3] != 0)
            batch->kernels->add(count, to, from, to);
        else
            memcpy(to, from, (size_t)count * batch->kernels->element);
    }
}

void fbp_op_add(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *a = &op->operand[0], *b = &op->operand[1], *out = &op->operand[2];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    for (int64_t i = r.begin; i < r.end; i++)
        batch->kernels->add(a->columns, at(a, batch, i), at(b, batch, i), at(out, batch, i));
}

void fbp_op_clear(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *dx = &op->operand[0];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    for (int64_t i = r.begin; i < r.end; i++)
        memset(at(dx, batch, i), 0, (size_t)dx->columns * batch->kernels->element);
}
