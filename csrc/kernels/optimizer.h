/* Optimizer steps, one sweep over parameters, gradients and state; the update rules are PyTorch's. Everything
 * that is the same for all parameters is prepared in double. */
#ifndef FBP_OPTIMIZER_H
#define FBP_OPTIMIZER_H

#include "kernels.h"
#include "spans.h"
#include "vec_math.h"

/* base^n by squaring */
INLINE double integer_power(double base, int64_t n) {
    double result = 1;
    for (; n > 0; n /= 2, base *= base)
        if (n % 2) result *= base;
    return result;
}

static void sgd(fbp_sgd h, int64_t n, void *parameters, const void *gradients, void *momentum_buffer) {
    const vec learning_rate = vec_set(R(h.learning_rate)), momentum = vec_set(R(h.momentum));
    const vec weight_decay = vec_set(R(h.weight_decay));
    FOR_EACH_SPAN(n) {
        vec p = load_span(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        if (momentum_buffer) {
            vec buffer = momentum * load_span(momentum_buffer, span) + g;
            store_span(momentum_buffer, span, buffer);
            g = h.nesterov ? g + momentum * buffer : buffer;
        }
        store_span(parameters, span, p - learning_rate * g);
    }
}

static void adam(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *v) {
    const double correction_1 = 1 - integer_power(h.beta_1, h.step);
    const double correction_2 = 1 - integer_power(h.beta_2, h.step);
    const vec step_size = vec_set(R(h.learning_rate / correction_1));
    const vec root_scale = vec_set(R(1 / __builtin_sqrt(correction_2))), epsilon = vec_set(R(h.epsilon));
    const vec fresh_1 = vec_set(R(1 - h.beta_1)), fresh_2 = vec_set(R(1 - h.beta_2)), kept_2 = vec_set(R(h.beta_2));
    const vec shrink = vec_set(R(h.decoupled ? 1 - h.learning_rate * h.weight_decay : 1));
    const vec weight_decay = vec_set(R(h.decoupled ? 0 : h.weight_decay));
    FOR_EACH_SPAN(n) {
        vec p = load_span(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        vec first = load_span(m, span), second = load_span(v, span);
        first += fresh_1 * (g - first);
        second = kept_2 * second + fresh_2 * (g * g);
        store_span(m, span, first);
        store_span(v, span, second);
        store_span(parameters, span,
                   shrink * p - step_size * first * vec_reciprocal(vec_positive_sqrt(second) * root_scale + epsilon));
    }
}

static void rmsprop(fbp_rmsprop h, int64_t n, void *parameters, const void *gradients, void *v, void *momentum_buffer,
                    void *gradient_average) {
    const vec learning_rate = vec_set(R(h.learning_rate)), momentum = vec_set(R(h.momentum));
    const vec weight_decay = vec_set(R(h.weight_decay)), epsilon = vec_set(R(h.epsilon));
    const vec kept = vec_set(R(h.rho)), fresh = vec_set(R(1 - h.rho));
    FOR_EACH_SPAN(n) {
        vec p = load_span(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        vec variance = kept * load_span(v, span) + fresh * (g * g);
        store_span(v, span, variance);
        if (gradient_average) {
            vec average = load_span(gradient_average, span);
            average += fresh * (g - average);
            store_span(gradient_average, span, average);
            variance = vec_max(vec_set(0), variance - average * average); /* rounding may leave it below 0 */
        }
        vec step = g / (vec_sqrt(variance) + epsilon);
        if (momentum_buffer) {
            step += momentum * load_span(momentum_buffer, span);
            store_span(momentum_buffer, span, step);
        }
        store_span(parameters, span, p - learning_rate * step);
    }
}

#endif
