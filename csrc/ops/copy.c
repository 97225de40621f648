/* Rows between the caller's matrices and the workspace; also the flat gradient, once for each row. The order of the
 * samples applies to what describes samples (inputs, targets, weights); results lie in the order of the positions.
 * Inputs of other elements become numbers of the model on the way, and sparse rows dense ones; a first layer that only
 * scales them does so while they are in the cache. */
#include <string.h>

#include "ops.h"

/* Samples in random order come from anywhere: rows are asked for some time before they are copied, those of a small
 * batch one batch before, and if they are longer than SHORT bytes not all at once but between the operations. */
enum { ROWS_AHEAD = 12, FEW_LINES = 8, SHORT = 32, SMALL_BATCH = 1 << 17 };
/* Rows that are scaled at a time: they stay in the first-level cache, and share what is computed once for a column. */
enum { ROWS_AT_ONCE = 8 };

/* Into the second-level cache: from the first one it would be gone before its turn. */
static void ask_for_line(const char *address) { __builtin_prefetch(address, 0, 2); }

/* A row that begins in the middle of a line ends in one more. */
static void ask_for(const char *row, size_t bytes) {
    const size_t some = bytes < FEW_LINES * FBP_CACHE_LINE ? bytes : FEW_LINES * FBP_CACHE_LINE;
    for (size_t i = 0; i < some; i += FBP_CACHE_LINE) ask_for_line(row + i);
    ask_for_line(row + some - 1);
}

static int is_small(const fbp_batch *batch, size_t bytes) { return (size_t)batch->rows * bytes <= SMALL_BATCH; }

static int asked_between(const fbp_batch *batch, int arena, size_t bytes) {
    if (batch->in_lane) return arena == FBP_INPUTS || arena == FBP_TARGETS;
    return arena == FBP_INPUTS && bytes > SHORT && is_small(batch, bytes);
}

static int64_t rows_ahead(const fbp_batch *batch, int arena, size_t bytes) {
    if (asked_between(batch, arena, bytes)) return batch->end;
    return is_small(batch, bytes) ? batch->rows : ROWS_AHEAD;
}

/* memcpy for rows of a few lines, whose calls would cost more than their bytes */
static void copy_row(char *to, const char *from, size_t bytes) {
    if (bytes > FEW_LINES * FBP_CACHE_LINE) {
        memcpy(to, from, bytes);
        return;
    }
    for (; bytes >= FBP_CACHE_LINE; bytes -= FBP_CACHE_LINE, to += FBP_CACHE_LINE, from += FBP_CACHE_LINE)
        memcpy(to, from, FBP_CACHE_LINE);
    for (; bytes >= 16; bytes -= 16, to += 16, from += 16) memcpy(to, from, 16);
    for (; bytes >= 4; bytes -= 4, to += 4, from += 4) memcpy(to, from, 4);
}

/* Rows of a few elements: with a known size a copy is one load and one store, and many are under way at a time. */
static inline __attribute__((always_inline)) void copy_short_rows(const size_t bytes, fbp_range rows, char *to,
                                                                  int64_t to_step, const char *from, int64_t from_step,
                                                                  const int64_t *order, int64_t ahead, int64_t end) {
    for (int64_t i = rows.begin; i < rows.end; i++) {
        if (order && i + ahead < end) __builtin_prefetch(from + order[i + ahead] * from_step);
        memcpy(to + i * to_step, from + (order ? order[i] : i) * from_step, bytes);
    }
}

/* Inputs that are no rows of the model's own numbers: rows begin .. end of the batch, whose samples are the numbers
 * from order on (NULL: from position on) */
static void gather_inputs(const fbp_tensor *to, const fbp_batch *batch, int64_t begin, int64_t end) {
    const fbp_source *s = &batch->source;
    const int64_t *order = batch->order ? batch->order + batch->position : NULL;
    const char *values = batch->arena[FBP_INPUTS];
    size_t bytes;
    fbp_element_name(s->element, &bytes);
    const size_t row = (size_t)to->columns * bytes;
    const int64_t ahead = rows_ahead(batch, FBP_INPUTS, row), left = batch->end - batch->position;
    for (int64_t i = begin; i < end; i++) {
        const int64_t sample = order ? order[i] : batch->position + i;
        void *out = at(to, batch, i);
        if (!s->starts) {
            if (order && i + ahead < left) ask_for(values + (size_t)order[i + ahead] * row, row);
            batch->kernels->convert(s->element, to->columns, values + (size_t)sample * row, out);
            continue;
        }
        const int64_t first = s->starts[sample], last = s->starts[sample + 1];
        memset(out, 0, (size_t)to->columns * batch->kernels->element);
        /* checked when the arrays came, but they are the caller's: whoever changes them meanwhile may get wrong rows */
        if (first >= 0 && last <= s->entries)
            batch->kernels->add_at(s->element, last - first, values + (size_t)first * bytes, s->columns + first,
                                   to->columns, out);
    }
}

static void copy_rows(const fbp_tensor *from, const fbp_tensor *to, const fbp_batch *batch, int64_t begin,
                      int64_t end) {
    const int gathers = from->arena == FBP_INPUTS || from->arena == FBP_TARGETS || from->arena == FBP_SAMPLE_WEIGHTS;
    const int64_t element = (int64_t)batch->kernels->element;
    const size_t bytes = (size_t)(to->columns * element);
    const int64_t *order = gathers && batch->order ? batch->order + batch->position : NULL;
    const int64_t from_step = from->per_row ? from->stride * element : 0, to_step = to->stride * element;
    const char *source = at(from, batch, from->arena <= FBP_WORKSPACE || order ? 0 : batch->position);
    char *out = at(to, batch, to->arena == FBP_WORKSPACE ? 0 : batch->position);
    if (from->arena == FBP_INPUTS && (batch->source.converts || batch->source.starts)) {
        gather_inputs(to, batch, begin, end);
        return;
    }
    const fbp_range rows = {begin, end};
    const int64_t ahead = rows_ahead(batch, from->arena, bytes), left = batch->end - batch->position;
    switch (bytes) {
    case 4: copy_short_rows(4, rows, out, to_step, source, from_step, order, ahead, left); return;
    case 8: copy_short_rows(8, rows, out, to_step, source, from_step, order, ahead, left); return;
    case 16: copy_short_rows(16, rows, out, to_step, source, from_step, order, ahead, left); return;
    case 32: copy_short_rows(32, rows, out, to_step, source, from_step, order, ahead, left); return;
    default: break;
    }
    for (int64_t i = begin; i < end; i++) {
        if (order && i + ahead < left) ask_for(source + order[i + ahead] * from_step, bytes);
        copy_row(out + i * to_step, source + (order ? order[i] : i) * from_step, bytes);
    }
}

/* Notes what this member will gather next, to be asked for between operations; of a large batch by the product that
 * reads this one last. */
static void look_ahead(const fbp_tensor *from, const fbp_tensor *to, const fbp_batch *batch, const fbp_member *member) {
    const fbp_source *s = &batch->source;
    const int inputs = from->arena == FBP_INPUTS;
    if (!member->ahead || !batch->order || !(inputs || from->arena == FBP_TARGETS) || (inputs && s->starts)) return;
    size_t bytes = batch->kernels->element;
    if (inputs && s->converts) fbp_element_name(s->element, &bytes);
    const size_t row = (size_t)from->columns * bytes;
    const int between = asked_between(batch, from->arena, row);
    if (!between && (!inputs || is_small(batch, row))) return;
    const int64_t next = batch->position + batch->rows, left = batch->end - next;
    const fbp_range share = fbp_share(left < batch->rows ? left : batch->rows, 1, member->size, member->index);
    fbp_ahead *ahead = &member->ahead[inputs ? FBP_NEXT_INPUTS : FBP_NEXT_TARGETS];
    *ahead = (fbp_ahead){.rows = batch->arena[from->arena],
                         .order = batch->order + next,
                         .step = row,
                         .length = row,
                         .next = share.begin,
                         .end = share.end,
                         .replace = between ? NULL : at(to, batch, 0)};
}

void fbp_ask_for_rows(fbp_ahead *a, int64_t rows) {
    const int64_t end = a->end - a->next < rows ? a->end : a->next + rows;
    const int in_lines = FBP_CACHE_LINE % a->step == 0 && (uintptr_t)a->rows % a->step == 0; /* each within one */
    for (int64_t i = a->next; i < end; i++) {
        const char *row = a->rows + (size_t)a->order[i] * a->step;
        if (in_lines)
            ask_for_line(row);
        else
            ask_for(row, a->step);
    }
    a->next = end;
}

static void copy_share(const fbp_tensor *from, const fbp_tensor *to, const fbp_batch *batch, const fbp_member *member) {
    if (!batch->arena[from->arena] || !batch->arena[to->arena]) return; /* sample weights that were not given */
    const fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    copy_rows(from, to, batch, share.begin, share.end);
    look_ahead(from, to, batch, member);
}

void fbp_op_gather(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    if (op->in_place && batch->in_place)
        look_ahead(&op->operand[0], &op->operand[1], batch, member);
    else
        copy_share(&op->operand[0], &op->operand[1], batch, member);
}

void fbp_op_scatter(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    copy_share(&op->operand[0], &op->operand[1], batch, member);
}

/* where some rows from `begin` on end */
static int64_t end_of_some(int64_t begin, int64_t last) {
    return last - begin < ROWS_AT_ONCE ? last : begin + ROWS_AT_ONCE;
}

void fbp_op_gather_rescale(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *out = &op->operand[1];
    if (!batch->arena[op->operand[0].arena]) return;
    const fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    for (int64_t begin = share.begin, end; begin < share.end; begin = end) {
        end = end_of_some(begin, share.end);
        copy_rows(&op->operand[0], out, batch, begin, end);
        batch->kernels->rescale(op->attribute[0], op->attribute[1], end - begin, out->columns, at(out, batch, begin),
                                out->stride, at(out, batch, begin), out->stride);
    }
    look_ahead(&op->operand[0], out, batch, member);
}

void fbp_op_gather_normalize(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand, *out = &o[3];
    if (!batch->arena[o[0].arena]) return;
    const fbp_range share = fbp_share(batch->rows, 1, member->size, member->index);
    for (int64_t begin = share.begin, end; begin < share.end; begin = end) {
        end = end_of_some(begin, share.end);
        copy_rows(&o[0], out, batch, begin, end);
        batch->kernels->normalize(end - begin, out->columns, at(out, batch, begin), out->stride, at(&o[1], batch, 0),
                                  at(&o[2], batch, 0), at(out, batch, begin), out->stride);
    }
    look_ahead(&o[0], out, batch, member);
}
