/* Inverted dropout. Column c of row i of the batch belongs to word c % 4 of the random block with the counter
 * (c / 4, i, draw, stream + 65536 (draw >> 32)), and is dropped when the word is below rate * 2^32. */
#ifndef FBP_DROPOUT_H
#define FBP_DROPOUT_H

#include "kernels.h"
#include "random.h"
#include "spans.h"
#include "vec_math.h"

enum { DROPOUT_WORDS = 4 * FBP_PHILOX_BLOCKS };

/* keep[4 i + k]: all bits set or none, for word k of the blocks (block + i, row) */
INLINE void dropout_masks(fbp_draw draw, uint32_t threshold, uint32_t block, uint32_t row,
                          integer keep[DROPOUT_WORDS]) {
    uint32_t word[4][FBP_PHILOX_BLOCKS];
    for (int i = 0; i < FBP_PHILOX_BLOCKS; i++) {
        word[0][i] = block + (uint32_t)i;
        word[1][i] = row;
        word[2][i] = (uint32_t)draw.draw;
        word[3][i] = draw.stream + ((uint32_t)(draw.draw >> 32) << 16);
    }
    fbp_philox(draw.seed, word);
    for (int i = 0; i < FBP_PHILOX_BLOCKS; i++)
        for (int k = 0; k < 4; k++) keep[4 * i + k] = word[k][i] < threshold ? 0 : -1;
}

static void dropout(fbp_draw draw, double rate, int64_t first_row, int64_t rows, int64_t columns, const void *x,
                    ptrdiff_t x_row, void *y, ptrdiff_t y_row) {
    const uint32_t threshold = (uint32_t)(rate * 4294967296.0);
    const vec factor = vec_set(R(1 / (1 - rate)));
    integer keep[DROPOUT_WORDS];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += DROPOUT_WORDS) {
            const real *in = (const real *)x + i * x_row + j;
            real *out = (real *)y + i * y_row + j;
            const int64_t count = columns - j < DROPOUT_WORDS ? columns - j : DROPOUT_WORDS;
            dropout_masks(draw, threshold, (uint32_t)(j / 4), (uint32_t)(first_row + i), keep);
            FOR_EACH_SPAN(count) {
                ivec mask; /* keep holds whole vectors */
                memcpy(&mask, keep + span.offset, sizeof mask);
                store_span(out, span, (vec)((ivec)(load_span(in, span) * factor) & mask));
            }
        }
}

#endif
