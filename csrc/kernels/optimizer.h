/* Optimizer steps, one sweep over parameters, gradients and state; the update rules are PyTorch's. Everything
 * that is the same for all parameters is prepared in double. */
#ifndef FBP_OPTIMIZER_H
#define FBP_OPTIMIZER_H

#include "gradient.h"
#include "kernels.h"
#include "spans.h"
#include "vec_math.h"

/* base^n by squaring, 0 <= base <= 1, without branches that depend on n: 0 as soon as nothing of 1 - power is left */
INLINE double integer_power(double base, int64_t n) {
    double result = 1;
    for (; n > 0; n /= 2, base *= base) {
        if (base < 1e-40) return 0;
        const double factor[2] = {1, base};
        result *= factor[n % 2];
    }
    return result;
}

/* The next parameters of a sweep. A core that has read later ones in its forward products has to give up their cache
 * lines before they are written, which is asked of it as early as that takes. */
enum { TO_BE_WRITTEN = 1024 }; /* bytes ahead */
INLINE vec load_parameters(const void *parameters, span_t span) {
    __builtin_prefetch((const char *)((const real *)parameters + span.offset) + TO_BE_WRITTEN, 1);
    return load_span(parameters, span);
}

static void sgd(fbp_sgd h, int64_t n, void *parameters, const void *gradients, void *momentum_buffer) {
    const vec learning_rate = vec_set(R(h.learning_rate)), momentum = vec_set(R(h.momentum));
    const vec weight_decay = vec_set(R(h.weight_decay));
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        if (momentum_buffer) {
            vec buffer = momentum * load_span(momentum_buffer, span) + g;
            store_span(momentum_buffer, span, buffer);
            g = h.nesterov ? g + momentum * buffer : buffer;
        }
        store_span(parameters, span, p - learning_rate * g);
    }
}

/* what decoupled weight decay leaves of a weight, and the weight decay that is part of the gradient */
INLINE vec shrink_of(fbp_adam h) { return vec_set(R(h.decoupled ? 1 - h.learning_rate * h.weight_decay : 1)); }
INLINE vec weight_decay_of(fbp_adam h) { return vec_set(R(h.decoupled ? 0 : h.weight_decay)); }

/* Adam without weight decay and AMSGrad, with a learning rate above 0, which goes into the denominator. */
typedef struct {
    real fresh_1, fresh_2, root_scale, epsilon;
} adam_numbers;

INLINE int adam_is_plain(fbp_adam h) { return h.weight_decay == 0 && h.learning_rate > 0; }

INLINE adam_numbers adam_numbers_of(fbp_adam h) {
    const real step_size = R(h.learning_rate / (1 - integer_power(h.beta_1, h.step)));
    const double root = __builtin_sqrt(1 - integer_power(h.beta_2, h.step));
    return (adam_numbers){.fresh_1 = R(1 - h.beta_1),
                          .fresh_2 = R(1 - h.beta_2),
                          .root_scale = R(1 / root) / step_size,
                          .epsilon = R(h.epsilon_hat ? h.epsilon / root : h.epsilon) / step_size};
}

/* moves the averages; returns the root of the second one */
INLINE vec adam_averages(const adam_numbers *numbers, vec g, vec *first, vec *second) {
    *first += vec_set(numbers->fresh_1) * (g - *first);
    *second += vec_set(numbers->fresh_2) * (g * g - *second);
    return vec_sqrt(*second);
}

/* the new parameters */
INLINE vec adam_parameters(const adam_numbers *numbers, vec p, vec first, vec root) {
    return p - first / (root * vec_set(numbers->root_scale) + vec_set(numbers->epsilon));
}

static void adam(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *v, void *v_max) {
    if (adam_is_plain(h) && !v_max) {
        const adam_numbers numbers = adam_numbers_of(h);
        FOR_EACH_SPAN(n) {
            vec p = load_parameters(parameters, span), g = load_span(gradients, span);
            vec first = load_span(m, span), second = load_span(v, span);
            const vec root = adam_averages(&numbers, g, &first, &second);
            store_span(m, span, first);
            store_span(v, span, second);
            store_span(parameters, span, adam_parameters(&numbers, p, first, root));
        }
        return;
    }
    const vec step_size = vec_set(R(h.learning_rate / (1 - integer_power(h.beta_1, h.step))));
    const double root = __builtin_sqrt(1 - integer_power(h.beta_2, h.step));
    const vec root_scale = vec_set(R(1 / root)), epsilon = vec_set(R(h.epsilon_hat ? h.epsilon / root : h.epsilon));
    const vec fresh_1 = vec_set(R(1 - h.beta_1)), fresh_2 = vec_set(R(1 - h.beta_2)), kept_2 = vec_set(R(h.beta_2));
    const vec shrink = shrink_of(h), weight_decay = weight_decay_of(h);
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        vec first = load_span(m, span), second = load_span(v, span);
        first += fresh_1 * (g - first);
        second = kept_2 * second + fresh_2 * (g * g);
        store_span(m, span, first);
        store_span(v, span, second);
        if (v_max) { /* AMSGrad */
            second = vec_max(load_span(v_max, span), second);
            store_span(v_max, span, second);
        }
        store_span(parameters, span,
                   shrink * p - step_size * first * vec_reciprocal(vec_sqrt(second) * root_scale + epsilon));
    }
}

static void adamax(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *u) {
    const vec step_size = vec_set(R(h.learning_rate / (1 - integer_power(h.beta_1, h.step))));
    const vec fresh_1 = vec_set(R(1 - h.beta_1)), kept_2 = vec_set(R(h.beta_2)), epsilon = vec_set(R(h.epsilon));
    const vec weight_decay = weight_decay_of(h);
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        vec first = load_span(m, span);
        first += fresh_1 * (g - first);
        vec largest = vec_max(kept_2 * load_span(u, span), vec_abs(g) + epsilon);
        store_span(m, span, first);
        store_span(u, span, largest);
        store_span(parameters, span, p - step_size * first / largest);
    }
}

/* NAdam's momentum at step t */
INLINE double nadam_momentum(fbp_adam h, double power) { return h.beta_1 * (1 - 0.5 * power); }

/* The product of its momenta up to now: a function of the step, since the first momenta are about beta_1 / 2 and
 * few factors bring the product below the rounding of 1 - product. */
INLINE double nadam_product(fbp_adam h) {
    double product = 1, power = 1;
    for (int64_t t = 0; t < h.step && product > 1e-18; t++) {
        power *= h.momentum_factor;
        product *= nadam_momentum(h, power);
    }
    return product;
}

static void nadam(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *v) {
    const double power = integer_power(h.momentum_factor, h.step), product = nadam_product(h);
    const double now = nadam_momentum(h, power), next = nadam_momentum(h, power * h.momentum_factor);
    const vec of_gradient = vec_set(R(h.learning_rate * (1 - now) / (1 - product)));
    const vec of_average = vec_set(R(h.learning_rate * next / (1 - product * next)));
    const double correction_2 = 1 - integer_power(h.beta_2, h.step);
    const vec root_scale = vec_set(R(1 / __builtin_sqrt(correction_2))), epsilon = vec_set(R(h.epsilon));
    const vec fresh_1 = vec_set(R(1 - h.beta_1)), fresh_2 = vec_set(R(1 - h.beta_2)), kept_2 = vec_set(R(h.beta_2));
    const vec shrink = shrink_of(h), weight_decay = weight_decay_of(h);
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        vec first = load_span(m, span), second = load_span(v, span);
        first += fresh_1 * (g - first);
        second = kept_2 * second + fresh_2 * (g * g);
        store_span(m, span, first);
        store_span(v, span, second);
        vec step = of_gradient * g + of_average * first;
        step *= vec_reciprocal(vec_sqrt(second) * root_scale + epsilon);
        store_span(parameters, span, shrink * p - step);
    }
}

static void radam(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m, void *v) {
    const double power_2 = integer_power(h.beta_2, h.step), correction_2 = 1 - power_2;
    const double longest = 2 / (1 - h.beta_2) - 1;
    const double length = longest - 2 * (double)h.step * power_2 / correction_2; /* of the average, in steps */
    const int rectified = length > 5;
    const double variance = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length);
    const double plain = h.learning_rate / (1 - integer_power(h.beta_1, h.step));
    const vec step_size = vec_set(R(rectified ? plain * __builtin_sqrt(correction_2 * variance) : plain));
    const vec fresh_1 = vec_set(R(1 - h.beta_1)), fresh_2 = vec_set(R(1 - h.beta_2)), kept_2 = vec_set(R(h.beta_2));
    const vec shrink = shrink_of(h), weight_decay = weight_decay_of(h), epsilon = vec_set(R(h.epsilon));
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        vec first = load_span(m, span), second = load_span(v, span);
        first += fresh_1 * (g - first);
        second = kept_2 * second + fresh_2 * (g * g);
        store_span(m, span, first);
        store_span(v, span, second);
        vec step = step_size * first;
        if (rectified) step *= vec_reciprocal(vec_sqrt(second) + epsilon);
        store_span(parameters, span, shrink * p - step);
    }
}

static void lion(fbp_adam h, int64_t n, void *parameters, const void *gradients, void *m) {
    const vec learning_rate = vec_set(R(h.learning_rate)), shrink = shrink_of(h);
    const vec fresh_1 = vec_set(R(1 - h.beta_1)), fresh_2 = vec_set(R(1 - h.beta_2));
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span), average = load_span(m, span);
        vec direction = vec_sign(average + fresh_1 * (g - average));
        store_span(m, span, average + fresh_2 * (g - average));
        store_span(parameters, span, shrink * p - learning_rate * direction);
    }
}

static void adagrad(fbp_adagrad h, int64_t n, void *parameters, const void *gradients, void *accumulator) {
    const vec learning_rate = vec_set(R(h.learning_rate)), weight_decay = vec_set(R(h.weight_decay));
    const vec initial = vec_set(R(h.initial)), epsilon = vec_set(R(h.epsilon));
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        vec total = load_span(accumulator, span) + g * g;
        store_span(accumulator, span, total);
        store_span(parameters, span, p - learning_rate * g / (vec_sqrt(initial + total) + epsilon));
    }
}

static void adadelta(fbp_rmsprop h, int64_t n, void *parameters, const void *gradients, void *v, void *delta_average) {
    const vec learning_rate = vec_set(R(h.learning_rate)), weight_decay = vec_set(R(h.weight_decay));
    const vec kept = vec_set(R(h.rho)), fresh = vec_set(R(1 - h.rho)), epsilon = vec_set(R(h.epsilon));
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span) + weight_decay * p;
        vec variance = kept * load_span(v, span) + fresh * (g * g), average = load_span(delta_average, span);
        vec delta = vec_sqrt(average + epsilon) / vec_sqrt(variance + epsilon) * g;
        store_span(v, span, variance);
        store_span(delta_average, span, kept * average + fresh * (delta * delta));
        store_span(parameters, span, p - learning_rate * delta);
    }
}

static void rprop(fbp_rprop h, int64_t n, void *parameters, const void *gradients, void *previous, void *step_size) {
    const vec shrink = vec_set(R(h.eta_minus)), grow = vec_set(R(h.eta_plus)), zero = {0};
    const vec smallest = vec_set(R(h.smallest)), largest = vec_set(R(h.largest));
    const vec learning_rate = vec_set(R(h.learning_rate));
    FOR_EACH_SPAN(n) {
        vec g = load_span(gradients, span), before = load_span(previous, span), size = load_span(step_size, span);
        size = vec_select(size == 0, learning_rate, size);
        /* of signs: the product of small gradients could vanish */
        vec agreement = vec_sign(g) * vec_sign(before);
        vec factor = vec_select(agreement > 0, grow, vec_select(agreement < 0, shrink, vec_set(1)));
        size = vec_min(largest, vec_max(smallest, size * factor));
        g = vec_select(agreement < 0, zero, g);
        store_span(previous, span, g);
        store_span(step_size, span, size);
        store_span(parameters, span, load_parameters(parameters, span) - size * vec_sign(g));
    }
}

static void rmsprop(fbp_rmsprop h, int64_t n, void *parameters, const void *gradients, void *v, void *momentum_buffer,
                    void *gradient_average) {
    const vec learning_rate = vec_set(R(h.learning_rate)), momentum = vec_set(R(h.momentum));
    const vec weight_decay = vec_set(R(h.weight_decay)), epsilon = vec_set(R(h.epsilon));
    const vec kept = vec_set(R(h.rho)), fresh = vec_set(R(1 - h.rho));
    FOR_EACH_SPAN(n) {
        vec p = load_parameters(parameters, span), g = load_span(gradients, span) + weight_decay * p;
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
