/* Gaussian noise: Box and Muller, A Note on the Generation of Random Normal Deviates (1958). Column 4j + k
 * of row i of the batch belongs to word k of the random block (j, i). Columns 2i and 2i + 1 of a row share two words,
 * of whose upper 23 bits u in (0, 1) and v in [0, 1) are made; the columns are sqrt(-2 log u) times cos(2 pi v) and
 * sin(2 pi v) = cos(2 pi (v - 1/4)). */
#ifndef FBP_NOISE_H
#define FBP_NOISE_H

#include "kernels.h"
#include "random.h"
#include "spans.h"
#include "vec_math.h"

enum { NOISE_COLUMNS = 4 }; /* of a block */
typedef uint32_t part_vec __attribute__((vector_size(VL * sizeof(uint32_t))));
typedef int32_t integer_part __attribute__((vector_size(VL * sizeof(int32_t))));

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

/* the normal numbers of a span of columns */
INLINE vec normals(const random_buffer *random, span_t span) {
    part_vec word;
    memcpy(&word, random->word + span.offset, sizeof word);
    const vec t = __builtin_convertvector((integer_part)(word >> 9), vec) * R(0x1p-23);
    vec u, v;
    UNROLL
    for (int i = 0; i < VL; i++) u[i] = t[i & ~1], v[i] = t[i | 1];
    const ivec sine = -(lane_numbers() & 1); /* all bits of the odd columns */
    const vec quarter = (vec)((ivec)vec_set(R(0.25)) & sine);
    return vec_sqrt(-2 * vec_log(u + R(0x1p-24))) * vec_cos_turns(v - quarter);
}

static void gaussian_noise(fbp_draw draw, double stddev, int64_t first_row, int64_t rows, int64_t columns,
                           const void *x, ptrdiff_t x_row, void *y, ptrdiff_t y_row) {
    const vec deviation = vec_set(R(stddev));
    const int64_t widest = RANDOM_BLOCKS * NOISE_COLUMNS;
    random_buffer random;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += widest) {
            const real *in = (const real *)x + i * x_row + j;
            real *out = (real *)y + i * y_row + j;
            const int64_t count = columns - j < widest ? columns - j : widest;
            const int blocks = (int)((count + NOISE_COLUMNS - 1) / NOISE_COLUMNS);
            random_blocks(draw, (uint32_t)(first_row + i), 1, (uint32_t)(j / NOISE_COLUMNS), blocks, &random);
            FOR_EACH_SPAN(count) store_span(out, span, load_span(in, span) + deviation * normals(&random, span));
        }
}

#endif
