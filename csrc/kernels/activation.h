/* Element-wise activations: forward, and backward from what kinds.def says is saved. */
#ifndef FBP_ACTIVATION_H
#define FBP_ACTIVATION_H

#include "../isa/vec.h"
#include "kernels.h"
#include "spans.h"
#include "vec_math.h"

/* Klambauer et al., Self-Normalizing Neural Networks (2017) */
#define SELU_SCALE 1.0507009873554804934193349852946
#define SELU_SCALE_ALPHA 1.7580993408473768599402175208123 /* times 1.6732632423543772848170429916717 */

/* alpha: negative slope of leaky_relu, scale of elu. Every maximum and selection lets NaN pass. */
INLINE vec activation_vec(int activation, vec alpha, vec z) {
    switch (activation) {
    case FBP_relu: return vec_max(vec_set(0), z);
    case FBP_leaky_relu: return vec_select(z > 0, z, alpha * z);
    case FBP_elu: return vec_select(z >= 0, z, alpha * vec_expm1_negative(z));
    case FBP_selu: return vec_select(z >= 0, R(SELU_SCALE) * z, R(SELU_SCALE_ALPHA) * vec_expm1_negative(z));
    case FBP_sigmoid: return vec_sigmoid(z);
    case FBP_tanh: return vec_tanh(z);
    case FBP_softplus: return vec_softplus(z);
    case FBP_gelu: return vec_gelu(z);
    case FBP_gelu_tanh: return vec_gelu_tanh(z);
    case FBP_silu: return vec_silu(z);
    case FBP_mish: return vec_mish(z);
    default: return z;
    }
}

/* The factor g'(z), from the output g(z) where there is an inverse, else from z. */
INLINE vec derivative_vec(int activation, vec alpha, vec saved) {
    const vec one = vec_set(1);
    switch (activation) {
    case FBP_relu: return vec_select(saved <= 0, vec_set(0), one);
    case FBP_leaky_relu: return vec_select(saved <= 0, alpha, one);
    case FBP_elu: return vec_select(saved > 0, one, saved + alpha);
    case FBP_selu: return vec_select(saved > 0, vec_set(R(SELU_SCALE)), saved + R(SELU_SCALE_ALPHA));
    case FBP_sigmoid: return saved * (1 - saved);
    case FBP_tanh: return (1 - saved) * (1 + saved);
    case FBP_softplus: return -vec_expm1_negative(-saved);
    case FBP_gelu: return vec_gelu_derivative(saved);
    case FBP_gelu_tanh: return vec_gelu_tanh_derivative(saved);
    case FBP_silu: return vec_silu_derivative(saved);
    case FBP_mish: return vec_mish_derivative(saved);
    default: return one;
    }
}

/* dx = dy g'(z). relu clears by mask, so that an infinite dy times 0 is 0. */
INLINE vec backward_vec(int activation, vec alpha, vec saved, vec dy) {
    if (activation == FBP_linear) return dy;
    if (activation == FBP_relu) return (vec)((ivec)dy & ~(saved <= 0));
    return dy * derivative_vec(activation, alpha, saved);
}

/* The loop over rows stands inside the kernel, so that constants are loaded once for a tile of a few short rows. */
#define FOR_EACH_ROW_AND_SPAN(rows, columns) \
    for (int64_t i = 0; i < (rows); i++) FOR_EACH_SPAN(columns)

static void activation_forward(int activation, double alpha, int64_t rows, int64_t columns, const void *x,
                               ptrdiff_t x_row, void *y, ptrdiff_t y_row) {
    const vec a = vec_set(R(alpha));
    const real *in = x;
    real *out = y;
    switch (activation) {
#define ACTIVATION(name, saved)                                                                            \
    case FBP_##name:                                                                                       \
        FOR_EACH_ROW_AND_SPAN(rows, columns)                                                               \
        store_span(out + i * y_row, span, activation_vec(FBP_##name, a, load_span(in + i * x_row, span))); \
        break;
#include "../kinds.def"
    }
}

static void activation_backward(int activation, double alpha, int64_t rows, int64_t columns, const void *saved,
                                ptrdiff_t saved_row, const void *dy, ptrdiff_t dy_row, void *dx, ptrdiff_t dx_row) {
    const vec a = vec_set(R(alpha));
    const real *kept = saved, *delta = dy;
    real *out = dx;
    switch (activation) {
#define ACTIVATION(name, _)                                                                                           \
    case FBP_##name:                                                                                                  \
        FOR_EACH_ROW_AND_SPAN(rows, columns)                                                                          \
        store_span(                                                                                                   \
            out + i * dx_row, span,                                                                                   \
            backward_vec(FBP_##name, a, load_span(kept + i * saved_row, span), load_span(delta + i * dy_row, span))); \
        break;
#include "../kinds.def"
    }
}

#endif
