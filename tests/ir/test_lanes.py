"""Values of several lanes: packed, taken apart, broadcast."""

from __future__ import annotations

import numpy as np
import pytest

from tests.execution import refused
from tests.ir.test_constants import run
from tilewright import dtypes
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind
from tilewright.ir.expr import const, var
from tilewright.ir.lanes import broadcast, extract_lane, pack_lanes, split_value

X, V = var("x"), var("v", as_dtype("float32x4"))


def test_packing_and_splitting_are_inverse() -> None:
    values = tuple(X * k for k in range(4))
    packed = pack_lanes(values)
    assert packed.dtype == "int32x4" and split_value(packed) == values
    assert pack_lanes([X]) is X and split_value(X) == (X,)


def test_lanes_of_a_vector() -> None:
    lanes = split_value(V)
    assert [lane.dtype for lane in lanes] == [dtypes.float32] * 4
    assert [run(lane, {V: np.array([5, 6, 7, 8], np.float32)}) for lane in lanes] == [5, 6, 7, 8]
    assert extract_lane(V, const(2)) is lanes[2]


def test_one_value_in_all_lanes() -> None:
    np.testing.assert_array_equal(run(broadcast(1.5, as_dtype("float16x2")), {}), [1.5, 1.5])


@pytest.mark.parametrize("lane", [4, -1, X, 1.5, "0"])
def test_lanes_that_there_are_not(lane: object) -> None:
    with refused(Kind.OPERAND, "float32x4"):
        extract_lane(V, lane)


def test_numbers_of_lanes_that_no_dtype_has() -> None:
    with refused(Kind.OPERAND, "3 lanes"):
        pack_lanes([X, X, X])
