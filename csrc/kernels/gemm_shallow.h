/* Matrix products whose sums have at most FBP_NARROW terms: the forward product of few inputs, the delta behind few
 * outputs. A tile would spend its time around a loop of so few turns; here two vectors of columns of B stay in
 * registers while the rows of A go by. Each element is the same chain over ascending p as in gemm_tile.h. */
#ifndef FBP_GEMM_SHALLOW_H
#define FBP_GEMM_SHALLOW_H

#include "gemm_tile.h"

enum { SHALLOW_ROWS = 128 };  /* what is not finished in registers stays in the first-level cache */
enum { SHALLOW_VECTORS = 2 }; /* that share what a row of A costs */

/* a few columns of B, one vector for each of its rows */
INLINE void load_columns_of_b(const int k, const fbp_product *g, int64_t j, vec b[FBP_NARROW]) {
    const real *from = (const real *)g->b + j * g->b_column;
    const span_t span = {0, g->n - j};
    if (g->b_column == 1) {
        UNROLL
        for (int p = 0; p < k; p++) b[p] = load_span(from + p * g->b_row, span);
        return;
    }
    vec v[ABREAST];
    rows_to_lanes(k, from, g->b_column, span.left < VL ? span.left : VL, v);
    UNROLL
    for (int p = 0; p < k; p++) b[p] = v[p];
}

/* SHALLOW_VECTORS vectors of columns of C from j on, or one, perhaps in part; `rows` rows of it from i on */
INLINE void shallow_columns(const int k, const int kind, const int activation, const int vectors, const fbp_product *g,
                            int64_t i, int64_t rows, int64_t j) {
    const fbp_epilogue *e = g->epilogue;
    const ptrdiff_t a_row = g->a_row, a_step = g->a_step, c_row = g->c_row;
    const real *a = (const real *)g->a + i * a_row;
    real *c = (real *)g->c + i * c_row + j;
    const ptrdiff_t saved_row = kind == FBP_DERIVATIVE ? e->saved_row : 0;
    const real *saved = kind == FBP_DERIVATIVE ? (const real *)e->saved + i * saved_row + j : NULL;
    vec b[SHALLOW_VECTORS][FBP_NARROW], bias[SHALLOW_VECTORS];
    span_t span[SHALLOW_VECTORS];
    UNROLL
    for (int v = 0; v < vectors; v++) {
        span[v] = (span_t){v * VL, vectors > 1 ? VL : g->n - j};
        load_columns_of_b(k, g, j + v * VL, b[v]);
        bias[v] = e && e->bias ? load_span((const real *)e->bias + j, span[v]) : vec_set(R(-0.0)); /* changes nothing */
    }
    for (int64_t r = 0; r < rows; r++, a += a_row, c += c_row, saved += saved_row) {
        vec y[SHALLOW_VECTORS] = {{0}, {0}};
        UNROLL
        for (int p = 0; p < k; p++) {
            const vec x = vec_set(a[p * a_step]);
            UNROLL
            for (int v = 0; v < vectors; v++) y[v] += x * b[v][p];
        }
        UNROLL
        for (int v = 0; v < vectors; v++) {
            if (kind == FBP_BIAS_ACTIVATION) y[v] = activation_vec(activation, bias[v], y[v] + bias[v]);
            if (kind == FBP_DERIVATIVE) y[v] = backward_vec(activation, bias[v], load_span(saved, span[v]), y[v]);
            store_span(c, span[v], y[v]);
        }
    }
}

INLINE void shallow_ends(const int k, const int vectors, const fbp_product *g, int64_t i, int64_t rows, int64_t j) {
    const fbp_epilogue *e = g->epilogue;
    const int kind = e ? (int)e->kind : FBP_STORE, activation = in_registers(e) && e ? e->activation : FBP_linear;
    if (kind == FBP_BIAS_ACTIVATION && activation == FBP_relu)
        shallow_columns(k, FBP_BIAS_ACTIVATION, FBP_relu, vectors, g, i, rows, j);
    else if (kind == FBP_BIAS_ACTIVATION)
        shallow_columns(k, FBP_BIAS_ACTIVATION, FBP_linear, vectors, g, i, rows, j);
    else if (activation == FBP_relu)
        shallow_columns(k, FBP_DERIVATIVE, FBP_relu, vectors, g, i, rows, j);
    else if (activation == FBP_tanh)
        shallow_columns(k, FBP_DERIVATIVE, FBP_tanh, vectors, g, i, rows, j);
    else
        shallow_columns(k, FBP_STORE, FBP_linear, vectors, g, i, rows, j);
}

INLINE void shallow_depth(const int k, const fbp_product *g) {
    for (int64_t i = 0; i < g->m; i += SHALLOW_ROWS) {
        const int64_t rows = g->m - i < SHALLOW_ROWS ? g->m - i : SHALLOW_ROWS;
        for (int64_t j = 0, columns; j < g->n; j += columns) {
            columns = g->n - j >= SHALLOW_VECTORS * VL ? SHALLOW_VECTORS * VL : g->n - j < VL ? g->n - j : VL;
            if (columns == SHALLOW_VECTORS * VL)
                shallow_ends(k, SHALLOW_VECTORS, g, i, rows, j);
            else
                shallow_ends(k, 1, g, i, rows, j);
            if (!in_registers(g->epilogue))
                finish(g->epilogue, rows, columns, (real *)g->c + i * g->c_row + j, g->c_row, i, j);
        }
    }
}

static void shallow(const fbp_product *g) {
    switch (g->k) {
    case 1: shallow_depth(1, g); break;
    case 2: shallow_depth(2, g); break;
#if VECTOR_BYTES * 8 / REAL_BITS > 2 /* vectors with as many lanes as B has rows */
    case 3: shallow_depth(3, g); break;
    default: shallow_depth(4, g);
#else
    default:;
#endif
    }
}

#endif
