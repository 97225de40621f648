/* What happens to parameters after the optimizer's step. */
#ifndef FBP_CONSTRAINT_H
#define FBP_CONSTRAINT_H

#include "kernels.h"
#include "spans.h"
#include "vec_math.h"

static void moving_average(int first, double momentum, int64_t n, const void *parameters, void *average) {
    const vec fresh = vec_set(R(1 - momentum));
    FOR_EACH_SPAN(n) {
        vec p = load_span(parameters, span), a = first ? p : load_span(average, span);
        store_span(average, span, a + fresh * (p - a));
    }
}

static void max_norm(double limit, int64_t rows, int64_t columns, void *x, ptrdiff_t x_row) {
    const vec most = vec_set(R(limit));
    FOR_EACH_SPAN(columns) {
        vec total = {0};
        for (int64_t i = 0; i < rows; i++) {
            vec w = load_span((const real *)x + i * x_row, span);
            total += w * w;
        }
        const vec norm = vec_sqrt(total);
        const ivec large = norm > most;
        const vec factor = vec_select(large, most / norm, vec_set(1));
        for (int64_t i = 0; i < rows; i++) {
            real *row = (real *)x + i * x_row;
            store_span(row, span, load_span(row, span) * factor);
        }
    }
}

#endif
