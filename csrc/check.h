#ifndef FBP_CHECK_H
#define FBP_CHECK_H

#include "fastbp.h"

/* What is wrong with an operation whose kernels will rely on all of this, or NULL. size: elements of the flat arrays
 * and of the workspace. */
const char *fbp_check_op(const fbp_op *op, const int64_t size[4], int64_t batch, int in_blocks);

/* Whether it goes through the flat arrays: once per batch, whatever the schedule. */
int fbp_is_flat(const fbp_op *op);

#endif
