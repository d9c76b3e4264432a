"""exp, exp2, exp10, sigmoid, and the parts that hyperbolic functions and powers are made of (floor 6).

base**x = 2**n * e**r with n = round(x * log2(base)) and r = (x - n * log_base(2)) * ln(base), |r| <= ln(2) / 2. The rounding to an
integer is one addition of a number so large that its last bit is a one ("anchor"); its bits then hold n, which a shift turns into the
float 2**n. Polynomials are minimax fits (Remez exchange), with the relative error noted at each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from tilewright.codegen.llvm.emitter import Value, constant, vector_type
from tilewright.codegen.llvm.term import Term, through_double
from tilewright.target.cpu import Feature

LN2 = Fraction("0.693147180559945309417232121458176568075500134360255254120680009")
LN10 = Fraction("2.302585092994045684017991454684364207601101488628772976033327901")

# (e**r - 1 - r) / r**2; error of e**r - 1 below 2**-25.8 and 2**-59.5 of itself.
_EXPONENTIAL_32 = (0.4999999701976776, 0.1666654348373413, 0.04166720062494278, 0.008366547524929047, 0.0013882522471249104)
_EXPONENTIAL_64 = (
    0.5,
    0.16666666666666677,
    0.041666666666666505,
    0.008333333333321653,
    0.0013888888888962574,
    0.00019841269886077282,
    2.480158717230412e-05,
    2.7557244250001712e-06,
    2.7557402706674627e-07,
    2.5109026014310127e-08,
    2.087535137979405e-09,
)
# (2**r - 1) / r for |r| <= 1/2; error of 2**r below 2**-25.8 of itself. One step shorter than through e**r.
_POWER_OF_TWO_32 = (0.6931471824645996, 0.24022647738456726, 0.05550331994891167, 0.00961843878030777, 0.001339900423772633, 0.00015353258640971035)


@dataclass(frozen=True, slots=True)
class Base:
    """The base of a power or a logarithm: log_base(2) is `step`, ln(base) is `ln`."""

    step: Fraction
    ln: Fraction

    @property
    def log2(self) -> float:
        return float(1 / self.step)

    @property
    def scale(self) -> float:
        """log_base(e)."""
        return float(1 / self.ln)


E = Base(LN2, Fraction(1))
TWO = Base(Fraction(1), LN2)
TEN = Base(LN2 / LN10, LN10)


def split(value: Fraction, x: Term) -> tuple[float, float]:
    """A constant as a sum of two floats; the first is so short that its product with any exponent of x's type is exact."""
    short_bits = {23: 15, 52: 40}[x.mantissa_bits]
    high = Fraction(math.floor(value * (1 << short_bits)), 1 << short_bits)
    return float(high), float(value - high)


def bias_of(x: Term) -> int:
    return {23: 127, 52: 1023}[x.mantissa_bits]


def _reduce(x: Term, base: Base, bias: int) -> tuple[Term, Term, Term]:
    """r, n, and the integer whose low bits are n + bias."""
    anchor = 1.5 * 2.0**x.mantissa_bits + bias
    anchored = x + anchor if base is TWO else x.mad(base.log2, anchor)
    n = anchored - anchor
    high, low = split(base.step, x)
    r = n.mad(-high, x)
    if low:
        r = n.mad(-low, r)
    return r, n, anchored.bits()


def _polynomial(r: Term) -> Term:
    """(e**r - 1 - r) / r**2."""
    return r.polynomial(_EXPONENTIAL_32 if r.mantissa_bits == 23 else _EXPONENTIAL_64)


def scaled_by_power(x: Term, n: Term) -> Term | None:
    """x * 2**n for whole n, rounded once, where whole vectors have an instruction for it: it knows of both ends of the range by itself."""
    f, lanes = x.scope.function, x.value.lanes
    width = 64 // (x.width_bits // 8)
    if not x.scope.has(Feature.AVX512) or lanes % width:
        return None
    suffix, element, whole = ("ps", "float", "i16") if x.width_bits == 32 else ("pd", "double", "i8")
    type_ = vector_type(element, width)
    undefined, all_lanes, current_rounding = Value("poison", type_), constant(-1, whole), constant(4, "i32")
    parts = []
    for first in range(0, lanes, width):
        a, b = (v if lanes == width else f.shuffle(v, None, range(first, first + width)) for v in (x.value, n.value))
        parts.append(f.intrinsic(f"llvm.x86.avx512.mask.scalef.{suffix}.512", type_, a, b, undefined, all_lanes, current_rounding))
    while len(parts) > 1:
        parts = [f.shuffle(a, b, range(2 * a.lanes)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return Term(x.scope, parts[0])


def exponential(x: Term, base: Base = E, halvings: int = 0, tail: Term | None = None) -> Term:
    """base**(x + tail) / 2**halvings, over the whole range with gradual underflow; halvings is 0 or 1, tail far below x."""
    bias, mantissa_bits = bias_of(x), x.mantissa_bits
    step = float(base.step)
    # Before halving, from 2**(bias + 2) on all is infinity, and from 2**-(bias + mantissa_bits + 2) down all is zero.
    x = x.clamp(-(bias + mantissa_bits + 2) * step, (bias + 2 + halvings) * step)
    # 2**n does not fit a float at either end: one factor 2 stays outside and, for small results, 2**-64.
    r, n, anchored = _reduce(x, base, bias - 1 - halvings)
    if tail is not None:
        r = r + tail
    if base is TWO and mantissa_bits == 23:
        fraction = r.polynomial(_POWER_OF_TWO_32).mad(r, 1.0)
    else:
        r = r if base is E else r * float(base.ln)
        fraction = _polynomial(r).mad(r, 1.0).mad(r, 1.0)
    if (scaled := scaled_by_power(fraction, n - float(halvings) if halvings else n)) is not None:
        return scaled
    is_small = x < (5 - bias) * step
    power = ((anchored << mantissa_bits) + is_small.select(anchored.operand(64 << mantissa_bits), 0)).as_float()
    return fraction * power * is_small.select(x.operand(2.0**-63), 2.0)


def exponential_minus_one(x: Term) -> Term:
    """e**x - 1 for x so far from the ends of the range that 2**n is a normal number."""
    r, _n, anchored = _reduce(x, E, bias_of(x))
    power = (anchored << x.mantissa_bits).as_float()
    return (_polynomial(r) * r).mad(r, r).mad(power, power - 1.0)


def exp(x: Term) -> Term:
    return exponential(x, E)


def exp2(x: Term) -> Term:
    return exponential(x, TWO)


def exp10(x: Term) -> Term:
    return exponential(x, TEN)


def sigmoid(x: Term) -> Term:
    """1 / (1 + e**-x), without overflow: the exponential of -|x| serves both signs."""
    if not x.scope.has(Feature.FMA):
        return through_double(_plain_sigmoid)(x)
    small = exponential(-x.abs())
    numerator = (x >= 0.0).select(1.0, small)
    total = small + 1.0
    lost = small - (total - 1.0)
    reciprocal = 1.0 / total
    quotient = numerator * reciprocal
    # One Newton step of the division by total + lost: three roundings become one.
    rest = (-quotient).mad(total, numerator)
    return (-quotient).mad(lost, rest).mad(reciprocal, quotient)


def _plain_sigmoid(x: Term) -> Term:
    small = exponential(-x.abs())
    return (x >= 0.0).select(1.0, small) / (small + 1.0)
