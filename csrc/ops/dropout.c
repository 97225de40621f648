/* Inverted dropout. The mask is never stored: the same counters give the same random numbers again on the way
 * back. Outside training both directions pass their input on. */
#include <string.h>

#include "ops.h"

static void drop(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *x = &op->operand[0], *y = &op->operand[1];
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    void *in = at(x, batch, share.begin), *out = at(y, batch, share.begin);
    if (batch->training) {
        fbp_draw draw = {batch->seed, batch->draw, (uint32_t)op->attribute[1]};
        batch->kernels->dropout(draw, op->attribute[0], batch->first_row + share.begin, share.end - share.begin,
                                x->columns, in, x->stride, out, y->stride);
    } else if (in != out) {
        for (int64_t i = share.begin; i < share.end; i++)
            memcpy(at(y, batch, i), at(x, batch, i), (size_t)x->columns * batch->kernels->element);
    }
}

void fbp_op_dropout_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    drop(op, batch, member);
}

void fbp_op_dropout_backward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    drop(op, batch, member);
}
