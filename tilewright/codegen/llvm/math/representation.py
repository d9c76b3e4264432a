"""Functions that look at or change the bits of a number: classification, signs, exponents, neighbours, counts (floor 6)."""

from __future__ import annotations

import math

from tilewright.codegen.llvm.convert import from_storage, to_storage
from tilewright.codegen.llvm.emitter import Value, constant
from tilewright.codegen.llvm.term import Term
from tilewright.dtypes import DType


def is_nan(x: Term) -> Term:
    return x.is_nan()


def is_infinite(x: Term) -> Term:
    return x.abs().equals(math.inf)


def is_finite(x: Term) -> Term:
    return x.abs() < math.inf


def copysign(x: Term, y: Term) -> Term:
    return x.with_sign_of(y)


def ldexp(x: Term, exponent: Term) -> Term:
    """x * 2**exponent, rounded once: in double a float32 cannot leave the range before the end."""
    if x.element == "float":
        wide = ldexp(x.convert("fpext", "double"), (exponent < -512).select(-512, (exponent > 512).select(512, exponent)))
        return wide.convert("fptrunc", "float")
    exponent = (exponent < -4000).select(-4000, (exponent > 4000).select(4000, exponent))
    for _ in range(2):
        # Each step stays clear of the subnormal numbers unless the result is zero or the step is the last (down by 2**-969 leaves 53 bits).
        is_low, is_high = exponent < -1022, exponent > 1023
        x = x * is_low.select(x.operand(2.0**-969), is_high.select(x.operand(2.0**1023), 1.0))
        exponent = exponent - is_low.select(exponent.operand(-969), is_high.select(exponent.operand(1023), 0))
    exponent = (exponent < -1022).select(-1022, (exponent > 1023).select(1023, exponent))
    return x * ((exponent.convert("sext", "i64") + 1023) << 52).as_float()


def nextafter(x: Term, toward: Term, dtype: DType) -> Term:
    """The neighbour of x among the values of the dtype, in the direction of `toward`."""
    f, features = x.scope.function, x.scope.features
    stored = x.scope(to_storage(f, x.value, dtype, features))
    code = stored if not stored.is_float else stored.bits()
    is_outward = (x < toward) ^ (x < 0.0)
    stepped = code + is_outward.select(code.operand(1), -1)
    sign = 1 << (dtype.bits - 1)
    smallest = (toward < 0.0).select(code.operand(sign | 1), 1)
    stepped = x.equals(0.0).select(smallest, stepped)
    moved = x.scope(from_storage(f, (stepped.as_float() if stored.is_float else stepped).value, dtype, features))
    result = x.equals(toward).select(toward, moved)
    return (x.is_nan() | toward.is_nan()).select(math.nan, result)


def popcount(x: Term, dtype: DType) -> Term:
    if not dtype.is_packed:
        return x.call("llvm.ctpop")
    count = (x & 15).call("llvm.ctpop")
    return (count << 4) >> 4 if dtype.is_signed else count


def count_leading_zeros(x: Term, dtype: DType) -> Term:
    """Of the dtype's own width; all of them for 0. The result is int32."""
    if dtype.is_packed:
        x = (x << 4) | 8
    return _leading_zeros(x).convert("trunc" if x.width_bits > 32 else "zext", "i32")


def _leading_zeros(x: Term) -> Term:
    value = x.value
    result: Value = x.scope.function.intrinsic(f"llvm.ctlz.{value.overload}", value.type, value, constant(False, "i1"))
    return x.scope(result)
