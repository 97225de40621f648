#include "inputs.h"

#include "ops/ops.h"

/* Shorter rows, in bytes, are gathered faster than they are found twice; columns of rows that lie a multiple of
 * FEW_SETS apart fall onto few sets of the caches, which those of the workspace never do. */
enum { SHORT = 32, FEW_SETS = 1024 };

static int is_reader(const fbp_op *op, const fbp_tensor *x) {
    const int forward = op->kind == FBP_OP_dense_forward;
    if (!forward && op->kind != FBP_OP_dense_backward_weight) return 0;
    return op->operand[1].columns > FBP_NARROW && op->operand[0].offset == x->offset;
}

void fbp_find_readers(const fbp_kernels *kernels, fbp_op *ops, int count) {
    const fbp_op *gather = NULL;
    for (int i = 0; i < count && !gather; i++)
        if (ops[i].kind == FBP_OP_gather && ops[i].operand[0].arena == FBP_INPUTS) gather = &ops[i];
    if (!gather) return;
    const int64_t bytes = gather->operand[0].columns * (int64_t)kernels->element;
    if (bytes <= SHORT || bytes % FEW_SETS == 0) return;
    const fbp_tensor *x = &gather->operand[1];
    for (int i = 0; i < count; i++)
        if (&ops[i] != gather && fbp_mentions(&ops[i], x) && !is_reader(&ops[i], x)) return;
    for (int i = 0; i < count; i++) ops[i].in_place = fbp_mentions(&ops[i], x);
}

int fbp_reads_in_place(const fbp_request *r, int in_blocks) {
    const unsigned all = 1u << FBP_GATHER | 1u << FBP_FORWARD | (in_blocks ? 0 : 1u << FBP_BACKWARD);
    return (r->phases & all) == all && r->data[FBP_INPUTS] && !r->source.converts && !r->source.starts;
}
