/* Rows between the caller's matrices and the workspace. The order of the samples applies to what describes
 * samples (inputs, targets, weights); results lie in the order of the positions. */
#include <string.h>

#include "ops.h"

/* Samples in random order come from anywhere: rows are asked for some time before they are copied. */
enum { ROWS_AHEAD = 12, LINE = 64, FEW_LINES = 8 };

static void ask_for(const char *row, size_t bytes) {
    for (size_t i = 0; i < bytes && i < FEW_LINES * LINE; i += LINE) __builtin_prefetch(row + i);
}

/* memcpy for rows of a few elements, whose calls would cost more than their bytes */
static void copy_row(char *to, const char *from, size_t bytes) {
    if (bytes > LINE) {
        memcpy(to, from, bytes);
        return;
    }
    for (; bytes >= 16; bytes -= 16, to += 16, from += 16) memcpy(to, from, 16);
    for (; bytes >= 4; bytes -= 4, to += 4, from += 4) memcpy(to, from, 4);
}

static void copy_rows(const fbp_tensor *from, const fbp_tensor *to, const fbp_batch *batch, const fbp_member *member) {
    const int gathers = from->arena == FBP_INPUTS || from->arena == FBP_TARGETS || from->arena == FBP_SAMPLE_WEIGHTS;
    if (!batch->arena[from->arena] || !batch->arena[to->arena]) return; /* sample weights that were not given */
    const int64_t element = (int64_t)batch->kernels->element;
    const size_t bytes = (size_t)(to->columns * element);
    const int64_t *order = gathers && batch->order ? batch->order + batch->position : NULL;
    const int64_t from_step = from->stride * element, to_step = to->stride * element;
    const char *source = at(from, batch, from->arena == FBP_WORKSPACE || order ? 0 : batch->position);
    char *out = at(to, batch, to->arena == FBP_WORKSPACE ? 0 : batch->position);
    fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    for (int64_t i = share.begin; i < share.end; i++) {
        if (order && i + ROWS_AHEAD < share.end) ask_for(source + order[i + ROWS_AHEAD] * from_step, bytes);
        copy_row(out + i * to_step, source + (order ? order[i] : i) * from_step, bytes);
    }
}

void fbp_op_gather(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    copy_rows(&op->operand[0], &op->operand[1], batch, member);
}

void fbp_op_scatter(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    copy_rows(&op->operand[0], &op->operand[1], batch, member);
}
