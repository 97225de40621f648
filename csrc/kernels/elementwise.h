/* Element by element, one call for a block of rows: PReLU, scaling, sums. */
#ifndef FBP_ELEMENTWISE_H
#define FBP_ELEMENTWISE_H

#include "kernels.h"
#include "reduce.h"
#include "spans.h"

static void prelu_forward(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, const void *alpha, void *y,
                          ptrdiff_t y_row) {
    for (int64_t i = 0; i < rows; i++) {
        FOR_EACH_SPAN(columns) {
            const vec in = load_span(ROW(x, i, x_row), span);
            store_span((real *)y + i * y_row, span, vec_select(in > 0, in, load_span(alpha, span) * in));
        }
    }
}

static void prelu_backward(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, const void *alpha,
                           const void *dy, ptrdiff_t dy_row, int accumulate, void *alpha_grad, void *dx,
                           ptrdiff_t dx_row) {
    FOR_EACH_SPAN(columns) {
        const vec slope = load_span(alpha, span);
        vec total;
        SUM_OVER_ROWS(total, rows,
                      vec_select(load_span(ROW(x, row, x_row), span) > 0, vec_set(0),
                                 load_span(ROW(dy, row, dy_row), span) * load_span(ROW(x, row, x_row), span)));
        store_sum(alpha_grad, span, accumulate, total);
        for (int64_t i = 0; i < rows; i++) {
            const vec d = load_span(ROW(dy, i, dy_row), span);
            store_span((real *)dx + i * dx_row, span, vec_select(load_span(ROW(x, i, x_row), span) > 0, d, slope * d));
        }
    }
}

static void rescale(double scale, double offset, int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, void *y,
                    ptrdiff_t y_row) {
    const vec factor = vec_set(R(scale)), term = vec_set(R(offset));
    for (int64_t i = 0; i < rows; i++) {
        FOR_EACH_SPAN(columns)
        store_span((real *)y + i * y_row, span, factor * load_span(ROW(x, i, x_row), span) + term);
    }
}

static void normalize(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, const void *mean,
                      const void *variance, void *y, ptrdiff_t y_row) {
    FOR_EACH_SPAN(columns) {
        const vec deviation = vec_max(vec_set(R(1e-7)), vec_sqrt(load_span(variance, span)));
        const vec center = mean ? load_span(mean, span) : vec_set(0);
        for (int64_t i = 0; i < rows; i++)
            store_span((real *)y + i * y_row, span, (load_span(ROW(x, i, x_row), span) - center) / deviation);
    }
}

static void add(int64_t n, const void *a, const void *b, void *out) {
    FOR_EACH_SPAN(n) store_span(out, span, load_span(a, span) + load_span(b, span));
}

#endif
