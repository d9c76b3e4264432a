"""log, log2, log10, log1p (floor 6).

x = 2**k * m with m in [sqrt(1/2), sqrt(2)), f = m - 1, and log(x) = k * log(2) + log(1 + f). Close to 1 only log(1 + f) is left, so it
is summed from the smallest part up: f last. In float64, log(1 + f) = 2 atanh(s) with s = f / (2 + f), as in Tang, "Table-driven
implementation of the logarithm function" (1990), but without the table. Polynomials are minimax fits (Remez exchange).
"""

from __future__ import annotations

import math

from tilewright.codegen.llvm.math.exponential import TEN, TWO, Base, E, bias_of, split
from tilewright.codegen.llvm.term import Term
from tilewright.target.cpu import Feature

# (log(1 + f) - f) / f**2; error of log(1 + f) below 2**-27.4 of itself.
_LOGARITHM_32 = (
    -0.49999988079071045,
    0.33333325386047363,
    -0.25001585483551025,
    0.20001983642578125,
    -0.1660899966955185,
    0.14181576669216156,
    -0.13243471086025238,
    0.12906351685523987,
    -0.07622972130775452,
)
# (2 atanh(s) - 2 s) / s**3 in z = s**2; error of the sum below 2**-58.8 of itself.
_LOGARITHM_64 = (0.6666666666666735, 0.39999999999413133, 0.2857142874276573, 0.22222198531142986, 0.18183566669349807, 0.1531398675592523, 0.1479662481262727)


def decompose(x: Term) -> tuple[Term, Term]:
    """k as a float and m, for positive x, subnormal numbers included: x = 2**k * m, m in [sqrt(1/2), sqrt(2))."""
    mantissa_bits, bias = x.mantissa_bits, bias_of(x)
    lift = mantissa_bits + 1
    is_subnormal = x < 2.0 ** (1 - bias)
    bits = is_subnormal.select(x * 2.0**lift, x).bits()
    one = bias << mantissa_bits
    root = one - (2 << mantissa_bits) + math.floor(math.sqrt(2.0) * (1 << mantissa_bits))  # bits of sqrt(1/2)
    moved = bits + (one - root)
    m = ((moved & ((1 << mantissa_bits) - 1)) + root).as_float()
    # An exponent below 2**mantissa_bits, put where the fraction of 2**mantissa_bits is, makes the float 2**mantissa_bits + exponent.
    anchor = 2.0**mantissa_bits
    exponent = (moved.shift_right_logical(mantissa_bits) | ((bias + mantissa_bits) << mantissa_bits)).as_float()
    return exponent - is_subnormal.select(x.operand(anchor + bias + lift), anchor + bias), m


def _tail(f: Term) -> Term:
    """log(1 + f) - f."""
    if f.mantissa_bits == 23:
        return f.polynomial(_LOGARITHM_32) * (f * f)
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    return s * z.polynomial(_LOGARITHM_64).mad(z, half_square) - half_square


def _at_the_ends(result: Term, x: Term) -> Term:
    """log of what is not positive and finite."""
    result = (x < math.inf).select(result, x)
    return (x <= 0.0).select(x.equals(0.0).select(x.operand(-math.inf), math.nan), result)


def logarithm(x: Term, base: Base = E, correction: Term | None = None) -> Term:
    """log_base(x * (1 + correction)), where the correction is below the last place of x."""
    k, m = decompose(x)
    f = m - 1.0
    tail = _tail(f)
    if correction is not None:
        tail = tail + correction
    k_high, k_low = (1.0, 0.0) if base is TWO else split(base.step, x)
    if base is E:
        rest = k.mad(k_low, tail) + f
    else:
        rest = _scaled(f, tail, base.scale, k * k_low if k_low else None)
    return _at_the_ends(k.mad(k_high, rest) if k_low else k + rest, x)


def _scaled(f: Term, tail: Term, scale: float, addend: Term | None) -> Term:
    """(f + tail) * scale + addend; with the instruction, one rounding fewer."""
    if f.scope.has(Feature.FMA):
        return f.mad(scale, tail * scale if addend is None else tail.mad(scale, addend))
    return (f + tail) * scale if addend is None else (f + tail).mad(scale, addend)


def log(x: Term) -> Term:
    return logarithm(x, E)


def log2(x: Term) -> Term:
    return logarithm(x, TWO)


def log10(x: Term) -> Term:
    return logarithm(x, TEN)


def log1p(x: Term) -> Term:
    """log(1 + x): the logarithm of the rounded sum, corrected by what the rounding lost (two-sum, Knuth)."""
    total = x + 1.0
    kept = total - x
    lost = (x - (total - kept)) + (1.0 - kept)
    result = logarithm(total, E, correction=lost / total)
    return (x.abs() < 2.0 ** -(x.mantissa_bits + 2)).select(x, result)
