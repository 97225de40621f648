/* Counter-based random numbers: Philox4x32-10 of Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3
 * (2011). Words are a function of seed and counter alone, so that any thread can make any part of them, and make
 * them again.
 *
 * Many blocks of 4 words are made at a time, word k of block i at word[k][i], in plain loops over i that
 * compilers turn into SIMD. */
#ifndef FBP_RANDOM_H
#define FBP_RANDOM_H

#include <stdint.h>

enum { FBP_PHILOX_BLOCKS = 16, FBP_PHILOX_ROUNDS = 10 };

/* word: the counters on entry, the random words on return */
static inline void fbp_philox(uint64_t seed, uint32_t word[4][FBP_PHILOX_BLOCKS]) {
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < FBP_PHILOX_ROUNDS; round++) {
        for (int i = 0; i < FBP_PHILOX_BLOCKS; i++) {
            uint64_t product0 = (uint64_t)word[0][i] * 0xd2511f53u, product1 = (uint64_t)word[2][i] * 0xcd9e8d57u;
            word[0][i] = (uint32_t)(product1 >> 32) ^ word[1][i] ^ key0;
            word[2][i] = (uint32_t)(product0 >> 32) ^ word[3][i] ^ key1;
            word[1][i] = (uint32_t)product1;
            word[3][i] = (uint32_t)product0;
        }
        key0 += 0x9e3779b9u; /* golden ratio */
        key1 += 0xbb67ae85u; /* square root of 3 */
    }
}

#endif
