/* Weight gradients that the optimizer's step uses up. */
#ifndef FBP_MERGE_H
#define FBP_MERGE_H

#include "fastbp.h"

/* The operations of a run in which nobody reads the gradients between a backward pass and its update: products of
 * weight gradients take Adam's step themselves (fbp_op.step), and Adam sweeps all other parameters. Sets *merged to
 * NULL where none does; it is the caller's to free, and points into `ops`. */
int fbp_merge_steps(const fbp_kernels *kernels, const fbp_op *ops, int count, fbp_op **merged, int *merged_count);

#endif
