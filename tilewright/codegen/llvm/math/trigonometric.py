"""sin, cos, tan (floor 6): x = n * pi/2 + r with |r| <= pi/4, computed in double for float32 too.

Up to a million, pi/2 is subtracted in three pieces of which the first two have so few bits that their products with n are exact (Cody and Waite,
"Software Manual for the Elementary Functions", 1980). What is beyond goes lane by lane through `far_angle`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

from tilewright.codegen.llvm.emitter import Value, vector_type
from tilewright.codegen.llvm.math.far_angle import SMALLEST_ANGLE, pi, reduce_far_angle
from tilewright.codegen.llvm.term import Term, rarely

# sin(r) = r + r**3 P(r**2), cos(r) = 1 - r**2 / 2 + r**4 Q(r**2): minimax fits (Remez exchange), errors below 2**-57 of the function,
# and below 2**-37 for the short ones, whose results become float32.
_SINE = (-0.16666666666666632, 0.008333333333322398, -0.00019841269829793694, 2.755731368680623e-06, -2.5050757283455863e-08, 1.589674572843266e-10)
_COSINE = (0.041666666666666595, -0.0013888888888873015, 2.4801587288825348e-05, -2.7557314171482543e-07, 2.087569975371942e-09, -1.1358478874151836e-11)
_SINE_SHORT = (-0.16666666641576244, 0.00833332937994969, -0.00019839332897166615, 2.7182927850329185e-06)
_COSINE_SHORT = (0.041666666619393555, -0.0013888883491718282, 2.479945796194033e-05, -2.7205573724340816e-07)

_FAR = 1e6  # below, n has 20 bits, and 20 + 33 bits fit a double
_ANCHOR = 1.5 * 2.0**52
assert _FAR >= SMALLEST_ANGLE


@functools.cache
def _half_pi_pieces() -> tuple[float, float, float]:
    """pi/2 as 33 bits, 33 bits and the rest."""
    half = pi() / 2
    first = Fraction(math.floor(half * (1 << 32)), 1 << 32)
    second = Fraction(math.floor((half - first) * (1 << 65)), 1 << 65)
    return float(first), float(second), float(half - first - second)


@dataclass(frozen=True, slots=True)
class _Angle:
    """x = quadrant * pi/2 + remainder + tail; the quadrant counts modulo 4. Without a tail the remainder is meant for float32."""

    quadrant: Term
    remainder: Term
    tail: Term | None

    def sine(self) -> Term:
        r, z = self.remainder, self.remainder * self.remainder
        cube = z * r
        if self.tail is None:
            return z.polynomial(_SINE_SHORT).mad(cube, r)
        return r + z.polynomial(_SINE).mad(cube, self.tail - self.tail * z * 0.5)

    def cosine(self) -> Term:
        r, z = self.remainder, self.remainder * self.remainder
        if self.tail is None:
            return z.polynomial(_COSINE_SHORT).mad(z * z, z.mad(-0.5, 1.0))
        half = z * 0.5
        top = 1.0 - half
        return top + z.polynomial(_COSINE).mad(z * z, ((1.0 - top) - half) - r * self.tail)

    def turned(self, sine: Term, cosine: Term, quarters: int) -> Term:
        """sin(x + quarters * pi/2) from the sine and cosine of the remainder."""
        quadrant = self.quadrant + quarters if quarters else self.quadrant
        value = (quadrant & 1).equals(0).select(sine, cosine)
        return (value.bits() ^ ((quadrant & 2) << 62)).as_float()


def _reduce(x: Term, is_short: bool) -> _Angle:
    first, second, third = _half_pi_pieces()
    anchored = x.mad(float(2 / pi()), _ANCHOR)
    n = anchored - _ANCHOR
    r = n.mad(-first, x)
    if is_short:
        remainder = n.mad(-(second + third), r)
        usual = [anchored.bits(), remainder]
    else:
        step = n * second
        rest = r - step
        lost = (r - rest) - step - n * third
        remainder = rest + lost
        usual = [anchored.bits(), remainder, (rest - remainder) + lost]
    is_far = (x.abs() >= _FAR) & (x.abs() < math.inf)

    def far() -> list[Term]:
        f, s = x.scope.function, x.scope
        angles = is_far.select(x, _FAR)
        found = [reduce_far_angle(f, angles.value if angles.value.lanes == 1 else f.extract(angles.value, i)) for i in range(x.value.lanes)]

        def gathered(parts: list[Value]) -> Term:
            if len(parts) == 1:
                return s(parts[0])
            vector = Value("poison", vector_type(parts[0].type, len(parts)))
            for lane, part in enumerate(parts):
                vector = f.insert(vector, part, lane)
            return s(vector)

        remainders, tails, quadrants = (gathered(list(parts)) for parts in zip(*found, strict=True))
        return [is_far.select(a, b) for a, b in zip((quadrants, remainders, tails), usual, strict=False)]

    quadrant, remainder, *tail = rarely(is_far, usual, far)
    return _Angle(quadrant, remainder, tail[0] if tail else None)


def _wide(x: Term) -> tuple[Term, _Angle]:
    wide = x.convert("fpext", "double")
    return wide, _reduce(wide, is_short=x.element == "float")


def _finish(result: Term, wide: Term, x: Term, is_odd: bool) -> Term:
    if is_odd:
        result = (wide.abs() < 2.0**-27).select(wide, result)  # the sign of zero
    return result.convert("fptrunc", x.element)


def sin(x: Term) -> Term:
    wide, angle = _wide(x)
    return _finish(angle.turned(angle.sine(), angle.cosine(), 0), wide, x, is_odd=True)


def cos(x: Term) -> Term:
    wide, angle = _wide(x)
    return _finish(angle.turned(angle.sine(), angle.cosine(), 1), wide, x, is_odd=False)


def tan(x: Term) -> Term:
    wide, angle = _wide(x)
    sine, cosine = angle.sine(), angle.cosine()
    return _finish(angle.turned(sine, cosine, 0) / angle.turned(sine, cosine, 1), wide, x, is_odd=True)
