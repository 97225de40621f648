/* What an operation gets to see: the batch it works on and its place in the team. */
#ifndef FBP_OPS_H
#define FBP_OPS_H

#include "../fastbp.h"
#include "../tables.h"
#include "../team.h"

typedef struct {
    const fbp_kernels *kernels;
    char *arena[FBP_ARENAS];
    fbp_source source;    /* the inputs */
    const int64_t *order; /* NULL: sample = position */
    int64_t position;     /* of the first row of this batch */
    int64_t end;          /* of the run: positions below it have a sample */
    int64_t first_row;    /* its number within the batch, for random numbers */
    int in_lane;          /* some rows of a batch: the next ones are asked for between operations */
    int64_t rows;
    int accumulate; /* add to the gradients: they hold those of other rows */
    int training;
    uint64_t seed, draw; /* random numbers of this forward pass */
    int64_t step;        /* of the optimizer, from 1 */
    int64_t waiting;     /* batches before this one whose gradients wait for the step */
    double learning_rate;
    double weight_sum; /* sample weights of the whole batch */
    double *row_loss;  /* weight times loss of each row */
    double *penalty;   /* of the parameters, beside the loss; the first member fills it in */
    fbp_table *tables; /* NULL: it is not known which rows of a table have a gradient */
    int table_count;
    int in_place; /* operations marked so read the inputs where they lie */
    int follows;  /* the last batch that went backward was one of this run */
} fbp_batch;

enum {
#define OP(name, operands, attributes) FBP_OP_##name,
#include "../ops.def"
};

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

/* behind the last element */
static inline int64_t fbp_end_of(const fbp_tensor *t) { return t->offset + (t->rows - 1) * t->stride + t->columns; }
static inline int fbp_mentions(const fbp_op *op, const fbp_tensor *t) {
    for (int i = 0; i < FBP_OPERANDS; i++) {
        const fbp_tensor *other = &op->operand[i];
        if (other->arena == t->arena && other->offset < fbp_end_of(t) && t->offset < fbp_end_of(other)) return 1;
    }
    return 0;
}

/* optimizer.c: the step of a flat Adam, for a product that takes it */
fbp_step fbp_step_of(const fbp_op *adam, const fbp_batch *batch, const fbp_member *member);

/* embedding.c: calls an optimizer's step for each row of a table whose gradient is not 0 */
void fbp_update_rows(fbp_op_function *step, const fbp_op *op, const fbp_batch *batch, const fbp_member *member);

/* What a member will read soon: rows of the next batch; columns of a delta that other members computed */
enum { FBP_NEXT_INPUTS, FBP_NEXT_TARGETS, FBP_NEXT_DELTA, FBP_NEXTS };

/* copy.c: between operations, asks for so many of the rows that this member will gather next; all at once would have to
 * wait for each other */
void fbp_ask_for_rows(fbp_ahead *ahead, int64_t rows);
static inline void fbp_ask_ahead(const fbp_member *member, int64_t rows) {
    for (fbp_ahead *a = member->ahead; a <= member->ahead + FBP_NEXT_TARGETS; a++)
        if (a->next < a->end && !a->replace) fbp_ask_for_rows(a, rows);
}

/* blocks that norms and penalties are summed in */
static inline int64_t blocks_of(const fbp_tensor *t) { return (t->columns + FBP_BLOCK - 1) / FBP_BLOCK; }

/* A member's part of a sweep over flat arrays of one length: whole cache lines. */
typedef struct {
    int64_t n;
    char *at[FBP_OPERANDS]; /* where it begins in each operand; NULL for an absent one */
} fbp_sweep;

static inline fbp_sweep sweep_of(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_range r = fbp_share(op->operand[0].columns, FBP_LINE, member->size, member->index);
    fbp_sweep sweep = {.n = r.end - r.begin};
    for (int i = 0; i < FBP_OPERANDS; i++)
        if (present(&op->operand[i]))
            sweep.at[i] = (char *)at(&op->operand[i], batch, 0) + r.begin * (int64_t)batch->kernels->element;
    return sweep;
}

#endif
