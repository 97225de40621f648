/* What happens to gradients between the backward pass and the optimizer's step: clipping, accumulation over
 * batches, and penalties of the weights, whose value belongs to the loss. */
#ifndef FBP_GRADIENT_H
#define FBP_GRADIENT_H

#include "kernels.h"
#include "reduce.h"
#include "spans.h"
#include "vec_math.h"

/* -1, 0 or 1; a NaN stays one */
INLINE vec vec_sign(vec v) { return vec_select(v > 0, vec_set(1), vec_select(v < 0, vec_set(-1), v)); }

static void clip_value(double limit, int64_t n, void *gradients) {
    const vec most = vec_set(R(limit)), least = vec_set(R(-limit));
    FOR_EACH_SPAN(n)
    store_span(gradients, span, vec_max(least, vec_min(most, load_span(gradients, span))));
}

static void scale(double factor, int64_t n, void *gradients) {
    const vec by = vec_set(R(factor));
    FOR_EACH_SPAN(n) store_span(gradients, span, by * load_span(gradients, span));
}

static void block_norms(int64_t n, const void *x, void *out) {
    for (int64_t i = 0; i < n; i += FBP_BLOCK)
        ((real *)out)[i / FBP_BLOCK] =
            R(__builtin_sqrt(sum_squares(n - i < FBP_BLOCK ? n - i : FBP_BLOCK, (const real *)x + i)));
}

static void accumulate(int first, int last, int64_t count, int64_t n, void *gradients, void *total) {
    const vec share = vec_set(R(1 / (double)count));
    FOR_EACH_SPAN(n) {
        vec g = load_span(gradients, span), all = first ? g : load_span(total, span) + g;
        store_span(total, span, all);
        if (last) store_span(gradients, span, share * all);
    }
}

static void penalty(double l1, double l2, int64_t n, const void *x, void *out) {
    for (int64_t i = 0; i < n; i += FBP_BLOCK) {
        const real *block = (const real *)x + i;
        const int64_t count = n - i < FBP_BLOCK ? n - i : FBP_BLOCK;
        double total = l1 > 0 ? l1 * sum_moduli(count, block) : 0;
        if (l2 > 0) total += l2 * sum_squares(count, block);
        ((real *)out)[i / FBP_BLOCK] = R(total);
    }
}

static void penalty_gradient(double l1, double l2, int64_t n, const void *x, void *gradients) {
    const vec of_sign = vec_set(R(l1)), of_value = vec_set(R(2 * l2));
    FOR_EACH_SPAN(n) {
        vec w = load_span(x, span);
        store_span(gradients, span, load_span(gradients, span) + (of_sign * vec_sign(w) + of_value * w));
    }
}

#endif
