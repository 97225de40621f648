/* Rows between the caller's matrices and the workspace. The order of the samples applies to what describes
 * samples (inputs, targets, weights); results lie in the order of the positions. Inputs become numbers of the model
 * on the way, and sparse rows dense ones. */
#include <string.h>

#include "ops.h"

/* rows begin .. end of the batch, whose samples are the numbers from order on (NULL: from position on) */
static void gather_inputs(const fbp_tensor *to, const fbp_batch *batch, int64_t begin, int64_t end) {
    const fbp_source *s = &batch->source;
    const int64_t *order = batch->order ? batch->order + batch->position : NULL;
    const char *values = batch->arena[FBP_INPUTS];
    size_t bytes;
    fbp_element_name(s->element, &bytes);
    if (!s->starts) {
        if (!order) values += (size_t)((batch->position + begin) * to->columns) * bytes;
        batch->kernels->gather(s->element, end - begin, to->columns, values, order ? order + begin : NULL,
                               at(to, batch, begin), to->stride);
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        int64_t sample = order ? order[i] : batch->position + i;
        int64_t first = s->starts[sample], last = s->starts[sample + 1];
        memset(at(to, batch, i), 0, (size_t)to->columns * batch->kernels->element);
        /* checked when the arrays came, but they are the caller's: whoever changes them meanwhile may get wrong rows */
        if (first >= 0 && last <= s->entries)
            batch->kernels->add_at(s->element, last - first, values + (size_t)first * bytes, s->columns + first,
                                   to->columns, at(to, batch, i));
    }
}

static void copy_rows(const fbp_tensor *from, const fbp_tensor *to, const fbp_batch *batch, const fbp_member *member) {
    const int gathers = from->arena == FBP_INPUTS || from->arena == FBP_TARGETS || from->arena == FBP_SAMPLE_WEIGHTS;
    if (!batch->arena[from->arena] || !batch->arena[to->arena]) return; /* sample weights that were not given */
    const size_t bytes = (size_t)to->columns * batch->kernels->element;
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    if (from->arena == FBP_INPUTS) {
        gather_inputs(to, batch, share.begin, share.end);
        return;
    }
    for (int64_t i = share.begin; i < share.end; i++) {
        int64_t position = batch->position + i;
        int64_t sample = gathers && batch->order ? batch->order[position] : position;
        memcpy(at(to, batch, to->arena == FBP_WORKSPACE ? i : position),
               at(from, batch, from->arena == FBP_WORKSPACE ? i : sample), bytes);
    }
}

void fbp_op_gather(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    copy_rows(&op->operand[0], &op->operand[1], batch, member);
}

void fbp_op_scatter(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    copy_rows(&op->operand[0], &op->operand[1], batch, member);
}
