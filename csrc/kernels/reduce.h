/* Sums in an order that depends on nothing but the shape. */
#ifndef FBP_REDUCE_H
#define FBP_REDUCE_H

#include "spans.h"

/* columns side by side in registers, so that the additions of one need not wait for those of another */
enum { COLUMN_SUM_VECTORS = 4 };

static void column_sum(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, void *out) {
    const int64_t width = COLUMN_SUM_VECTORS * VL;
    int64_t j = 0;
    for (; j + width <= columns; j += width) {
        const real *p = (const real *)x + j;
        vec total[COLUMN_SUM_VECTORS] = {{0}};
        for (int64_t i = 0; i < rows; i++, p += x_row) UNROLL
        for (int v = 0; v < COLUMN_SUM_VECTORS; v++) total[v] += vec_load(p + v * VL);
        UNROLL
        for (int v = 0; v < COLUMN_SUM_VECTORS; v++) vec_store((real *)out + j + v * VL, total[v]);
    }
    FOR_EACH_SPAN(columns - j) {
        const real *p = (const real *)x + j;
        vec total = {0};
        for (int64_t i = 0; i < rows; i++, p += x_row) total += load_span(p, span);
        store_span((real *)out + j, span, total);
    }
}

static double sum(int64_t n, const void *x) {
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += (double)((const real *)x)[i];
    return total;
}

/* Vectors of squares are added in blocks that are short enough for float32, the blocks in double. */
enum { SQUARE_SUM_BLOCK = 64 * VL };

static double square_sum(int64_t n, const void *x) {
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += SQUARE_SUM_BLOCK) {
        const real *block = (const real *)x + begin;
        vec squares = {0};
        FOR_EACH_SPAN(n - begin < SQUARE_SUM_BLOCK ? n - begin : SQUARE_SUM_BLOCK) {
            vec v = load_span(block, span);
            squares += v * v;
        }
        for (int i = 0; i < VL; i++) total += (double)squares[i];
    }
    return total;
}

#endif
