/* Inputs of any element type as numbers of the model: whole rows, or the entries of a sparse one. The compiler
 * makes vectors of these loops. */
#ifndef FBP_CONVERT_H
#define FBP_CONVERT_H

#include "../isa/vec.h"
#include "kernels.h"

#define plain(x) ((real)(x))
#define truth(x) ((real)((x) != 0))

/* binary16 by integers: subnormals count in units of 2^-24 (as numbers they would be flushed to zero), the exponent
 * of all others moves from a bias of 15 to one of 127, that of infinity and NaN to all ones */
INLINE real half(uint16_t x) {
    const uint32_t magnitude = x & 0x7fffu, sign = (uint32_t)(x & 0x8000u) << 16;
    const uint32_t normal = (magnitude << 13) + (magnitude < 0x7c00 ? 112u << 23 : 224u << 23);
    const float small = (float)(int32_t)magnitude * 0x1p-24f;
    uint32_t bits;
    float number;
    memcpy(&bits, &small, sizeof bits);
    bits = (magnitude < 0x0400 ? bits : normal) | sign;
    memcpy(&number, &bits, sizeof number);
    return (real)number;
}

#define ELEMENT(name, type, number)                                                                          \
    static void convert_##name(int64_t n, const void *x, real *y) {                                          \
        for (int64_t i = 0; i < n; i++) y[i] = number(((const type *)x)[i]);                                 \
    }                                                                                                        \
    static void add_##name##_at(int64_t n, const void *x, const int32_t *column, int64_t columns, real *y) { \
        for (int64_t i = 0; i < n; i++)                                                                      \
            if (column[i] >= 0 && column[i] < columns) y[column[i]] += number(((const type *)x)[i]);         \
    }
#include "../kinds.def"

static void convert(int element, int64_t n, const void *x, void *y) {
    static void (*const functions[])(int64_t, const void *, real *) = {
#define ELEMENT(name, type, number) convert_##name,
#include "../kinds.def"
    };
    functions[element](n, x, y);
}

static void add_at(int element, int64_t n, const void *x, const int32_t *column, int64_t columns, void *y) {
    static void (*const functions[])(int64_t, const void *, const int32_t *, int64_t, real *) = {
#define ELEMENT(name, type, number) add_##name##_at,
#include "../kinds.def"
    };
    functions[element](n, x, column, columns, y);
}

#undef plain
#undef truth

#endif
