"""asin, acos, atan, atan2 (floor 6), on doubles."""

from __future__ import annotations

import math

from tilewright.codegen.llvm.term import Term

# (atan(t) - t) / t**3 for t up to tan(pi/8), (asin(t) - t) / t**3 for t up to 1/2, in t**2: minimax fits (Remez exchange), errors below 2**-58
# of the function.
_ARC_TANGENT = (
    -0.333333333333332,
    0.19999999999954085,
    -0.1428571428024885,
    0.11111110786152538,
    -0.09090897836807074,
    0.07692061642420364,
    -0.06663120433229784,
    0.05848009204222512,
    -0.05039846526414703,
    0.03807834041593892,
    -0.01792229446539202,
)
_ARC_SINE = (
    0.16666666666666763,
    0.07499999999970261,
    0.044642857175121564,
    0.030381942683583147,
    0.02237221566125029,
    0.017351600074236195,
    0.013980961675259916,
    0.01139777402431784,
    0.010786540864692573,
    0.003682994294398594,
    0.021763622296141687,
    -0.021077475716311172,
    0.032677009627644284,
)
_HALF_PI = math.pi / 2
_HALF_PI_TAIL = 6.123233995736766e-17  # pi/2 - float(pi/2)


def _with_cube(t: Term, coefficients: tuple[float, ...]) -> Term:
    z = t * t
    return z.polynomial(coefficients).mad(z * t, t)


def _arc_tangent_of_ratio(small: Term, large: Term, is_swapped: Term) -> Term:
    """atan(small / large), both positive and small <= large; where swapped, pi/2 minus that."""
    is_upper = small > large * math.tan(math.pi / 8)
    # tan(a - pi/4) = (tan(a) - 1) / (tan(a) + 1)
    t = is_upper.select(small - large, small) / is_upper.select(small + large, large)
    angle = _with_cube(t, _ARC_TANGENT)
    # Sums of a multiple of pi/4 and an angle of at most pi/8, the constant in two parts.
    base = is_upper.select(t.operand(_HALF_PI / 2), 0.0)
    tail = is_upper.select(t.operand(_HALF_PI_TAIL / 2), 0.0)
    base = is_swapped.select(_HALF_PI - base, base)
    tail = is_swapped.select(_HALF_PI_TAIL - tail, tail)
    return base + (tail + is_swapped.select(-angle, angle))


def atan(x: Term) -> Term:
    magnitude = x.abs()
    is_swapped = magnitude > 1.0
    # 1 / |x| as the ratio of 1 and |x|; of infinity as 0 / 1.
    is_infinite = magnitude.equals(math.inf)
    small = is_swapped.select(is_infinite.select(x.operand(0.0), 1.0), magnitude)
    large = is_swapped.select(is_infinite.select(x.operand(1.0), magnitude), x.operand(1.0))
    return _arc_tangent_of_ratio(small, large, is_swapped).with_sign_of(x)


def atan2(y: Term, x: Term) -> Term:
    """The angle of the point (x, y), from -pi to pi; signs of zeros count."""
    height, width = y.abs(), x.abs()
    is_swapped = height > width
    small, large = is_swapped.select(width, height), is_swapped.select(height, width)
    # Both zero: 0 / 1. Both infinite: 1 / 1. One infinite: 0 / 1. Near the end of the range the sum of both would overflow.
    is_infinite = large.equals(math.inf)
    small = is_infinite.select(small.equals(math.inf).select(x.operand(1.0), 0.0), small)
    large = (is_infinite | large.equals(0.0)).select(1.0, large)
    scale = (large > 2.0**1000).select(x.operand(2.0**-100), 1.0)
    angle = _arc_tangent_of_ratio(small * scale, large * scale, is_swapped)
    is_left = x.bits() < 0
    angle = is_left.select(math.pi - (angle - 2 * _HALF_PI_TAIL), angle).with_sign_of(y)
    return (x.is_nan() | y.is_nan()).select(math.nan, angle)


def asin(x: Term) -> Term:
    """Beyond 1/2: pi/2 - 2 asin(sqrt((1 - |x|) / 2))."""
    magnitude = x.abs()
    is_near = magnitude <= 0.5
    half = (1.0 - magnitude) * 0.5
    angle = _with_cube(is_near.select(magnitude, half.sqrt()), _ARC_SINE)
    return is_near.select(angle, _HALF_PI - (angle * 2.0 - _HALF_PI_TAIL)).with_sign_of(x)


def acos(x: Term) -> Term:
    """Beyond 1/2: 2 asin(sqrt((1 - x) / 2)); beyond -1/2: pi minus that of -x; between: pi/2 - asin(x)."""
    magnitude = x.abs()
    is_near = magnitude <= 0.5
    angle = _with_cube(is_near.select(x, ((1.0 - magnitude) * 0.5).sqrt()), _ARC_SINE)
    near = _HALF_PI - (angle - _HALF_PI_TAIL)
    doubled = angle * 2.0
    far = (x < 0.0).select(math.pi - (doubled - 2 * _HALF_PI_TAIL), doubled)
    return is_near.select(near, far)
