"""Combining the values of a reduction: every kind and dtype against plain Python, masks, and the rounding of sums."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.dtypes import as_dtype
from tilewright.ir.stmt import ReduceKind
from tilewright.reference.reduce import identity, reduce_values

BITWISE = (ReduceKind.BIT_AND, ReduceKind.BIT_OR, ReduceKind.BIT_XOR)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "int4", "uint4", "bool", "float16", "float32"])
@pytest.mark.parametrize("kind", list(ReduceKind))
def test_the_identity_changes_nothing(kind: ReduceKind, dtype: str) -> None:
    element = as_dtype(dtype)
    if element.is_float and kind in BITWISE:
        pytest.skip("floats have no bitwise reductions")
    values = np.array([0, 1] if element.is_bool else [element.minimum, 0, 1, element.maximum], object).astype(element.numpy)
    neutral = np.asarray(identity(kind, element)).astype(element.numpy)
    for value in values:
        found = reduce_values(kind, element, np.array(neutral), [(value.reshape(1), np.array([True]))])
        assert found.dtype == element.numpy and found == value


@pytest.mark.parametrize("kind", list(ReduceKind))
def test_integers_are_combined_with_the_initial_value(kind: ReduceKind) -> None:
    values = np.random.default_rng(3).integers(-50, 50, (3, 4, 5)).astype(np.int32)
    start, mask = np.arange(5, dtype=np.int32), np.random.default_rng(4).random((3, 4, 5)) < 0.7
    combine = {"SUM": np.add, "MAX": np.maximum, "MIN": np.minimum, "BIT_AND": np.bitwise_and, "BIT_OR": np.bitwise_or, "BIT_XOR": np.bitwise_xor}[kind.name]
    expected = start.copy()
    for row, held in zip(values.reshape(-1, 5), mask.reshape(-1, 5), strict=True):
        expected = np.where(held, combine(expected, row), expected)
    chunks = [(values[k], mask[k]) for k in range(3)]
    np.testing.assert_array_equal(reduce_values(kind, as_dtype("int32"), start, chunks), expected)


def test_sums_of_small_floats_are_rounded_once() -> None:
    ones = np.ones(4096, np.float16)
    found = reduce_values(ReduceKind.SUM, as_dtype("float16"), np.float16(0), [(ones, np.ones(4096, bool))])
    assert found == 4096 and found.dtype == np.float16  # rounded after each step it would stay at 2048


def test_narrow_integers_wrap_at_their_width() -> None:
    element = as_dtype("int4")
    values = np.array([7, 7, 3], element.numpy)
    assert int(reduce_values(ReduceKind.SUM, element, np.zeros((), element.numpy), [(values, np.ones(3, bool))])) == 17 - 16
    assert int(reduce_values(ReduceKind.SUM, as_dtype("uint8"), np.uint8(250), [(np.array([10], np.uint8), np.array([True]))])) == 4


def test_extremes_pass_over_nan() -> None:
    values, mask = np.array([np.nan, 2, np.nan, 5], np.float32), np.ones(4, bool)
    assert reduce_values(ReduceKind.MAX, as_dtype("float32"), np.float32(-np.inf), [(values, mask)]) == 5
    assert reduce_values(ReduceKind.MIN, as_dtype("float32"), np.float32(np.inf), [(values, mask)]) == 2
