"""What is known of one integer: an interval and a congruence, and how operations carry both along (floor 3).

The domain is the product of intervals and residue classes ("strided intervals"; Granger 1989 for the congruences). Every operation gives a
range that contains all results for operands taken from the operands' ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import gcd, inf
from typing import Final, NamedTuple

from tilewright.dtypes import DType
from tilewright.ir.expr import Op

Limit = int | None


class ValueRange(NamedTuple):
    """The integers x with low <= x <= high and x = residue mod modulus.

    None as a limit means unlimited. Modulus 1 says nothing, modulus 0 means exactly `residue`. Make ranges with `value_range`, which moves the
    limits to members of the residue class.
    """

    low: Limit
    high: Limit
    modulus: int = 1
    residue: int = 0

    @property
    def is_constant(self) -> bool:
        return self.modulus == 0

    @property
    def is_empty(self) -> bool:
        return self.low is not None and self.high is not None and self.low > self.high

    def contains(self, value: int) -> bool:
        if self.modulus == 0:
            return value == self.residue
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high) and (value - self.residue) % self.modulus == 0

    def is_inside(self, low: Limit, high: Limit) -> bool:
        """Whether all members lie in [low, high]."""
        return (low is None or (self.low is not None and self.low >= low)) and (high is None or (self.high is not None and self.high <= high))

    def is_divisible(self, divisor: int) -> bool:
        """Whether all members are multiples of `divisor`."""
        return self.modulus % divisor == 0 and self.residue % divisor == 0

    def __str__(self) -> str:
        limits = f"[{'-inf' if self.low is None else self.low}, {'inf' if self.high is None else self.high}]"
        return limits if self.modulus < 2 else f"{limits} = {self.residue} mod {self.modulus}"


def value_range(low: Limit, high: Limit, modulus: int = 1, residue: int = 0) -> ValueRange:
    """A range with its limits moved inwards to members of the residue class; it may come out empty."""
    if modulus == 0:
        is_member = (low is None or low <= residue) and (high is None or residue <= high)
        return ValueRange(residue, residue, 0, residue) if is_member else ValueRange(1, 0)
    if modulus > 1:
        residue %= modulus
        if low is not None:
            low += (residue - low) % modulus
        if high is not None:
            high -= (high - residue) % modulus
    else:
        residue = 0
    if low is not None and low == high:
        return ValueRange(low, low, 0, low)
    return ValueRange(low, high, modulus, residue)


def exactly(value: int) -> ValueRange:
    return ValueRange(value, value, 0, value)


UNLIMITED = ValueRange(None, None)
BOOLEAN = ValueRange(0, 1)


def add(a: ValueRange, b: ValueRange) -> ValueRange:
    low = None if a.low is None or b.low is None else a.low + b.low
    high = None if a.high is None or b.high is None else a.high + b.high
    return value_range(low, high, gcd(a.modulus, b.modulus), a.residue + b.residue)


def scale(a: ValueRange, factor: int) -> ValueRange:
    if factor == 1:
        return a
    if factor == 0:
        return exactly(0)
    low, high = (a.low, a.high) if factor > 0 else (a.high, a.low)
    return value_range(None if low is None else low * factor, None if high is None else high * factor, a.modulus * abs(factor), a.residue * factor)


def negate(a: ValueRange) -> ValueRange:
    return scale(a, -1)


def subtract(a: ValueRange, b: ValueRange) -> ValueRange:
    return add(a, scale(b, -1))


def multiply(a: ValueRange, b: ValueRange) -> ValueRange:
    if b.modulus == 0:
        return scale(a, b.residue)
    if a.modulus == 0:
        return scale(b, a.residue)
    corners = [_product(x, y) for x in (_low(a), _high(a)) for y in (_low(b), _high(b))]
    modulus = gcd(a.modulus * b.modulus, a.modulus * b.residue, b.modulus * a.residue)
    return value_range(_limit(min(corners)), _limit(max(corners)), modulus, a.residue * b.residue)


def _low(a: ValueRange) -> float:
    return -inf if a.low is None else a.low


def _high(a: ValueRange) -> float:
    return inf if a.high is None else a.high


def _product(x: float, y: float) -> float:
    if x == 0 or y == 0:
        return 0
    if x in (inf, -inf) or y in (inf, -inf):
        return inf if (x > 0) == (y > 0) else -inf
    return x * y


def _limit(x: float) -> Limit:
    return None if x in (inf, -inf) else int(x)


def floordiv(a: ValueRange, b: ValueRange) -> ValueRange:
    """Floor quotients. A zero divisor has no result, so zero is taken out of `b` first."""
    b = _without_zero(b)
    if b.high is not None and b.high < 0:
        return floordiv(negate(a), negate(b))
    if b.low is None or b.low < 0:
        if a.low is None or a.high is None:
            return UNLIMITED
        reach = max(abs(a.low), abs(a.high))
        return value_range(-reach, reach)
    if b.is_empty:
        return UNLIMITED
    if a.low is None:
        low = None
    elif a.low >= 0:
        low = 0 if b.high is None else a.low // b.high
    else:
        low = a.low // b.low
    if a.high is None:
        high = None
    elif a.high >= 0:
        high = a.high // b.low
    else:
        high = -1 if b.high is None else a.high // b.high
    if b.modulus == 0 and a.modulus % b.residue == 0:
        return value_range(low, high, a.modulus // b.residue, a.residue // b.residue)
    return value_range(low, high)


def floormod(a: ValueRange, b: ValueRange) -> ValueRange:
    """Floor remainders: they have the sign of the divisor. Zero is taken out of `b` first."""
    b = _without_zero(b)
    if b.high is not None and b.high < 0:
        return negate(floormod(negate(a), negate(b)))
    if b.low is None or b.low < 0 or b.is_empty:
        return value_range(None if b.low is None else b.low + 1, None if b.high is None else b.high - 1)
    if a.low is not None and a.high is not None:
        if a.low >= 0 and a.high < b.low:
            return a
        if b.modulus == 0 and a.low // b.low == a.high // b.low:
            return add(a, exactly(-(a.low // b.low * b.low)))
    high = None if b.high is None else b.high - 1
    if a.low is not None and a.low >= 0 and a.high is not None:
        high = a.high if high is None else min(high, a.high)
    if b.modulus == 0:
        common = gcd(a.modulus, b.residue)
        return exactly(a.residue % b.residue) if common == b.residue else value_range(0, high, common, a.residue)
    return value_range(0, high)


def _without_zero(b: ValueRange) -> ValueRange:
    if b.low == 0 and b.modulus != 0:
        return value_range(1, b.high, b.modulus, b.residue)
    if b.high == 0 and b.modulus != 0:
        return value_range(b.low, -1, b.modulus, b.residue)
    return b if b.modulus != 0 or b.residue != 0 else UNLIMITED


def truncdiv(a: ValueRange, b: ValueRange) -> ValueRange:
    """Quotients rounded towards zero."""
    if a.low is not None and a.low >= 0 and b.low is not None and b.low >= 0:
        return floordiv(a, b)
    quotient = floordiv(a, b)
    # Truncation is the floor quotient, or one more where that is negative.
    return value_range(quotient.low, None if quotient.high is None else quotient.high + (quotient.high < 0))


def truncmod(a: ValueRange, b: ValueRange) -> ValueRange:
    """Remainders of truncated quotients: they have the sign of the dividend."""
    if a.low is not None and a.low >= 0 and b.low is not None and b.low >= 0:
        return floormod(a, b)
    reach = None if b.low is None or b.high is None else max(abs(b.low), abs(b.high), 1) - 1
    low = 0 if a.low is not None and a.low >= 0 else None if reach is None else -reach
    high = 0 if a.high is not None and a.high <= 0 else reach
    return value_range(low, high)


def minimum(a: ValueRange, b: ValueRange) -> ValueRange:
    if a.high is not None and b.low is not None and a.high <= b.low:
        return a
    if b.high is not None and a.low is not None and b.high <= a.low:
        return b
    low = None if a.low is None or b.low is None else min(a.low, b.low)
    high = a.high if b.high is None else b.high if a.high is None else min(a.high, b.high)
    return value_range(low, high, *_join_classes(a, b))


def maximum(a: ValueRange, b: ValueRange) -> ValueRange:
    return negate(minimum(negate(a), negate(b)))


def _join_classes(a: ValueRange, b: ValueRange) -> tuple[int, int]:
    return gcd(a.modulus, b.modulus, a.residue - b.residue), a.residue


def join(a: ValueRange, b: ValueRange) -> ValueRange:
    """The least range that contains both."""
    low = None if a.low is None or b.low is None else min(a.low, b.low)
    high = None if a.high is None or b.high is None else max(a.high, b.high)
    return value_range(low, high, *_join_classes(a, b))


def meet(a: ValueRange, b: ValueRange) -> ValueRange:
    """What both contain; possibly empty."""
    low = a.low if b.low is None else b.low if a.low is None else max(a.low, b.low)
    high = a.high if b.high is None else b.high if a.high is None else min(a.high, b.high)
    if a.modulus == 0 or b.modulus == 0:
        fixed, other = (a, b) if a.modulus == 0 else (b, a)
        return fixed if other.contains(fixed.residue) else ValueRange(1, 0)
    if a.modulus == 1 or b.modulus == 1 or (a.modulus, a.residue) == (b.modulus, b.residue):
        stronger = a if b.modulus == 1 else b
        return value_range(low, high, stronger.modulus, stronger.residue)
    common = gcd(a.modulus, b.modulus)
    if (a.residue - b.residue) % common:
        return ValueRange(1, 0)
    # Chinese remainder theorem: residue = a.residue + a.modulus * t with a.modulus * t = b.residue - a.residue mod b.modulus.
    rest = b.modulus // common
    step = (b.residue - a.residue) // common * pow(a.modulus // common, -1, rest) % rest
    return value_range(low, high, a.modulus * rest, a.residue + a.modulus * step)


def shift_left(a: ValueRange, count: ValueRange) -> ValueRange:
    if count.low is None or count.low < 0 or count.high is None or count.high > 64:
        return UNLIMITED
    return multiply(a, value_range(1 << count.low, 1 << count.high, 0 if count.modulus == 0 else 1 << count.low, 1 << count.low))


def shift_right(a: ValueRange, count: ValueRange) -> ValueRange:
    if count.low is None or count.low < 0 or count.high is None or count.high > 64:
        return UNLIMITED
    return floordiv(a, value_range(1 << count.low, 1 << count.high, 0 if count.modulus == 0 else 1 << count.low, 1 << count.low))


def bit_and(a: ValueRange, b: ValueRange) -> ValueRange:
    for mask, other in ((b, a), (a, b)):
        if mask.modulus == 0 and mask.residue >= 0 and mask.residue & (mask.residue + 1) == 0:
            return floormod(other, exactly(mask.residue + 1))
    highs = [x.high for x in (a, b) if x.low is not None and x.low >= 0 and x.high is not None]
    is_positive = any(x.low is not None and x.low >= 0 for x in (a, b))
    return value_range(0, min(highs) if highs else None) if is_positive else UNLIMITED


def bit_or(a: ValueRange, b: ValueRange) -> ValueRange:
    if a.low is None or a.low < 0 or b.low is None or b.low < 0:
        return UNLIMITED
    return value_range(max(a.low, b.low), None if a.high is None or b.high is None else (1 << max(a.high, b.high).bit_length()) - 1)


def bit_xor(a: ValueRange, b: ValueRange) -> ValueRange:
    if a.low is None or a.low < 0 or b.low is None or b.low < 0:
        return UNLIMITED
    return value_range(0, None if a.high is None or b.high is None else (1 << max(a.high, b.high).bit_length()) - 1)


def bit_not(a: ValueRange) -> ValueRange:
    return add(negate(a), exactly(-1))


def dtype_range(dtype: DType) -> ValueRange:
    """All values of an integer or bool dtype."""
    return BOOLEAN if dtype.is_bool else value_range(int(dtype.minimum), int(dtype.maximum))


# Of exact integers: whoever uses it looks at what wraps.
OPERATIONS: Final[Mapping[Op, Callable[[ValueRange, ValueRange], ValueRange]]] = {
    Op.ADD: add,
    Op.SUB: subtract,
    Op.MUL: multiply,
    Op.FLOORDIV: floordiv,
    Op.FLOORMOD: floormod,
    Op.TRUNCDIV: truncdiv,
    Op.TRUNCMOD: truncmod,
    Op.MIN: minimum,
    Op.MAX: maximum,
    Op.BIT_AND: bit_and,
    Op.BIT_OR: bit_or,
    Op.BIT_XOR: bit_xor,
    Op.SHIFT_LEFT: shift_left,
    Op.SHIFT_RIGHT: shift_right,
}
