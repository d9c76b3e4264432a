"""Directed rounding: its definition against properties that any right one has."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.dtypes import as_dtype
from tilewright.errors import TileTypeError
from tilewright.intrin.ieee import IEEE, IEEE_PARTS, IeeeOperation
from tilewright.ir.expr import Rounding

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def evaluate(name: str, *operands: float) -> float:
    return float(IEEE[name].meaning(*(np.array([x], np.float32) for x in operands))[0])


def exact(operation: str, a: float, b: float) -> Fraction:
    return {"add": Fraction(a) + Fraction(b), "sub": Fraction(a) - Fraction(b), "mul": Fraction(a) * Fraction(b)}[operation]


@settings(max_examples=150, deadline=None)
@given(FLOAT32, FLOAT32, st.sampled_from(["add", "sub", "mul"]))
def test_down_and_up_enclose_the_exact_result(a: float, b: float, operation: str) -> None:
    value = exact(operation, a, b)
    down, up, zero = (evaluate(f"ieee_{operation}_{mode}", a, b) for mode in ("rd", "ru", "rz"))
    assert down == -math.inf or Fraction(down) <= value
    assert up == math.inf or Fraction(up) >= value
    if down != up:
        with np.errstate(over="ignore"):
            assert np.nextafter(np.float32(down), np.float32(math.inf)) == np.float32(up)
    assert zero == (down if value > 0 else up)
    assert evaluate(f"ieee_{operation}_rn", a, b) in (down, up)


@settings(max_examples=100, deadline=None)
@given(FLOAT32, FLOAT32, FLOAT32)
def test_fused_multiply_add_is_the_nearest_float32(a: float, b: float, c: float) -> None:
    value = Fraction(a) * Fraction(b) + Fraction(c)
    got = evaluate("ieee_fmaf_rn", a, b, c)
    if math.isinf(got):
        assert abs(value) >= Fraction(2) ** 128 - Fraction(2) ** 103
        return
    for direction in (-math.inf, math.inf):
        neighbour = float(np.nextafter(np.float32(got), np.float32(direction)))
        if math.isfinite(neighbour):
            assert abs(Fraction(got) - value) <= abs(Fraction(neighbour) - value)


def test_known_values() -> None:
    third_up = evaluate("ieee_fdiv_ru", 1.0, 3.0)
    assert third_up == float(np.nextafter(np.float32(evaluate("ieee_fdiv_rd", 1.0, 3.0)), np.float32(1)))
    assert evaluate("ieee_frcp_rz", 3.0) == evaluate("ieee_fdiv_rz", 1.0, 3.0) < third_up
    assert evaluate("ieee_fsqrt_ru", 2.0) ** 2 > 2 > evaluate("ieee_fsqrt_rd", 2.0) ** 2
    assert evaluate("ieee_frsqrt_rn", 4.0) == 0.5
    assert evaluate("ieee_mul_rz", 3e38, 3e38) == float(np.finfo(np.float32).max)
    assert evaluate("ieee_mul_rd", -3e38, 3e38) == -math.inf
    assert evaluate("ieee_frcp_rz", 0.0) == math.inf


def test_exact_zeros_are_negative_only_downward() -> None:
    for mode, sign in (("rn", 1.0), ("rz", 1.0), ("ru", 1.0), ("rd", -1.0)):
        assert math.copysign(1, evaluate(f"ieee_sub_{mode}", 5.0, 5.0)) == sign
        assert math.copysign(1, evaluate(f"ieee_fmaf_{mode}", 2.0, 3.0, -6.0)) == sign
        assert math.copysign(1, evaluate(f"ieee_add_{mode}", 0.0, 0.0)) == 1.0


def test_float64_products_round_by_their_exact_value() -> None:
    a = np.array([1 + 2.0**-52, 2.0**-1000])
    b = np.array([1 + 2.0**-52, 2.0**-1000])
    down, up = IEEE["ieee_mul_rd"].meaning(a, b), IEEE["ieee_mul_ru"].meaning(a, b)
    assert down.tolist() == [1 + 2.0**-51, 0.0]
    assert up.tolist() == [1 + 2.0**-51 + 2.0**-52, 2.0**-1074]
    assert IEEE["ieee_fmaf_rn"].meaning(a[:1], b[:1], -down[:1]).tolist() == [2.0**-104]


def test_names_and_dtypes() -> None:
    assert set(IEEE) == set(IEEE_PARTS)
    assert len(IEEE) == 7 * 4 + 1
    assert IEEE_PARTS["ieee_fmaf_ru"] == (IeeeOperation.FUSED_MULTIPLY_ADD, Rounding.UP)
    half = (as_dtype("float16"), as_dtype("float16"))
    assert IEEE["ieee_add_rn"].result(half) == "float16"
    with pytest.raises(TileTypeError):
        IEEE["ieee_add_rz"].result(half)
    with pytest.raises(TileTypeError):
        IEEE["ieee_frsqrt_rn"].result((as_dtype("float64"),))
