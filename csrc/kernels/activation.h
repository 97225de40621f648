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
    case FBP_exponential: return vec_exp(z);
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
    case FBP_exponential: return saved;
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

/* Whole vectors, then what is left of the rows: a branch within the walk costs as much as a cheap activation. The loops
 * over rows stand inside the kernel, so that constants are loaded once for a tile of a few short rows. */
INLINE void forward_rows(const int activation, double alpha, int64_t rows, int64_t columns, const real *x,
                         ptrdiff_t x_row, real *y, ptrdiff_t y_row) {
    const vec a = vec_set(R(alpha));
    const int64_t whole = columns / VL * VL;
    const int rest = (int)(columns - whole);
    if (whole)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < whole; j += VL)
                vec_store(y + i * y_row + j, activation_vec(activation, a, vec_load(x + i * x_row + j)));
    x += whole, y += whole;
    if (rest)
        for (int64_t i = 0; i < rows; i++)
            vec_store_part(y + i * y_row, activation_vec(activation, a, vec_load_part(x + i * x_row, rest)), rest);
}

static void activation_forward(int activation, double alpha, int64_t rows, int64_t columns, const void *x,
                               ptrdiff_t x_row, void *y, ptrdiff_t y_row) {
    switch (activation) {
#define ACTIVATION(name, _) \
    case FBP_##name: forward_rows(FBP_##name, alpha, rows, columns, x, x_row, y, y_row); break;
#include "../kinds.def"
    }
}

INLINE void backward_rows(const int activation, double alpha, int64_t rows, int64_t columns, const real *saved,
                          ptrdiff_t saved_row, const real *dy, ptrdiff_t dy_row, real *dx, ptrdiff_t dx_row) {
    const vec a = vec_set(R(alpha));
    const int64_t whole = columns / VL * VL;
    const int rest = (int)(columns - whole);
    if (whole)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < whole; j += VL) {
                vec s = vec_load(saved + i * saved_row + j), delta = vec_load(dy + i * dy_row + j);
                vec_store(dx + i * dx_row + j, backward_vec(activation, a, s, delta));
            }
    saved += whole, dy += whole, dx += whole;
    if (rest)
        for (int64_t i = 0; i < rows; i++) {
            vec s = vec_load_part(saved + i * saved_row, rest), delta = vec_load_part(dy + i * dy_row, rest);
            vec_store_part(dx + i * dx_row, backward_vec(activation, a, s, delta), rest);
        }
}

static void activation_backward(int activation, double alpha, int64_t rows, int64_t columns, const void *saved,
                                ptrdiff_t saved_row, const void *dy, ptrdiff_t dy_row, void *dx, ptrdiff_t dx_row) {
    switch (activation) {
#define ACTIVATION(name, _) \
    case FBP_##name: backward_rows(FBP_##name, alpha, rows, columns, saved, saved_row, dy, dy_row, dx, dx_row); break;
#include "../kinds.def"
    }
}

#endif
