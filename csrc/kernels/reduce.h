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

/* Columns side by side in registers, and four partial sums of each, so that no addition waits for the one before; the
 * order of the additions is the same for every width. */
#define COLUMN_SUM_VECTORS (VECTOR_REGISTERS / 8)

INLINE void sum_columns(const int vectors, int64_t rows, const real *x, ptrdiff_t x_row, int accumulate, real *out,
                        int64_t columns) {
    vec part[4][COLUMN_SUM_VECTORS] = {{{0}}};
    for (int64_t i = 0; i < rows; i += 4) UNROLL
    for (int q = 0; q < 4; q++) {
        if (i + q >= rows) break;
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const span_t span = {(i + q) * x_row + v * VL, columns - v * VL};
            part[q][v] += load_span(x, span);
        }
    }
    UNROLL
    for (int v = 0; v < vectors; v++) {
        const span_t span = {v * VL, columns - v * VL};
        store_sum(out, span, accumulate, (part[0][v] + part[1][v]) + (part[2][v] + part[3][v]));
    }
}

static void column_sum(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, int accumulate, void *out) {
    const int64_t width = COLUMN_SUM_VECTORS * VL;
    int64_t j = 0;
    for (; j + width <= columns; j += width)
        sum_columns(COLUMN_SUM_VECTORS, rows, (const real *)x + j, x_row, accumulate, (real *)out + j, width);
    for (; j < columns; j += VL)
        sum_columns(1, rows, (const real *)x + j, x_row, accumulate, (real *)out + j, columns - j);
}

static double sum(int64_t n, const void *x, const int64_t *order) {
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += (double)((const real *)x)[order ? order[i] : i];
    return total;
}

/* A sum of products with 0 is 0, or NaN if a factor is infinite or NaN. */
static int all_finite(int64_t n, const void *x) {
    vec part[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) UNROLL
    for (int q = 0; q < 4; q++) part[q] += vec_load((const real *)x + i + q * VL) * vec_set(0);
    for (span_t span = {i, n - i}; span.left > 0; span.offset += VL, span.left -= VL)
        part[0] += load_span(x, span) * vec_set(0);
    real lanes[VL];
    vec_store(lanes, (part[0] + part[1]) + (part[2] + part[3]));
    int finite = 1;
    for (int k = 0; k < VL; k++) finite &= lanes[k] == 0;
    return finite;
}

/* Eight sums side by side, so that the additions of one need not wait for those of another. */
enum { SUM_LANES = 8 };

INLINE double fold_lanes(const double total[SUM_LANES]) {
    return ((total[0] + total[4]) + (total[2] + total[6])) + ((total[1] + total[5]) + (total[3] + total[7]));
}

static double sum_squares(int64_t n, const void *x) {
    const real *p = x;
    double total[SUM_LANES] = {0};
    int64_t i = 0;
    for (; i + SUM_LANES <= n; i += SUM_LANES) UNROLL
    for (int k = 0; k < SUM_LANES; k++) total[k] += (double)p[i + k] * (double)p[i + k];
    for (int k = 0; i + k < n; k++) total[k] += (double)p[i + k] * (double)p[i + k];
    return fold_lanes(total);
}

static double sum_moduli(int64_t n, const void *x) {
    const real *p = x;
    double total[SUM_LANES] = {0};
    int64_t i = 0;
    for (; i + SUM_LANES <= n; i += SUM_LANES) UNROLL
    for (int k = 0; k < SUM_LANES; k++) total[k] += __builtin_fabs((double)p[i + k]);
    for (int k = 0; i + k < n; k++) total[k] += __builtin_fabs((double)p[i + k]);
    return fold_lanes(total);
}

#endif
