"""Polynomials of vec_math.h: prints coefficients.h (needs mpmath).

    python csrc/kernels/coefficients.py > csrc/kernels/coefficients.h

Every polynomial is a Chebyshev interpolation in 60 digits, which is minimax but for a few percent. What is
fitted is the part behind the leading terms that the code adds exactly, so that the rounding of the
coefficients and of the evaluation stays below half a unit in the last place of the result.
"""

from collections.abc import Callable, Iterator

from mpmath import chebyfit, erfc, exp, expm1, ldexp, log, mp, mpf, nint, pi, quad, sqrt, tanh

mp.dps = 60


def exp_tail(r: mpf) -> mpf:
    """(exp(r) - 1 - r) / r^2."""
    return quad(lambda t: (1 - t) * exp(r * t), [0, 1]) if abs(r) < 1e-3 else (expm1(r) - r) / r**2


def log_tail(z: mpf) -> mpf:
    """(2 atanh(s) / s - 2) / z with z = s^2: what follows 2 s in the series of log((1 + s) / (1 - s))."""
    return sum(2 * z**i / (2 * i + 3) for i in range(60))


def tanh_tail(z: mpf) -> mpf:
    """(tanh(x) / x - 1) / z with z = x^2."""
    x = sqrt(z)
    return (tanh(x) / x - 1) / z if z > mpf("1e-20") else mpf(-1) / 3


def cdf_centre(z: mpf) -> mpf:
    """(normal CDF(a) - 1/2) / a with z = a^2."""
    return sum((-z / 2) ** i / (2 * i + 1) / mp.factorial(i) for i in range(40)) / sqrt(2 * pi)


def cdf_tail(a: mpf) -> mpf:
    """a * normal CDF(-a) * exp(a^2 / 2)."""
    return a * exp(a * a / 2) * erfc(a / sqrt(mpf(2))) / 2


def table(name: str, f: Callable[[mpf], mpf], low: mpf, high: mpf, terms: int, digits: int) -> Iterator[str]:
    """The coefficients as a C array, the constant term first."""
    coefficients, error = chebyfit(f, [low, high], terms, error=True)
    yield f"/* error {mp.nstr(error, 2)} on [{mp.nstr(low, 4)}, {mp.nstr(high, 4)}] */"
    yield f"static const real {name}[] = {{"
    yield from (f"    R({mp.nstr(c, digits)})," for c in reversed(coefficients))
    yield "};"


def split(name: str, value: mpf, bits: int, digits: int) -> Iterator[str]:
    """A constant as head + tail, the head short enough for exact products."""
    head = ldexp(nint(ldexp(value, bits)), -bits)
    yield f"#define {name}_HEAD R({mp.nstr(head, 30)})"
    yield f"#define {name}_TAIL R({mp.nstr(value - head, digits)})"


def header(bits: int) -> Iterator[str]:
    """Everything for one element type."""
    single = bits == 32
    digits = 10 if single else 19
    # an integer of 8 (11) bits, the largest exponent, times the head of ln 2 is exact
    yield from split("LN2", log(2), 15 if single else 40, digits)
    # of x^3 times 2 sqrt(2 / pi) 0.044715 and x times 2 sqrt(2 / pi)
    yield from split("GELU_LINEAR", 2 * sqrt(2 / pi), 23 if single else 52, digits)
    yield from split("GELU_CUBIC", 2 * sqrt(2 / pi) * mpf("0.044715"), 27 if single else 56, digits)
    yield from table("EXP_TAIL", exp_tail, mpf("-0.35"), mpf("0.35"), 5 if single else 10, digits)
    yield from table("LOG_TAIL", log_tail, mpf(0), mpf("0.0401"), 3 if single else 8, digits)
    centre = mpf("0.55")
    yield f"#define TANH_CENTRE R({mp.nstr(centre)})"
    if not single:
        yield from table("TANH_TAIL", tanh_tail, mpf(0), centre**2, 10, digits)
    # The centre up to a = CDF_CENTRE, then the tail as a polynomial in t = (a - zero) / (a + pole) until the
    # result underflows. t is small where cdf_tail is steep, so that the rounding of t does not show; zero and
    # pole are the pair with the smallest error of a few that were tried.
    centre, zero, pole, last = mpf("0.625"), mpf("1.25"), mpf("2.25"), mpf("14.5") if single else mpf(39)
    yield f"#define CDF_CENTRE R({mp.nstr(centre)})"
    yield f"#define CDF_ZERO R({mp.nstr(zero)})"
    yield f"#define CDF_POLE R({mp.nstr(pole)})"
    yield f"#define CDF_LAST R({mp.nstr(last)})"
    yield from table("CDF_NEAR", cdf_centre, mpf(0), centre**2, 5 if single else 9, digits)
    first = cdf_tail(zero)
    yield from split("CDF_FIRST", first, 25 if single else 54, digits)  # at t = 0; t is multiplied by CDF_FAR
    yield from table(
        "CDF_FAR",
        lambda t: (cdf_tail((zero + pole * t) / (1 - t)) - first) / t,
        *((a - zero) / (a + pole) for a in (centre, last)),
        10 if single else 24,
        digits,
    )


if __name__ == "__main__":
    print("/* Printed by coefficients.py: polynomials for vec_math.h, the constant term first. */")
    print("/* clang-format off */")
    print("#ifndef FBP_COEFFICIENTS_H\n#define FBP_COEFFICIENTS_H\n")
    print("#define R(c) ((real)(c))")
    print("#if REAL_BITS == 32", *header(32), "#else", *header(64), "#endif\n", sep="\n")
    print("#endif")
