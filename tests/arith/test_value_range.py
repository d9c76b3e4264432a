"""Every operation of the domain against all pairs of small sets: the result must contain each value, and be tight where it can be."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import trunc

import pytest

from tilewright.arith import value_range as vr
from tilewright.arith.value_range import UNLIMITED, ValueRange, exactly, value_range

RANGES = [
    exactly(0),
    exactly(5),
    exactly(-4),
    value_range(0, 7),
    value_range(-5, 3),
    value_range(-9, -2),
    value_range(0, 12, 4),
    value_range(-8, 8, 4, 2),
    value_range(1, 10, 3, 1),
    value_range(2, None),
    value_range(None, -1),
    value_range(None, 12, 6, 3),
    UNLIMITED,
]
WINDOW = range(-40, 41)

OPERATIONS: list[tuple[Callable[[ValueRange, ValueRange], ValueRange], Callable[[int, int], int]]] = [
    (vr.add, lambda x, y: x + y),
    (vr.subtract, lambda x, y: x - y),
    (vr.multiply, lambda x, y: x * y),
    (vr.minimum, min),
    (vr.maximum, max),
    (vr.bit_and, lambda x, y: x & y),
    (vr.bit_or, lambda x, y: x | y),
    (vr.bit_xor, lambda x, y: x ^ y),
]
DIVISIONS: list[tuple[Callable[[ValueRange, ValueRange], ValueRange], Callable[[int, int], int]]] = [
    (vr.floordiv, lambda x, y: x // y),
    (vr.floormod, lambda x, y: x % y),
    (vr.truncdiv, lambda x, y: trunc(x / y)),
    (vr.truncmod, lambda x, y: x - trunc(x / y) * y),
]


def members(known: ValueRange) -> list[int]:
    return [x for x in WINDOW if known.contains(x)]


@pytest.mark.parametrize(("operation", "meaning"), [*OPERATIONS, *DIVISIONS])
def test_results_contain_the_values_of_all_operands(operation: Callable[..., ValueRange], meaning: Callable[[int, int], int]) -> None:
    is_division = any(operation is d for d, _ in DIVISIONS)
    for a, b in product(RANGES, RANGES):
        result = operation(a, b)
        for x, y in product(members(a), members(b)):
            if not (is_division and y == 0):
                assert result.contains(meaning(x, y)), f"{a} {b}: {x}, {y} give {meaning(x, y)}, which is not in {result}"


def test_shifts_contain_the_values_of_all_operands() -> None:
    for a, count in product(RANGES, [exactly(0), exactly(3), value_range(0, 4), value_range(1, 5, 2, 1)]):
        for x, n in product(members(a), members(count)):
            assert vr.shift_left(a, count).contains(x << n) and vr.shift_right(a, count).contains(x >> n)


def test_unary_operations_are_exact_on_the_limits() -> None:
    for a in RANGES:
        for x in members(a):
            assert vr.negate(a).contains(-x) and vr.bit_not(a).contains(~x) and vr.scale(a, -3).contains(-3 * x)
    assert vr.negate(value_range(-3, 8)) == value_range(-8, 3)


def test_join_and_meet_are_union_and_intersection() -> None:
    for a, b in product(RANGES, RANGES):
        union, common = vr.join(a, b), vr.meet(a, b)
        for x in WINDOW:
            assert not (a.contains(x) or b.contains(x)) or union.contains(x)
            assert (a.contains(x) and b.contains(x)) == (not common.is_empty and common.contains(x)), (str(a), str(b), x)


def test_limits_move_to_members_of_the_residue_class() -> None:
    assert value_range(1, 14, 4) == ValueRange(4, 12, 4, 0)
    assert value_range(1, 7, 4) == exactly(4)
    assert value_range(1, 3, 4).is_empty


def test_known_results_are_as_tight_as_they_can_be() -> None:
    assert vr.floordiv(value_range(0, 127), exactly(8)) == value_range(0, 15)
    assert vr.floormod(value_range(64, 71), exactly(8)) == value_range(0, 7)
    assert vr.floormod(value_range(66, 69), exactly(8)) == value_range(2, 5)
    assert vr.floormod(value_range(None, None, 8, 3), exactly(4)) == exactly(3)
    assert vr.floordiv(value_range(0, None, 32), exactly(32)) == value_range(0, None)
    assert vr.floormod(value_range(0, None), value_range(1, 9)) == value_range(0, 8)
    assert vr.multiply(value_range(0, None), value_range(1, 4)) == value_range(0, None)
    assert vr.meet(value_range(0, 100, 4, 1), value_range(None, None, 6, 3)) == value_range(0, 100, 12, 9)
    assert vr.bit_and(value_range(-100, 100), exactly(15)) == value_range(0, 15)
