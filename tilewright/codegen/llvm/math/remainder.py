"""fmod (floor 6), exact: one division where the quotient is small, and a long division in integers, lane by lane, where it is not."""

from __future__ import annotations

import math

from tilewright.codegen.llvm.emitter import Function, Value, constant
from tilewright.codegen.llvm.math.rounding import trunc
from tilewright.codegen.llvm.term import Scope, Term, rarely
from tilewright.target.cpu import Feature

_NAME = "tw_long_remainder"


def fmod(x: Term, y: Term) -> Term:
    """x - y * trunc(x / y) without rounding, with the sign of x; NaN for infinite x and for y = 0."""
    is_float32 = x.element == "float"
    if is_float32:
        x, y = x.convert("fpext", "double"), y.convert("fpext", "double")
    dividend, divisor = x.abs(), y.abs()
    # Quotients below the limit have an exact product with the divisor. The rounded quotient may be one too great, never too small.
    limit = 2.0**29 if is_float32 else 2.0**52 if x.scope.has(Feature.FMA) else 1.0
    quotient = trunc(dividend / divisor)
    rest = (-quotient).mad(divisor, dividend)
    rest = (rest < 0.0).select(rest + divisor, rest)
    is_good = (dividend < math.inf) & (divisor > 0.0)
    is_long = (quotient >= limit) & is_good

    def long_division() -> list[Term]:
        f, s = x.scope.function, x.scope
        a, b = is_long.select(dividend, 1.0), is_long.select(divisor, 1.0)
        found = a
        for lane in range(a.value.lanes):
            pair = [v.value if a.value.lanes == 1 else f.extract(v.value, lane) for v in (a, b)]
            one = _call(f, *pair)
            found = s(one if a.value.lanes == 1 else f.insert(found.value, one, lane))
        return [is_long.select(found, rest)]

    result = rarely(is_long, [rest], long_division)[0]
    result = (dividend < divisor).select(dividend, result).with_sign_of(x)
    result = (is_good & ~y.is_nan()).select(result, math.nan)
    return result.convert("fptrunc", "float") if is_float32 else result


def _call(f: Function, a: Value, b: Value) -> Value:
    if _NAME not in f.module.functions:
        _write_function(f)
    return f.emit("double", f"call double @{_NAME}({a}, {b})")


def _write_function(caller: Function) -> None:
    """a mod b for positive finite a >= b. Mantissas have 53 bits, so the remainder so far can take 11 more bits of the dividend at a time."""
    f = caller.module.function(_NAME, "internal double", [("double", "a"), ("double", "b")], "noinline nounwind")
    s = Scope(f, frozenset())
    exponents, mantissas = [], []
    for name in ("a", "b"):
        bits = s(f.arguments[name]).bits()
        field = bits.shift_right_logical(52)
        is_subnormal = field.equals(0)
        exponents.append(is_subnormal.select(1, field))
        mantissas.append((bits & ((1 << 52) - 1)) | is_subnormal.select(bits.operand(0), 1 << 52))
    divisor = mantissas[1]
    first = s(f.binary("urem", mantissas[0].value, divisor.value))
    distance = exponents[0] - exponents[1]
    with f.loop(constant(0, "i64"), distance.value, constant(11, "i64"), [first.value]) as loop:
        left = distance - s(loop.index)
        step = (left < 11).select(left, 11)
        loop.next = [f.binary("urem", (s(loop.carried[0]) << step).value, divisor.value)]
    # The remainder counts units of the divisor's last place: 2**(exponent - 1075).
    fraction = s(loop.results[0]).convert("uitofp", "double") * 2.0**-52
    f.ret((fraction * (exponents[1] << 52).as_float()).value)
