"""Angles reduced in integers against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tests.codegen.llvm.elementwise import Elementwise
from tilewright.codegen.llvm.emitter import Function, Value
from tilewright.codegen.llvm.math.far_angle import SMALLEST_ANGLE, pi, reduce_far_angle

# The first 100 decimals, as in any table of constants.
PI_DECIMALS = "3.1415926535897932384626433832795028841971693993751058209749445923078164062862089986280348253421170679"


def test_pi() -> None:
    assert abs(pi() - Fraction(PI_DECIMALS)) < Fraction(1, 10**100)


def test_remainder_tail_and_quarter() -> None:
    kernels = Elementwise()
    for index, name in enumerate(("remainder", "tail", "quarter")):

        def body(f: Function, x: Value, index: int = index) -> Value:
            return reduce_far_angle(f, x)[index]

        kernels.add(name, ["double"], "i64" if name == "quarter" else "double", 1, body)
    kernels.compile()
    random = np.random.default_rng(0)
    angles = np.concatenate(
        [SMALLEST_ANGLE * 2.0 ** random.uniform(0, 1004, 1500), [SMALLEST_ANGLE, 1e6, np.finfo(np.float64).max], [6381956970095103 * 2.0**797]]
    )  # the double that comes closest to a multiple of pi/2 (Muller, "Elementary Functions")
    angles *= random.choice([-1, 1], angles.size)
    results = [kernels(name, angles, output=np.dtype(np.int64 if name == "quarter" else np.float64)) for name in ("remainder", "tail", "quarter")]
    half_pi = pi() / 2
    for angle, remainder, tail, quarter in zip(angles.tolist(), *(r.tolist() for r in results), strict=True):
        quotient = Fraction(angle) / half_pi
        nearest = round(quotient)
        exact = (quotient - nearest) * half_pi
        assert quarter == nearest % 4
        assert abs(Fraction(remainder) + Fraction(tail) - exact) <= abs(exact) / 2**60
        assert abs(tail) <= abs(remainder) * 2.0**-52
