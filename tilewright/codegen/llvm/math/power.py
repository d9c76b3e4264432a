"""sqrt, rsqrt, hypot and pow (floor 6)."""

from __future__ import annotations

import math

from tilewright.codegen.llvm.math.exponential import LN2, exponential, split
from tilewright.codegen.llvm.math.logarithm import decompose, logarithm
from tilewright.codegen.llvm.math.rounding import trunc
from tilewright.codegen.llvm.term import Term
from tilewright.target.cpu import Feature

# (2 atanh(s) - 2 s - 2/3 s**3) / s**5 in z = s**2: minimax fit (Remez exchange), error below 2**-66 of the logarithm.
_LOGARITHM_REST = (
    0.4000000000000226,
    0.28571428570096513,
    0.22222222520490353,
    0.1818178431578847,
    0.15386759767988978,
    0.1325675943115199,
    0.13196883724801184,
)


def sqrt(x: Term) -> Term:
    return x.sqrt()


def rsqrt(x: Term) -> Term:
    return 1.0 / x.sqrt()


def hypot(x: Term, y: Term) -> Term:
    """sqrt(x**2 + y**2), scaled by a power of two where a square would leave the range."""
    a, b = x.abs(), y.abs()
    large = (a > b).select(a, b)
    is_great, is_little = large > 2.0**500, large < 2.0**-500
    down = is_great.select(x.operand(2.0**-600), is_little.select(x.operand(2.0**600), 1.0))
    up = is_great.select(x.operand(2.0**600), is_little.select(x.operand(2.0**-600), 1.0))
    a_scaled, b_scaled = a * down, b * down
    length = a_scaled.mad(a_scaled, b_scaled * b_scaled).sqrt() * up
    return (a.equals(math.inf) | b.equals(math.inf)).select(math.inf, length)


# -- numbers as sums of two doubles, the second below the last place of the first


def two_sum(a: Term, b: Term) -> tuple[Term, Term]:
    """The rounded sum and what rounding lost (Knuth)."""
    total = a + b
    kept = total - a
    return total, (a - (total - kept)) + (b - kept)


def _quick_two_sum(a: Term, b: Term) -> tuple[Term, Term]:
    """The same for |a| >= |b| (Dekker 1971)."""
    total = a + b
    return total, b - (total - a)


def _two_product(a: Term, b: Term) -> tuple[Term, Term]:
    """The rounded product and what rounding lost."""
    product = a * b
    if a.scope.has(Feature.FMA):
        return product, a.mad(b, -product)

    def halves(x: Term) -> tuple[Term, Term]:
        spread = x * (2.0**27 + 1.0)
        upper = spread - (spread - x)
        return upper, x - upper

    (a_high, a_low), (b_high, b_low) = halves(a), halves(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _multiply(a: tuple[Term, Term], b: tuple[Term, Term]) -> tuple[Term, Term]:
    product, lost = _two_product(a[0], b[0])
    return _quick_two_sum(product, lost + (a[0] * b[1] + a[1] * b[0]))


def _logarithm_in_two(x: Term) -> tuple[Term, Term]:
    """log of a positive double to about 2**-65 of itself: 2 s + 2/3 s**3 in two parts each, the rest of the series in one."""
    k, m = decompose(x)
    f = m - 1.0
    divisor, divisor_tail = two_sum(f, f.operand(2.0))
    s = f / divisor
    product, lost = _two_product(s, divisor)
    s_tail = (((f - product) - lost) - s * divisor_tail) / divisor
    z = _multiply((s, s_tail), (s, s_tail))
    rest = z[0].polynomial(_LOGARITHM_REST) * z[0]
    two_thirds = 2.0 / 3.0
    factor, factor_tail = _quick_two_sum(f.operand(two_thirds), rest)
    cubic = _multiply(_multiply((s, s_tail), z), (factor, factor_tail + 3.700743415417188e-17))  # 2/3 - float(2/3)
    series, series_tail = _quick_two_sum(s * 2.0, cubic[0])
    series_tail = series_tail + (s_tail * 2.0 + cubic[1])
    high, low = split(LN2, x)
    total, lost = two_sum(k * high, series)
    return _quick_two_sum(total, lost + (series_tail + k * low))


def pow(x: Term, y: Term) -> Term:
    """x**y with the special cases of C (ISO C23, F.10.4.4)."""
    if x.element == "float":
        return _pow_float32(x, y)
    magnitude = x.abs()
    high, low = _logarithm_in_two(magnitude)
    bounded = y.clamp(-(2.0**70), 2.0**70)  # any logarithm but 0, times that, is beyond the range
    product, lost = _two_product(bounded, high)
    tail = (product.abs() < 2000.0).select(lost + bounded * low, 0.0)
    return _with_special_cases(exponential(product, tail=tail), x, y)


def _pow_float32(x: Term, y: Term) -> Term:
    """In double, where the plain logarithm is good enough."""
    wide_x, wide_y = x.convert("fpext", "double"), y.convert("fpext", "double")
    value = exponential(wide_y.clamp(-(2.0**70), 2.0**70) * logarithm(wide_x.abs()))
    return _with_special_cases(value, wide_x, wide_y).convert("fptrunc", "float")


def _with_special_cases(value: Term, x: Term, y: Term) -> Term:
    """`value` is |x|**y for finite |x| > 0."""
    magnitude = x.abs()
    is_zero = magnitude.equals(0.0)
    is_end = is_zero | magnitude.equals(math.inf)
    value = is_end.select((is_zero ^ (y < 0.0)).select(y.operand(0.0), math.inf), value)
    half = y * 0.5
    is_integer = trunc(y).equals(y)
    is_odd = is_integer & trunc(half).differs(half)
    is_negative = x.bits() < 0
    value = (is_negative & is_odd).select(-value, value)
    is_wrong = (x < 0.0) & ~is_integer & magnitude.differs(math.inf)
    value = (is_wrong | x.is_nan() | y.is_nan()).select(math.nan, value)
    return (y.equals(0.0) | x.equals(1.0)).select(1.0, value)
