/* Counter-based random numbers: Philox4x32-7 of Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3
 * (2011). Words are a function of seed and counter alone, so that any thread can make any part of them, and make
 * them again.
 *
 * A block of four words has the counter (block, row, draw, stream + 65536 (draw >> 32)): blocks lie side by side in
 * the rows of a matrix. A lane of 64 bits makes one block, because it holds the product of two words. */
#ifndef FBP_RANDOM_H
#define FBP_RANDOM_H

#include "../isa/vec.h"
#include "kernels.h"

enum { PHILOX_ROUNDS = 7, RANDOM_BLOCKS = 256 };

/* Words of the blocks of some part of a matrix, row by row, and room for whole vectors behind them. */
typedef struct {
    uint32_t word[4 * RANDOM_BLOCKS + 2 * WORDS];
} random_buffer;

/* word: the counters on entry, the random words on return, both in the lower halves of the lanes */
INLINE void philox(uint64_t seed, long_vec word[4]) {
    const long_vec factor0 = long_set(0xd2511f53u), factor1 = long_set(0xcd9e8d57u);
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    UNROLL
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const long_vec product0 = long_multiply(word[0], factor0), product1 = long_multiply(word[2], factor1);
        word[0] = (product1 >> 32) ^ word[1] ^ long_set(key0);
        word[2] = (product0 >> 32) ^ word[3] ^ long_set(key1);
        word[1] = product1;
        word[3] = product0;
        key0 += 0x9e3779b9u; /* golden ratio */
        key1 += 0xbb67ae85u; /* square root of 3 */
    }
}

/* Which block of the next ones each lane makes, so that the halves of the vectors interleave to their order in memory:
 * 0, 4, 1, 5, 2, 6, 3, 7 for eight lanes. */
INLINE long_vec block_numbers(void) {
    long_vec v;
    UNROLL
    for (int i = 0; i < WIDE; i++) v[i] = (uint64_t)(i % 2 * (WIDE / 2) + i / 2);
    return v;
}

/* Fills the buffer with the blocks first_block .. first_block + blocks of the rows first_row .. first_row + rows;
 * rows * blocks <= RANDOM_BLOCKS. */
INLINE void random_blocks(fbp_draw draw, uint32_t first_row, int rows, uint32_t first_block, int blocks,
                          random_buffer *out) {
    const long_vec low = long_set(0xffffffffu), width = long_set((uint64_t)blocks);
    const long_vec down = long_set((uint64_t)(WIDE / blocks)), along = long_set((uint64_t)(WIDE % blocks));
    long_vec block = block_numbers(), row = long_set(first_row);
    for (int i = WIDE; i > blocks; i -= blocks) {
        const long_vec beyond = (long_vec)(block >= width);
        block -= beyond & width, row -= beyond;
    }
    uint32_t *at = out->word;
    for (int left = rows * blocks; left > 0; left -= WIDE, at += 4 * WIDE) {
        long_vec word[4] = {block + first_block, row, long_set((uint32_t)draw.draw),
                            long_set(draw.stream + ((uint32_t)(draw.draw >> 32) << 16))};
        philox(draw.seed, word);
        const long_vec front = (word[0] & low) | (word[1] << 32), back = (word[2] & low) | (word[3] << 32);
        long_vec first, second;
        UNROLL
        for (int i = 0; i < WIDE / 2; i++) {
            first[2 * i] = front[2 * i], first[2 * i + 1] = back[2 * i];
            second[2 * i] = front[2 * i + 1], second[2 * i + 1] = back[2 * i + 1];
        }
        memcpy(at, &first, sizeof first);
        memcpy(at + WORDS, &second, sizeof second);
        block += along, row += down;
        const long_vec beyond = (long_vec)(block >= width);
        block -= beyond & width, row -= beyond;
    }
}

#endif
