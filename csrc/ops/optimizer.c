/* Optimizers: one sweep over flat arrays; members share it in whole cache lines. */
#include "ops.h"

static char *element(const fbp_tensor *t, const fbp_batch *batch, int64_t i) {
    return present(t) ? (char *)at(t, batch, 0) + i * (int64_t)batch->kernels->element : NULL;
}

void fbp_op_sgd(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand;
    const double *a = op->attribute;
    fbp_range r = fbp_share(o[0].columns, FBP_LINE, member->size, member->index);
    fbp_sgd h = {.learning_rate = batch->learning_rate, .momentum = a[0], .nesterov = a[1] != 0, .weight_decay = a[2]};
    batch->kernels->sgd(h, r.end - r.begin, element(&o[0], batch, r.begin), element(&o[1], batch, r.begin),
                        element(&o[2], batch, r.begin));
}

void fbp_op_adam(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand;
    const double *a = op->attribute;
    fbp_range r = fbp_share(o[0].columns, FBP_LINE, member->size, member->index);
    fbp_adam h = {.learning_rate = batch->learning_rate,
                  .beta_1 = a[0],
                  .beta_2 = a[1],
                  .epsilon = a[2],
                  .weight_decay = a[3],
                  .decoupled = a[4] != 0,
                  .step = batch->step};
    batch->kernels->adam(h, r.end - r.begin, element(&o[0], batch, r.begin), element(&o[1], batch, r.begin),
                         element(&o[2], batch, r.begin), element(&o[3], batch, r.begin));
}

void fbp_op_rmsprop(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const fbp_tensor *o = op->operand;
    const double *a = op->attribute;
    fbp_range r = fbp_share(o[0].columns, FBP_LINE, member->size, member->index);
    fbp_rmsprop h = {
        .learning_rate = batch->learning_rate, .rho = a[0], .momentum = a[1], .epsilon = a[2], .weight_decay = a[3]};
    batch->kernels->rmsprop(h, r.end - r.begin, element(&o[0], batch, r.begin), element(&o[1], batch, r.begin),
                            element(&o[2], batch, r.begin), element(&o[3], batch, r.begin),
                            element(&o[4], batch, r.begin));
}
