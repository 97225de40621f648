/* Losses: row i gets weight_i * l_i, its delta is weight_i / (sum of weights) * dl_i / dprediction. */
#include "ops.h"

static double scale(const fbp_batch *batch) { return batch->weight_sum > 0 ? 1 / batch->weight_sum : 0; }

/* NULL when this run has no sample weights */
static const void *weights(const fbp_tensor *t, const fbp_batch *batch, int64_t row) {
    return batch->arena[FBP_SAMPLE_WEIGHTS] ? at(t, batch, row) : NULL;
}

void fbp_op_elementwise_loss(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *p = &op->operand[0], *t = &op->operand[1], *w = &op->operand[2], *delta = &op->operand[3];
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    int64_t i = share.begin;
    batch->kernels->elementwise_loss((int)op->attribute[0], op->attribute[1], scale(batch), share.end - i, p->columns,
                                     at(p, batch, i), p->stride, at(t, batch, i), t->stride, weights(w, batch, i),
                                     batch->row_loss + i, at(delta, batch, i), delta->stride);
}

static void cross_entropy(const fbp_op *op, const fbp_batch *batch, const fbp_member *member, int from_logits) {
    const fbp_tensor *p = &op->operand[0], *t = &op->operand[1], *w = &op->operand[2], *delta = &op->operand[3];
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    int64_t i = share.begin;
    batch->kernels->cross_entropy(from_logits, op->attribute[0], scale(batch), share.end - i, p->columns,
                                  at(p, batch, i), p->stride, at(t, batch, i), t->stride, t->columns,
                                  weights(w, batch, i), batch->row_loss + i, at(delta, batch, i), delta->stride);
}

void fbp_op_cross_entropy_loss(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    cross_entropy(op, batch, member, 0);
}

void fbp_op_softmax_cross_entropy_loss(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    cross_entropy(op, batch, member, 1);
}
