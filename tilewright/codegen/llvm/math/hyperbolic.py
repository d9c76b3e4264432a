"""sinh, cosh, tanh and their inverses (floor 6)."""

from __future__ import annotations

import math

from tilewright.codegen.llvm.math.exponential import LN2, exponential, exponential_minus_one
from tilewright.codegen.llvm.math.logarithm import log1p
from tilewright.codegen.llvm.term import Term

# (tanh(x) - x) / x**3 in x**2, for x up to 0.5625: minimax fits (Remez exchange), errors below 2**-29 and 2**-59 of the function.
_TANH_32 = (-0.3333331346511841, 0.1333245038986206, -0.053837306797504425, 0.021006930619478226, -0.006179051473736763)
_TANH_64 = (
    -0.3333333333333333,
    0.13333333333332908,
    -0.05396825396793466,
    0.02186948852406588,
    -0.008863235261128968,
    0.003592124222028802,
    -0.00145579815085028,
    0.0005897912503119526,
    -0.000238064833312415,
    9.363019125809706e-05,
    -3.252998206938166e-05,
    7.2027005661297996e-06,
)


def tanh(x: Term) -> Term:
    """Beyond 0.5625, where it is above 1/2: 1 - 2 / (e**2|x| + 1)."""
    magnitude = x.abs()
    square = magnitude * magnitude
    near = square.polynomial(_TANH_32 if x.mantissa_bits == 23 else _TANH_64).mad(square * magnitude, magnitude)
    far = 1.0 - 2.0 / (exponential(magnitude * 2.0) + 1.0)
    return (magnitude < 0.5625).select(near, far).with_sign_of(x)


def sinh(x: Term) -> Term:
    magnitude = x.abs()
    is_small = magnitude < 1.0
    grown = exponential_minus_one(is_small.select(magnitude, 1.0))
    near = (grown + grown / (grown + 1.0)) * 0.5
    half = exponential(magnitude, halvings=1)
    return is_small.select(near, half - 0.25 / half).with_sign_of(x)


def cosh(x: Term) -> Term:
    half = exponential(x.abs(), halvings=1)
    return half + 0.25 / half


def _log1p_or_log_of_double(near: Term, x: Term) -> Term:
    """log(1 + near), and for x above 2**28, where that is log(2 x) to the last place, log(x) + log(2)."""
    is_far = x > 2.0**28
    result = log1p(is_far.select(x - 1.0, near))
    return is_far.select(result + float(LN2), result)


def asinh(x: Term) -> Term:
    magnitude = x.abs()
    square = magnitude * magnitude
    near = magnitude + square / ((square + 1.0).sqrt() + 1.0)
    return _log1p_or_log_of_double(near, magnitude).with_sign_of(x)


def acosh(x: Term) -> Term:
    above = x - 1.0
    near = above + (above * 2.0 + above * above).sqrt()
    return (x < 1.0).select(math.nan, _log1p_or_log_of_double(near, x))


def atanh(x: Term) -> Term:
    magnitude = x.abs()
    return (log1p(magnitude * 2.0 / (1.0 - magnitude)) * 0.5).with_sign_of(x)
