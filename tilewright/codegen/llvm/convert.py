"""Conversions between all element types, bit for bit as numpy and ml_dtypes do them (floor 6).

Values in flight ("value form", `register_type`):

    bool                       i1
    intN, uintN (N >= 8)       iN
    int4, uint4                i8, sign- or zero-extended
    float64                    double
    every other float          float, already rounded to its dtype

so arithmetic on float16 is float arithmetic followed by `round_to(float16)`. Memory holds the "storage form" (`storage_type`): the dtype's own
bits as an integer (float and double for the wide ones, i8 for bool; for 4-bit types an i8 whose low nibble counts). `from_storage` and
`to_storage` go between the two forms.

No conversion ends in a library call: half floats use the F16C instructions where the target has them, everything else is integer and float
arithmetic on vectors.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from tilewright import dtypes
from tilewright.codegen.float_format import HALF_BIAS, FloatFormat, float_format, is_power_format
from tilewright.codegen.llvm.emitter import Function, Value, vector_type
from tilewright.codegen.llvm.term import Scope, Term
from tilewright.dtypes import DType, DTypeKind
from tilewright.ir.expr import Rounding
from tilewright.target.cpu import Feature

_EXPONENT_MASK = 0x7F800000  # of float32
_FLOAT32_BIAS = 127
_HALF_MANTISSA_BITS = 10
_FLOAT32_MAXIMUM = float(np.finfo(np.float32).max)


def register_type(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of values in flight."""
    if dtype.is_bool:
        return vector_type("i1", lanes)
    if dtype.is_float:
        return vector_type("double" if dtype.bits == 64 else "float", lanes)
    return vector_type(f"i{max(8, dtype.bits)}", lanes)


def storage_type(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type that loads and stores use."""
    if dtype.is_float and dtype.bits >= 32:
        return register_type(dtype, lanes)
    return vector_type(f"i{max(8, dtype.bits)}", lanes)


def from_storage(f: Function, bits_value: Value, dtype: DType, features: frozenset[Feature]) -> Value:
    """The value form of what was loaded."""
    x = Scope(f, features)(bits_value)
    if dtype.is_bool:
        return x.differs(0).value
    if dtype.is_float and dtype.bits < 32:
        return _float_of_code(x, dtype).value
    return _wrap_nibble(x, dtype).value


def to_storage(f: Function, value: Value, dtype: DType, features: frozenset[Feature]) -> Value:
    """What to store for a value form. Floats must already be rounded to the dtype, as every value form is."""
    x = Scope(f, features)(value)
    if dtype.is_bool:
        return x.convert("zext", "i8").value
    if dtype.is_float and dtype.bits < 32:
        return _code_of_float(x, dtype).value
    return (x & 15).value if dtype.is_packed else value


def round_to(f: Function, value: Value, dtype: DType, features: frozenset[Feature], rounding: Rounding = Rounding.NEAREST_EVEN) -> Value:
    """A float or double as the value form of the float `dtype`; beyond its range infinity or NaN, as ml_dtypes has it."""
    return _round_term(Scope(f, features)(value), dtype, rounding).value


def convert(
    f: Function,
    value: Value,
    source: DType,
    target: DType,
    features: frozenset[Feature],
    rounding: Rounding = Rounding.NEAREST_EVEN,
    is_saturating: bool = False,
) -> Value:
    """`value`, the value form of `source`, as the value form of `target`.

    Floats round as asked; float to integer truncates, saturates and gives 0 for NaN; integers wrap; to bool means `!= 0`. With `is_saturating`
    integers clamp instead of wrapping, and floats beyond the range of the target, infinities too, become its largest finite value.
    """
    source, target = (dtypes.uint64 if d.kind is DTypeKind.HANDLE else d.scalar for d in (source, target))  # an address is its number
    x = Scope(f, features)(value)
    if source == target:
        return value
    if target.is_bool:
        return x.differs(0.0 if source.is_float else 0).value
    if not source.is_float and not target.is_float:
        return _integer_of_integer(x, source, target, is_saturating).value
    if not target.is_float:
        return _integer_of_float(x, target).value
    if _is_exact(source, target) and not is_saturating:
        return (x if source.is_float else _float_of_integer(x, source, "float")).value
    if not source.is_float:
        x = _float_of_integer(
            x,
            source,
            "double" if target.bits == 64 or rounding is not Rounding.NEAREST_EVEN else "float",
            to_odd=target.bits < 64 and rounding is not Rounding.NEAREST_EVEN,
        )
    if target.bits == 64:
        return x.convert("fpext", "double").value
    if is_saturating:
        x = x.clamp(float(target.minimum), float(target.maximum))
    return _round_term(x, target, rounding).value


@functools.cache
def _is_exact(source: DType, target: DType) -> bool:
    """Every value of the source, held as a float, is a value of the target, held as a float."""
    if not target.is_float or target.bits == 64 or source.bits > 16 or (source.bits == 16 and target.bits < 32):
        return False
    if target.bits == 32:
        return True
    codes = np.arange(1 << source.bits).astype(np.uint8)
    with np.errstate(all="ignore"):
        values = (codes.view(source.numpy) if source.is_float else codes.astype(source.numpy)).astype(np.float32)
        return bool(np.array_equal(values.astype(target.numpy).astype(np.float32).view(np.uint32), values.view(np.uint32)))


# -- integers


def _wrap_nibble(x: Term, dtype: DType) -> Term:
    """The low four bits extended to the value form; other dtypes pass."""
    if not dtype.is_packed:
        return x
    return (x << 4) >> 4 if dtype.is_signed else x & 15


def _integer_of_integer(x: Term, source: DType, target: DType, is_saturating: bool) -> Term:
    if is_saturating:
        x = _clamp_integer(x, source, target)
    width = max(8, target.bits)
    if width > x.width_bits:
        x = x.convert("sext" if source.is_signed else "zext", f"i{width}")
    elif width < x.width_bits:
        x = x.convert("trunc", f"i{width}")
    return _wrap_nibble(x, target)


def _clamp_integer(x: Term, source: DType, target: DType) -> Term:
    is_above, is_below = ("icmp sgt", "icmp slt") if source.is_signed else ("icmp ugt", "icmp ult")
    function = x.scope.function
    for bound, comparison in ((target.maximum, is_above), (target.minimum, is_below)):
        if source.minimum <= bound <= source.maximum:
            limit = x.operand(int(bound))
            x = x.scope(function.compare(comparison, x.value, limit.value)).select(limit, x)
    return x


def _float_of_integer(x: Term, source: DType, element: str, to_odd: bool = False) -> Term:
    """Rounded to nearest; `to_odd` makes a double that later roundings, in any direction, take for the exact integer."""
    if to_odd and source.bits == 64:
        # 11 bits more than a double holds: any of them that is set is kept as the lowest bit that stays.
        sticky = (x | ((x & 0x7FF) + 0x7FF)) & ~0x7FF
        is_long = ((x + (1 << 53)).shift_right_logical(54) if source.is_signed else x.shift_right_logical(53)).differs(0)
        x = is_long.select(sticky, x)
    return x.convert("sitofp" if source.is_signed else "uitofp", element)


def _integer_of_float(x: Term, target: DType) -> Term:
    width = max(32, target.bits)
    is_signed = target.is_signed or target.bits < 32
    low, high = int(target.minimum), int(target.maximum)
    bound = float(high)
    precision = x.mantissa_bits + 1
    if high.bit_length() > precision:  # the largest float that is still inside
        bound = float(high >> (high.bit_length() - precision) << (high.bit_length() - precision))
    result = x.clamp(float(low), bound).convert("fptosi" if is_signed else "fptoui", f"i{width}")
    if bound != high:
        result = (x > bound).select(high, result)
    result = x.is_nan().select(0, result)
    return result.convert("trunc", f"i{max(8, target.bits)}")


# -- rounding floats


def _round_term(x: Term, dtype: DType, rounding: Rounding) -> Term:
    is_nearest = rounding is Rounding.NEAREST_EVEN
    if dtype.bits == 64:
        return x.convert("fpext", "double")
    if x.element == "double":
        if dtype.bits == 32 and not is_nearest:
            return _float32_directed(x, rounding)
        # ml_dtypes goes through float32 and rounds twice; numpy's float16 rounds once.
        x = _float32_to_odd(x) if dtype.bits < 32 and (dtype == "float16" or not is_nearest) else x.convert("fptrunc", "float")
    if dtype.bits == 32:
        return x
    if dtype == "bfloat16":
        return _round_to_bfloat16(x, rounding)
    if is_power_format(dtype):
        return _round_to_power(x)
    if dtype == "float16" and is_nearest and x.scope.has(Feature.F16C):
        return x.convert("fptrunc", "half").convert("fpext", "float")
    format_ = float_format(dtype)
    return _round_nearest(x, format_) if is_nearest else _round_directed(x, format_, rounding)


def _float32_to_odd(x: Term) -> Term:
    """A double as float32: exact, or the neighbour with an odd last bit, so that a second rounding cannot go wrong (Boldo and Melquiond 2008)."""
    nearest = x.convert("fptrunc", "float")
    back = nearest.convert("fpext", "double")
    is_moved = ((back < x) | (back > x)) & (nearest.bits() & 1).equals(0)
    step = (back.abs() < x.abs()).select(nearest.bits().operand(1), -1)
    return (nearest.bits() + is_moved.select(step, 0)).as_float()


def _float32_directed(x: Term, rounding: Rounding) -> Term:
    nearest = x.convert("fptrunc", "float")
    back = nearest.convert("fpext", "double")
    bits = nearest.bits()
    away = (bits >> 31) | 1  # added to the bits: one step up; negated: one step down
    match rounding:
        case Rounding.TOWARD_ZERO:
            is_wrong, step = back.abs() > x.abs(), bits.operand(-1)
        case Rounding.UP:
            is_wrong, step = back < x, away
        case _:
            is_wrong, step = back > x, -away
    # Nearest gave a zero on the wrong side of x only with the sign of x, so a step from it stays on that side; nothing steps across zero.
    return (bits + is_wrong.select(step, 0)).as_float()


def _round_to_bfloat16(x: Term, rounding: Rounding) -> Term:
    bits = x.bits()
    match rounding:
        case Rounding.NEAREST_EVEN:
            rounded = bits + ((bits.shift_right_logical(16) & 1) + 0x7FFF)
        case Rounding.TOWARD_ZERO:
            rounded = bits
        case Rounding.UP:
            rounded = bits + (~(bits >> 31) & 0xFFFF)
        case Rounding.DOWN:
            rounded = bits + ((bits >> 31) & 0xFFFF)
    return x.is_nan().select(bits | 0x400000, rounded).__and__(-0x10000).as_float()


def _round_to_power(x: Term) -> Term:
    """float8_e8m0fnu, whatever the rounding mode: to the nearest power of two, ties up; what is not positive has no code and becomes NaN."""
    smallest = 2.0**-_FLOAT32_BIAS
    rounded = ((x.bits() + 0x400000) & _EXPONENT_MASK).as_float()
    rounded = (x <= smallest).select(smallest, rounded)
    is_in_range = (x > 0.0) & (rounded < math.inf)
    return is_in_range.select(rounded, math.nan)


def _binade(x: Term, format_: FloatFormat) -> Term:
    """The power of two at or below |x|, at least that of the format's smallest normal number."""
    power = (x.bits() & _EXPONENT_MASK).as_float()
    smallest = 2.0**format_.smallest_exponent
    return (power > smallest).select(power, smallest)


def _round_on_grid(x: Term, power: Term, format_: FloatFormat) -> Term:
    """x to the nearest even multiple of the format's step in that binade: added to an anchor so large that its own last bit is the step."""
    anchor = power * (1.5 * 2.0 ** (23 - format_.mantissa_bits))
    return (x + anchor) - anchor


def _round_nearest(x: Term, format_: FloatFormat) -> Term:
    bound, is_bound_inside = format_.overflow_bound
    is_clamping = not format_.has_nan and not format_.has_infinity  # float4_e2m1fn
    inside = x.clamp(-format_.maximum, format_.maximum) if is_clamping else x
    result = _round_on_grid(inside, _binade(inside, format_), format_)
    if format_.has_negative_zero:
        result = result.with_sign_of(x)
    if is_clamping:
        return x.is_nan().select(0.0, result)  # there is no NaN to give
    magnitude = x.abs()
    is_over = magnitude > bound if is_bound_inside else magnitude >= bound
    return is_over.select(x.operand(math.inf).with_sign_of(x) if format_.has_infinity else math.nan, result)


def _round_directed(x: Term, format_: FloatFormat, rounding: Rounding) -> Term:
    """Nearest on the grid, then one step back where that went the wrong way."""
    over = 2.0 ** math.frexp(format_.maximum)[1]
    inside = x.clamp(-over, over)
    power = _binade(inside, format_)
    nearest = _round_on_grid(inside, power, format_)
    step = power * 2.0**-format_.mantissa_bits
    beyond = x.operand(math.inf if format_.has_infinity else math.nan)
    maximum = x.operand(format_.maximum)
    match rounding:
        case Rounding.TOWARD_ZERO:
            result = (nearest.abs() > inside.abs()).select(nearest - step.with_sign_of(x), nearest)
            overflow = maximum
        case Rounding.UP:
            result = (nearest < inside).select(nearest + step, nearest)
            overflow = (x > 0.0).select(beyond, maximum)
        case _:
            result = (nearest > inside).select(nearest - step, nearest)
            overflow = (x > 0.0).select(maximum, beyond)
    is_infinite = x.abs().equals(math.inf)
    result = (result.abs() > format_.maximum).select(is_infinite.select(beyond, overflow).with_sign_of(x), result)
    if not format_.has_nan:
        result = x.is_nan().select(0.0, result)
    return result.with_sign_of(x) if format_.has_negative_zero else result + 0.0


# -- storage forms of narrow floats


def _float_of_code(code: Term, dtype: DType) -> Term:
    if dtype == "bfloat16":
        return (code.convert("zext", "i32") << 16).as_float()
    if is_power_format(dtype):
        wide = code.convert("zext", "i32")
        shifted = wide.equals(0).select(1 << 22, wide << 23)  # code 0 is 2**-127, below float32's normal numbers
        return wide.equals(255).select(math.nan, shifted.as_float())
    format_ = float_format(dtype)
    is_by_half = code.scope.has(Feature.F16C) and format_.fits_half
    if dtype == "float16" and is_by_half:
        return code.as_float().convert("fpext", "float")
    wide = code.convert("zext", "i16" if is_by_half else "i32")
    magnitude = wide & (format_.sign_bit - 1)
    sign = (wide & format_.sign_bit) << (wide.width_bits - dtype.bits)
    # The code, shifted to where half or float has its fields, is the number but for the difference of the biases; subnormals too.
    mantissa_bits, bias = (_HALF_MANTISSA_BITS, HALF_BIAS) if is_by_half else (23, _FLOAT32_BIAS)
    result = ((magnitude << (mantissa_bits - format_.mantissa_bits)) | sign).as_float().convert("fpext", "float")
    if is_by_half and format_.is_half_prefix:
        return result
    result = result * 2.0 ** (bias - format_.bias)
    if format_.has_infinity:
        is_special = magnitude >= format_.infinity_code
        special = (magnitude.equals(format_.infinity_code)).select(result.operand(math.inf), math.nan)
        return is_special.select(special.with_sign_of(result), result)
    if not format_.has_nan:
        return result
    if format_.has_negative_zero:
        return magnitude.equals(format_.nan_code).select(result.operand(math.nan).with_sign_of(result), result)
    negative_nan = result.operand(math.nan).with_sign_of(result.operand(-1.0))
    return wide.equals(format_.nan_code).select(negative_nan, result)  # the code that is -0 elsewhere


def _code_of_float(x: Term, dtype: DType) -> Term:
    if dtype == "bfloat16":
        return x.bits().shift_right_logical(16).convert("trunc", "i16")
    if is_power_format(dtype):
        code = x.bits().shift_right_logical(23)  # 2**-127 is subnormal: field 0, as its code
        return x.is_nan().select(255, code).convert("trunc", "i8")
    format_ = float_format(dtype)
    is_by_half = x.scope.has(Feature.F16C) and format_.fits_half
    if dtype == "float16" and is_by_half:
        return x.convert("fptrunc", "half").bits()
    mantissa_bits, bias = (_HALF_MANTISSA_BITS, HALF_BIAS) if is_by_half else (23, _FLOAT32_BIAS)
    scaled = x if bias == format_.bias else x * 2.0 ** (format_.bias - bias)
    raw = (scaled.convert("fptrunc", "half") if is_by_half else scaled).bits()
    if is_by_half and format_.is_half_prefix:
        return raw.shift_right_logical(_HALF_MANTISSA_BITS - format_.mantissa_bits).convert("trunc", "i8")
    element = f"i{max(8, dtype.bits)}"
    magnitude = raw.shift_right_logical(mantissa_bits - format_.mantissa_bits) & (format_.sign_bit - 1)
    sign = raw.shift_right_logical(raw.width_bits - dtype.bits) & format_.sign_bit
    if format_.has_infinity:
        magnitude = x.abs().equals(math.inf).select(format_.infinity_code, magnitude)
    if format_.has_nan and format_.has_negative_zero:
        magnitude = x.is_nan().select(format_.nan_code, magnitude)
    code = magnitude | sign
    if format_.has_nan and not format_.has_negative_zero:
        code = x.is_nan().select(format_.nan_code, code)
    return code.convert("trunc", element)
