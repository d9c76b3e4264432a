"""sin, cos, tan (floor 6): x = n * pi/2 + r with |r| <= pi/4, computed in double for float32 too.

Up to a million, pi/2 is subtracted in three pieces of which the first two have so few bits that their products with n are exact (Cody and Waite
1980). Beyond, which is rare, each lane multiplies by as many bits of 2/pi as matter, in integers (Payne and Hanek 1983).
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from tilewright.codegen.llvm.emitter import Module, constant
from tilewright.codegen.llvm.term import Scope, Term, rarely

# sin(r) = r + r**3 P(r**2), cos(r) = 1 - r**2 / 2 + r**4 Q(r**2): minimax fits (Remez exchange), errors below 2**-57 of the function,
# and the short ones, for results that become float32, below 2**-37.
_SINE = (-0.16666666666666632, 0.008333333333322398, -0.00019841269829793694, 2.755731368680623e-06, -2.5050757283455863e-08, 1.589674572843266e-10)
_COSINE = (0.041666666666666595, -0.0013888888888873015, 2.4801587288825348e-05, -2.7557314171482543e-07, 2.087569975371942e-09,
           -1.1358478874151836e-11)
_SINE_SHORT = (-0.16666666641576244, 0.00833332937994969, -0.00019839332897166615, 2.7182927850329185e-06)
_COSINE_SHORT = (0.041666666619393555, -0.0013888883491718282, 2.479945796194033e-05, -2.7205573724340816e-07)

_NEAR_LIMIT = 1e6  # n stays below 2**20, and 20 + 33 bits fit a double
_ANCHOR = 1.5 * 2.0**52
_TABLE_WORDS = 20  # one of zeros, then 1216 bits of 2/pi: enough for the greatest double


@functools.cache
def _pi() -> Fraction:
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


@functools.cache
def _half_pi_pieces() -> tuple[float, float, float]:
    """pi/2 as 33 bits, 33 bits and the rest."""
    half = _pi() / 2
    first = Fraction(math.floor(half * (1 << 32)), 1 << 32)
    second = Fraction(math.floor((half - first) * (1 << 65)), 1 << 65)
    return float(first), float(second), float(half - first - second)


def _two_over_pi_table(module: Module) -> Term | None:
    bits = math.floor(2 / _pi() * (1 << 64 * (_TABLE_WORDS - 1)))
    words = [(bits >> 64 * (_TABLE_WORDS - 1 - i)) & (2**64 - 1) for i in range(_TABLE_WORDS)]
    module.constant_array("tw_two_over_pi", "i64", words)
    return None


def _far_reduction(module: Module) -> str:
    """The name of `<2 x double> (double x)` for finite |x| >= 2**19: r, its tail in the second lane, and n % 4 added to that lane's low bits.

    |x| = M * 2**e with a 53-bit integer M. Bits of 2/pi above the weight 2**(2 - e) only add multiples of 4 to the quotient, so 192 bits from there on
    give it modulo 4 with an error below 2**-137; no double is closer than 2**-62 to a multiple of pi/2.
    """
    name = "tw_reduce_far_angle"
    if name in module.functions:
        return name
    _two_over_pi_table(module)
    f = module.function(name, "internal { double, double, i64 }", [("double", "x")], "noinline nounwind")
    s = Scope(f, frozenset())
    bits = s(f.arguments["x"]).bits()
    exponent = bits.shift_right_logical(52) & 0x7FF
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    position = exponent - (1075 - 62)  # of the first bit needed, in the table; the 64 zeros keep it from going negative
    words = []
    for i in range(4):
        index = position.shift_right_logical(6) + i
        words.append(s(f.load("i64", f.element_address(constant_table(), "i64", index.value), 8)))
    shift = position & 63
    high, middle, low = (Term(s, f.intrinsic("llvm.fshl.i64", "i64", a.value, b.value, shift.value)) for a, b in zip(words, words[1:], strict=False))
    m = mantissa.convert("zext", "i128")

    def product(word: Term) -> Term:
        return m * word.convert("zext", "i128")

    # The quotient modulo 4 with 126 bits after the point.
    quotient = (product(high) << 64) + product(middle) + product(low).shift_right_logical(64)
    n = (quotient + (1 << 125)).shift_right_logical(126).convert("trunc", "i64") & 3
    fraction = quotient << 2  # as a signed number with 128 bits after the point: the distance to the nearest integer
    is_negative = fraction < 0
    magnitude = is_negative.select(-fraction, fraction)
    zeros = Term(s, f.intrinsic("llvm.ctlz.i128", "i128", magnitude.value, constant(False, "i1")))
    leading = (magnitude << zeros).shift_right_logical(64)
    half_pi = math.floor(_pi() * (1 << 62))  # pi/2 with 63 bits after the point
    angle = leading * half_pi  # 127 bits after the point, to be divided by 2**zeros
    shift_bits = zeros.convert("trunc", "i64")

    def scaled(part: Term, power: int) -> Term:
        """part * 2**(power - zeros)."""
        scale = ((power + 1023 - shift_bits) << 52).as_float()
        return part.convert("trunc", "i64").convert("uitofp", "double") * scale

    upper = scaled(angle.shift_right_logical(75), 75 - 127)
    lower = scaled(angle.shift_right_logical(22) & ((1 << 53) - 1), 22 - 127)
    result = upper + lower
    tail = lower - (result - upper)
    # The sign of x and that of the distance to the nearest quarter turn.
    is_flipped = (bits < 0) ^ is_negative
    n = (bits < 0).select(-n, n)
    packed = "undef"
    for index, part in enumerate((is_flipped.select(-result, result), is_flipped.select(-tail, tail), n)):
        packed = f.emit("{ double, double, i64 }", f"insertvalue {{ double, double, i64 }} {packed}, {part.value}, {index}").text
    f.line(f"ret {{ double, double, i64 }} {packed}")
    f.is_terminated = True
    return name
