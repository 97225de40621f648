/* What happens to parameters after the optimizer's step. */
#include "ops.h"

/* of each column: the weights that lead to one unit */
void fbp_op_max_norm(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    enum { LINE = 16 }; /* columns that one member takes at least: a cache line */
    const fbp_tensor *x = &op->operand[0];
    fbp_range r = fbp_share(x->columns, LINE, member->size, member->index);
    char *first = (char *)at(x, batch, 0) + r.begin * (int64_t)batch->kernels->element;
    batch->kernels->max_norm(op->attribute[0], x->rows, r.end - r.begin, first, x->stride);
}

void fbp_op_moving_average(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->moving_average(batch->step == 1, op->attribute[0], s.n, s.at[0], s.at[1]);
}
