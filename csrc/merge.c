#include "merge.h"

#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"

enum { SMALLEST = 1024 }; /* elements of a weight that is worth a step of its own */

/* where the next matrix may begin */
static int64_t after(const fbp_tensor *t) { return t->offset + t->rows * t->stride; }

/* Adam as the product knows it, over flat arrays */
static int steps(const fbp_op *op) {
    return op->kind == FBP_OP_adam && op->operand[0].rows == 1 && !present(&op->operand[4]) && op->attribute[3] == 0;
}

/* Whether a product's gradient is read by this step of Adam only, and its weight by nobody in between. */
static int can_step(const fbp_kernels *kernels, const fbp_op *ops, int count, int product, int adam) {
    const fbp_tensor *gradient = &ops[product].operand[2], *all = &ops[adam].operand[1];
    fbp_tensor weight = *gradient;
    weight.arena = FBP_PARAMETERS;
    weight.offset += ops[adam].operand[0].offset - all->offset;
    if (ops[product].kind != FBP_OP_dense_backward_weight || gradient->columns <= FBP_NARROW) return 0;
    if (gradient->rows * gradient->columns < SMALLEST || gradient->stride % kernels->vector) return 0;
    if (gradient->offset < all->offset || after(gradient) > fbp_end_of(all)) return 0;
    for (int i = 0; i < count; i++) {
        if (i == product || i == adam || ops[i].phase == FBP_INPUT_GRADIENT) continue;
        if (fbp_mentions(&ops[i], gradient) || (i > product && i < adam && fbp_mentions(&ops[i], &weight))) return 0;
    }
    return 1;
}

static int by_offset(const void *a, const void *b) {
    const int64_t x = (*(const fbp_op *const *)a)->operand[2].offset,
                  y = (*(const fbp_op *const *)b)->operand[2].offset;
    return (x > y) - (x < y);
}

/* Adam on what lies between the gradients of the products, which are in the order of memory. */
static int sweep_rest(const fbp_op *adam, fbp_op *const *products, int count, fbp_op *out) {
    int64_t begin = 0; /* in the operands, which lie alike */
    int pieces = 0;
    for (int i = 0; i <= count; i++) {
        const fbp_tensor *taken = i < count ? &products[i]->operand[2] : NULL;
        const int64_t base = adam->operand[1].offset;
        const int64_t stop = taken ? taken->offset - base : adam->operand[1].columns;
        if (stop > begin) {
            fbp_op *piece = &out[pieces++];
            *piece = *adam;
            for (int q = 0; q < FBP_OPERANDS; q++)
                if (present(&piece->operand[q]))
                    piece->operand[q].offset += begin, piece->operand[q].columns = stop - begin;
        }
        if (taken) begin = after(taken) - base;
    }
    return pieces;
}

int fbp_merge_steps(const fbp_kernels *kernels, const fbp_op *ops, int count, fbp_op **merged, int *merged_count) {
    *merged = NULL;
    if (!kernels->step_block) return FBP_OK;
    fbp_op *list = malloc((size_t)(2 * count + 1) * sizeof *list);
    fbp_op **products = malloc((size_t)(count + 1) * sizeof *products);
    int found = 0, length = 0;
    for (int i = 0; list && products && i < count; i++) {
        list[length++] = ops[i];
        if (found || !steps(&ops[i])) continue; /* of one step only: what a product leaves is the next one's */
        for (int q = 0; q < i; q++) {
            if (!can_step(kernels, ops, count, q, i)) continue;
            list[q].step = &ops[i];
            products[found++] = &list[q];
        }
        if (!found) continue;
        products[0]->begins_steps = products[found - 1]->ends_steps = 1;
        qsort(products, (size_t)found, sizeof *products, by_offset);
        length += sweep_rest(&ops[i], products, found, &list[length - 1]) - 1;
    }
    const int status = list && products ? FBP_OK : FBP_NO_MEMORY;
    free(products);
    if (found)
        *merged = list, *merged_count = length;
    else
        free(list);
    return status;
}
