/* Gaussian noise: Box and Muller, A Note on the Generation of Random Normal Deviates (1958), on the random words
 * that dropout.h describes. Columns 2i and 2i + 1 of a row share two words, of whose upper 23 bits u in (0, 1) and v
 * in [0, 1) are made; the columns are sqrt(-2 log u) times cos(2 pi v) and sin(2 pi v) = cos(2 pi (v - 1/4)). */
#ifndef FBP_NOISE_H
#define FBP_NOISE_H

#include "kernels.h"
#include "random.h"
#include "spans.h"
#include "vec_math.h"

enum { NOISE_WORDS = 4 * FBP_PHILOX_BLOCKS };

/* cos(2 pi t) for -1/4 <= t < 1: turned into a sine of at most a quarter, whose Taylor series is exact to rounding */
INLINE vec vec_cos_turns(vec t) {
    static const real sine[] = {R(1.0),
                                R(-1.0 / 6),
                                R(1.0 / 120),
                                R(-1.0 / 5040),
                                R(1.0 / 362880),
                                R(-1.0 / 39916800),
                                R(1.0 / 6227020800),
                                R(-1.0 / 1307674368000),
                                R(1.0 / 355687428096000),
                                R(-1.0 / 121645100408832000),
                                R(1.0 / 51090942171709440000.0)};
    const vec away = vec_abs(vec_select(t >= R(0.5), t - 1, t)); /* from the nearest whole turn */
    const vec angle = R(6.28318530717958647692) * (R(0.25) - away);
    return angle * POLYNOMIAL(angle * angle, sine);
}

/* u, and v or v - 1/4, of the columns that belong to the blocks (block + i, row) */
INLINE void uniform_pairs(fbp_draw draw, uint32_t block, uint32_t row, real u[NOISE_WORDS], real v[NOISE_WORDS]) {
    uint32_t word[4][FBP_PHILOX_BLOCKS];
    for (int i = 0; i < FBP_PHILOX_BLOCKS; i++) {
        word[0][i] = block + (uint32_t)i;
        word[1][i] = row;
        word[2][i] = (uint32_t)draw.draw;
        word[3][i] = draw.stream + ((uint32_t)(draw.draw >> 32) << 16);
    }
    fbp_philox(draw.seed, word);
    for (int i = 0; i < FBP_PHILOX_BLOCKS; i++)
        for (int k = 0; k < 4; k++) {
            u[4 * i + k] = ((real)(word[k & 2][i] >> 9) + R(0.5)) * R(0x1p-23);
            v[4 * i + k] = (real)(word[k | 1][i] >> 9) * R(0x1p-23) - (k & 1 ? R(0.25) : R(0));
        }
}

static void gaussian_noise(fbp_draw draw, double stddev, int64_t first_row, int64_t rows, int64_t columns,
                           const void *x, ptrdiff_t x_row, void *y, ptrdiff_t y_row) {
    const vec deviation = vec_set(R(stddev));
    real u[NOISE_WORDS], v[NOISE_WORDS];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += NOISE_WORDS) {
            const real *in = (const real *)x + i * x_row + j;
            real *out = (real *)y + i * y_row + j;
            const int64_t count = columns - j < NOISE_WORDS ? columns - j : NOISE_WORDS;
            uniform_pairs(draw, (uint32_t)(j / 4), (uint32_t)(first_row + i), u, v);
            FOR_EACH_SPAN(count) { /* u and v hold whole vectors */
                const vec radius = vec_sqrt(-2 * vec_log(vec_load(u + span.offset)));
                const vec normal = radius * vec_cos_turns(vec_load(v + span.offset));
                store_span(out, span, load_span(in, span) + deviation * normal);
            }
        }
}

#endif
