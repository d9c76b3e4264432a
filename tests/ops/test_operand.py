"""What the operations share: operands as regions, extents, overlap, bounds, boxes of the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.execution import refused
from tilewright import dtypes
from tilewright.errors import Kind, Span
from tilewright.ir.buffer import Buffer, Region, Scope, whole
from tilewright.ir.expr import const, var
from tilewright.ir.tileop import Storage, TilePlan
from tilewright.ops.operand import (
    as_element,
    as_flag,
    as_region,
    bounds_conditions,
    has_extent,
    is_one,
    linear_address,
    may_overlap,
    name_region,
    place,
    read_box,
    same_extent,
    write_box,
)

HERE = Span("kernel.py", 3)


def buffer(shape: Any, scope: Scope = Scope.SHARED, **options: Any) -> Buffer:
    return Buffer("A", dtypes.int32, tuple(shape), scope, HERE, **options)


def box(of: Buffer, starts: Any, extents: Any) -> Region:
    return Region(of, tuple(s if not isinstance(s, int) else const(s) for s in starts), tuple(extents), (True,) * of.rank, HERE)


class Environment:
    """The part of the interpreter that boxes need, over one array."""

    def __init__(self, array: Any, safe: int = 0) -> None:
        self.elements, self.safe = array, safe

    def value(self, expression: Any) -> Any:
        return np.int32(expression.value)

    def array(self, of: Buffer) -> Any:
        return self.elements

    def safe_value(self, of: Buffer) -> Any:
        return self.safe

    def convert(self, values: Any, source: Any, target: Any) -> Any:
        return values

    def box(self, region: Region) -> Any:
        return tuple((int(s.value), int(n)) for s, n in zip(region.starts, region.extents, strict=True))


def test_operands_as_regions() -> None:
    a = buffer((4, 6))
    assert as_region(a, "x", HERE).is_whole and has_extent(as_region(a, "x", HERE))
    region = a[1:3, 2]
    assert as_region(region, "x", HERE) is region
    point = as_region(a[1, 2], "x", HERE)
    assert point.extents == (1, 1) and not has_extent(point) and point.starts == (const(1), const(2))
    with refused(Kind.OPERAND_KIND, "the operand of T.test is"):
        as_region(3, "the operand of T.test", HERE)
    with refused(Kind.OPERAND_KIND):
        as_region(a[0, 0] + 1, "x", HERE)
    assert as_element(a[1, 2], "x", HERE).starts == (const(1), const(2))
    with refused(Kind.ATOMIC_TARGET):
        as_element(a, "x", HERE)


def test_flags() -> None:
    assert as_flag(True, "clear", HERE) is True and as_flag(0, "clear", HERE) is False
    with refused(Kind.OPTION_VALUE, "clear"):
        as_flag(var("x") > 0, "clear", HERE)


def test_extents() -> None:
    n = var("n")
    assert is_one(1) and is_one(const(1)) and not is_one(n) and not is_one(2)
    assert same_extent(n, n) and same_extent(4, const(4)) and not same_extent(4, n)
    assert name_region(whole(buffer((4,)))) == "A"
    assert name_region(box(buffer((4,)), (1,), (2,))) == "A[1:1 + 2]" or name_region(box(buffer((4,)), (1,), (2,))) == "A[1:3]"
    i, j = var("i"), var("j")
    region = Region(buffer((4, 5, 6)), (const(1), const(2), n), (2, 1, 3), (True, False, True), HERE)
    assert [str(x) for x in place(region, (i, j))] == ["1 + i", "2", "n + j"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=2))
def test_overlap_of_constant_boxes(axes: list[tuple[int, int, int, int]]) -> None:
    of = buffer((12,) * len(axes))
    first, second = box(of, [a[0] for a in axes], [a[1] for a in axes]), box(of, [a[2] for a in axes], [a[3] for a in axes])
    wanted = all(set(range(s, s + n)) & set(range(t, t + m)) for s, n, t, m in axes)
    assert may_overlap(first, second) is wanted


def test_overlap_of_others() -> None:
    of, k = buffer((64,)), var("k")
    assert not may_overlap(box(of, (k,), (8,)), box(of, (k + 8,), (8,)))
    assert may_overlap(box(of, (k,), (8,)), box(of, (k + 7,), (8,)))
    assert may_overlap(box(of, (k,), (8,)), box(of, (0,), (8,)))
    assert not may_overlap(whole(of), whole(buffer((64,))))
    assert may_overlap(whole(of), whole(Buffer("v", dtypes.int8, (256,), Scope.SHARED, HERE, None, of)))


def test_bounds_of_tiles_only() -> None:
    of, k, i = buffer((8,)), var("k"), var("i")
    assert bounds_conditions(box(of, (2,), (6,)), (const(2) + i,)) is None
    assert str(bounds_conditions(box(of, (3,), (6,)), (const(3) + i,))) == "3 + i >= 0 and 3 + i < 8"
    assert bounds_conditions(box(of, (k,), (1,)), (k,)) is not None
    assert bounds_conditions(box(buffer((8,), Scope.GLOBAL), (k,), (6,)), (k + i,)) is None


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(0, 4), st.integers(1, 4)), st.tuples(st.integers(-5, 6), st.integers(-5, 6)), st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_boxes_of_a_tensor(shape: tuple[int, int], start: tuple[int, int], extent: tuple[int, int]) -> None:
    array = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    region = box(buffer(shape, Scope.GLOBAL), start, extent)
    wanted = np.full(extent, -7, np.int32)
    after = array.copy()
    for p in np.ndindex(*extent):
        at = start[0] + p[0], start[1] + p[1]
        if 0 <= at[0] < shape[0] and 0 <= at[1] < shape[1]:
            wanted[p] = array[at]
            after[at] = 100 + 10 * p[0] + p[1]
    np.testing.assert_array_equal(read_box(Environment(array, -7), region), wanted)
    grid = np.indices(extent)
    write_box(Environment(array), region, 100 + 10 * grid[0] + grid[1])
    np.testing.assert_array_equal(array, after)


@pytest.mark.parametrize("start", [-1, 3])
def test_boxes_outside_a_tile(start: int) -> None:
    with refused(Kind.REGION_RANGE, "goes outside A"):
        read_box(Environment(np.zeros(4, np.int32)), box(buffer((4,)), (start,), (2,)))


class Plans:
    """A lowering context whose rows lie `pitch` elements apart."""

    def __init__(self, pitch: int) -> None:
        self.pitch = pitch

    def plan(self, of: Buffer) -> TilePlan:
        return TilePlan(of.dtype, Storage.ROW_MAJOR, self.pitch)


@pytest.mark.parametrize(
    ("scope", "strides", "wanted"), [(Scope.SHARED, None, (50, 10, 1)), (Scope.GLOBAL, None, (35, 7, 1)), (Scope.GLOBAL, (100, 1, 20), (100, 1, 20))]
)
def test_addresses(scope: Scope, strides: Any, wanted: tuple[int, ...]) -> None:
    context: Any = Plans(10)
    offset, found = linear_address(context, buffer((3, 5, 7), scope, given_strides=strides), (const(1), const(2), const(3)))
    assert found == wanted and offset.value == sum(s * k for s, k in zip(wanted, (1, 2, 3), strict=True))
    assert linear_address(context, buffer((9,), scope), (const(4),))[1] == (1,)
