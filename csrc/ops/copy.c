/* Rows between the caller's matrices and the workspace; also the flat gradient, once for each row. The order of the
 * samples applies to what describes samples (inputs, targets, weights); results lie in the order of the positions. */
#include <string.h>

#include "ops.h"

static void copy_rows(const fbp_tensor *from, const fbp_tensor *to, const fbp_batch *batch, const fbp_member *member) {
    const int gathers = from->arena == FBP_INPUTS || from->arena == FBP_TARGETS || from->arena == FBP_SAMPLE_WEIGHTS;
    if (!batch->arena[from->arena] || !batch->arena[to->arena]) return; /* sample weights that were not given */
    const size_t bytes = (size_t)to->columns * batch->kernels->element;
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    for (int64_t i = share.begin; i < share.end; i++) {
        int64_t position = batch->position + i;
        int64_t sample = gathers && batch->order ? batch->order[position] : position;
        memcpy(at(to, batch, to->arena == FBP_WORKSPACE ? i : position),
               at(from, batch, !from->per_row ? 0 : from->arena == FBP_WORKSPACE ? i : sample), bytes);
    }
}

void fbp_op_gather(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    copy_rows(&op->operand[0], &op->operand[1], batch, member);
}

void fbp_op_scatter(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    copy_rows(&op->operand[0], &op->operand[1], batch, member);
}
