"""Ranges of integers: exact for index arithmetic, those of the dtype for what may wrap."""

from __future__ import annotations

from tests.codegen.cuda.thread_programs import at, tensor
from tilewright.arith.value_range import UNLIMITED, dtype_range, value_range
from tilewright.codegen.cfamily.ranges import Ranges, fits_int32
from tilewright.dtypes import int32, int64, uint8
from tilewright.ir.expr import cast, maximum, select, var


def test_index_arithmetic_is_exact() -> None:
    ranges, i, n = Ranges(), var("i"), var("n")
    ranges.bind(i, value_range(0, 99), is_index=True)
    ranges.bind(n, value_range(0, (1 << 31) - 1), is_index=True)
    assert ranges.of(i * 4 + 3) == value_range(3, 399, 4, 3)
    assert not fits_int32(ranges.of(n * i)) and ranges.of(n * i).high == ((1 << 31) - 1) * 99
    assert ranges.is_index(cast(i, int64) * 8) and ranges.of(i // 8 - 1) == value_range(-1, 11)


def test_other_arithmetic_wraps() -> None:
    ranges, i, data = Ranges(), var("i"), tensor("data", int32, 8)
    ranges.bind(i, value_range(0, 7), is_index=True)
    loaded = at(data, i)
    assert not ranges.is_index(loaded * 4) and ranges.of(loaded * 4) == dtype_range(int32)
    assert ranges.of(loaded % 8) == value_range(0, 7)
    assert ranges.of(cast(at(tensor("bytes", uint8, 8), i), int32) + 1) == value_range(1, 256)


def test_choices_join_their_sides() -> None:
    ranges, i = Ranges(), var("i")
    ranges.bind(i, value_range(-5, 5), is_index=True)
    assert ranges.of(select(i < 0, -i, i)) == value_range(-5, 5)
    assert ranges.of(maximum(i, 0)) == value_range(0, 5)


def test_a_variable_that_is_bound_again_forgets() -> None:
    ranges, i = Ranges(), var("i")
    ranges.bind(i, value_range(0, 3), is_index=True)
    assert ranges.of(i + 1).high == 4
    ranges.bind(i, value_range(0, 7), is_index=True)
    assert ranges.of(i + 1).high == 8
    ranges.bind(i, UNLIMITED, is_index=False)
    assert ranges.of(i + 1) == dtype_range(int32)
