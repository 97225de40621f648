#ifndef FBP_SHAPES_H
#define FBP_SHAPES_H

#include "fastbp.h"

/* Whether the shapes of this operation are written down; then which operands have a row per sample (bit mask), and
 * whether the operands fit each other. */
int fbp_known_shapes(const fbp_op *op, const char *name, unsigned *per_row, int *fits);

#endif
