"""Dtypes called as functions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.execution import refused
from tests.ir.test_constants import run
from tilewright import dtypes
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind
from tilewright.ir.expr import Op, var
from tilewright.ir.lanes import PACK_LANES
from tilewright.ir.typed_value import make_expression

X = var("x")


def test_one_value_is_converted() -> None:
    assert dtypes.float16(0.1).value == float(np.float16(0.1)) and dtypes.uint8(300).value == 44 and dtypes.int64(X).dtype == "int64"
    assert make_expression(dtypes.int8, 3).dtype == "int8"


def test_no_value_is_a_fresh_variable() -> None:
    first, second = dtypes.int32(), dtypes.int32()
    assert first.op is Op.VAR and first.dtype == "int32" and first is not second


@pytest.mark.parametrize("lanes", [2, 4])
def test_lanes_are_packed_or_broadcast(lanes: int) -> None:
    dtype = as_dtype(f"float32x{lanes}")
    packed = dtype(*[X * k for k in range(lanes)])
    assert packed.dtype == dtype and packed.attribute is PACK_LANES
    np.testing.assert_array_equal(run(packed, {X: 3}), 3.0 * np.arange(lanes))
    assert dtype(*[X * k for k in range(lanes)]) is packed
    np.testing.assert_array_equal(run(dtype(X), {X: 3}), np.full(lanes, 3.0))


def test_other_counts_are_refused() -> None:
    with refused(Kind.OPERAND, "takes one value or 4"):
        as_dtype("float32x4")(1, 2)
    with refused(Kind.OPERAND):
        dtypes.float32(1, 2)
