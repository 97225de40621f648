/* Batch normalization (over the rows of each column) and layer normalization (over the columns of each row). Sums
 * are taken in an order that the shapes alone decide. */
#ifndef FBP_NORM_H
#define FBP_NORM_H

#include "kernels.h"
#include "reduce.h"
#include "spans.h"
#include "vec_math.h"

/* ---- batch normalization ---- */

typedef struct {
    vec mean, variance;
} moments;

/* The mean of the differences from a first mean is added to it, and its square taken off the variance: Chan, Golub
 * and LeVeque, Algorithms for Computing the Sample Variance (1983). */
INLINE moments column_moments(int64_t rows, const void *x, ptrdiff_t x_row, span_t span) {
    const vec share = vec_set(R(1) / (real)rows);
    vec total, squares;
    SUM_OVER_ROWS(total, rows, load_span(ROW(x, row, x_row), span));
    const vec mean = total * share;
    SUM_OVER_ROWS(total, rows, load_span(ROW(x, row, x_row), span) - mean);
    SUM_OVER_ROWS(squares, rows,
                  (load_span(ROW(x, row, x_row), span) - mean) * (load_span(ROW(x, row, x_row), span) - mean));
    const vec rest = total * share;
    return (moments){mean + rest, vec_max(vec_set(0), squares * share - rest * rest)};
}

/* gamma or 1 */
INLINE vec load_factor(const void *gamma, span_t span) { return gamma ? load_span(gamma, span) : vec_set(1); }
/* beta or 0 */
INLINE vec load_term(const void *beta, span_t span) { return beta ? load_span(beta, span) : vec_set(0); }

static void batch_norm_forward(fbp_batch_norm h, int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row,
                               const void *gamma, const void *beta, void *moving_mean, void *moving_variance,
                               void *mean, void *inverse, void *y, ptrdiff_t y_row) {
    const vec fresh = vec_set(R(1 - h.momentum)), epsilon = vec_set(R(h.epsilon));
    const vec scale = vec_set(h.unbiased && rows > 1 ? (real)rows / (real)(rows - 1) : R(1));
    FOR_EACH_SPAN(columns) {
        moments m = {load_span(moving_mean, span), load_span(moving_variance, span)};
        if (h.training) {
            const moments moving = m;
            m = column_moments(rows, x, x_row, span);
            store_span(moving_mean, span, moving.mean + fresh * (m.mean - moving.mean));
            store_span(moving_variance, span, moving.variance + fresh * (m.variance * scale - moving.variance));
        }
        const vec inv = 1 / vec_sqrt(m.variance + epsilon);
        store_span(mean, span, m.mean);
        store_span(inverse, span, inv);
        const vec factor = load_factor(gamma, span), term = load_term(beta, span);
        for (int64_t i = 0; i < rows; i++)
            store_span((real *)y + i * y_row, span, (load_span(ROW(x, i, x_row), span) - m.mean) * inv * factor + term);
    }
}

static void batch_norm_backward(int training, int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row,
                                const void *gamma, const void *mean, const void *inverse, const void *dy,
                                ptrdiff_t dy_row, void *gamma_grad, void *beta_grad, void *dx, ptrdiff_t dx_row) {
    const vec share = vec_set(training ? R(1) / (real)rows : R(0));
    FOR_EACH_SPAN(columns) {
        const vec m = load_span(mean, span), inv = load_span(inverse, span);
        vec total, along; /* sums of dy, and of dy times the normalized x */
        SUM_OVER_ROWS(total, rows, load_span(ROW(dy, row, dy_row), span));
        SUM_OVER_ROWS(along, rows,
                      load_span(ROW(dy, row, dy_row), span) * ((load_span(ROW(x, row, x_row), span) - m) * inv));
        if (gamma_grad) store_span(gamma_grad, span, along);
        if (beta_grad) store_span(beta_grad, span, total);
        const vec factor = inv * load_factor(gamma, span), mean_dy = total * share, mean_along = along * share;
        for (int64_t i = 0; i < rows; i++) {
            const vec normalized = (load_span(ROW(x, i, x_row), span) - m) * inv;
            const vec d = load_span(ROW(dy, i, dy_row), span);
            store_span((real *)dx + i * dx_row, span, factor * (training ? d - mean_dy - normalized * mean_along : d));
        }
    }
}

/* ---- layer normalization: saved holds mean and inverse deviation of each row ---- */

static void layer_norm_forward(double epsilon, int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row,
                               const void *gamma, const void *beta, void *saved, ptrdiff_t saved_row, void *y,
                               ptrdiff_t y_row) {
    const real share = R(1) / (real)columns;
    for (int64_t i = 0; i < rows; i++) {
        const real *in = ROW(x, i, x_row);
        real *out = (real *)y + i * y_row, *own = (real *)saved + i * saved_row;
        vec lanes = {0}, squares = {0};
        FOR_EACH_SPAN(columns) lanes += load_span(in, span);
        const vec first = vec_set(vec_sum(lanes) * share);
        lanes = vec_set(0);
        FOR_EACH_SPAN(columns) {
            vec difference = (vec)((ivec)(load_span(in, span) - first) & lanes_of_span(span));
            lanes += difference;
            squares += difference * difference;
        }
        const vec rest = vec_set(vec_sum(lanes) * share), mean = first + rest;
        const vec variance = vec_max(vec_set(0), vec_set(vec_sum(squares) * share) - rest * rest);
        const vec inverse = 1 / vec_sqrt(variance + R(epsilon));
        own[0] = mean[0], own[1] = inverse[0];
        FOR_EACH_SPAN(columns)
        store_span(out, span,
                   (load_span(in, span) - mean) * inverse * load_factor(gamma, span) + load_term(beta, span));
    }
}

static void layer_norm_backward_parameters(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row,
                                           const void *saved, ptrdiff_t saved_row, const void *dy, ptrdiff_t dy_row,
                                           int accumulate, void *gamma_grad, void *beta_grad) {
    FOR_EACH_SPAN(columns) {
        vec total;
        if (gamma_grad) {
            SUM_OVER_ROWS(total, rows,
                          load_span(ROW(dy, row, dy_row), span) *
                              ((load_span(ROW(x, row, x_row), span) - ROW(saved, row, saved_row)[0]) *
                               ROW(saved, row, saved_row)[1]));
            store_sum(gamma_grad, span, accumulate, total);
        }
        if (beta_grad) {
            SUM_OVER_ROWS(total, rows, load_span(ROW(dy, row, dy_row), span));
            store_sum(beta_grad, span, accumulate, total);
        }
    }
}

static void layer_norm_backward_input(int64_t rows, int64_t columns, const void *x, ptrdiff_t x_row, const void *gamma,
                                      const void *saved, ptrdiff_t saved_row, const void *dy, ptrdiff_t dy_row,
                                      void *dx, ptrdiff_t dx_row) {
    const real share = R(1) / (real)columns;
    for (int64_t i = 0; i < rows; i++) {
        const real *in = ROW(x, i, x_row), *delta = ROW(dy, i, dy_row), *own = ROW(saved, i, saved_row);
        const vec mean = vec_set(own[0]), inverse = vec_set(own[1]);
        vec total = {0}, along = {0}; /* what lies beside the row has a delta of 0 */
        FOR_EACH_SPAN(columns) {
            const vec d = load_span(delta, span) * load_factor(gamma, span);
            total += d;
            along += d * ((load_span(in, span) - mean) * inverse);
        }
        const vec mean_d = vec_set(vec_sum(total) * share), mean_along = vec_set(vec_sum(along) * share);
        FOR_EACH_SPAN(columns) {
            const vec d = load_span(delta, span) * load_factor(gamma, span);
            const vec normalized = (load_span(in, span) - mean) * inverse;
            store_span((real *)dx + i * dx_row, span, (d - mean_d - normalized * mean_along) * inverse);
        }
    }
}

#endif
