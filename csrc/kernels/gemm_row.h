/* Matrix products of one row, as a network answers one sample. A tile would have few chains of multiply-adds, each of
 * which waits for the one before it; here as many vectors of columns go side by side as keep the multipliers busy.
 * Each element is the same chain over ascending p as in gemm_tile.h. */
#ifndef FBP_GEMM_ROW_H
#define FBP_GEMM_ROW_H

#include "gemm_tile.h"

enum { ABREAST_IN_A_ROW = 8 }; /* vectors */

/* the columns from j on, the last of these vectors perhaps in part; the sum is cut as in gemm.c */
INLINE void row_columns(const int vectors, const fbp_product *g, int64_t j) {
    const fbp_epilogue *e = g->epilogue;
    const real *a = g->a, *b = (const real *)g->b + j;
    real *c = (real *)g->c + j;
    const ptrdiff_t b_row = g->b_row;
    span_t span[ABREAST_IN_A_ROW];
    UNROLL
    for (int v = 0; v < vectors; v++) span[v] = (span_t){v * VL, v < vectors - 1 ? VL : g->n - j - v * VL};
    int64_t p = 0;
    do {
        const int64_t end = g->k - p < g->cut ? g->k : p + g->cut;
        const int add = g->accumulate || p > 0, finished = end == g->k;
        vec acc[ABREAST_IN_A_ROW];
        UNROLL
        for (int v = 0; v < vectors; v++) acc[v] = (vec){0};
        for (; p < end; p++, b += b_row) {
            const vec x = vec_set(a[p]);
            UNROLL
            for (int v = 0; v < vectors; v++) {
                acc[v] += x * load_span(b, span[v]);
                if (v * VECTOR_BYTES % FBP_CACHE_LINE == 0) __builtin_prefetch(b + AHEAD * b_row + v * VL);
            }
        }
        UNROLL
        for (int v = 0; v < vectors; v++) {
            vec y = acc[v];
            if (add) y += load_span(c, span[v]);
            if (finished && e && e->bias) y += load_span((const real *)e->bias + j, span[v]);
            if (finished && e && e->activation == FBP_relu) y = vec_max(vec_set(0), y);
            store_span(c, span[v], y);
        }
    } while (p < g->k);
}

static void row(const fbp_product *g) {
    for (int64_t j = 0; j < g->n; j += ABREAST_IN_A_ROW * VL) {
        switch ((g->n - j + VL - 1) / VL) {
        case 1: row_columns(1, g, j); break;
        case 2: row_columns(2, g, j); break;
        case 3: row_columns(3, g, j); break;
        case 4: row_columns(4, g, j); break;
        case 5: row_columns(5, g, j); break;
        case 6: row_columns(6, g, j); break;
        case 7: row_columns(7, g, j); break;
        default: row_columns(ABREAST_IN_A_ROW, g, j);
        }
    }
    if (!in_registers(g->epilogue)) finish(g->epilogue, 1, g->n, g->c, g->c_row, 0, 0);
}

#endif
