/* Elementary functions of a whole vector, for both element types and every instruction set: no branches, no
 * table look-ups, no conversions between integers and reals (AVX2 has none for 64 bits).
 *
 * Errors stay below 2 units in the last place for all finite arguments, subnormal results included. NaN gives
 * NaN. Constants are split so short that the products which must be exact are so without FMA too. */
#ifndef FBP_VEC_MATH_H
#define FBP_VEC_MATH_H

#include <math.h> /* NAN and INFINITY only */

#include "../isa/vec.h"
#include "coefficients.h"

#if REAL_BITS == 32
enum { MANTISSA_BITS = 23, BIAS = 127 };
typedef uint32_t bits;
#define EXP_RANGE R(110) /* exp(-110) * 110 is 0, exp(110) is infinite */
#define ONE_RANGE R(20)  /* 1 + exp(-20) is 1 */
#define GELU_TANH_LAST R(11)
#define SMALLEST_NORMAL R(0x1p-126)
#define HALF_OF_BITS 0xfffff000u /* the upper half of the mantissa */
#else
enum { MANTISSA_BITS = 52, BIAS = 1023 };
typedef uint64_t bits;
#define EXP_RANGE R(755)
#define ONE_RANGE R(40)
#define GELU_TANH_LAST R(22)
#define SMALLEST_NORMAL R(0x1p-1022)
#define HALF_OF_BITS 0xfffffffff8000000u
#endif
typedef bits uvec __attribute__((vector_size(VECTOR_BYTES)));

/* Adding INTEGER rounds a small real to an integer n and leaves n + 2 BIAS in the low bits of the sum. */
#define INTEGER R(1.5 * ((bits)1 << MANTISSA_BITS) + 2 * BIAS)

INLINE vec vec_clamp(vec x, real low, real high) { return vec_min(vec_set(high), vec_max(vec_set(low), x)); }

/* c[0] + c[1] x + ... */
INLINE vec polynomial(vec x, const real *c, int terms) {
    vec sum = vec_set(c[terms - 1]);
    UNROLL
    for (int i = terms - 2; i >= 0; i--) sum = sum * x + c[i];
    return sum;
}
#define TERMS(c) (int)(sizeof(c) / sizeof *(c))
#define POLYNOMIAL(x, c) polynomial(x, c, TERMS(c))

/* The same by pairs of terms, which do not wait for each other. */
INLINE vec polynomial_of_pairs(vec x, vec square, const real *c, int terms) {
    int i = (terms - 1) / 2 * 2;
    vec sum = i + 1 < terms ? c[i + 1] * x + c[i] : vec_set(c[i]);
    UNROLL
    for (i -= 2; i >= 0; i -= 2) sum = sum * square + (c[i + 1] * x + c[i]);
    return sum;
}

/* a * b - product without rounding, where product is a * b rounded */
INLINE vec product_error(vec a, vec b, vec product) {
#if defined(X86_PREFIX) && defined(__FMA__)
    return X86(fmsub)(a, b, product);
#elif defined(__aarch64__) && !defined(FBP_GENERIC_VECTORS)
    return NEON(vfma)(-product, a, b);
#elif defined(X86_PREFIX) /* no FMA, so that nothing below is contracted either */
    const uvec half = HALF_OF_BITS - (uvec){0};
    vec a1 = (vec)((uvec)a & half), a0 = a - a1, b1 = (vec)((uvec)b & half), b0 = b - b1;
    return ((a1 * b1 - product) + a1 * b0 + a0 * b1) + a0 * b0;
#else
    for (int i = 0; i < VL; i++)
        a[i] = sizeof(real) == 4 ? __builtin_fmaf((float)a[i], (float)b[i], (float)-product[i])
                                 : __builtin_fma(a[i], b[i], -product[i]);
    return a;
#endif
}

/* ---- exponentials ---- */

/* x = n ln 2 + r - error with integer n and |r| <= ln(2) / 2, for |x| up to EXP_RANGE and somewhat more */
typedef struct {
    vec n, r, error;
    uvec exponent; /* n + 2 BIAS in the low bits */
} reduced;

INLINE reduced reduce(vec x) {
    vec t = x * R(1.44269504088896340736) + INTEGER, n = t - INTEGER;
    return (reduced){n, (x - n * LN2_HEAD) - n * LN2_TAIL, {0}, (uvec)t};
}

/* x + low in place of x, and the rounding of r kept */
INLINE reduced reduce_sum(vec x, vec low) {
    reduced e = reduce(x);
    vec head = x - e.n * LN2_HEAD, tail = low - e.n * LN2_TAIL;
    e.r = head + tail;
    e.error = (e.r - head) - tail;
    return e;
}

/* exp(r - error) - 1. Without an error the compiler drops the subtraction of 0. */
INLINE vec exp_fraction(reduced x) { return x.r + (x.r * x.r * POLYNOMIAL(x.r, EXP_TAIL) - x.error); }

/* 2^n as a product of two powers, because n reaches beyond the exponents of normal numbers */
typedef struct {
    vec first, second;
} power;

INLINE power power_of_two(uvec exponent) {
    uvec half = exponent >> 1;
    return (power){(vec)(half << MANTISSA_BITS), (vec)((exponent - half) << MANTISSA_BITS)};
}

INLINE vec vec_exp(vec x) {
    reduced e = reduce(vec_clamp(x, -EXP_RANGE, EXP_RANGE));
    power two_n = power_of_two(e.exponent);
    return (1 + exp_fraction(e)) * two_n.first * two_n.second;
}

/* exp(x) - 1 for x <= 0 */
INLINE vec vec_expm1_negative(vec x) {
    reduced e = reduce(vec_max(vec_set(-ONE_RANGE), x));
    vec two_n = (vec)((e.exponent - BIAS) << MANTISSA_BITS);
    return exp_fraction(e) * two_n + (two_n - 1);
}

/* Two forms, of which the first is taken where the instruction set has tables in registers (AVX-512, float32) and the
 * second one everywhere else: looking a coefficient up costs as much as a multiply-add, so that ten of these do
 * for the first, while the second takes seventeen and a division. */
#ifdef TABLE
/* A polynomial of |x| - centre in each of 32 segments, which are numbered by exponent and first bits of the mantissa
 * of |x| + TANH_OFFSET. At most 1.38 units in the last place off, and monotone, over all float32. */
INLINE vec vec_tanh(vec x) {
    vec a = vec_min(vec_set(TANH_LAST), vec_abs(x));
    ivec segment = (ivec)(a + TANH_OFFSET) >> 20;
    vec t = a - vec_look_up(TANH_SEGMENTS[0], segment);
    vec y = vec_look_up(TANH_SEGMENTS[5], segment);
    UNROLL
    for (int i = 4; i > 0; i--) y = y * t + vec_look_up(TANH_SEGMENTS[i], segment);
    return vec_with_sign(y, x);
}
#else
/* h / (h + 1) with h = (exp(2 a) - 1) / 2 and a = |x|, where a = n ln(2) / 2 + r; n is 0 up to a = 0.17, and r is a
 * itself there. The quotient is taken as c and a rest, (h - c - c h) / (h + 1), whose numerator and denominator may
 * then be rounded: up to tanh = 1/2 c is a, and the rest is small; beyond, c is 1, and the numerator -1, or 0 from
 * TANH_ONE on. */
INLINE vec vec_tanh(vec x) {
    const vec integers = vec_set(R(1.5 * ((bits)1 << MANTISSA_BITS) + BIAS));
    vec a = vec_min(vec_set(TANH_ONE), vec_abs(x)), t = a * R(2.88539008177792681472) + integers;
    vec r = a - (t - integers) * R(0.346573590279972654709), square = r * r;
    vec tail = polynomial_of_pairs(r, square, TANH_EXP_TAIL, TERMS(TANH_EXP_TAIL));
    vec two_n = (vec)((uvec)t << MANTISSA_BITS);
    vec h = square * two_n * tail + (r * two_n + (two_n * R(0.5) - R(0.5)));
    vec c = vec_select(a < R(0.55), a, vec_set(1)), sum = c + ((h - c) - c * h) / (h + 1);
    return vec_with_sign(sum, x);
}
#endif

/* factor / (1 + exp(x)). The smaller of 1 and exp(x) is scaled, so that the tail is as accurate as the rest
 * and the result may be subnormal. */
INLINE vec divide_by_one_plus_exp(vec factor, reduced x) {
    const vec one = vec_set(1);
    ivec large = x.n > 0;
    power small = power_of_two((uvec)(vec_copysign(x.n, vec_set(-1)) + INTEGER)); /* 2^-|n| */
    vec two_n = small.first * small.second;
    vec head = 1 + two_n, lost = two_n - (head - 1);
    vec quotient = factor / (head + (exp_fraction(x) * vec_select(large, one, two_n) + lost));
    return quotient * vec_select(large, small.first, one) * vec_select(large, small.second, one);
}

INLINE vec vec_sigmoid(vec x) {
    return divide_by_one_plus_exp(vec_set(1), reduce(vec_clamp(-x, -EXP_RANGE, EXP_RANGE)));
}

/* ---- logarithms ---- */

/* u = 2^k m with 3/4 <= m < 3/2, for positive normal u */
typedef struct {
    vec k;
    uvec exponent; /* k + BIAS */
} binade;

INLINE binade vec_binade(vec u) {
    const vec integers = vec_set(R((bits)1 << MANTISSA_BITS)); /* reals from here on are the integers */
    uvec exponent = ((uvec)u + ((bits)1 << (MANTISSA_BITS - 1))) >> MANTISSA_BITS;
    return (binade){(vec)((uvec)integers | exponent) - (integers + BIAS), exponent};
}

/* k ln 2 + log(1 + f) for -1/4 <= f < 1/2 */
INLINE vec log_sum(vec k, vec f) {
    vec s = f / (2 + f), z = s * s, half_square = R(0.5) * f * f;
    vec tail = s * (half_square + z * POLYNOMIAL(z, LOG_TAIL)) + k * LN2_TAIL;
    return k * LN2_HEAD - ((half_square - tail) - f);
}

INLINE vec vec_log(vec x) {
    ivec small = x < SMALLEST_NORMAL;
    vec u = vec_select(small, x * R((bits)1 << MANTISSA_BITS), x);
    binade b = vec_binade(u);
    vec f = (vec)((uvec)u - ((b.exponent - BIAS) << MANTISSA_BITS)) - 1;
    vec y = log_sum(b.k - vec_select(small, vec_set(MANTISSA_BITS), vec_set(0)), f);
    y = vec_select(x < R(INFINITY), y, x);
    y = vec_select(x < 0, vec_set(R(NAN)), y);
    return vec_select(x == 0, vec_set(R(-INFINITY)), y);
}

/* log(1 + x) for x > -1 up to 2^100. f = (1 + x) / 2^k - 1 comes out exact without rounding 1 + x. */
INLINE vec vec_log1p(vec x) {
    binade b = vec_binade(1 + x);
    vec scale = (vec)((2 * BIAS - b.exponent) << MANTISSA_BITS);
    return log_sum(b.k, scale * x + (scale - 1));
}

INLINE vec vec_softplus(vec x) { return vec_max(vec_set(0), x) + vec_log1p(vec_exp(-vec_abs(x))); }

/* ---- normal distribution ---- */

/* exp(-a^2 / 2); the square is taken without rounding, for the sake of the tail */
INLINE reduced reduce_minus_half_square(vec a) {
    vec square = a * a;
    return reduce_sum(R(-0.5) * square, R(-0.5) * product_error(a, a, square));
}

/* With 0 <= a <= CDF_LAST: CDF(-a) = 1/2 - a cdf_near(a)               for a < CDF_CENTRE,
 *                          CDF(-a) = exp(-a^2 / 2) cdf_far(a) / a      beyond. */
INLINE vec cdf_near(vec a) { return POLYNOMIAL(a * a, CDF_NEAR); }
/* as value + low */
INLINE vec cdf_far(vec a, vec *low) {
    vec t = (a - CDF_ZERO) / (a + CDF_POLE), slope = POLYNOMIAL(t, CDF_FAR), value = t * slope + CDF_FIRST_HEAD;
    *low = t * slope + (CDF_FIRST_HEAD - value) + CDF_FIRST_TAIL;
    return value;
}

/* x CDF(x) = max(x, 0) - |x| CDF(-|x|) */
INLINE vec vec_gelu(vec x) {
    vec a = vec_min(vec_set(CDF_LAST), vec_abs(x));
    reduced e = reduce_minus_half_square(a);
    power two_n = power_of_two(e.exponent);
    vec fraction = exp_fraction(e), low, far = cdf_far(a, &low);
    far = (far + (far * fraction + low * (1 + fraction))) * two_n.first * two_n.second;
    vec near = R(0.5) * a - a * a * cdf_near(a);
    return vec_copysign(vec_max(vec_set(0), x) - vec_select(a < CDF_CENTRE, near, far), x);
}

/* CDF(x) + x exp(-x^2 / 2) / sqrt(2 pi) */
INLINE vec vec_gelu_derivative(vec x) {
    vec a = vec_min(vec_set(CDF_LAST), vec_abs(x));
    reduced e = reduce_minus_half_square(a);
    power two_n = power_of_two(e.exponent);
    vec low, density = (1 + exp_fraction(e)) * two_n.first * two_n.second;
    vec tail = vec_select(a < CDF_CENTRE, R(0.5) - a * cdf_near(a), cdf_far(a, &low) * density / a);
    return vec_select(x > 0, 1 - tail, tail) + vec_copysign(a, x) * density * R(0.39894228040143267794);
}

/* ---- x times a sigmoid ---- */

/* sigmoid(x) and 1 - sigmoid(x), both accurate */
typedef struct {
    vec value, complement;
} sigmoid_pair;

INLINE sigmoid_pair vec_sigmoid_pair(vec x) {
    vec e = vec_exp(-vec_abs(x)), large = 1 / (1 + e), small = e * large;
    return (sigmoid_pair){vec_select(x < 0, small, large), vec_select(x < 0, large, small)};
}

INLINE vec vec_silu(vec x) {
    vec bounded = vec_max(vec_set(-EXP_RANGE), x);
    return divide_by_one_plus_exp(bounded, reduce(-vec_min(vec_set(EXP_RANGE), bounded)));
}

INLINE vec vec_silu_derivative(vec x) {
    x = vec_clamp(x, -EXP_RANGE, EXP_RANGE);
    sigmoid_pair s = vec_sigmoid_pair(x);
    return s.value + s.value * (x * s.complement);
}

/* x / 2 (1 + tanh(v / 2)) = x sigmoid(v) with v = 2 sqrt(2 / pi) (x + 0.044715 x^3). An error of v is a relative
 * error of the tail, therefore v is evaluated in twice the precision. */
INLINE vec vec_gelu_tanh(vec x) {
    vec bounded = vec_max(vec_set(-GELU_TANH_LAST), x), b = vec_min(vec_set(GELU_TANH_LAST), bounded);
    vec square = b * b, square_low = product_error(b, b, square);
    vec head = vec_set(GELU_CUBIC_HEAD), cubic = head * square;
    vec cubic_low = product_error(head, square, cubic) + (head * square_low + GELU_CUBIC_TAIL * square);
    vec slope = GELU_LINEAR_HEAD + cubic, added = slope - GELU_LINEAR_HEAD;
    vec slope_low = (GELU_LINEAR_HEAD - (slope - added)) + (cubic - added) + (cubic_low + GELU_LINEAR_TAIL);
    vec v = b * slope, v_low = product_error(b, slope, v) + b * slope_low;
    return divide_by_one_plus_exp(bounded, reduce_sum(-v, -v_low));
}

INLINE vec vec_gelu_tanh_derivative(vec x) {
    x = vec_clamp(x, -GELU_TANH_LAST, GELU_TANH_LAST);
    vec cubic = GELU_CUBIC_HEAD * x * x;
    sigmoid_pair s = vec_sigmoid_pair(x * (GELU_LINEAR_HEAD + cubic));
    return s.value + s.value * (x * s.complement) * (GELU_LINEAR_HEAD + 3 * cubic);
}

/* x tanh(softplus(x)) = x n / d with n = e (e + 2), d = n + 2, e = exp(x) = (1 + f) s, s a power of two. Taken as
 *   x - x 2 / d                  for s > 1,
 *   x - x (2 / 5 - 2 c / 5 d)    for s = 1 with d = 5 + c: the part that is rounded is small,
 *   s (x + x (f - z / d))        for s < 1, where the result may be subnormal; z = (1 + f) e (1 + e)
 * with sums that begin with the part free of f, which is exact where its rounding would matter. */
INLINE vec vec_mish(vec x) {
    vec bounded = vec_clamp(x, -EXP_RANGE, ONE_RANGE);
    reduced e = reduce(bounded);
    power two_n = power_of_two(e.exponent);
    vec f = exp_fraction(e), s = two_n.first * two_n.second, sf = s * f;
    vec c = sf * (2 * (s + 1) + sf), d = (s * (s + 2) + 2) + c;
    vec z = (s + s * s) + f * (s * (2 + 3 * s) + sf * ((1 + 3 * s) + sf));
    ivec small = e.n < 0, middle = e.n == 0;
    vec first = vec_select(small, f, vec_select(middle, vec_set(R(-0.4)), vec_set(0)));
    vec part = first - vec_select(small, z, vec_select(middle, R(-0.4) * c, vec_set(2))) / d;
    vec y = vec_select(small, bounded, x) + bounded * part;
    return vec_copysign(vec_select(small, y * two_n.first * two_n.second, y), x);
}

/* n / (n + 2) + 4 x e (1 + e) / (n + 2)^2 */
INLINE vec vec_mish_derivative(vec x) {
    x = vec_clamp(x, -EXP_RANGE, ONE_RANGE);
    vec e = vec_exp(x), n = e * (e + 2), ratio = 1 / (n + 2);
    return n * ratio + 4 * x * (e * ratio) * ((1 + e) * ratio);
}

#endif
