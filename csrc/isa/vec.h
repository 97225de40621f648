/* The one SIMD vocabulary. The including file is compiled once per instruction set and element type,
 * with REAL_BITS = 32 or 64; VECTOR_BYTES follows from the instruction set. Operators (+ - * / & | ^ < >=
 * and shifts) work on the types below as they stand; intrinsics appear only where no operator says it. */
#ifndef FBP_VEC_H
#define FBP_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if REAL_BITS == 32
typedef float real;
typedef int32_t integer;
#elif REAL_BITS == 64
typedef double real;
typedef int64_t integer;
#else
#error "REAL_BITS must be 32 or 64"
#endif

#if defined(FBP_GENERIC_VECTORS) /* no intrinsics at all: any width on any machine, to test shapes */
#ifndef VECTOR_BYTES
#define VECTOR_BYTES 64
#endif
#elif defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR_BYTES 64
#define VECTOR_REGISTERS 32
#define X86_PREFIX _mm512_
#define X86_BITS __m512i
#elif defined(__AVX2__)
#include <immintrin.h>
#define VECTOR_BYTES 32
#define X86_PREFIX _mm256_
#define X86_BITS __m256i
#elif defined(__SSE4_1__)
#include <smmintrin.h>
#define VECTOR_BYTES 16
#define X86_PREFIX _mm_
#define X86_BITS __m128i
#elif defined(__aarch64__)
#include <arm_neon.h>
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 32
#else
#error "no vector instruction set that this library knows"
#endif

#ifndef VECTOR_REGISTERS
#define VECTOR_REGISTERS 16
#endif

#define VL ((int)(VECTOR_BYTES / sizeof(real))) /* elements of a vector */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef integer ivec __attribute__((vector_size(VECTOR_BYTES)));
typedef real unaligned_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define JOIN3(a, b, c) JOIN(JOIN(a, b), c)
#if REAL_BITS == 32
#define X86(name) JOIN3(X86_PREFIX, name, _ps)
#define NEON(name) JOIN(name, q_f32)
#else
#define X86(name) JOIN3(X86_PREFIX, name, _pd)
#define NEON(name) JOIN(name, q_f64)
#endif

/* f(0), f(1), ... for all lanes */
#define LANES_2(f, k) f(k), f(k + 1)
#define LANES_4(f, k) LANES_2(f, k), LANES_2(f, k + 2)
#define LANES_8(f, k) LANES_4(f, k), LANES_4(f, k + 4)
#if VECTOR_BYTES * 8 / REAL_BITS == 16
#define EACH_LANE(f) LANES_8(f, 0), LANES_8(f, 8)
#elif VECTOR_BYTES * 8 / REAL_BITS == 8
#define EACH_LANE(f) LANES_8(f, 0)
#elif VECTOR_BYTES * 8 / REAL_BITS == 4
#define EACH_LANE(f) LANES_4(f, 0)
#else
#define EACH_LANE(f) LANES_2(f, 0)
#endif

INLINE vec vec_set(real s) { return s - (vec){0}; }
INLINE vec vec_load(const real *p) { return *(const unaligned_vec *)p; }
INLINE void vec_store(real *p, vec v) { *(unaligned_vec *)p = v; }

/* the first n (0 < n < VL) elements; the others load as zero and are not stored */
INLINE vec vec_load_part(const real *p, int n) {
#if defined(X86_PREFIX) && VECTOR_BYTES == 64 && REAL_BITS == 32
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(X86_PREFIX) && VECTOR_BYTES == 64
    return _mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif defined(X86_PREFIX) && VECTOR_BYTES == 32
#define ALL_BITS(k) -1 /* in so many lanes as are read of them; behind them are zeros */
    static const integer masks[2 * VECTOR_BYTES / sizeof(real)] = {EACH_LANE(ALL_BITS)};
    return X86(maskload)(p, _mm256_loadu_si256((const __m256i *)(masks + VL - n)));
#else
    vec v = {0};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
#endif
}
INLINE void vec_store_part(real *p, vec v, int n) {
#if defined(X86_PREFIX) && VECTOR_BYTES == 64 && REAL_BITS == 32
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
#elif defined(X86_PREFIX) && VECTOR_BYTES == 64
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), v);
#else
    for (int i = 0; i < n; i++) p[i] = v[i];
#endif
}

/* mask: a comparison of two vectors, all bits of a lane set or none */
INLINE vec vec_select(ivec mask, vec a, vec b) {
#if defined(X86_PREFIX) && VECTOR_BYTES == 64 && REAL_BITS == 32
    return _mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), b, a);
#elif defined(X86_PREFIX) && VECTOR_BYTES == 64
    return _mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)mask), b, a);
#elif defined(X86_PREFIX)
    return X86(blendv)(b, a, (vec)mask);
#else
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
#endif
}

/* maximum and minimum that keep a NaN of the second argument */
INLINE vec vec_max(vec a, vec b) {
#if defined(X86_PREFIX)
    return X86(max)(a, b);
#elif defined(__aarch64__) && !defined(FBP_GENERIC_VECTORS)
    return NEON(vmax)(a, b);
#else
    return vec_select(a > b, a, b);
#endif
}
INLINE vec vec_min(vec a, vec b) {
#if defined(X86_PREFIX)
    return X86(min)(a, b);
#elif defined(__aarch64__) && !defined(FBP_GENERIC_VECTORS)
    return NEON(vmin)(a, b);
#else
    return vec_select(a < b, a, b);
#endif
}

INLINE vec vec_sqrt(vec v) {
#if defined(X86_PREFIX)
    return X86(sqrt)(v);
#elif defined(__aarch64__) && !defined(FBP_GENERIC_VECTORS)
    return NEON(vsqrt)(v);
#else
    for (int i = 0; i < VL; i++) v[i] = sizeof(real) == 4 ? __builtin_sqrtf((float)v[i]) : __builtin_sqrt(v[i]);
    return v;
#endif
}

/* 1 / v to full precision for positive normal v: one Newton step on an estimate of 14 bits where there is one, which
 * leaves the divider to square roots; the machine's division elsewhere. */
INLINE vec vec_reciprocal(vec v) {
#if defined(X86_PREFIX) && VECTOR_BYTES == 64 && REAL_BITS == 32
    vec r = _mm512_rcp14_ps(v);
    return r + r * (1 - v * r);
#else
    return 1 / v;
#endif
}

/* table[index % TABLE] lane by lane, in one instruction, from two registers that hold the table. Defined where there is
 * such an instruction for tables that are long enough to cut a function into segments. */
#if defined(X86_PREFIX) && VECTOR_BYTES == 64 && REAL_BITS == 32
#define TABLE 32
INLINE vec vec_look_up(const real *table, ivec index) {
    return _mm512_permutex2var_ps(vec_load(table), (__m512i)index, vec_load(table + VL));
}
#endif

#define SIGN_BIT ((integer)((uint64_t)1 << (REAL_BITS - 1)))
INLINE ivec vec_bits(integer s) { return s - (ivec){0}; }
INLINE vec vec_abs(vec v) { return (vec)((ivec)v & vec_bits((integer)~SIGN_BIT)); }
/* the magnitude of a with the sign of b */
INLINE vec vec_copysign(vec a, vec b) {
    return (vec)(((ivec)a & vec_bits((integer)~SIGN_BIT)) | ((ivec)b & vec_bits(SIGN_BIT)));
}
/* a, which has no sign, with the sign of b. a is NaN if b is, and larger than |b| by roundings at most: with AVX-512
 * this is the smaller magnitude of both, because that takes two operands, and three are as dear as a multiply-add. */
INLINE vec vec_with_sign(vec a, vec b) {
#if defined(X86_PREFIX) && VECTOR_BYTES == 64
    return X86(range)(b, a, 2);
#else
    return (vec)((ivec)a | ((ivec)b & vec_bits(SIGN_BIT)));
#endif
}
/* a * b + c, one rounding where the machine has FMA (contracted by the compiler) */
INLINE vec vec_fma(vec a, vec b, vec c) { return a * b + c; }
/* c += a * b in the register of c: in long loops the compiler moves sums from register to register, and to memory,
 * where there are only 16 of them. */
#if defined(X86_PREFIX) && VECTOR_BYTES == 32 && REAL_BITS == 32
#define ADD_PRODUCT(c, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b))
#elif defined(X86_PREFIX) && VECTOR_BYTES == 32
#define ADD_PRODUCT(c, a, b) __asm__("vfmadd231pd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b))
#else
#define ADD_PRODUCT(c, a, b) (c) += (a) * (b)
#endif

/* Sum and maximum over the lanes, always in the same order: halves folded onto each other. */
#define FOLD(type, count, v, OPERATION)                                         \
    UNROLL                                                                      \
    for (int half = (count) / 2; half > 0; half /= 2) {                         \
        type other = {0};                                                       \
        UNROLL                                                                  \
        for (int i = 0; i < (count); i++) other[i] = (v)[(i + half) % (count)]; \
        (v) = OPERATION((v), other);                                            \
    }
#define ADD(a, b) ((a) + (b))
INLINE real vec_sum(vec v) {
    FOLD(vec, VL, v, ADD)
    return v[0];
}
INLINE real vec_largest(vec v) {
    FOLD(vec, VL, v, vec_max)
    return v[0];
}

/* as many doubles as fill a vector: where sums are kept that must not lose digits */
enum { WIDE = VECTOR_BYTES / 8 };
typedef double wide_vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real narrow_vec __attribute__((vector_size(WIDE * sizeof(real))));

/* the lanes as doubles */
INLINE void vec_to_doubles(vec v, wide_vec wide[VL / WIDE]) {
#if REAL_BITS == 64
    wide[0] = v;
#else
    narrow_vec part[2];
    memcpy(part, &v, sizeof v);
    UNROLL
#if defined(X86_PREFIX) && VECTOR_BYTES == 64 /* the compiler would convert quarters */
    for (int i = 0; i < 2; i++) wide[i] = (wide_vec)_mm512_cvtps_pd((__m256)part[i]);
#else
    for (int i = 0; i < 2; i++) wide[i] = __builtin_convertvector(part[i], wide_vec);
#endif
#endif
}
/* the same, of float32 the upper half added to the lower one */
INLINE wide_vec vec_widen(vec v) {
    wide_vec wide[VL / WIDE];
    vec_to_doubles(v, wide);
    return VL > WIDE ? wide[0] + wide[VL / WIDE - 1] : wide[0];
}
INLINE double wide_sum(wide_vec v) {
    FOLD(wide_vec, WIDE, v, ADD)
    return v[0];
}

/* integers without sign that fill a vector, of 64, 32 and 16 bits: what random numbers are made of */
enum { WORDS = VECTOR_BYTES / 4, HALVES = VECTOR_BYTES / 2 };
typedef uint64_t long_vec __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t half_vec __attribute__((vector_size(VECTOR_BYTES)));

INLINE long_vec long_set(uint64_t s) { return s - (long_vec){0}; }
INLINE half_vec half_set(unsigned s) { return (uint16_t)s - (half_vec){0}; }

/* products of the lower halves of the lanes, whatever the upper ones hold */
INLINE long_vec long_multiply(long_vec a, long_vec b) {
#if defined(X86_PREFIX)
    return (long_vec)JOIN(X86_PREFIX, mul_epu32)((X86_BITS)a, (X86_BITS)b);
#elif defined(__aarch64__) && !defined(FBP_GENERIC_VECTORS)
    return (long_vec)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

/* upper halves of the products of 32 bits */
INLINE half_vec half_multiply_high(half_vec a, half_vec b) {
#if defined(X86_PREFIX)
    return (half_vec)JOIN(X86_PREFIX, mulhi_epu16)((X86_BITS)a, (X86_BITS)b);
#else
    half_vec high;
    for (int i = 0; i < HALVES; i++) high[i] = (uint16_t)((uint32_t)a[i] * b[i] >> 16);
    return high;
#endif
}

INLINE half_vec half_min(half_vec a, half_vec b) {
#if defined(X86_PREFIX)
    return (half_vec)JOIN(X86_PREFIX, min_epu16)((X86_BITS)a, (X86_BITS)b);
#elif defined(__aarch64__) && !defined(FBP_GENERIC_VECTORS)
    return (half_vec)vminq_u16((uint16x8_t)a, (uint16x8_t)b);
#else
    const half_vec below = (half_vec)(a < b);
    return (a & below) | (b & ~below);
#endif
}

/* whether any bit is set */
INLINE int half_any(half_vec v) {
#if defined(X86_PREFIX) && VECTOR_BYTES == 64
    return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
#elif defined(X86_PREFIX) && VECTOR_BYTES == 32
    return !_mm256_testz_si256((__m256i)v, (__m256i)v);
#elif defined(X86_PREFIX)
    return !_mm_testz_si128((__m128i)v, (__m128i)v);
#elif defined(__aarch64__) && !defined(FBP_GENERIC_VECTORS)
    return vmaxvq_u16((uint16x8_t)v) != 0;
#else
    unsigned bits = 0;
    for (int i = 0; i < HALVES; i++) bits |= v[i];
    return bits != 0;
#endif
}

#endif
