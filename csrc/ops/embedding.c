/* Look-up of rows in a table, and steps that leave alone the rows without a gradient.
 *
 * In training the forward pass notes which rows the batch uses. The way back then clears the rows of the batch before,
 * in place of the whole gradient, and a step looks at the rows of this batch, in place of all. That holds only as
 * far as nobody else has written gradients: batch->tables is NULL when this is not known. */
#include <string.h>

#include "ops.h"

static fbp_table *table_at(const fbp_batch *batch, const fbp_tensor *place) {
    return fbp_tables_find(batch->tables, batch->table_count, place->offset);
}

static void note_rows(fbp_table *t, const fbp_tensor *index, int64_t table_rows, const fbp_batch *batch) {
    for (int64_t i = 0; i < t->count; i++) t->used[t->row[i]] = 0;
    int32_t *const free_row = t->earlier;
    t->earlier = t->row, t->before = t->count;
    t->row = free_row, t->count = 0;
    for (int64_t i = 0; i < batch->rows; i++)
        for (int64_t j = 0; j < index->columns; j++) {
            int64_t number = batch->kernels->row_number(at_column(index, batch, i, j), table_rows);
            if (!t->used[number]) t->row[t->count++] = (int32_t)number;
            t->used[number] = 1;
        }
}

void fbp_op_embedding_forward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *index = &op->operand[0], *table = &op->operand[1], *y = &op->operand[2];
    fbp_range r = fbp_share(batch->rows, 1, member->size, member->index);
    batch->kernels->embedding_forward(r.end - r.begin, index->columns, at(index, batch, r.begin), index->stride,
                                      table->rows, table->columns, at(table, batch, 0), at(y, batch, r.begin),
                                      y->stride);
    fbp_table *known = table_at(batch, table);
    if (known && member->index == 0) note_rows(known, index, table->rows, batch);
}

/* Members share the rows of the table: a row adds up what belongs to it in the order of the batch. */
void fbp_op_embedding_backward(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *index = &op->operand[0], *dy = &op->operand[1], *gradient = &op->operand[2];
    const fbp_table *known = batch->follows ? table_at(batch, gradient) : NULL;
    const size_t bytes = (size_t)gradient->columns * batch->kernels->element;
    fbp_range r = fbp_share(gradient->rows, 1, member->size, member->index);
    for (int64_t i = 0; known && i < known->before; i++)
        if (known->earlier[i] >= r.begin && known->earlier[i] < r.end)
            memset(at(gradient, batch, known->earlier[i]), 0, bytes);
    for (int64_t number = r.begin; !known && number < r.end; number++) memset(at(gradient, batch, number), 0, bytes);
    batch->kernels->embedding_backward(r.begin, r.end, batch->rows, index->columns, at(index, batch, 0), index->stride,
                                       gradient->rows, gradient->columns, at(dy, batch, 0), dy->stride,
                                       at(gradient, batch, 0));
}

/* op: an optimizer's step on parameters of several rows */
void fbp_update_rows(fbp_op_function *step, const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *gradients = &op->operand[1];
    const fbp_table *known = table_at(batch, gradients);
    const fbp_member alone = {.index = 0, .size = 1};
    fbp_range r = fbp_share(known ? known->count : gradients->rows, 1, member->size, member->index);
    fbp_op row = *op;
    for (int i = 0; i < FBP_OPERANDS; i++) row.operand[i].rows = 1;
    for (int64_t i = r.begin; i < r.end; i++) {
        const int64_t number = known ? known->row[i] : i;
        if (!batch->kernels->any(gradients->columns, at(gradients, batch, number))) continue;
        for (int k = 0; k < FBP_OPERANDS; k++)
            row.operand[k].offset = op->operand[k].offset + number * op->operand[k].stride;
        step(&row, batch, &alone);
    }
}
