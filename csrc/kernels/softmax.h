/* Softmax over the columns of each row. A row is reduced lane by lane, then over the lanes, a row of few
 * columns column by column beside others: always in the same order, so that its result depends on nothing but itself.
 */
#ifndef FBP_SOFTMAX_H
#define FBP_SOFTMAX_H

#include "spans.h"
#include "vec_math.h"

/* A NaN may be lost here: it comes back with the exponentials. */
INLINE vec row_largest(int64_t columns, const real *x) {
    vec largest = vec_set(R(-INFINITY));
    FOR_EACH_SPAN(columns)
    largest = vec_max(vec_select(lanes_of_span(span), load_span(x, span), vec_set(R(-INFINITY))), largest);
    return vec_set(vec_largest(largest));
}

/* Of rows side by side: x - largest in place of x, the exponentials of that, and returned their sum. */
INLINE vec softmax_of_columns(int64_t columns, vec x[ABREAST], vec exponential[ABREAST]) {
    vec largest = x[0], total = {0};
    for (int64_t j = 1; j < columns; j++) largest = vec_max(x[j], largest);
    for (int64_t j = 0; j < columns; j++) {
        x[j] -= largest;
        exponential[j] = vec_exp(x[j]);
        total += exponential[j];
    }
    return total;
}

INLINE void softmax_columns(int64_t rows, int64_t columns, const real *x, ptrdiff_t x_row, real *y, ptrdiff_t y_row) {
    FOR_EACH_VECTOR_OF_ROWS(rows) {
        vec v[ABREAST], e[ABREAST];
        rows_to_lanes(columns, x + row * x_row, x_row, count, v);
        const vec total = softmax_of_columns(columns, v, e);
        for (int64_t j = 0; j < columns; j++) e[j] /= total;
        lanes_to_rows(columns, y + row * y_row, y_row, count, e);
    }
}

static void softmax_forward(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, void *y, ptrdiff_t y_row) {
    if (columns <= ABREAST) {
        softmax_columns(rows, columns, x, x_row, y, y_row);
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        const real *in = (const real *)x + i * x_row;
        real *out = (real *)y + i * y_row;
        const vec largest = row_largest(columns, in);
        vec lanes = {0};
        FOR_EACH_SPAN(columns) {
            vec e = vec_exp(load_span(in, span) - largest);
            lanes += (vec)((ivec)e & lanes_of_span(span));
            store_span(out, span, e);
        }
        const vec total = vec_set(vec_sum(lanes));
        FOR_EACH_SPAN(columns) store_span(out, span, load_span(out, span) / total);
    }
}

/* dx = y (dy - sum of dy y) */
static void softmax_backward(int64_t rows, int64_t columns, const void *y, ptrdiff_t y_row, const void *dy,
                             ptrdiff_t dy_row, void *dx, ptrdiff_t dx_row) {
    for (int64_t i = 0; i < rows; i++) {
        const real *saved = (const real *)y + i * y_row, *delta = (const real *)dy + i * dy_row;
        real *out = (real *)dx + i * dx_row;
        vec lanes = {0};
        FOR_EACH_SPAN(columns) lanes += load_span(delta, span) * load_span(saved, span);
        const vec dot = vec_set(vec_sum(lanes));
        FOR_EACH_SPAN(columns) store_span(out, span, load_span(saved, span) * (load_span(delta, span) - dot));
    }
}

#endif
