/* Walks along arrays in whole vectors and a shorter last one. Both go through the same arithmetic, so that an
 * element's result does not depend on where it lies; nothing outside the array is touched. */
#ifndef FBP_SPANS_H
#define FBP_SPANS_H

#include "../isa/vec.h"

/* elements offset .. offset + min(left, VL) */
typedef struct {
    int64_t offset, left;
} span_t;

#define FOR_EACH_SPAN(n) for (span_t span = {0, (n)}; span.left > 0; span.offset += VL, span.left -= VL)

INLINE vec load_span(const void *array, span_t span) {
    const real *p = (const real *)array + span.offset;
    return span.left >= VL ? vec_load(p) : vec_load_part(p, (int)span.left);
}

INLINE void store_span(void *array, span_t span, vec v) {
    real *p = (real *)array + span.offset;
    if (span.left >= VL)
        vec_store(p, v);
    else
        vec_store_part(p, v, (int)span.left);
}

/* the numbers 0, 1, 2, ... of the lanes */
INLINE ivec lane_numbers(void) {
    static const integer numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    ivec v;
    memcpy(&v, numbers, sizeof v);
    return v;
}

/* mask of the lanes that belong to the array */
INLINE ivec lanes_of_span(span_t span) { return lane_numbers() < vec_bits((integer)(span.left < VL ? span.left : VL)); }

/* ---- rows side by side ----
 * Rows of few columns would leave most of a vector empty: there a lane is a row, and a vector one column of VL rows,
 * or of the last `count`. These are functions of their own because of the many addresses in them. */

#define FOR_EACH_VECTOR_OF_ROWS(rows) \
    for (int64_t row = 0, count; (count = (rows) - row < VL ? (rows) - row : VL) > 0; row += VL)

/* columns <= VL of `count` rows; the other lanes are 0 */
static __attribute__((noinline)) void rows_to_lanes(int64_t columns, const real *p, ptrdiff_t row, int64_t count,
                                                    vec v[VL]) {
    if (count == VL) {
        for (int64_t j = 0; j < columns; j++, p++) {
#define AT(k) p[(k) * row]
            v[j] = (vec){EACH_LANE(AT)};
#undef AT
        }
        return;
    }
    real *lanes = (real *)v;
    memset(lanes, 0, (size_t)columns * sizeof *v);
    for (int64_t i = 0; i < count; i++, p += row)
        for (int64_t j = 0; j < columns; j++) lanes[j * VL + i] = p[j];
}

static __attribute__((noinline)) void lanes_to_rows(int64_t columns, real *p, ptrdiff_t row, int64_t count,
                                                    const vec v[VL]) {
    const real *lanes = (const real *)v;
    if (count == VL) {
        for (int64_t j = 0; j < columns; j++, p++, lanes += VL) {
            UNROLL
            for (int i = 0; i < VL; i++) p[i * row] = lanes[i];
        }
        return;
    }
    for (int64_t i = 0; i < count; i++, p += row)
        for (int64_t j = 0; j < columns; j++) p[j] = lanes[j * VL + i];
}

/* one double for each of these rows */
INLINE void store_doubles(double *p, int64_t count, vec v) {
    wide_vec rows[VL / WIDE];
    vec_to_doubles(v, rows);
    if (count == VL)
        memcpy(p, rows, sizeof rows);
    else
        memcpy(p, rows, (size_t)count * sizeof *p);
}

#endif
