/* Matrix product around the tile: blocking and packing, blind to instruction set and element type. */
#ifndef FBP_GEMM_H
#define FBP_GEMM_H

#include "kernels/kernels.h"
#include "team.h"

typedef struct {
    const fbp_kernels *kernels;
    int64_t m, n, k;
    const void *a; /* A[i, p] = a[i * a_row + p * a_step], one stride is 1 */
    ptrdiff_t a_row, a_step;
    const int64_t *a_order; /* NULL, or row r of A as it lies in memory is number a_order[r] */
    const void *b;          /* B[p, j] = b[p * b_row + j * b_column], one stride is 1 */
    ptrdiff_t b_row, b_column;
    int a_padded; /* where the columns of A are contiguous: they may be read up to the end of a vector */
    int b_padded; /* rows of B may be read up to the end of a vector: it can be used where it lies */
    void *c;
    ptrdiff_t c_row;
    int accumulate;               /* add to C */
    int c_padded;                 /* rows of C, bias and saved may be touched up to the end of a vector */
    const fbp_epilogue *epilogue; /* NULL: plain store */
    fbp_ahead *ahead;             /* this member's; NULL: nothing to ask for meanwhile */
    fbp_step *step;               /* NULL: store C */
    int whole_rows;               /* members share the rows of C, not its columns */
    int64_t cut;                  /* of a forward product, its middle; 0: sums are cut where the kernels say */
    int by_depth;                 /* members may share the depth, if there is a cut in its middle */
    int exchanged;                /* C was last written by another member */
} fbp_gemm;

/* Columns of a full column group. */
int64_t fbp_gemm_group(const fbp_kernels *kernels);
/* Bytes of scratch that each member of a team needs. */
size_t fbp_gemm_scratch(const fbp_kernels *kernels);
/* The middle of a depth, in whole vectors; 0: its halves are deeper than those that kernels cut. */
int64_t fbp_gemm_middle(const fbp_kernels *kernels, int64_t k);
/* This member's share of C. k and the cut alone set the order of a sum. */
void fbp_gemm_share(const fbp_gemm *gemm, const fbp_member *member);

#endif
