/* All kernels for one instruction set and one element type, as a table. The including file defines
 *   ISA           its name
 *   VECTORS       most vectors of a column group
 *   FULL_GROUP(intel)  vectors of a full one, where not all processors take that many
 *   TILE_ROWS(v)  most rows of a tile that is v vectors wide
 *   KC, MC, NC    block sizes around the tile in elements (see gemm.c)
 *   IN_PLACE      most rows of A for which B is used where it lies
 *   PANELS        fewest columns of A that blocks copy (0: they do not) */
#include "../isa/vec.h"
#include "activation.h"
#include "constraint.h"
#include "convert.h"
#include "dropout.h"
#include "elementwise.h"
#include "embedding.h"
#include "gemm_block.h"
#include "gemm_narrow.h"
#include "gemm_row.h"
#include "gemm_shallow.h"
#include "gradient.h"
#include "kernels.h"
#include "loss.h"
#include "machine.h"
#include "noise.h"
#include "norm.h"
#include "optimizer.h"
#include "permutation.h"
#include "reduce.h"
#include "softmax.h"
#include "sparse.h"

_Static_assert(KC <= FBP_MOST_ROWS && MC <= FBP_MOST_ROWS * 2 / 3, "a list of rows has no more");

#ifndef FULL_GROUP
#define FULL_GROUP(intel) VECTORS
#endif

#define TABLE_NAME JOIN(JOIN(fbp_kernels_, ISA), JOIN(_f, REAL_BITS))
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const fbp_kernels TABLE_NAME = {
    .isa = TEXT(ISA),
    .element = sizeof(real),
    .vector = VL,
    .vectors = {FULL_GROUP(0), FULL_GROUP(1)},
    .kc = KC,
    .mc = MC,
    .nc = NC,
    .in_place = IN_PLACE,
    .panels = PANELS,
    .by_groups = TURN > 1,
    .convert = convert,
    .add_at = add_at,
    .add_weighted_rows = add_weighted_rows,
    .add_to_rows = add_to_rows,
    .block = block,
    .begin_steps = STEPS_OR_NULL(begin_steps),
    .step_block = STEPS_OR_NULL(step_block),
    .end_steps = STEPS_OR_NULL(end_steps),
    .pack = pack,
    .narrow = narrow,
    .add_transposed = add_transposed,
    .shallow = shallow,
    .row = row,
    .activation_forward = activation_forward,
    .activation_backward = activation_backward,
    .softmax_forward = softmax_forward,
    .softmax_backward = softmax_backward,
    .dropout = dropout,
    .gaussian_noise = gaussian_noise,
    .permutation = permutation,
    .batch_norm_forward = batch_norm_forward,
    .batch_norm_backward = batch_norm_backward,
    .layer_norm_forward = layer_norm_forward,
    .layer_norm_backward_parameters = layer_norm_backward_parameters,
    .layer_norm_backward_input = layer_norm_backward_input,
    .prelu_forward = prelu_forward,
    .prelu_backward = prelu_backward,
    .rescale = rescale,
    .normalize = normalize,
    .add = add,
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .row_number = row_number,
    .any = any,
    .elementwise_loss = elementwise_loss,
    .cross_entropy = cross_entropy,
    .column_sum = column_sum,
    .all_finite = all_finite,
    .sum = sum,
    .sum_squares = sum_squares,
    .clip_value = clip_value,
    .scale = scale,
    .block_norms = block_norms,
    .accumulate = accumulate,
    .penalty = penalty,
    .penalty_gradient = penalty_gradient,
    .sgd = sgd,
    .adam = adam,
    .adamax = adamax,
    .nadam = nadam,
    .radam = radam,
    .lion = lion,
    .adagrad = adagrad,
    .adadelta = adadelta,
    .rprop = rprop,
    .rmsprop = rmsprop,
    .moving_average = moving_average,
    .max_norm = max_norm,
    .chains = CHAINS,
    .multiply_add_chains = multiply_add_chains,
};
