/* What happens to finished gradients before the optimizer's step. Norms and penalties are summed in blocks that
 * the shape fixes; members share the blocks, and each of them adds all blocks up in the same order. */
#include <math.h>

#include "ops.h"

/* a member's blocks: where they begin in the first operand, and in the second, which has one element per block */
typedef struct {
    int64_t n;
    char *from, *to;
} block_share;

static block_share share_blocks(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *from = &op->operand[0], *to = &op->operand[1];
    const int64_t element = (int64_t)batch->kernels->element;
    fbp_range r = fbp_share(blocks_of(from), 1, member->size, member->index);
    int64_t begin = r.begin * FBP_BLOCK, end = r.end * FBP_BLOCK;
    if (end > from->columns) end = from->columns;
    return (block_share){r.begin < r.end ? end - begin : 0, (char *)at(from, batch, 0) + begin * element,
                         (char *)at(to, batch, 0) + r.begin * element};
}

void fbp_op_penalty(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    block_share s = share_blocks(op, batch, member);
    batch->kernels->penalty(op->attribute[0], op->attribute[1], s.n, s.from, s.to);
}

void fbp_op_penalty_gradient(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->penalty_gradient(op->attribute[0], op->attribute[1], s.n, s.at[0], s.at[1]);
}

/* Half of strength / (sum of sample weights) times the sum of squares, and its gradient on top of that of the loss. */
void fbp_op_l2_penalty(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *p = &op->operand[0];
    const double half = batch->weight_sum > 0 ? op->attribute[0] / batch->weight_sum / 2 : 0;
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->penalty_gradient(0, half, s.n, s.at[0], s.at[1]);
    if (member->index == 0) *batch->penalty += half * batch->kernels->sum_squares(p->columns, at(p, batch, 0));
}

void fbp_op_accumulate(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const int64_t steps = (int64_t)op->attribute[0];
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->accumulate(batch->waiting == 0, batch->waiting == steps - 1, steps, s.n, s.at[0], s.at[1]);
}

void fbp_op_clip_value(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->clip_value(op->attribute[0], s.n, s.at[0]);
}

void fbp_op_gradient_norms(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    block_share s = share_blocks(op, batch, member);
    batch->kernels->block_norms(s.n, s.from, s.to);
}

void fbp_op_clip_norm(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *norms = &op->operand[1];
    double limit = op->attribute[0], norm = sqrt(batch->kernels->sum_squares(norms->columns, at(norms, batch, 0)));
    if (!(norm > limit)) return;
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->scale(limit / norm, s.n, s.at[0]);
}
