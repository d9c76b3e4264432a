"""What the generator's bounds promise, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.testing import bounds
from tilewright.testing.bounds import Bound

NARROW = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16")


@pytest.mark.parametrize("name", NARROW)
def test_what_is_held_exactly_survives_a_conversion(name: str) -> None:
    dtype = as_dtype(name)
    for grain in (0.25, 0.5, 1.0, 2.0):
        for count in (1, 2, 7, 8, 15, 16, 17, 255, 256, 257, 2047, 2048, 2049):
            values = np.arange(-count, count + 1) * grain
            are_equal = bool((values.astype(np.float32).astype(dtype.numpy).astype(np.float64) == values).all())
            assert not bounds.holds_exactly(dtype, count * grain, grain) or are_equal


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([dtypes.float32, dtypes.float16, dtypes.int32, dtypes.int8, dtypes.int64]),
    st.sampled_from([dtypes.float32, dtypes.float16, dtypes.int32, dtypes.int8]),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 9),
)
def test_sums_and_products_stay_within_their_bounds(left: DType, right: DType, a: int, b: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-a, a + 1, 50), rng.integers(-b, b + 1, 50)
    for operation, result in ((np.add, bounds.add), (np.multiply, bounds.multiply)):
        bound = result(Bound(left, float(a)), Bound(right, float(b)))
        if bound is not None:
            values = operation(x.astype(bound.dtype.numpy), y.astype(bound.dtype.numpy))
            assert np.abs(values.astype(np.float64)).max() <= bound.magnitude
            assert (
                not bound.is_certain
                or bound.dtype.is_integer
                or np.array_equal(values.astype(np.float64), operation(x, y))
                or not bounds.holds_exactly(bound.dtype, bound.magnitude, bound.grain)
            )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(0, 20))
def test_sums_in_any_order_differ_by_no_more_than_the_error(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    bound = bounds.accumulate(dtypes.float32, Bound(dtypes.float32, float(np.abs(values).max()), 0.0, 0.0), count)
    assert bound is not None
    forward, backward = np.float32(0), np.float32(0)
    for x in values:
        forward += x
    for x in values[::-1]:
        backward += x
    assert abs(float(forward) - float(backward)) <= 2 * bound.error


def test_doubtful_values_are_not_truncated() -> None:
    assert bounds.convert(Bound(dtypes.float32, 3.0, 1e-6, 0.0), dtypes.int32) is None
    assert bounds.convert(Bound(dtypes.float32, 3e9), dtypes.int32) is None
    assert bounds.convert(Bound(dtypes.float32, 1e6), dtypes.float16) is None
    assert bounds.convert(Bound(dtypes.int32, 300.0), dtypes.int8) == Bound(dtypes.int8, 128.0)
