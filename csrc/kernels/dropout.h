/* Inverted dropout. Columns 8j .. 8j + 7 of row i of the batch belong to the halves of the four words of the random
 * block (j, i), lower half first: one that is below rate * 2^16 drops its column. */
#ifndef FBP_DROPOUT_H
#define FBP_DROPOUT_H

#include "kernels.h"
#include "random.h"
#include "spans.h"
#include "vec_math.h"

enum { DROPOUT_COLUMNS = 8 }; /* of a block */
typedef uint16_t random_halves __attribute__((vector_size(VL * sizeof(uint16_t))));

static void dropout(fbp_draw draw, double rate, int64_t first_row, int64_t rows, int64_t columns, const void *x,
                    ptrdiff_t x_row, void *y, ptrdiff_t y_row) {
    /* the rate is a multiple of 2^-16, and the factor that of this one */
    const double drops = rate * 65536 + 0.5;
    const integer threshold = drops < 65535 ? (integer)drops : 65535;
    const vec factor = vec_set(R(65536 / (double)(65536 - threshold)));
    const int64_t widest = RANDOM_BLOCKS * DROPOUT_COLUMNS;
    random_buffer random;
    for (int64_t j = 0; j < columns; j += widest) {
        const int64_t count = columns - j < widest ? columns - j : widest;
        const int blocks = (int)((count + DROPOUT_COLUMNS - 1) / DROPOUT_COLUMNS), together = RANDOM_BLOCKS / blocks;
        for (int64_t i = 0; i < rows; i += together) {
            const int here = (int)(rows - i < together ? rows - i : together);
            random_blocks(draw, (uint32_t)(first_row + i), here, (uint32_t)(j / DROPOUT_COLUMNS), blocks, &random);
            for (int k = 0; k < here; k++) {
                const real *in = (const real *)x + (i + k) * x_row + j;
                real *out = (real *)y + (i + k) * y_row + j;
                const uint32_t *words = random.word + 4 * blocks * k;
                FOR_EACH_SPAN(count) {
                    random_halves half;
                    memcpy(&half, words + span.offset / 2, sizeof half);
                    const ivec keep = __builtin_convertvector(half, ivec) >= vec_bits(threshold);
                    store_span(out, span, (vec)((ivec)(load_span(in, span) * factor) & keep));
                }
            }
        }
    }
}

#endif
