/* Batch normalization: members share the columns, because every column goes over all rows of the batch. Layer
 * normalization: they share the rows, and for the gradients of gamma and beta the columns. */
#include "ops.h"

void fbp_op_batch_norm_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand, *x = &o[0], *saved = &o[5], *y = &o[6];
    fbp_range r = fbp_share(x->columns, batch->kernels->vector, member->size, member->index);
    fbp_batch_norm h = {.training = batch->training,
                        .momentum = op->attribute[0],
                        .epsilon = op->attribute[1],
                        .unbiased = op->attribute[2] != 0};
    batch->kernels->batch_norm_forward(h, batch->rows, r.end - r.begin, at_column(x, batch, 0, r.begin), x->stride,
                                       at_column(&o[1], batch, 0, r.begin), at_column(&o[2], batch, 0, r.begin),
                                       at_column(&o[3], batch, 0, r.begin), at_column(&o[4], batch, 0, r.begin),
                                       at_column(saved, batch, 0, r.begin), at_column(saved, batch, 1, r.begin),
                                       at_column(y, batch, 0, r.begin), y->stride);
}

void fbp_op_batch_norm_backward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand, *x = &o[0], *saved = &o[2], *dy = &o[3], *dx = &o[6];
    fbp_range r = fbp_share(x->columns, batch->kernels->vector, member->size, member->index);
    batch->kernels->batch_norm_backward(
        batch->training, batch->rows, r.end - r.begin, at_column(x, batch, 0, r.begin), x->stride,
        at_column(&o[1], batch, 0, r.begin), at_column(saved, batch, 0, r.begin), at_column(saved, batch, 1, r.begin),
        at_column(dy, batch, 0, r.begin), dy->stride, at_column(&o[4], batch, 0, r.begin),
        at_column(&o[5], batch, 0, r.begin), at_column(dx, batch, 0, r.begin), dx->stride);
}

void fbp_op_layer_norm_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand, *x = &o[0], *saved = &o[3], *y = &o[4];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->layer_norm_forward(op->attribute[0], r.end - r.begin, x->columns, at(x, batch, r.begin), x->stride,
                                       at(&o[1], batch, 0), at(&o[2], batch, 0), at(saved, batch, r.begin),
                                       saved->stride, at(y, batch, r.begin), y->stride);
}

void fbp_op_layer_norm_backward_parameters(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand, *x = &o[0], *saved = &o[1], *dy = &o[2];
    fbp_range r = fbp_share(x->columns, batch->kernels->vector, member->size, member->index);
    batch->kernels->layer_norm_backward_parameters(
        batch->rows, r.end - r.begin, at_column(x, batch, 0, r.begin), x->stride, at(saved, batch, 0), saved->stride,
        at_column(dy, batch, 0, r.begin), dy->stride, batch->accumulate, at_column(&o[3], batch, 0, r.begin),
        at_column(&o[4], batch, 0, r.begin));
}

void fbp_op_layer_norm_backward_input(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand, *x = &o[0], *saved = &o[2], *dy = &o[3], *dx = &o[4];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->layer_norm_backward_input(r.end - r.begin, x->columns, at(x, batch, r.begin), x->stride,
                                              at(&o[1], batch, 0), at(saved, batch, r.begin), saved->stride,
                                              at(dy, batch, r.begin), dy->stride, at(dx, batch, r.begin), dx->stride);
}
