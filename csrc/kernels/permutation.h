/* Permutations of 0 .. n - 1 that follow from a key, place by place: a Feistel network over the rows and columns of a
 * matrix. fastbp/engine/random.py has the formula and where it comes from. Numbers of rows and columns are short: their
 * arithmetic is that of 16 bits, and of 32 bits when n is larger than 2^24. */
#ifndef FBP_PERMUTATION_H
#define FBP_PERMUTATION_H

#include "kernels.h"
#include "random.h"

enum { SHORT_BITS = 24, PERMUTATION_PASSES = 16 };

typedef struct {
    int64_t n;
    int low, passes;                    /* bits of a column; how often rows and columns are replaced */
    uint32_t rows, end_row, end_column; /* places from there on are n and above */
    struct {
        uint32_t factor[2], term[2]; /* for the row, for the column */
    } pass[PERMUTATION_PASSES];
} permutation_keys;

static permutation_keys permutation_keys_of(uint64_t key, int64_t n) {
    permutation_keys k = {.n = n};
    const int bits = n > 1 ? 64 - __builtin_clzll((uint64_t)(n - 1)) : 0;
    k.low = bits / 2 > 1 ? bits / 2 : 1;
    k.passes = (bits + 10 + k.low - 1) / k.low;
    k.rows = (uint32_t)((n + ((int64_t)1 << k.low) - 1) >> k.low);
    k.end_row = k.rows - 1;
    k.end_column = (uint32_t)(n - ((int64_t)k.end_row << k.low));
    const int unused = bits > SHORT_BITS ? 0 : 16; /* lower bits of the random words */
    random_buffer random;
    random_blocks((fbp_draw){.seed = key}, 0, 1, 0, k.passes, &random);
    for (int i = 0; i < k.passes; i++)
        for (int half = 0; half < 2; half++) {
            k.pass[i].factor[half] = random.word[4 * i + 2 * half] >> unused | 1;
            k.pass[i].term[half] = random.word[4 * i + 2 * half + 1] >> unused;
        }
    return k;
}

/* ---- n up to 2^24: vectors of places ---- */

/* as many vectors at a time, because one alone would wait for its own products */
enum { TOGETHER = 4, PLACES = TOGETHER * HALVES };
typedef struct {
    half_vec row[TOGETHER], column[TOGETHER];
} places;

INLINE half_vec mixed(half_vec x, half_vec factor, half_vec term) {
    const half_vec y = x * factor + term;
    return (y ^ y >> 7) * 0x9e37;
}

INLINE void walk(places *p, const permutation_keys *k) {
    const half_vec rows = half_set(k->rows), mask = half_set((1u << k->low) - 1);
    for (int i = 0; i < k->passes; i++) {
        half_vec factor = half_set(k->pass[i].factor[0]), term = half_set(k->pass[i].term[0]);
        UNROLL
        for (int j = 0; j < TOGETHER; j++) {
            const half_vec row = p->row[j] + half_multiply_high(mixed(p->column[j], factor, term), rows);
            p->row[j] = half_min(row, row - rows); /* below 0 lies 2^16 */
        }
        factor = half_set(k->pass[i].factor[1]), term = half_set(k->pass[i].term[1]);
        UNROLL
        for (int j = 0; j < TOGETHER; j++)
            p->column[j] = (p->column[j] + (mixed(p->row[j], factor, term) >> (16 - k->low))) & mask;
    }
}

/* lanes whose place is n or above */
INLINE half_vec outside(const places *p, int j, const permutation_keys *k) {
    return (half_vec)(p->row[j] == half_set(k->end_row)) & (half_vec)(p->column[j] >= half_set(k->end_column));
}

INLINE int any_outside(const places *p, const permutation_keys *k) {
    half_vec any = {0};
    UNROLL
    for (int j = 0; j < TOGETHER; j++) any |= outside(p, j, k);
    return half_any(any);
}

INLINE void permute_places(const permutation_keys *k, int64_t first, int64_t count, int64_t *order) {
    const half_vec mask = half_set((1u << k->low) - 1);
    half_vec lane;
    for (int i = 0; i < HALVES; i++) lane[i] = (uint16_t)i;
    for (int64_t done = 0; done < count; done += PLACES) {
        const int64_t left = count - done, place = first + done;
        const half_vec last = half_set(left < PLACES ? (unsigned)left - 1 : PLACES); /* lanes behind it repeat it */
        const half_vec row = half_set((unsigned)(place >> k->low)), begin = half_set((unsigned)place) & mask;
        places p;
        UNROLL
        for (int j = 0; j < TOGETHER; j++) {
            const half_vec column = begin + half_min(lane + half_set((unsigned)(j * HALVES)), last);
            p.row[j] = row + (column >> k->low);
            p.column[j] = column & mask;
        }
        walk(&p, k);
        while (any_outside(&p, k)) {
            places further = p;
            walk(&further, k);
            UNROLL
            for (int j = 0; j < TOGETHER; j++) {
                const half_vec out = outside(&p, j, k);
                p.row[j] = (p.row[j] & ~out) | (further.row[j] & out);
                p.column[j] = (p.column[j] & ~out) | (further.column[j] & out);
            }
        }
        int64_t numbers[PLACES];
        UNROLL
        for (int j = 0; j < TOGETHER; j++)
            for (int l = 0; l < HALVES; l++)
                numbers[j * HALVES + l] = (int64_t)((uint32_t)p.row[j][l] << k->low | p.column[j][l]);
        memcpy(order + done, numbers, (size_t)(left < PLACES ? left : PLACES) * sizeof *numbers);
    }
}

/* ---- n above 2^24: one place ---- */

INLINE uint32_t mixed_word(uint32_t x, uint32_t factor, uint32_t term) {
    const uint32_t y = x * factor + term;
    return (y ^ y >> 15) * 0x9e3779b9u;
}

static int64_t permute_place(const permutation_keys *k, int64_t place) {
    const uint32_t mask = (1u << k->low) - 1;
    do {
        uint32_t row = (uint32_t)(place >> k->low), column = (uint32_t)place & mask;
        for (int i = 0; i < k->passes; i++) {
            const uint32_t f = mixed_word(column, k->pass[i].factor[0], k->pass[i].term[0]);
            row += (uint32_t)((uint64_t)f * k->rows >> 32);
            if (row >= k->rows) row -= k->rows;
            column = (column + (mixed_word(row, k->pass[i].factor[1], k->pass[i].term[1]) >> (32 - k->low))) & mask;
        }
        place = (int64_t)row << k->low | (int64_t)column;
    } while (place >= k->n);
    return place;
}

static void permutation(uint64_t key, int64_t n, int64_t first, int64_t count, int64_t *order) {
    const permutation_keys k = permutation_keys_of(key, n);
    if (n <= (int64_t)1 << SHORT_BITS)
        permute_places(&k, first, count, order);
    else
        for (int64_t i = 0; i < count; i++) order[i] = permute_place(&k, first + i);
}

#endif
