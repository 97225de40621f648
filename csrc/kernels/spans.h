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

/* Perfect shuffles of two vectors: their elements in turn, lower and upper half; and every second element of both. */
#define LOW_OF(k) (k) / 2 + (k) % 2 * VL
#define HIGH_OF(k) VL / 2 + (k) / 2 + (k) % 2 * VL
#define EVEN_OF(k) 2 * (k)
#define ODD_OF(k) 2 * (k) + 1
#define SHUFFLE(a, b, WHICH) __builtin_shufflevector(a, b, EACH_LANE(WHICH))

enum { MOST_SHUFFLED = 4 };

/* n vectors in place, n = 1, 2 or 4: columns of VL rows become the rows, one after another; and back */
INLINE void columns_to_rows(const int n, vec v[]) {
    UNROLL
    for (int stage = 1; stage < n; stage *= 2) {
        vec t[MOST_SHUFFLED];
        UNROLL
        for (int i = 0; i < n / 2; i++) {
            t[2 * i] = SHUFFLE(v[i], v[i + n / 2], LOW_OF);
            t[2 * i + 1] = SHUFFLE(v[i], v[i + n / 2], HIGH_OF);
        }
        UNROLL
        for (int i = 0; i < n; i++) v[i] = t[i];
    }
}

INLINE void rows_to_columns(const int n, vec v[]) {
    UNROLL
    for (int stage = 1; stage < n; stage *= 2) {
        vec t[MOST_SHUFFLED];
        UNROLL
        for (int i = 0; i < n / 2; i++) {
            t[i] = SHUFFLE(v[2 * i], v[2 * i + 1], EVEN_OF);
            t[i + n / 2] = SHUFFLE(v[2 * i], v[2 * i + 1], ODD_OF);
        }
        UNROLL
        for (int i = 0; i < n; i++) v[i] = t[i];
    }
}

/* rows that follow each other, of so many columns */
INLINE int is_shuffled(int64_t columns, ptrdiff_t row) {
    return row == columns && (columns == 1 || columns == 2 || (columns == 4 && columns <= VL));
}

INLINE void load_rows(const int n, const real *p, int64_t count, vec column[]) {
    UNROLL
    for (int v = 0; v < n; v++) {
        const span_t span = {v * VL, count * n - v * VL};
        column[v] = span.left > 0 ? load_span(p, span) : (vec){0};
    }
    rows_to_columns(n, column);
}

INLINE void store_rows(const int n, real *p, int64_t count, const vec column[]) {
    vec rows[MOST_SHUFFLED];
    UNROLL
    for (int v = 0; v < n; v++) rows[v] = column[v];
    columns_to_rows(n, rows);
    UNROLL
    for (int v = 0; v < n; v++) {
        const span_t span = {v * VL, count * n - v * VL};
        if (span.left > 0) store_span(p, span, rows[v]);
    }
}

/* of rows side by side: those of a vector at least, and the ten classes that many have */
enum { ABREAST = 16 };

/* columns <= ABREAST of `count` rows; the other lanes are 0 */
static __attribute__((noinline)) void rows_to_lanes(int64_t columns, const real *p, ptrdiff_t row, int64_t count,
                                                    vec v[ABREAST]) {
    if (is_shuffled(columns, row)) {
        switch (columns) {
        case 1: load_rows(1, p, count, v); return;
        case 2: load_rows(2, p, count, v); return;
#if VECTOR_BYTES * 8 / REAL_BITS > 2
        default: load_rows(4, p, count, v); return;
#endif
        }
    }
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
                                                    const vec v[ABREAST]) {
    if (is_shuffled(columns, row)) {
        switch (columns) {
        case 1: store_rows(1, p, count, v); return;
        case 2: store_rows(2, p, count, v); return;
#if VECTOR_BYTES * 8 / REAL_BITS > 2
        default: store_rows(4, p, count, v); return;
#endif
        }
    }
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
