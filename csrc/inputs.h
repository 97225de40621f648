/* A first dense layer can read the samples where they lie: then they need not be gathered. */
#ifndef FBP_INPUTS_H
#define FBP_INPUTS_H

#include "fastbp.h"

/* Sets fbp_op.in_place of the gather of the inputs and of its readers, where all of them can do without it. */
void fbp_find_readers(const fbp_kernels *kernels, fbp_op *ops, int count);

/* Whether a run may do so: its samples are rows of the model's own numbers, and stay until the last reader is through.
 * Blocks go through all that a run asks for at once. */
int fbp_reads_in_place(const fbp_request *request, int in_blocks);

#endif
