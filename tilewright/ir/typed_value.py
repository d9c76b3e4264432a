"""Dtypes called as functions: `T.float32(x)`, `T.int32()`, `T.float16x2(a, b)` (floor 2). Importing this module is what makes them callable."""

from __future__ import annotations

from typing import Any

from tilewright.dtypes import DType
from tilewright.errors import Kind, fail
from tilewright.ir.expr import Expr, as_expr, cast, var
from tilewright.ir.lanes import pack_lanes
from tilewright.spans import span_of_caller


def make_expression(dtype: DType, *values: Any) -> Expr:
    """One value converted (and broadcast to all lanes), as many values as lanes packed, no value a fresh variable."""
    if not values:
        return var("v", dtype)
    if len(values) not in (1, dtype.lanes):
        fail(
            Kind.OPERAND,
            f"{dtype!s} takes one value or {dtype.lanes}, but got {len(values)}",
            span_of_caller(),
            because="a vector dtype packs exactly its lanes",
            help=f"T.{dtype!s}(x) broadcasts one value",
        )
    if len(values) == 1:
        return cast(as_expr(values[0], dtype if dtype.lanes == 1 else dtype.scalar), dtype)
    return pack_lanes([cast(as_expr(v), dtype.scalar) for v in values])


DType.make_expression = staticmethod(make_expression)
