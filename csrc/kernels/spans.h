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

#endif
