"""floor, ceil, trunc, round: instructions where the target has them, else an addition that pushes the fraction out (floor 6)."""

from __future__ import annotations

import math

from tilewright.codegen.llvm.term import Term
from tilewright.target.cpu import Feature


def round_even(x: Term) -> Term:
    """To the nearest integer, ties to even."""
    if x.scope.has(Feature.ROUND):
        return x.call("llvm.roundeven")
    anchor = 2.0**x.mantissa_bits  # from here on every float is an integer
    magnitude = x.abs()
    return (magnitude < anchor).select(((magnitude + anchor) - anchor).with_sign_of(x), x)


def floor(x: Term) -> Term:
    if x.scope.has(Feature.ROUND):
        return x.call("llvm.floor")
    nearest = round_even(x)
    return (nearest > x).select(nearest - 1.0, nearest)


def ceil(x: Term) -> Term:
    if x.scope.has(Feature.ROUND):
        return x.call("llvm.ceil")
    nearest = round_even(x)
    return (nearest < x).select(nearest + 1.0, nearest).with_sign_of(x)


def trunc(x: Term) -> Term:
    return x.call("llvm.trunc") if x.scope.has(Feature.ROUND) else floor(x.abs()).with_sign_of(x)


def round_away(x: Term) -> Term:
    """To the nearest integer, ties away from zero: with the float just below one half, numbers below a tie stay below."""
    below_half = math.ldexp(1.0 - 2.0 ** -(x.mantissa_bits + 1), -1)
    return trunc(x + x.operand(below_half).with_sign_of(x))
