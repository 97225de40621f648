/* Optimizers: one sweep over flat arrays. */
#include "ops.h"

void fbp_op_sgd(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const double *a = op->attribute;
    fbp_sweep s = sweep_of(op, batch, member);
    fbp_sgd h = {.learning_rate = batch->learning_rate, .momentum = a[0], .nesterov = a[1] != 0, .weight_decay = a[2]};
    batch->kernels->sgd(h, s.n, s.at[0], s.at[1], s.at[2]);
}

/* the attributes of Adam and of those that came of it, in the order of ops.def */
static fbp_adam adam_of(const fbp_op *op, const fbp_batch *batch) {
    const double *a = op->attribute;
    return (fbp_adam){.learning_rate = batch->learning_rate,
                      .beta_1 = a[0],
                      .beta_2 = a[1],
                      .epsilon = a[2],
                      .weight_decay = a[3],
                      .decoupled = a[4] != 0,
                      .step = batch->step,
                      .momentum_factor = a[5]};
}

/* of Adam itself, whose last attribute is another one */
static fbp_adam adam_itself_of(const fbp_op *op, const fbp_batch *batch) {
    fbp_adam h = adam_of(op, batch);
    h.epsilon_hat = op->attribute[5] != 0;
    return h;
}

fbp_step fbp_step_of(const fbp_op *adam, const fbp_batch *batch, const fbp_member *member) {
    return (fbp_step){.adam = adam_itself_of(adam, batch),
                      .unstepped = member->unstepped,
                      .parameters = at(&adam->operand[0], batch, 0),
                      .gradients = at(&adam->operand[1], batch, 0),
                      .m = at(&adam->operand[2], batch, 0),
                      .v = at(&adam->operand[3], batch, 0)};
}

void fbp_op_adam(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->adam(adam_itself_of(op, batch), s.n, s.at[0], s.at[1], s.at[2], s.at[3], s.at[4]);
}

void fbp_op_adamax(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->adamax(adam_of(op, batch), s.n, s.at[0], s.at[1], s.at[2], s.at[3]);
}

void fbp_op_nadam(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->nadam(adam_of(op, batch), s.n, s.at[0], s.at[1], s.at[2], s.at[3]);
}

void fbp_op_radam(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    fbp_sweep s = sweep_of(op, batch, member);
    batch->kernels->radam(adam_of(op, batch), s.n, s.at[0], s.at[1], s.at[2], s.at[3]);
}

void fbp_op_lion(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const double *a = op->attribute;
    fbp_sweep s = sweep_of(op, batch, member);
    fbp_adam h = {
        .learning_rate = batch->learning_rate, .beta_1 = a[0], .beta_2 = a[1], .weight_decay = a[2], .decoupled = 1};
    batch->kernels->lion(h, s.n, s.at[0], s.at[1], s.at[2]);
}

void fbp_op_adagrad(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const double *a = op->attribute;
    fbp_sweep s = sweep_of(op, batch, member);
    fbp_adagrad h = {.learning_rate = batch->learning_rate, .initial = a[0], .epsilon = a[1], .weight_decay = a[2]};
    batch->kernels->adagrad(h, s.n, s.at[0], s.at[1], s.at[2]);
}

void fbp_op_adadelta(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const double *a = op->attribute;
    fbp_sweep s = sweep_of(op, batch, member);
    fbp_rmsprop h = {.learning_rate = batch->learning_rate, .rho = a[0], .epsilon = a[1], .weight_decay = a[2]};
    batch->kernels->adadelta(h, s.n, s.at[0], s.at[1], s.at[2], s.at[3]);
}

void fbp_op_rmsprop(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const double *a = op->attribute;
    fbp_sweep s = sweep_of(op, batch, member);
    fbp_rmsprop h = {
        .learning_rate = batch->learning_rate, .rho = a[0], .momentum = a[1], .epsilon = a[2], .weight_decay = a[3]};
    batch->kernels->rmsprop(h, s.n, s.at[0], s.at[1], s.at[2], s.at[3], s.at[4]);
}

void fbp_op_rprop(const fbp_op *op, const fbp_batch *batch, const fbp_member *member) {
    const double *a = op->attribute;
    fbp_sweep s = sweep_of(op, batch, member);
    fbp_rprop h = {
        .learning_rate = batch->learning_rate, .eta_minus = a[0], .eta_plus = a[1], .smallest = a[2], .largest = a[3]};
    batch->kernels->rprop(h, s.n, s.at[0], s.at[1], s.at[2], s.at[3]);
}
