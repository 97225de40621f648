"""Polynomials of vec_math.h: prints coefficients.h (needs mpmath and NumPy).

    python csrc/kernels/coefficients.py > csrc/kernels/coefficients.h

Every polynomial is a Chebyshev interpolation in 60 digits, which is minimax but for a few percent. What is
fitted is the part behind the leading terms that the code adds exactly, so that the rounding of the
coefficients and of the evaluation stays below half a unit in the last place of the result.
"""

from collections.abc import Callable, Iterator

import numpy as np
from mpmath import chebyfit, erfc, exp, expm1, floor, frexp, ldexp, log, mp, mpf, nint, pi, quad, sqrt, tanh

mp.dps = 60


def exp_tail(r: mpf) -> mpf:
    """(exp(r) - 1 - r) / r^2."""
    return quad(lambda t: (1 - t) * exp(r * t), [0, 1]) if abs(r) < 1e-3 else (expm1(r) - r) / r**2


def log_tail(z: mpf) -> mpf:
    """(2 atanh(s) / s - 2) / z with z = s^2: what follows 2 s in the series of log((1 + s) / (1 - s))."""
    return sum(2 * z**i / (2 * i + 3) for i in range(60))


def cdf_centre(z: mpf) -> mpf:
    """(normal CDF(a) - 1/2) / a with z = a^2."""
    return sum((-z / 2) ** i / (2 * i + 1) / mp.factorial(i) for i in range(40)) / sqrt(2 * pi)


def cdf_tail(a: mpf) -> mpf:
    """a * normal CDF(-a) * exp(a^2 / 2)."""
    return a * exp(a * a / 2) * erfc(a / sqrt(mpf(2))) / 2


SEGMENTS, STEPS = 32, 8  # of a table in registers; of an octave
TANH_OFFSET, TANH_LAST = mpf("0.65625"), mpf("9.25")  # an octave of x + offset is as curved as the next one


def single(x: mpf) -> np.float32:
    """The nearest float32."""
    return np.float32(float(x))


def tanh_segments() -> Iterator[tuple[int, list[mpf]]]:
    """Number, centre c and polynomial in t = |x| - c of every segment.

    A segment holds the |x| whose |x| + offset agree in the exponent and the first bits of the mantissa; these
    are its number. Its centre is a float32 near the middle whose tanh is nearly one too, so that the constant
    term has no error. In the first segment it is 0, which keeps the sign and every subnormal; in the last one
    it is the last number, from where on the result is 1.
    """
    end = TANH_OFFSET
    while end <= TANH_OFFSET + TANH_LAST:
        width = ldexp(1, frexp(end)[1] - 1) / STEPS
        number = int(single(end).view(np.uint32) >> 20) % SEGMENTS
        start, end = end, (floor(end / width) + 1) * width
        low, high = start - TANH_OFFSET, end - TANH_OFFSET
        if low == 0:
            centre = mpf(0)
        elif high > TANH_LAST:
            centre = TANH_LAST
        else:
            middle = single((low + high) / 2)
            near = [mpf(float(middle + k * np.spacing(middle))) for k in range(400)]
            centre = min(near, key=lambda c: abs(1 - mpf(float(single(tanh(c)))) / tanh(c)))
        at_centre = tanh(centre)

        def slope(t: mpf, at_centre: mpf = at_centre) -> mpf:
            """(tanh(centre + t) - at_centre) / t."""
            ratio = tanh(t) / t if t else mpf(1)
            return (1 - at_centre**2) * ratio / (1 + at_centre * t * ratio)

        yield number, [centre, at_centre, *reversed(chebyfit(slope, [low - centre, high - centre], 4))]


def tanh_table() -> Iterator[str]:
    """Centres, then coefficients of equal degree: the arrays that an instruction looks up."""
    table = dict(tanh_segments())
    assert len(table) == SEGMENTS
    yield f"#define TANH_OFFSET R({mp.nstr(TANH_OFFSET)})"
    yield f"#define TANH_LAST R({mp.nstr(TANH_LAST)})"
    yield f"static const real TANH_SEGMENTS[][{SEGMENTS}] = {{"
    for row in zip(*(table[number] for number in range(SEGMENTS)), strict=True):
        values = [f"R({mp.nstr(c, 10)})" for c in row]
        lines = (", ".join(values[i : i + 6]) for i in range(0, SEGMENTS, 6))
        yield "    {" + ",\n     ".join(lines) + "},"
    yield "};"


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
    short = bits == 32
    digits = 10 if short else 19
    # an integer of 8 (11) bits, the largest exponent, times the head of ln 2 is exact
    yield from split("LN2", log(2), 15 if short else 40, digits)
    # of x^3 times 2 sqrt(2 / pi) 0.044715 and x times 2 sqrt(2 / pi)
    yield from split("GELU_LINEAR", 2 * sqrt(2 / pi), 23 if short else 52, digits)
    yield from split("GELU_CUBIC", 2 * sqrt(2 / pi) * mpf("0.044715"), 27 if short else 56, digits)
    yield from table("EXP_TAIL", exp_tail, mpf("-0.35"), mpf("0.35"), 5 if short else 10, digits)
    yield from table("LOG_TAIL", log_tail, mpf(0), mpf("0.0401"), 3 if short else 8, digits)
    # (exp(2 r) - 1) / 2 = r + r^2 ..., for what is left when an integer times ln(2) / 2 is taken off
    ends = mpf("-0.1737"), mpf("0.1737")
    yield from table("TANH_EXP_TAIL", lambda r: 2 * exp_tail(2 * r), *ends, 5 if short else 10, digits)
    # From h = 2^24 on h - 1 is rounded in float32. Here h is an even number of its last places, so that
    # h - 1 is h; in float64 it is large enough for that.
    last = log(2) * (25 if short else 55) / 2 + mpf("1e-6")
    yield f"#define TANH_ONE R({mp.nstr(last, 8)})"
    if short:
        yield from tanh_table()
    # The centre up to a = CDF_CENTRE, then the tail as a polynomial in t = (a - zero) / (a + pole) until the
    # result underflows. t is small where cdf_tail is steep, so that the rounding of t does not show; zero and
    # pole are the pair with the smallest error of a few that were tried.
    centre, zero, pole, last = mpf("0.625"), mpf("1.25"), mpf("2.25"), mpf("14.5") if short else mpf(39)
    yield f"#define CDF_CENTRE R({mp.nstr(centre)})"
    yield f"#define CDF_ZERO R({mp.nstr(zero)})"
    yield f"#define CDF_POLE R({mp.nstr(pole)})"
    yield f"#define CDF_LAST R({mp.nstr(last)})"
    yield from table("CDF_NEAR", cdf_centre, mpf(0), centre**2, 5 if short else 9, digits)
    first = cdf_tail(zero)
    yield from split("CDF_FIRST", first, 25 if short else 54, digits)  # at t = 0; t is multiplied by CDF_FAR
    yield from table(
        "CDF_FAR",
        lambda t: (cdf_tail((zero + pole * t) / (1 - t)) - first) / t,
        *((a - zero) / (a + pole) for a in (centre, last)),
        10 if short else 24,
        digits,
    )


if __name__ == "__main__":
    print("/* Printed by coefficients.py: polynomials for vec_math.h, the constant term first. */")
    print("/* clang-format off */")
    print("#ifndef FBP_COEFFICIENTS_H\n#define FBP_COEFFICIENTS_H\n")
    print("#define R(c) ((real)(c))")
    print("#if REAL_BITS == 32", *header(32), "#else", *header(64), "#endif\n", sep="\n")
    print("#endif")
