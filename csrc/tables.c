#include "tables.h"

#include <stdlib.h>
#include <string.h>

static int is(const fbp_op *op, const char *name) { return !strcmp(fbp_schema(op->kind)->name, name); }

static int same_place(const fbp_tensor *a, const fbp_tensor *b) {
    return a->offset == b->offset && a->rows == b->rows && a->columns == b->columns && a->stride == b->stride;
}

/* whether the operation may write into, or reads, another gradient than the one of its own table */
static int reaches(const fbp_op *op, const fbp_tensor *gradient) {
    const int64_t end = gradient->offset + gradient->rows * gradient->stride;
    for (int i = 0; i < FBP_OPERANDS; i++) {
        const fbp_tensor *t = &op->operand[i];
        if (t->arena == FBP_GRADIENTS && t->offset < end && t->offset + t->rows * t->stride > gradient->offset)
            return 1;
    }
    return 0;
}

static int is_step(const fbp_op *op, const fbp_tensor *gradient) {
    return op->phase == FBP_UPDATE && op->operand[0].arena == FBP_PARAMETERS && op->operand[1].arena == FBP_GRADIENTS &&
           same_place(&op->operand[1], gradient);
}

/* whether what `backward` looks up is looked up by one operation of the forward pass, and no one else is interested */
static int stands_alone(const fbp_op *ops, int count, const fbp_op *backward) {
    const fbp_tensor *index = &backward->operand[0], *gradient = &backward->operand[2];
    int lookups = 0;
    if (gradient->rows > INT32_MAX) return 0;
    for (int i = 0; i < count; i++) {
        if (is(&ops[i], "embedding_forward"))
            lookups += same_place(&ops[i].operand[0], index) && same_place(&ops[i].operand[1], gradient);
        if (&ops[i] != backward && !is_step(&ops[i], gradient) && reaches(&ops[i], gradient)) return 0;
    }
    return lookups == 1;
}

int fbp_tables_create(const fbp_op *ops, int count, fbp_table **tables, int *tables_count) {
    int found = 0, made = 0;
    *tables = NULL, *tables_count = 0;
    for (int i = 0; i < count; i++) {
        if (!is(&ops[i], "embedding_backward")) continue;
        if (!stands_alone(ops, count, &ops[i])) return FBP_OK;
        found++;
    }
    if (!found) return FBP_OK;
    fbp_table *all = calloc((size_t)found, sizeof *all);
    if (!all) return FBP_NO_MEMORY;
    for (int i = 0; i < count; i++) {
        if (!is(&ops[i], "embedding_backward")) continue;
        const fbp_tensor *index = &ops[i].operand[0], *gradient = &ops[i].operand[2];
        const size_t most = (size_t)(index->rows * index->columns);
        fbp_table *t = &all[made++];
        t->offset = gradient->offset;
        t->row = malloc(most * sizeof *t->row);
        t->earlier = malloc(most * sizeof *t->earlier);
        t->used = calloc((size_t)gradient->rows, 1);
        if (!t->row || !t->earlier || !t->used) {
            fbp_tables_destroy(all, made);
            return FBP_NO_MEMORY;
        }
    }
    *tables = all, *tables_count = found;
    return FBP_OK;
}

void fbp_tables_destroy(fbp_table *tables, int count) {
    for (int i = 0; i < count; i++) {
        free(tables[i].row);
        free(tables[i].earlier);
        free(tables[i].used);
    }
    free(tables);
}

fbp_table *fbp_tables_find(fbp_table *tables, int count, int64_t offset) {
    for (int i = 0; i < count; i++)
        if (tables[i].offset == offset) return &tables[i];
    return NULL;
}
