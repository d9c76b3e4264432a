"""Scalar expressions of the language (floor 5; language.md 8): selection, division, conversion, constants, math."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Kind, fail
from tilewright.intrin.math import FAST, MATH
from tilewright.ir import build, expr
from tilewright.ir.expr import Expr, Op, Rounding, as_expr, binary, call, const, maximum, minimum, parse_dtype, select, var
from tilewright.ir.stmt import ReduceKind, ReduceLoop
from tilewright.language.alloc import check_range
from tilewright.ops.operand import as_region
from tilewright.spans import span_of_caller

Number = (int, float)


def if_then_else(condition: Any, if_true: Any, if_false: Any) -> Any:
    """`if_true` where the condition holds, else `if_false`; only the taken side is evaluated, so it protects loads.

    The dtype is the one that both have together, whichever is taken. Where Python knows the condition, two values that are both no expressions
    stay what they are.
    """
    if isinstance(condition, (bool, np.bool_)) and not any(isinstance(value, Expr) or hasattr(value, "as_expression") for value in (if_true, if_false)):
        return if_true if condition else if_false
    return select(condition, if_true, if_false, is_lazy=True)


def Select(condition: Any, if_true: Any, if_false: Any) -> Expr:
    """Like `if_then_else`, but both sides are evaluated."""
    return select(condition, if_true, if_false)


def max(left: Any, right: Any) -> Any:
    """The greater of two values; of a NaN and a number, the number. Two Python numbers give a Python number."""
    return _extreme(builtins.max, left, right) if isinstance(left, Number) and isinstance(right, Number) else maximum(left, right)


def min(left: Any, right: Any) -> Any:
    """The lesser of two values; of a NaN and a number, the number. Two Python numbers give a Python number."""
    return _extreme(builtins.min, left, right) if isinstance(left, Number) and isinstance(right, Number) else minimum(left, right)


def _extreme(choose: Callable[..., Any], left: int | float, right: int | float) -> int | float:
    """A float where either number is one, as promotion has it for expressions."""
    return float(choose(left, right)) if isinstance(left, float) or isinstance(right, float) else int(choose(left, right))


def ceildiv(left: Any, right: Any) -> Any:
    """The integer quotient rounded up."""
    return expr.ceildiv(left, right)


cdiv = ceildiv


def align_up(value: Any, multiple: Any) -> Any:
    """The least multiple that is not below the value."""
    return ceildiv(value, multiple) * multiple


def floordiv(left: Any, right: Any) -> Any:
    """The quotient rounded down."""
    return left // right if isinstance(left, int) and isinstance(right, int) and right != 0 else binary(Op.FLOORDIV, left, right)


def floormod(left: Any, right: Any) -> Any:
    """The remainder with the sign of the divisor."""
    return left % right if isinstance(left, int) and isinstance(right, int) and right != 0 else binary(Op.FLOORMOD, left, right)


def truncdiv(left: Any, right: Any) -> Expr:
    """C's integer quotient, rounded toward zero."""
    return binary(Op.TRUNCDIV, left, right)


def truncmod(left: Any, right: Any) -> Expr:
    """C's remainder, with the sign of the dividend."""
    return binary(Op.TRUNCMOD, left, right)


def clamp(value: Any, low: Any, high: Any) -> Any:
    """The value moved into [low, high]."""
    return min(max(value, low), high)


def infinity(dtype: Any) -> Expr:
    """Positive infinity of a float dtype that has one."""
    kind = parse_dtype(dtype)
    if not kind.has_infinity:
        fail(Kind.VALUE_RANGE, f"{kind!s} has no infinity", span_of_caller(), because="only IEEE-like float dtypes do", help=f"use T.max_value('{kind!s}')")
    return const(float("inf"), kind)


def max_value(dtype: Any) -> Expr:
    """The greatest finite value."""
    kind = parse_dtype(dtype)
    return const(kind.maximum, kind)


def min_value(dtype: Any) -> Expr:
    """The least finite value."""
    kind = parse_dtype(dtype)
    return const(kind.minimum, kind)


def cast(value: Any, dtype: Any, round: str = "", sat: bool | None = None, rbits: Any = None) -> Expr:
    """The value converted to `dtype`.

    round   "" or "rn" to nearest even, "rz" toward zero, "ru" up, "rd" down; for floats into narrower floats.
    sat     True: numbers beyond the range of a float dtype, infinities too, become its greatest or least value. Otherwise they become infinity,
            or NaN where it has none, as everywhere else in the language.
    rbits   random bits for stochastic rounding, which no CPU has.
    """
    kind, span = parse_dtype(dtype), span_of_caller()
    if round not in ("", *(r.value for r in Rounding)):
        fail(
            Kind.ROUNDING_MODE,
            f"there is no rounding mode {round!r}",
            span,
            because='known are "rn", "rz", "ru" and "rd"',
            help="leave it out to round to nearest even",
        )
    if rbits is not None:
        fail(
            Kind.ROUNDING_MODE,
            "T.cast was given random bits",
            span,
            because="stochastic rounding is an instruction of some GPUs; conversions here round to nearest even, up, down or toward zero",
            help='leave rbits out, or add the noise before the conversion and round with "rz"',
        )
    mode = Rounding(round) if round else Rounding.NEAREST_EVEN
    if isinstance(value, (int, float)) and not isinstance(value, bool) and mode is Rounding.NEAREST_EVEN and kind.is_integer and isinstance(value, int):
        check_range(value, kind, span, "the constant")
    operand = as_expr(value, dtypes.float32 if isinstance(value, float) else None)
    if sat and kind.is_float and operand.dtype.is_float and operand.dtype.scalar.maximum > kind.scalar.maximum:
        # NaN fails both comparisons and stays.
        for limit, is_beyond in ((kind.scalar.maximum, Op.GT), (kind.scalar.minimum, Op.LT)):
            bound = expr.cast(const(limit, operand.dtype.scalar), operand.dtype)
            operand = select(binary(is_beyond, operand, bound), bound, operand)
    return expr.convert(operand, kind, mode)


def Cast(dtype: Any, value: Any) -> Expr:
    """`T.cast` with the arguments the other way round."""
    return cast(value, dtype)


def reinterpret(value: Any, dtype: Any) -> Expr:
    """The same bits as another dtype of equal width; `T.reinterpret(dtype, x)` is accepted too."""
    if isinstance(value, (str, DType)):
        value, dtype = dtype, value
    return expr.reinterpret(value, parse_dtype(dtype))


def shift_left(left: Any, right: Any) -> Expr:
    return binary(Op.SHIFT_LEFT, left, right)


def shift_right(left: Any, right: Any) -> Expr:
    return binary(Op.SHIFT_RIGHT, left, right)


def bitwise_and(left: Any, right: Any) -> Expr:
    return binary(Op.BIT_AND, left, right)


def bitwise_or(left: Any, right: Any) -> Expr:
    return binary(Op.BIT_OR, left, right)


def bitwise_xor(left: Any, right: Any) -> Expr:
    return binary(Op.BIT_XOR, left, right)


def bitwise_not(value: Any) -> Expr:
    return expr.unary(Op.BIT_NOT, value)


def likely(condition: Any) -> Any:
    """A hint that a condition usually holds; the condition itself."""
    return condition


def index_to_coordinates(position: Any, shape: Any) -> list[Any]:
    """The row-major coordinates of a flat index."""
    if not isinstance(shape, (tuple, list)):
        fail(
            Kind.SHAPE_VALUE,
            f"the shape of T.index_to_coordinates is {expr.describe_operand(shape)}",
            span_of_caller(),
            because="it gives one coordinate per dimension of a shape",
            help="write a tuple, as in T.index_to_coordinates(i, (m, n))",
        )
    coordinates: list[Any] = []
    for extent in reversed(shape):
        coordinates.append(floormod(position, extent))
        position = floordiv(position, extent)
    return coordinates[::-1]


def any_of(buffer: Any) -> Expr:
    """Whether any element of a tile or region is not zero."""
    return _every(buffer, ReduceKind.BIT_OR, "any_of")


def all_of(buffer: Any) -> Expr:
    """Whether all elements of a tile or region are not zero."""
    return _every(buffer, ReduceKind.BIT_AND, "all_of")


def _every(buffer: Any, kind: ReduceKind, name: str) -> Expr:
    builder = build.current()
    span = builder.here()
    region = as_region(buffer, f"the argument of T.{name}", span)
    count = const(1)
    for extent in region.extents:
        count = count * extent
    flat, rest = var("r"), None
    at: list[Expr] = []
    rest = flat
    for start, extent in zip(reversed(region.starts), reversed(region.extents), strict=True):
        at.append(start + (rest % extent if len(at) < len(region.starts) - 1 else rest))
        rest = rest // extent
    element = expr.load(region.buffer, tuple(reversed(at)))
    result = var(name, dtypes.bool_)
    is_set = binary(Op.NE, element, const(0, element.dtype)) if not element.dtype.is_bool else element
    builder.emit(ReduceLoop(span, result, kind, const(kind is ReduceKind.BIT_AND), flat, count, is_set))
    return result


def _float_operand(value: Any, name: str) -> Expr:
    operand = as_expr(value)
    if operand.dtype.is_float:
        return operand
    if operand.dtype.is_integer or operand.dtype.is_bool:
        return expr.cast(operand, dtypes.float32)
    fail(
        Kind.MATH_DTYPE,
        f"T.{name} was given `{operand}`, which is {operand.dtype!s}",
        span_of_caller(),
        because="math functions take numbers",
        help="convert it to a float dtype",
    )


def _math(name: str, public: str | None = None) -> Callable[..., Expr]:
    """The function of the language for one intrinsic on floats: operands are promoted to one float dtype."""
    intrinsic = MATH[name] if public is None else FAST[name]

    def function(*operands: Any) -> Expr:
        if len(operands) != intrinsic.arity:
            fail(
                Kind.MISSING_ARGUMENT,
                f"T.{public or name} takes {intrinsic.arity} argument{'s' * (intrinsic.arity != 1)}, but got {len(operands)}",
                span_of_caller(),
                because="math functions have a fixed number of arguments",
                help=f"write T.{public or name}({', '.join('xyz'[: intrinsic.arity])})",
            )
        values = [_float_operand(o, public or name) for o in operands]
        common = values[0].dtype
        for v in values[1:]:
            common = dtypes.promote(common, v.dtype)
        return call(intrinsic, *(expr.cast(v, common) for v in values))

    function.__name__ = function.__qualname__ = public or name
    function.__doc__ = f"`{name}` of floats; integers are converted to float32 first."
    return function


exp, exp2, exp10, log, log2, log10, log1p = (_math(n) for n in ("exp", "exp2", "exp10", "log", "log2", "log10", "log1p"))
sin, cos, tan, asin, acos, atan = (_math(n) for n in ("sin", "cos", "tan", "asin", "acos", "atan"))
sinh, cosh, tanh, asinh, acosh, atanh = (_math(n) for n in ("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"))
sqrt, rsqrt, erf, sigmoid = (_math(n) for n in ("sqrt", "rsqrt", "erf", "sigmoid"))
pow, fmod, atan2, hypot, copysign, nextafter = (_math(n) for n in ("pow", "fmod", "atan2", "hypot", "copysign", "nextafter"))
isnan, isinf, isfinite = (_math(n) for n in ("isnan", "isinf", "isfinite"))
# The fast forms differ from the plain ones only where a GPU has approximate instructions.
__exp, __exp10, __log, __log2, __log10, __sin, __cos, __tan = (_math(n, f"__{n}") for n in ("exp", "exp10", "log", "log2", "log10", "sin", "cos", "tan"))


def _rounding(name: str) -> Callable[[Any], Any]:
    """A function to whole numbers: of floats; integers stay what they are."""
    of_float = _math(name)

    def function(value: Any) -> Any:
        operand = as_expr(value)
        return operand if operand.dtype.is_integer else of_float(operand)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name}` to a whole number, as a float."
    return function


floor, ceil, trunc, nearbyint = (_rounding(n) for n in ("floor", "ceil", "trunc", "nearbyint"))
_round_even, _round_away = _rounding("round"), _rounding("round_away")


def round(value: Any, rounding_mode: str = "ties-to-even") -> Any:
    """To the nearest whole number; halves to the even one, or away from zero with rounding_mode="ties-away-from-zero"."""
    if rounding_mode not in ("ties-to-even", "ties-away-from-zero"):
        fail(
            Kind.ROUNDING_MODE,
            f"there is no rounding mode {rounding_mode!r}",
            span_of_caller(),
            because='known are "ties-to-even" and "ties-away-from-zero"',
            help="leave it out for ties-to-even",
        )
    return (_round_even if rounding_mode == "ties-to-even" else _round_away)(value)


def abs(value: Any) -> Any:
    """The absolute value."""
    return value.__abs__() if isinstance(value, (int, float)) else as_expr(value).__abs__()


def ldexp(value: Any, exponent: Any) -> Expr:
    """value * 2**exponent; the exponent is an integer."""
    power = as_expr(exponent)
    if not power.dtype.is_integer:
        fail(
            Kind.MATH_DTYPE,
            f"the exponent of T.ldexp is `{power}`, which is {power.dtype!s}",
            span_of_caller(),
            because="it multiplies by a whole power of two",
            help="write x * T.exp2(y) for a float y",
        )
    return call(MATH["ldexp"], _float_operand(value, "ldexp"), expr.cast(power, dtypes.int32))


def _bits(name: str) -> Callable[[Any], Expr]:
    def function(value: Any) -> Expr:
        operand = as_expr(value)
        if not operand.dtype.is_integer:
            fail(
                Kind.MATH_DTYPE,
                f"T.{name} was given `{operand}`, which is {operand.dtype!s}",
                span_of_caller(),
                because="bits are counted in integers",
                help="look at the bits with T.reinterpret(x, 'uint32')",
            )
        return call(MATH[name], operand)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name}` of an integer, as int32."
    return function


popcount, clz = _bits("popcount"), _bits("clz")


def _ieee(name: str) -> Callable[..., Expr]:
    def function(*operands: Any, rounding: str = "rn") -> Expr:
        if operands and isinstance(operands[-1], str):
            *rest, rounding = operands
            operands = tuple(rest)
        found = MATH.get(f"{name}_{rounding}") if isinstance(rounding, str) else None
        if found is None:
            fail(
                Kind.ROUNDING_MODE,
                f"T.{name} has no rounding mode {rounding!r}",
                span_of_caller(),
                because='known are "rn", "rz", "ru" and "rd"',
                help='leave it out for "rn"',
            )
        if len(operands) != found.arity:
            fail(
                Kind.MISSING_ARGUMENT,
                f"T.{name} takes {found.arity} number{'s' * (found.arity != 1)}, but got {len(operands)}",
                span_of_caller(),
                because="the rounding mode comes last, and is a string",
                help=f'write T.{name}({", ".join("xyz"[: found.arity])}, "rn")',
            )
        values = [_float_operand(o, name) for o in operands]
        common = values[0].dtype
        for v in values[1:]:
            common = dtypes.promote(common, v.dtype)
        if common.bits < 32 and rounding != "rn":
            fail(
                Kind.ROUNDING_MODE,
                f"T.{name} of {common!s} with rounding {rounding!r}",
                span_of_caller(),
                because="16-bit floats round to nearest even only",
                help="convert to float32 first",
            )
        return call(found, *(expr.cast(v, common) for v in values))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f'`{name}` with an explicit rounding mode: "rn", "rz", "ru" or "rd".'
    return function


ieee_add, ieee_sub, ieee_mul, ieee_fmaf, ieee_frcp, ieee_fsqrt, ieee_fdiv = (
    _ieee(n) for n in ("ieee_add", "ieee_sub", "ieee_mul", "ieee_fmaf", "ieee_frcp", "ieee_fsqrt", "ieee_fdiv")
)
ieee_frsqrt = _ieee("ieee_frsqrt")


def fast_rcp(value: Any) -> Expr:
    """1 / value."""
    return expr.divide(1.0, _float_operand(value, "fast_rcp"))


def isnullptr(pointer: Any) -> Expr:
    """Whether a T.ptr parameter is null."""
    address = as_expr(pointer)
    if address.dtype != dtypes.handle:
        fail(
            Kind.OPERAND_KIND,
            f"T.isnullptr was given `{address}`, which is {address.dtype!s}",
            span_of_caller(),
            because="only a T.ptr parameter is an address",
            help="compare a number with 0",
        )
    return binary(Op.EQ, address, const(0, dtypes.handle))


def evaluate(value: Any) -> None:
    """An expression as a statement: evaluated where it has an effect."""


__all__ = [
    "Cast",
    "Select",
    "__cos",
    "__exp",
    "__exp10",
    "__log",
    "__log2",
    "__log10",
    "__sin",
    "__tan",
    "abs",
    "acos",
    "acosh",
    "align_up",
    "all_of",
    "any_of",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "cast",
    "cdiv",
    "ceil",
    "ceildiv",
    "clamp",
    "clz",
    "copysign",
    "cos",
    "cosh",
    "erf",
    "evaluate",
    "exp",
    "exp2",
    "exp10",
    "fast_rcp",
    "floor",
    "floordiv",
    "floormod",
    "fmod",
    "hypot",
    "ieee_add",
    "ieee_fdiv",
    "ieee_fmaf",
    "ieee_frcp",
    "ieee_frsqrt",
    "ieee_fsqrt",
    "ieee_mul",
    "ieee_sub",
    "if_then_else",
    "index_to_coordinates",
    "infinity",
    "isfinite",
    "isinf",
    "isnan",
    "isnullptr",
    "ldexp",
    "likely",
    "log",
    "log1p",
    "log2",
    "log10",
    "max",
    "max_value",
    "min",
    "min_value",
    "nearbyint",
    "nextafter",
    "popcount",
    "pow",
    "reinterpret",
    "round",
    "rsqrt",
    "shift_left",
    "shift_right",
    "sigmoid",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "truncdiv",
    "truncmod",
]
