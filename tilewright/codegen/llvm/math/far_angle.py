"""Great angles modulo a quarter turn, one at a time, in integers (floor 6).

Payne and Hanek, "Radian reduction for trigonometric functions", 1983.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from tilewright.codegen.llvm.emitter import Function, Value, constant
from tilewright.codegen.llvm.term import Scope, Term

_NAME = "tw_reduce_far_angle"
_RESULT = "{ double, double, i64 }"
_TABLE_WORDS = 20  # one of zeros, then 1216 bits of 2/pi: enough for the greatest double
_ZERO_BITS = 64
SMALLEST_ANGLE = 2.0**19


@functools.cache
def pi() -> Fraction:
    """To 1400 bits, by Machin's formula: pi/4 = 4 atan(1/5) - atan(1/239)."""
    one = 1 << 1400

    def arc_tangent(inverse: int) -> int:
        power = total = one // inverse
        divisor, sign = 1, 1
        while power:
            power //= inverse * inverse
            divisor, sign = divisor + 2, -sign
            total += sign * (power // divisor)
        return total

    return Fraction(4 * (4 * arc_tangent(5) - arc_tangent(239)), one)


def reduce_far_angle(f: Function, angle: Value) -> tuple[Value, Value, Value]:
    """For a finite double of at least `SMALLEST_ANGLE` in magnitude: r, its tail, and n modulo 4 as i64, where angle = n * pi/2 + r + tail."""
    if _NAME not in f.module.functions:
        _write_function(f)
    packed = f.emit(_RESULT, f"call {_RESULT} @{_NAME}({angle})")
    remainder, tail, n = (f.emit(type_, f"extractvalue {packed}, {i}") for i, type_ in enumerate(("double", "double", "i64")))
    return remainder, tail, n


def _write_function(caller: Function) -> None:
    """|x| = M * 2**e with a 53-bit integer M. Bits of 2/pi of weight 2**(2 - e) and more only add multiples of 4 to the quotient
    M * 2**e * 2/pi, so the 192 bits after those give it modulo 4 with an error below 2**-137; no double is closer than 2**-62 to a
    multiple of pi/2.
    """
    module = caller.module
    f = module.function(_NAME, f"internal {_RESULT}", [("double", "x")], "noinline nounwind")
    s = Scope(f, frozenset())
    bits = s(f.arguments["x"]).bits()
    mantissa = ((bits & ((1 << 52) - 1)) | (1 << 52)).convert("zext", "i128")
    position = (bits.shift_right_logical(52) & 0x7FF) - (1075 + 2 - _ZERO_BITS)  # of the first bit needed, in the table
    table_bits = math.floor(2 / pi() * (1 << 64 * (_TABLE_WORDS - 1)))
    table = module.constant_array("tw_two_over_pi", "i64", [table_bits >> 64 * i & (2**64 - 1) for i in reversed(range(_TABLE_WORDS))])
    first = position.shift_right_logical(6)
    words = [f.load("i64", f.element_address(table, "i64", (first + i).value), 8) for i in range(4)]
    high, middle, low = (
        s(f.intrinsic("llvm.fshl.i64", "i64", words[i], words[i + 1], (position & 63).value)).convert("zext", "i128") * mantissa for i in range(3)
    )
    quotient = (high << 64) + middle + low.shift_right_logical(64)  # modulo 4, with 126 bits after the point
    n = (quotient + (1 << 125)).shift_right_logical(126).convert("trunc", "i64")
    fraction = quotient << 2  # signed, 128 bits after the point: what is left beside the nearest integer
    is_below = fraction < 0
    magnitude = is_below.select(-fraction, fraction)
    zeros = s(f.intrinsic("llvm.ctlz.i128", "i128", magnitude.value, constant(False, "i1")))
    leading = (magnitude << zeros).shift_right_logical(64)
    product = leading * math.floor(pi() * (1 << 62))  # times pi/2: 127 bits after the point, and `zeros` more
    exponent = -zeros.convert("trunc", "i64")

    def part(lowest_bit: int) -> Term:
        """53 bits of the product."""
        integer = product.shift_right_logical(lowest_bit).convert("trunc", "i64") & ((1 << 53) - 1)
        return integer.convert("uitofp", "double") * ((exponent + (lowest_bit - 127 + 1023)) << 52).as_float()

    upper, lower = part(75), part(22)
    remainder = upper + lower
    tail = lower - (remainder - upper)
    is_negative = bits < 0
    is_flipped = is_negative ^ is_below
    packed = Value("poison", _RESULT)
    for i, item in enumerate((is_flipped.select(-remainder, remainder), is_flipped.select(-tail, tail), is_negative.select(-n, n) & 3)):
        packed = f.emit(_RESULT, f"insertvalue {packed}, {item.value}, {i}")
    f.ret(packed)
