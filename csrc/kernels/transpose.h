/* Square pieces of a matrix, VL x VL elements, transposed on their way into registers. */
#ifndef FBP_TRANSPOSE_H
#define FBP_TRANSPOSE_H

#include "spans.h"

/* A lane is 16 bytes: shuffles within lanes are the cheap ones, and a load puts half a vector anywhere. With two lanes
 * halves of rows i and i + HALF become one vector, and what is left are squares in the lanes; with four lanes the
 * middle ones change places once more. */
enum { LANE = 16 / sizeof(real), LANES = VL / LANE, HALF = LANES > 1 ? VL / 2 : VL };
typedef real half_vec_of_reals __attribute__((vector_size(HALF * sizeof(real)), aligned(sizeof(real)), may_alias));

/* of element k: what stands there after both halves of a lane of a and b took turns, by one element or by two */
#define ONES_LOW(k) (k) / LANE *LANE + (k) % LANE / 2 + (k) % 2 * VL
#define ONES_HIGH(k) ONES_LOW(k) + LANE / 2
#define TWOS_LOW(k) (k) / LANE *LANE + (k) % 2 + (k) % LANE / 2 * VL
#define TWOS_HIGH(k) TWOS_LOW(k) + LANE / 2
/* lanes of a and b in turn: the even ones, the odd ones */
#define EVEN_LANES(k) (k) / (2 * LANE) * 2 * LANE + (k) % LANE + (k) / LANE % 2 * VL
#define ODD_LANES(k) EVEN_LANES(k) + LANE
#define BOTH(k) k

INLINE vec load_halves(const real *low, const real *high) {
#if VECTOR_BYTES == 16
    (void)high;
    return vec_load(low);
#elif defined(X86_PREFIX) && VECTOR_BYTES == 64 && REAL_BITS == 32 /* a load, and no shuffle of registers */
    const __m512 v = _mm512_castps256_ps512(_mm256_loadu_ps(low));
    return _mm512_mask_broadcast_f32x8(v, 0xff00, _mm256_loadu_ps(high));
#elif defined(X86_PREFIX) && VECTOR_BYTES == 64
    const __m512d v = _mm512_castpd256_pd512(_mm256_loadu_pd(low));
    return _mm512_mask_broadcast_f64x4(v, 0xf0, _mm256_loadu_pd(high));
#else
    return __builtin_shufflevector(*(const half_vec_of_reals *)low, *(const half_vec_of_reals *)high, EACH_LANE(BOTH));
#endif
}

/* LANE x LANE elements in each lane of LANE vectors */
INLINE void transpose_in_lanes(vec v[LANE]) {
    const vec low = SHUFFLE(v[0], v[1], ONES_LOW), high = SHUFFLE(v[0], v[1], ONES_HIGH);
    if (LANE == 2) {
        v[0] = low, v[1] = high;
        return;
    }
    const vec next_low = SHUFFLE(v[LANE - 2], v[LANE - 1], ONES_LOW);
    const vec next_high = SHUFFLE(v[LANE - 2], v[LANE - 1], ONES_HIGH);
    v[0] = SHUFFLE(low, next_low, TWOS_LOW), v[1] = SHUFFLE(low, next_low, TWOS_HIGH);
    v[LANE - 2] = SHUFFLE(high, next_high, TWOS_LOW), v[LANE - 1] = SHUFFLE(high, next_high, TWOS_HIGH);
}

/* HALF columns of VL rows, the elements that p points to and those behind them in each row */
INLINE void load_transposed_half(const real *p, ptrdiff_t row, vec r[HALF]) {
    vec v[HALF];
    const real *low = p, *high = low + HALF * row;
    UNROLL
    for (int i = 0; i < HALF; i++, low += row, high += row) {
        __asm__("" : "+r"(low), "+r"(high)); /* or the compiler keeps all these addresses, on the stack */
        v[i] = load_halves(low, high);
    }
    UNROLL
    for (int i = 0; i < HALF; i += LANE) transpose_in_lanes(v + i);
    UNROLL
    for (int i = 0; i < LANE; i++) {
        r[i] = LANES < 4 ? v[i] : SHUFFLE(v[i], v[HALF - LANE + i], EVEN_LANES);
        if (LANES == 4) r[LANE + i] = SHUFFLE(v[i], v[HALF - LANE + i], ODD_LANES);
    }
}

INLINE vec load_columns(const real *p, int64_t n) {
    return n >= VL ? vec_load(p) : n > 0 ? vec_load_part(p, (int)n) : (vec){0};
}

/* Where `rows` x `columns` elements lie as a part of a square of them: in place, or copied if less is there; the others
 * are 0 then. */
INLINE const real *as_square(const real *p, ptrdiff_t *row, int64_t rows, int64_t columns, real square[VL * VL]) {
    if (rows >= VL && columns >= VL) return p;
    for (int i = 0; i < VL; i++) vec_store(square + i * VL, i < rows ? load_columns(p + i * *row, columns) : (vec){0});
    *row = VL;
    return square;
}

/* what is not there, beyond `rows` and `columns`, is 0 */
INLINE void load_transposed(const real *p, ptrdiff_t row, int64_t rows, int64_t columns, vec r[VL]) {
    real square[VL * VL];
    p = as_square(p, &row, rows, columns, square);
    UNROLL
    for (int first = 0; first < VL; first += HALF) load_transposed_half(p + first, row, r + first);
}

#endif
