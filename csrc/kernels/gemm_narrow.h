/* Matrix products with at most FBP_NARROW columns, as the outputs of most networks have: a vector along such a row
 * would be padding for the most part, so rows lie in the lanes here. Each element is the same chain over ascending p
 * as in gemm_tile.h. */
#ifndef FBP_GEMM_NARROW_H
#define FBP_GEMM_NARROW_H

#include "gemm_block.h"

/* VL rows of n columns, given as columns: C = (accumulate ? C : 0) + them, the first `rows` of them. */
INLINE void store_columns(const int n, const vec column[FBP_NARROW], int rows, int accumulate, real *c,
                          ptrdiff_t c_row) {
    vec row[FBP_NARROW]; /* rows one after another */
    if (n != 3) {
        UNROLL
        for (int j = 0; j < n; j++) row[j] = column[j];
        columns_to_rows(n, row);
    } else {
        real z[3 * VL], lines[3 * VL];
        UNROLL
        for (int j = 0; j < 3; j++) vec_store(z + j * VL, column[j]);
        for (int r = 0; r < VL; r++) UNROLL
        for (int j = 0; j < 3; j++) lines[r * 3 + j] = z[j * VL + r];
        UNROLL
        for (int v = 0; v < 3; v++) row[v] = vec_load(lines + v * VL);
    }
    if (c_row == n) {
        UNROLL
        for (int v = 0; v < n; v++) {
            const span_t span = {v * VL, (int64_t)rows * n - v * VL};
            if (span.left > 0) store_span(c, span, accumulate ? load_span(c, span) + row[v] : row[v]);
        }
        return;
    }
    real lines[FBP_NARROW * VL] = {0};
    UNROLL
    for (int v = 0; v < n; v++) vec_store(lines + v * VL, row[v]);
    for (int r = 0; r < rows; r++, c += c_row) UNROLL
    for (int j = 0; j < n; j++) c[j] = accumulate ? c[j] + lines[r * n + j] : lines[r * n + j];
}

/* Of VL rows of A, given as columns, the first `terms` columns, HALF at most, by as many rows of B */
INLINE void add_narrow(const int n, const vec x[HALF], int64_t terms, const real *b, ptrdiff_t b_row,
                       ptrdiff_t b_column, vec acc[FBP_NARROW]) {
    UNROLL
    for (int q = 0; q < HALF; q++, b += b_row) {
        if (q >= terms) break;
        ONE_REGISTER(b); /* or the compiler keeps the addresses of all rows, on the stack */
        UNROLL
        for (int j = 0; j < n; j++) acc[j] += x[q] * vec_set(b[j * b_column]);
    }
}

/* `rows` rows of A, VL at most, by n columns of B, one vector for each column; the sum is cut as in gemm.c. Half a
 * square at a time: while its products wait for each other, the next half is transposed. */
INLINE void narrow_rows(const int n, const fbp_product *g, const real *a, int rows, vec total[FBP_NARROW]) {
    const real *b = g->b;
    const ptrdiff_t b_row = g->b_row, b_column = g->b_column;
    vec acc[FBP_NARROW];
    UNROLL
    for (int j = 0; j < n; j++) total[j] = acc[j] = (vec){0};
    int64_t cut = g->cut;
    for (int64_t p = 0; p < g->k; p += VL) {
        real copied[VL * VL];
        ptrdiff_t row = g->a_row;
        const real *square = as_square(a + p, &row, rows, g->k - p, copied);
        if (p == cut) {
            cut += g->cut;
            UNROLL
            for (int j = 0; j < n; j++) total[j] += acc[j], acc[j] = (vec){0};
        }
        UNROLL
        for (int first = 0; first < VL; first += HALF, b += HALF * b_row) {
            const int64_t terms = g->k - p - first;
            vec x[HALF];
            load_transposed_half(square + first, row, x);
            if (terms >= HALF)
                add_narrow(n, x, HALF, b, b_row, b_column, acc);
            else
                add_narrow(n, x, terms, b, b_row, b_column, acc);
        }
    }
    UNROLL
    for (int j = 0; j < n; j++) total[j] += acc[j];
}

INLINE void narrow_columns(const int n, const fbp_product *g) {
    const fbp_epilogue *e = g->epilogue;
    const real *bias = e ? e->bias : NULL;
    for (int64_t i = 0; i < g->m; i += VL) {
        const int rows = (int)(g->m - i < VL ? g->m - i : VL);
        vec y[FBP_NARROW];
        narrow_rows(n, g, (const real *)g->a + i * g->a_row, rows, y);
        UNROLL
        for (int j = 0; j < n; j++)
            if (bias) y[j] += vec_set(bias[j]);
        store_columns(n, y, rows, g->accumulate, (real *)g->c + i * g->c_row, g->c_row);
    }
    if (!e) return;
    const int dense = g->c_row == n && (e->kind != FBP_DERIVATIVE || e->saved_row == n);
    finish(e, dense ? 1 : g->m, dense ? g->m * n : n, g->c, g->c_row, 0, 0);
}

static void narrow(const fbp_product *g) {
    switch (g->n) {
    case 1: narrow_columns(1, g); break;
    case 2: narrow_columns(2, g); break;
    case 3: narrow_columns(3, g); break;
    default: narrow_columns(4, g);
    }
}

INLINE void add_columns(const int n, int64_t m, const real *x, ptrdiff_t x_row, int accumulate, real *c,
                        ptrdiff_t c_row) {
    FOR_EACH_SPAN(m) {
        vec column[FBP_NARROW];
        UNROLL
        for (int j = 0; j < n; j++) column[j] = load_span(x + j * x_row, span);
        store_columns(n, column, (int)(span.left < VL ? span.left : VL), accumulate, c + span.offset * c_row, c_row);
    }
}

static void add_transposed(int64_t m, int64_t n, const void *x, ptrdiff_t x_row, int accumulate, void *c,
                           ptrdiff_t c_row) {
    switch (n) {
    case 1: add_columns(1, m, x, x_row, accumulate, c, c_row); break;
    case 2: add_columns(2, m, x, x_row, accumulate, c, c_row); break;
    case 3: add_columns(3, m, x, x_row, accumulate, c, c_row); break;
    default: add_columns(4, m, x, x_row, accumulate, c, c_row);
    }
}

#endif
