/* Element-wise activations and the row-wise softmax; members share the rows of the batch. */
#include "ops.h"

void fbp_op_activation_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *x = &op->operand[0], *y = &op->operand[1];
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->activation_forward((int)op->attribute[0], op->attribute[1], share.end - share.begin, x->columns,
                                       at(x, batch, share.begin), x->stride, at(y, batch, share.begin), y->stride);
}

void fbp_op_activation_backward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *saved = &op->operand[0], *dy = &op->operand[1], *dx = &op->operand[2];
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->activation_backward((int)op->attribute[0], op->attribute[1], share.end - share.begin, dy->columns,
                                        at(saved, batch, share.begin), saved->stride, at(dy, batch, share.begin),
                                        dy->stride, at(dx, batch, share.begin), dx->stride);
}

void fbp_op_softmax_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *x = &op->operand[0], *y = &op->operand[1];
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->softmax_forward(share.end - share.begin, x->columns, at(x, batch, share.begin), x->stride,
                                    at(y, batch, share.begin), y->stride);
}

void fbp_op_softmax_backward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *y = &op->operand[0], *dy = &op->operand[1], *dx = &op->operand[2];
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->softmax_backward(share.end - share.begin, y->columns, at(y, batch, share.begin), y->stride,
                                     at(dy, batch, share.begin), dy->stride, at(dx, batch, share.begin), dx->stride);
}
