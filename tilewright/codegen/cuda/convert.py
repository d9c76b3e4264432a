"""Conversions between element types as CUDA C++, equal to numpy's and ml_dtypes' bit for bit, NaNs' signs and payloads aside (floor 6).

Hardware `cvt` where its result is that; else arithmetic on the bits of a float32. Sources: PTX ISA 9.0, "Data Movement and Conversion Instructions: cvt";
the formats are read off ml_dtypes.
"""

from __future__ import annotations

import math

from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.prelude import Helper, Prelude
from tilewright.codegen.cfamily.text import Text, atom, call, cast, infix
from tilewright.codegen.float_format import FloatFormat, float_format, is_power_format
from tilewright.dtypes import DType, DTypeKind
from tilewright.errors import CompilerBug
from tilewright.ir.expr import Rounding
from tilewright.target.nvidia import Feature, NvidiaTarget

FUNCTION = "static __device__ __forceinline__"
_FLOAT32_BIAS = 127
_FLOAT32_MANTISSA_BITS = 23
_PTX_ROUNDING = {Rounding.NEAREST_EVEN: "rn", Rounding.TOWARD_ZERO: "rz", Rounding.UP: "rp", Rounding.DOWN: "rm"}
# Names of CUDA's conversions that round as asked, by the integer's bits and whether it is signed.
_INTEGER_NAMES = {(32, True): "int", (32, False): "uint", (64, True): "ll", (64, False): "ull"}
# The suffix of PTX instructions on pairs of 8-bit floats.
_PAIRED = {"float8_e4m3fn": "e4m3x2", "float8_e5m2": "e5m2x2"}


class Conversions:
    """Conversions for one target; the helpers they need go to the prelude."""

    def __init__(self, target: NvidiaTarget, prelude: Prelude) -> None:
        self.target, self.prelude = target, prelude

    # -- storage forms
    def from_storage(self, code: Text, dtype: DType) -> Text:
        """The value form of what was loaded; of packed dtypes the nibble, already in the low bits of an integer and extended for int4."""
        if dtype.is_bool:
            return infix("!=", code, atom("0"))
        return self.prelude.call(self._decoder(dtype), code) if types.is_coded(dtype) else code

    def to_storage(self, value: Text, dtype: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Text:
        """What to store for a float, which need not be rounded to the dtype yet, or for any other value form."""
        if dtype.is_bool:
            return cast("unsigned char", value)
        return self.prelude.call(self._encoder(dtype, rounding), value) if types.is_coded(dtype) else value

    def round_to(self, value: Text, dtype: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Text:
        """A float as the value form of a float dtype."""
        return self.from_storage(self.to_storage(value, dtype, rounding), dtype) if types.is_coded(dtype) else value

    # -- conversions of value forms
    def unrounded(self, value: Text, source: DType, target: DType, rounding: Rounding) -> Text:
        """`value` as a float that `to_storage` or `round_to` rounds to the float `target` as if it were the source."""
        is_nearest = rounding is Rounding.NEAREST_EVEN
        if source.is_float and source.bits == 64:
            # To nearest the language goes through float32 and rounds twice.
            return cast("float", value) if is_nearest else self.prelude.call(_FLOAT_TO_ODD, value)
        if source.is_float:
            return value
        if source.is_bool or source.bits < 32:
            return cast("float", value)
        return cast("float", value) if is_nearest else self.prelude.call(_integer_to_odd(source), value)

    def convert(self, value: Text, source: DType, target: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Text:
        """The value form of `source` as that of `target`.

        Floats round as asked; float to integer truncates, saturates and gives 0 for NaN; integers wrap; to bool means `!= 0`.
        """
        if source == target:
            return value
        if DTypeKind.HANDLE in (source.kind, target.kind):
            if source.is_float or target.is_float:
                raise CompilerBug(f"a conversion from {source!s} to {target!s} was asked for")
            return cast(types.value_type(target), value)
        if target.is_bool:
            zero = types.literal(0, source) if source.is_float or source.is_integer else atom("0")
            return infix("!=", value, zero)
        if not target.is_float:
            return self._integer_of_float(value, source, target) if source.is_float else self.wrap(value, source, target)
        if types.is_coded(target):
            if source.is_float and source.bits <= 16 and _is_subset(source, target):
                return value
            return self.round_to(self.unrounded(value, source, target, rounding), target, rounding)
        if rounding is not Rounding.NEAREST_EVEN and target.bits == 32:
            if source.is_float and source.bits == 64:
                return call(f"__double2float_{rounding.value}", value)
            if source.is_integer and source.bits >= 32:
                return call(f"__{_INTEGER_NAMES[source.bits, source.is_signed]}2float_{rounding.value}", value)
        return value if types.value_type(source) == types.value_type(target) else cast(types.value_type(target), value)

    def wrap(self, value: Text, source: DType, target: DType) -> Text:
        """An integer or bool in the value form of another integer dtype."""
        if target.is_packed:
            return self.nibble(value, target)
        return value if types.value_type(source) == types.value_type(target) else cast(types.value_type(target), value)

    def nibble(self, value: Text, dtype: DType) -> Text:
        """The low four bits of an integer, extended."""
        if dtype.is_signed:
            return self.prelude.call(_SIGNED_NIBBLE, value)
        return cast("unsigned char", infix("&", value, atom("15")))

    def _integer_of_float(self, value: Text, source: DType, target: DType) -> Text:
        return self.prelude.call(_integer_of_float(source.bits == 64, target), value)

    # -- codes
    def _decoder(self, dtype: DType) -> Helper:
        if dtype == "float16":
            return _FLOAT_OF_HALF
        if dtype == "bfloat16":
            return _FLOAT_OF_BFLOAT
        if is_power_format(dtype):
            return _FLOAT_OF_POWER
        if dtype in _PAIRED and self.target.has(Feature.FP8_CONVERT):
            return _paired_decoder(dtype)
        return _decoder(dtype)

    def _encoder(self, dtype: DType, rounding: Rounding) -> Helper:
        if dtype == "float16":
            return _half_encoder(rounding)
        if dtype == "bfloat16":
            return _bfloat_encoder(rounding)
        if is_power_format(dtype):
            return _POWER_OF_FLOAT
        if dtype in _PAIRED and rounding is Rounding.NEAREST_EVEN and self.target.has(Feature.FP8_CONVERT):
            return _paired_encoder(dtype)
        return _encoder(dtype, rounding)


def _is_subset(source: DType, target: DType) -> bool:
    """Whether every value of a narrow float is one of another, by their fields; NaN and infinity count."""
    if source == target:
        return True
    if is_power_format(source) or is_power_format(target) or source.bits > 8 or target.bits != 16:
        return False
    a, b = float_format(source), float_format(target)
    return a.mantissa_bits <= b.mantissa_bits and a.smallest_exponent - a.mantissa_bits >= b.smallest_exponent - b.mantissa_bits and a.maximum <= b.maximum


# -- integers

_SIGNED_NIBBLE = Helper("tw_int4", f"{FUNCTION} signed char tw_int4(int x) {{ return (signed char)((int)((unsigned)x << 28) >> 28); }}")


def _integer_to_odd(source: DType) -> Helper:
    """Integers as floats that later roundings, in any direction, take for the exact integer: truncated, and odd where that lost something."""
    name = _INTEGER_NAMES[source.bits, source.is_signed]
    type_, wide = types.value_type(source), types.integer_type(64, is_signed=source.is_signed)
    return Helper(
        f"tw_{source!s}_to_odd",
        f"""{FUNCTION} float tw_{source!s}_to_odd({type_} x) {{
    float truncated = __{name}2float_rz(x);
    return ({wide})truncated == ({wide})x ? truncated : __uint_as_float(__float_as_uint(truncated) | 1u);
}}""",
    )


def _integer_of_float(is_double: bool, target: DType) -> Helper:
    """Truncation that saturates, NaN to 0: what cvt.rzi does, but for NaN where one side has 64 bits."""
    width = max(32, target.bits)
    is_signed = target.is_signed or target.bits < 32
    source, letter = ("double", "d") if is_double else ("float", "f")
    type_ = types.integer_type(width, is_signed=is_signed)
    result = types.value_type(target)
    name = f"tw_{target!s}_of_{source}"
    instruction = f"cvt.rzi.{'s' if is_signed else 'u'}{width}.f{64 if is_double else 32}"
    lines = [
        f"{FUNCTION} {result} {name}({source} x) {{",
        f"    {type_} i;",
        f'    asm("{instruction} %0, %1;" : "={"l" if width == 64 else "r"}"(i) : "{letter}"(x));',
    ]
    if is_double or width == 64:
        lines.append("    i = x != x ? 0 : i;")
    if target.bits < 32:
        lines.append(f"    i = min(max(i, {int(target.minimum)}), {int(target.maximum)});")
    lines += [f"    return ({result})i;" if result != type_ else "    return i;", "}"]
    return Helper(name, "\n".join(lines))


# -- floats

# Rounded to odd: truncated, and the last bit set where that lost something. A second rounding cannot go wrong then (Boldo and Melquiond 2008).
_FLOAT_TO_ODD = Helper(
    "tw_float_to_odd",
    f"""{FUNCTION} float tw_float_to_odd(double x) {{
    float truncated = __double2float_rz(x);
    return (double)truncated == x ? truncated : __uint_as_float(__float_as_uint(truncated) | 1u);
}}""",
)
_FLOAT_OF_HALF = Helper(
    "tw_float_of_float16",
    f"""{FUNCTION} float tw_float_of_float16(unsigned short code) {{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(code));
    return x;
}}""",
)
_FLOAT_OF_BFLOAT = Helper(
    "tw_float_of_bfloat16",
    f"{FUNCTION} float tw_float_of_bfloat16(unsigned short code) {{ return __uint_as_float((unsigned)code << 16); }}",
)
# Code 0 is 2**-127, below float32's normal numbers.
_FLOAT_OF_POWER = Helper(
    "tw_float_of_float8_e8m0fnu",
    f"""{FUNCTION} float tw_float_of_float8_e8m0fnu(unsigned char code) {{
    return __uint_as_float(code == 255 ? 0x7fc00000u : code == 0 ? 0x400000u : (unsigned)code << 23);
}}""",
)
# To the nearest power of two, ties up; what is not positive, or rounds beyond the last power, has no code and becomes NaN.
_POWER_OF_FLOAT = Helper(
    "tw_float8_e8m0fnu_of_float",
    f"""{FUNCTION} unsigned char tw_float8_e8m0fnu_of_float(float x) {{
    if (!(x > 0.0f)) return 255;
    unsigned code = (__float_as_uint(x) + 0x400000u) >> 23;
    return x <= __uint_as_float(0x400000u) ? 0 : (unsigned char)min(code, 255u);
}}""",
)


def _half_encoder(rounding: Rounding) -> Helper:
    name = f"tw_float16_of_float{_suffix(rounding)}"
    return Helper(
        name,
        f"""{FUNCTION} unsigned short {name}(float x) {{
    unsigned short code;
    asm("cvt.{_PTX_ROUNDING[rounding]}.f16.f32 %0, %1;" : "=h"(code) : "f"(x));
    return code;
}}""",
    )


def _bfloat_encoder(rounding: Rounding) -> Helper:
    name = f"tw_bfloat16_of_float{_suffix(rounding)}"
    if rounding in (Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO):
        return Helper(
            name,
            f"""{FUNCTION} unsigned short {name}(float x) {{
    unsigned short code;
    asm("cvt.{_PTX_ROUNDING[rounding]}.bf16.f32 %0, %1;" : "=h"(code) : "f"(x));
    return code;
}}""",
        )
    toward = "~" if rounding is Rounding.UP else ""
    return Helper(
        name,
        f"""{FUNCTION} unsigned short {name}(float x) {{
    unsigned bits = __float_as_uint(x);
    if (x != x) return (unsigned short)(bits >> 16 | 0x40u);
    return (unsigned short)((bits + ({toward}(unsigned)((int)bits >> 31) & 0xffffu)) >> 16);
}}""",
    )


def _paired_decoder(dtype: DType) -> Helper:
    name = f"tw_float_of_{dtype!s}"
    return Helper(
        name,
        f"""{FUNCTION} float {name}(unsigned char code) {{
    unsigned pair;
    float x;
    asm("cvt.rn.f16x2.{_PAIRED[dtype]} %0, %1;" : "=r"(pair) : "h"((unsigned short)code));
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((unsigned short)pair));
    return x;
}}""",
    )


def _paired_encoder(dtype: DType) -> Helper:
    """The instruction saturates; what is beyond half the last step has to become infinity or NaN."""
    name, format_ = f"tw_{dtype!s}_of_float", float_format(dtype)
    return Helper(
        name,
        f"""{FUNCTION} unsigned char {name}(float x) {{
    unsigned short code;
    asm("cvt.rn.satfinite.{_PAIRED[dtype]}.f32 %0, %1, %2;" : "=h"(code) : "f"(0.0f), "f"(x));
    if ({_is_over("fabsf(x)", format_)}) code = {_beyond(format_):#x} | (code & {format_.sign_bit:#x});
    return (unsigned char)code;
}}""",
    )


def _suffix(rounding: Rounding) -> str:
    return "" if rounding is Rounding.NEAREST_EVEN else f"_{rounding.value}"


def _constant(value: float) -> str:
    return types.float_literal(value, is_double=False).text


def _is_over(magnitude: str, format_: FloatFormat) -> str:
    bound, is_bound_inside = format_.overflow_bound
    return f"{magnitude} {'>' if is_bound_inside else '>='} {_constant(bound)}"


def _beyond(format_: FloatFormat) -> int:
    """The code, sign aside, of what is too large."""
    return format_.infinity_code if format_.has_infinity else format_.nan_code


def _decoder(dtype: DType) -> Helper:
    """The code, shifted to where a float has its fields, is the number but for the difference of the biases; subnormals too."""
    name, format_ = f"tw_float_of_{dtype!s}", float_format(dtype)
    magnitude_mask = format_.sign_bit - 1
    scale = _constant(2.0 ** (_FLOAT32_BIAS - format_.bias))
    lines = [
        f"{FUNCTION} float {name}(unsigned char code) {{",
        f"    unsigned magnitude = code & {magnitude_mask:#x}u, sign = (code & {format_.sign_bit:#x}u) << {32 - dtype.bits};",
        f"    float x = __uint_as_float(magnitude << {_FLOAT32_MANTISSA_BITS - format_.mantissa_bits} | sign) * {scale};",
    ]
    nan = "__uint_as_float(0x7fc00000u | sign)"
    if format_.has_infinity:
        lines.append(f"    if (magnitude == {format_.infinity_code:#x}u) x = __uint_as_float(0x7f800000u | sign);")
        lines.append(f"    if (magnitude > {format_.infinity_code:#x}u) x = {nan};")
    elif format_.has_nan and format_.has_negative_zero:
        lines.append(f"    if (magnitude == {format_.nan_code & magnitude_mask:#x}u) x = {nan};")
    elif format_.has_nan:
        lines.append(f"    if (code == {format_.nan_code:#x}u) x = {nan};  // the code that is -0 elsewhere")
    return Helper(name, "\n".join([*lines, "    return x;", "}"]))


def _encoder(dtype: DType, rounding: Rounding) -> Helper:
    """Rounds the magnitude on the grid of its binade, by adding an anchor so large that its own last bit is the grid's step."""
    name, format_ = f"tw_{dtype!s}_of_float{_suffix(rounding)}", float_format(dtype)
    is_clamping = not format_.has_nan and not format_.has_infinity  # float4_e2m1fn, float6_e2m3fn, float6_e3m2fn
    anchor = _constant(1.5 * 2.0 ** (_FLOAT32_MANTISSA_BITS - format_.mantissa_bits))
    smallest, largest = _constant(2.0**format_.smallest_exponent), _constant(format_.maximum)
    # Beyond this nothing has to be told apart but infinity; it keeps the anchor finite.
    limit = _constant(format_.maximum if is_clamping else 2.0 ** (math.frexp(format_.maximum)[1] + 1))
    lines = [
        f"{FUNCTION} unsigned char {name}(float x) {{",
        f"    unsigned sign = __float_as_uint(x) >> 31 << {dtype.bits - 1};",
        f"    float magnitude = fminf(fabsf(x), {limit});",
        f"    float anchor = fmaxf(__uint_as_float(__float_as_uint(magnitude) & 0x7f800000u), {smallest}) * {anchor};",
    ]
    match rounding:
        case Rounding.NEAREST_EVEN:
            sum_ = "__fadd_rn(magnitude, anchor)"
        case Rounding.TOWARD_ZERO:
            sum_ = "__fadd_rz(magnitude, anchor)"
        case _:
            lines.append(f"    bool is_outward = {'sign == 0' if rounding is Rounding.UP else 'sign != 0'};")
            sum_ = "(is_outward ? __fadd_ru(magnitude, anchor) : __fadd_rz(magnitude, anchor))"
    lines.append(f"    float rounded = __fsub_rn({sum_}, anchor);")
    if rounding is not Rounding.NEAREST_EVEN:
        is_inward = {Rounding.TOWARD_ZERO: ""}.get(rounding, "!is_outward && ")
        if is_clamping:
            lines.append(f"    rounded = fminf(rounded, {largest});")
        else:
            lines.append(f"    if ({is_inward}fabsf(x) < {_INFINITY}) rounded = fminf(rounded, {largest});")
    scale = _constant(2.0 ** (format_.bias - _FLOAT32_BIAS))
    lines.append(f"    unsigned code = __float_as_uint(rounded * {scale}) >> {_FLOAT32_MANTISSA_BITS - format_.mantissa_bits};")
    magnitude_mask = format_.sign_bit - 1
    if not is_clamping:
        over = _is_over("magnitude", format_) if rounding is Rounding.NEAREST_EVEN else f"rounded > {largest}"
        if format_.has_negative_zero:
            lines.append(f"    if ({over}) code = {_beyond(format_):#x}u;")
            lines.append(f"    if (x != x) code = {format_.nan_code & magnitude_mask:#x}u;")
        else:
            lines.append(f"    if ({over} || x != x) return {format_.nan_code:#x};")
    else:
        lines.append("    if (x != x) return 0;  // there is no NaN to give")
    lines.append("    return (unsigned char)(code | sign);" if format_.has_negative_zero else "    return (unsigned char)(code != 0 ? code | sign : 0);")
    return Helper(name, "\n".join([*lines, "}"]))


_INFINITY = types.float_literal(math.inf, is_double=False).text
