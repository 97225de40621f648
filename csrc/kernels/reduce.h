/* Sums in an order that depends on nothing but the shape. */
#ifndef FBP_REDUCE_H
#define FBP_REDUCE_H

#include "spans.h"

/* row `row` of a matrix */
#define ROW(matrix, row, stride) ((const real *)(matrix) + (row) * (stride))

/* total = sum of `term` over row = 0 .. rows, a vector; four partial sums need not wait for each other */
#define SUM_OVER_ROWS(total, rows, term)                     \
    do {                                                     \
        vec part[4] = {{0}};                                 \
        int64_t row = 0;                                     \
        while (row + 4 <= (rows)) {                          \
            part[0] += (term), row++;                        \
            part[1] += (term), row++;                        \
            part[2] += (term), row++;                        \
            part[3] += (term), row++;                        \
        }                                                    \
        for (; row < (rows); row++) part[0] += (term);       \
        (total) = (part[0] + part[1]) + (part[2] + part[3]); \
    } while (0)

INLINE void store_sum(void *out, span_t span, int accumulate, vec total) {
    store_span(out, span, accumulate ? load_span(out, span) + total : total);
}

/* columns side by side in registers, so that the additions of one need not wait for those of another */
enum { COLUMN_SUM_VECTORS = 4 };

static void column_sum(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, int accumulate, void *out) {
    const int64_t width = COLUMN_SUM_VECTORS * VL;
    int64_t j = 0;
    for (; j + width <= columns; j += width) {
        const real *p = (const real *)x + j;
        real *result = (real *)out + j;
        vec total[COLUMN_SUM_VECTORS];
        UNROLL
        for (int v = 0; v < COLUMN_SUM_VECTORS; v++) total[v] = accumulate ? vec_load(result + v * VL) : (vec){0};
        for (int64_t i = 0; i < rows; i++, p += x_row) UNROLL
        for (int v = 0; v < COLUMN_SUM_VECTORS; v++) total[v] += vec_load(p + v * VL);
        UNROLL
        for (int v = 0; v < COLUMN_SUM_VECTORS; v++) vec_store(result + v * VL, total[v]);
    }
    FOR_EACH_SPAN(columns - j) {
        const real *p = (const real *)x + j;
        vec total = accumulate ? load_span((real *)out + j, span) : (vec){0};
        for (int64_t i = 0; i < rows; i++, p += x_row) total += load_span(p, span);
        store_span((real *)out + j, span, total);
    }
}

static double sum(int64_t n, const void *x, const int64_t *order) {
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += (double)((const real *)x)[order ? order[i] : i];
    return total;
}

#endif
