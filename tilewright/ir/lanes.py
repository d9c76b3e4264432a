"""Values of several lanes (floor 2): made of scalars, taken apart, and rearranged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilewright.dtypes import LANE_COUNTS, DType
from tilewright.errors import Kind, fail
from tilewright.ir.expr import Expr, Op, as_expr, as_integer, call, cast, const, describe_operand
from tilewright.ir.intrinsic import Intrinsic
from tilewright.spans import span_of_caller

PACK_LANES = Intrinsic("pack_lanes", -1, lambda kinds: kinds[0].with_lanes(len(kinds)), lambda *lanes: np.stack(np.broadcast_arrays(*lanes), axis=-1))
EXTRACT_LANE = Intrinsic("extract_lane", 2, lambda kinds: kinds[0].scalar, lambda vector, lane: vector[..., int(lane)])


def pack_lanes(values: Sequence[Expr]) -> Expr:
    """Scalars of one dtype as one value; a single one stays what it is.

    Raises TileError (operand) for a number of lanes that no dtype has.
    """
    if len(values) != 1 and len(values) not in LANE_COUNTS:
        fail(
            Kind.OPERAND,
            f"a value of {len(values)} lanes was asked for",
            span_of_caller(),
            because=f"a vector dtype has {', '.join(map(str, LANE_COUNTS))} lanes",
            help="use one of these numbers",
        )
    return values[0] if len(values) == 1 else call(PACK_LANES, *values)


def split_value(value: Expr) -> tuple[Expr, ...]:
    """The lanes of a value, first lane first."""
    if value.dtype.lanes == 1:
        return (value,)
    if value.op is Op.CALL and value.attribute is PACK_LANES:
        return value.args
    return tuple(call(EXTRACT_LANE, value, const(lane)) for lane in range(value.dtype.lanes))


def extract_lane(vector: Any, lane: Any) -> Expr:
    """`T.extract_lane(v, i)`: lane i of a vector, i known when the kernel is traced.

    Raises TileError (operand) for a lane that there is not.
    """
    value, number = as_expr(vector), as_integer(lane.value if isinstance(lane, Expr) and lane.is_const else lane)
    if number is None or not 0 <= number < value.dtype.lanes:
        fail(
            Kind.OPERAND,
            f"the lane is {describe_operand(lane)}, but `{value}` is {value.dtype!s}",
            span_of_caller(),
            because=f"the lanes of {value.dtype!s} are counted from 0 to {value.dtype.lanes - 1}, and known when the kernel is traced",
            help="give an int in this range",
        )
    return split_value(value)[number]


def broadcast(value: Any, dtype: DType) -> Expr:
    """A scalar in all lanes of a dtype."""
    return cast(as_expr(value, dtype.scalar), dtype)
