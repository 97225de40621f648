/* Look-up of rows in a table, and steps that leave alone the rows without a gradient. Members share the rows of the
 * batch, and on the way back those of the table, whose sums follow the rows of the batch in order. */
#include "ops.h"

void fbp_op_embedding_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *index = &op->operand[0], *table = &op->operand[1], *y = &op->operand[2];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->embedding_forward(r.end - r.begin, index->columns, at(index, batch, r.begin), index->stride,
                                      table->rows, table->columns, at(table, batch, 0), at(y, batch, r.begin),
                                      y->stride);
}

void fbp_op_embedding_backward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *index = &op->operand[0], *dy = &op->operand[1], *table_grad = &op->operand[2];
    fbp_range r = fbp_share(table_grad->rows, 1, member->size, member->index);
    batch->kernels->embedding_backward(r.begin, r.end, batch->rows, index->columns, at(index, batch, 0), index->stride,
                                       table_grad->rows, table_grad->columns, at(dy, batch, 0), dy->stride,
                                       at(table_grad, batch, 0));
}

/* op: an optimizer's step on parameters of several rows */
void fbp_update_rows(fbp_op_function *step, const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *gradients = &op->operand[1];
    const fbp_member alone = {.index = 0, .size = 1};
    fbp_range r = fbp_share(gradients->rows, 1, member->size, member->index);
    fbp_op row = *op;
    for (int i = 0; i < FBP_OPERANDS; i++) row.operand[i].rows = 1;
    for (int64_t number = r.begin; number < r.end; number++) {
        if (!batch->kernels->any(gradients->columns, at(gradients, batch, number))) continue;
        for (int i = 0; i < FBP_OPERANDS; i++)
            row.operand[i].offset = op->operand[i].offset + number * op->operand[i].stride;
        step(&row, batch, &alone);
    }
}
