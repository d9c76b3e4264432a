"""sinh, cosh, tanh and their inverses (floor 6)."""

from __future__ import annotations

import math

from tilewright.codegen.llvm.math.exponential import LN2, exponential, exponential_minus_one
from tilewright.codegen.llvm.math.logarithm import log1p
from tilewright.codegen.llvm.term import Term


def tanh(x: Term) -> Term:
    """With E = e**2|x| - 1, which keeps small x: E / (E + 2)."""
    enough = {23: 20.0, 52: 44.0}[x.mantissa_bits]  # tanh of half of it rounds to 1
    doubled = x.abs() * 2.0
    doubled = (doubled > enough).select(enough, doubled)
    grown = exponential_minus_one(doubled)
    return (grown / (grown + 2.0)).with_sign_of(x)


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
