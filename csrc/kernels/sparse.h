/* Products with rows of which only some entries are stored: n entries, their values as numbers of the model. An entry
 * whose column is outside the range is passed over. */
#ifndef FBP_SPARSE_H
#define FBP_SPARSE_H

#include "spans.h"

/* rows of the matrix lie anywhere: they are asked for so many entries before they are used */
enum { ENTRIES_AHEAD = 8, MOST_LINES = 4 };

INLINE void ask_for_row(const real *matrix, ptrdiff_t stride, int64_t n, const int32_t *column, int64_t entry) {
    if (entry + ENTRIES_AHEAD >= n) return;
    const char *row = (const char *)(matrix + column[entry + ENTRIES_AHEAD] * stride);
    UNROLL
    for (int line = 0; line < MOST_LINES; line++) __builtin_prefetch(row + 64 * line);
}

/* the sums of some vectors side by side in registers */
INLINE void add_weighted_vectors(int vectors, int64_t n, const real *value, const int32_t *column, int64_t rows,
                                 const real *x, ptrdiff_t x_row, real *y) {
    vec sum[8];
    UNROLL
    for (int v = 0; v < vectors; v++) sum[v] = vec_load(y + v * VL);
    for (int64_t e = 0; e < n; e++) {
        ask_for_row(x, x_row, n, column, e);
        if (column[e] < 0 || column[e] >= rows) continue;
        const real *row = x + column[e] * x_row;
        const vec factor = vec_set(value[e]);
        UNROLL
        for (int v = 0; v < vectors; v++) sum[v] += factor * vec_load(row + v * VL);
    }
    UNROLL
    for (int v = 0; v < vectors; v++) vec_store(y + v * VL, sum[v]);
}

static void add_weighted_rows(int64_t n, const void *value, const int32_t *column, int64_t rows, int64_t columns,
                              const void *x, ptrdiff_t x_row, void *y) {
    const real *from = x;
    real *to = y;
    for (; columns >= 8 * VL; columns -= 8 * VL, from += 8 * VL, to += 8 * VL)
        add_weighted_vectors(8, n, value, column, rows, from, x_row, to);
    for (; columns >= 2 * VL; columns -= 2 * VL, from += 2 * VL, to += 2 * VL)
        add_weighted_vectors(2, n, value, column, rows, from, x_row, to);
    FOR_EACH_SPAN(columns) {
        vec sum = load_span(to, span);
        for (int64_t e = 0; e < n; e++)
            if (column[e] >= 0 && column[e] < rows)
                sum += ((const real *)value)[e] * load_span(from + column[e] * x_row, span);
        store_span(to, span, sum);
    }
}

static void add_to_rows(int64_t n, const void *value, const int32_t *column, int64_t begin, int64_t end,
                        int64_t columns, const void *x, void *y, ptrdiff_t y_row) {
    for (int64_t e = 0; e < n; e++) {
        if (column[e] < begin || column[e] >= end) continue;
        const vec factor = vec_set(((const real *)value)[e]);
        real *row = (real *)y + column[e] * y_row;
        FOR_EACH_SPAN(columns) store_span(row, span, load_span(row, span) + factor * load_span(x, span));
    }
}

#endif
