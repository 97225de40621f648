/* What an operation gets to see: the batch it works on and its place in the team. */
#ifndef FBP_OPS_H
#define FBP_OPS_H

#include "../fastbp.h"
#include "../tables.h"
#include "../team.h"

typedef struct {
    const fbp_kernels *kernels;
    char *arena[FBP_ARENAS];
    const int64_t *order; /* NULL: sample = position */
    int64_t position;     /* of the first row of this batch */
    int64_t first_row;    /* its number within the batch, for random numbers */
    int64_t rows;
    int accumulate; /* add to the gradients: they hold those of other rows */
    int training;
    uint64_t seed, draw; /* random numbers of this forward pass */
    int64_t step;        /* of the optimizer, from 1 */
    double learning_rate;
    double weight_sum; /* sample weights of the whole batch */
    double *row_loss;  /* weight times loss of each row */
    fbp_table *tables; /* NULL: it is not known which rows of a table have a gradient */
    int table_count;
    int follows; /* the last batch that went backward was one of this run */
} fbp_batch;

typedef void fbp_op_function(const fbp_op *op, const fbp_batch *batch, const fbp_member *member);

#define OP(name, operands, attributes) fbp_op_function fbp_op_##name;
#include "../ops.def"

static inline int present(const fbp_tensor *t) { return t->arena >= 0; }
static inline int64_t rows_of(const fbp_tensor *t, const fbp_batch *batch) {
    return t->per_row ? batch->rows : t->rows;
}
/* address of row `row`; NULL for an absent operand */
static inline void *at(const fbp_tensor *t, const fbp_batch *batch, int64_t row) {
    if (!present(t)) return NULL;
    return batch->arena[t->arena] + (t->offset + row * t->stride) * (int64_t)batch->kernels->element;
}
/* address of an element */
static inline void *at_column(const fbp_tensor *t, const fbp_batch *batch, int64_t row, int64_t column) {
    return present(t) ? (char *)at(t, batch, row) + column * (int64_t)batch->kernels->element : NULL;
}

/* embedding.c: calls an optimizer's step for each row of a table whose gradient is not 0 */
void fbp_update_rows(fbp_op_function *step, const fbp_op *op, const fbp_batch *batch, const fbp_member *member);

#endif
