"""`T.fill` and `T.clear`: every element of a tile takes one value (floor 4; language.md 7.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.ir import build
from tilewright.ir.buffer import Region
from tilewright.ir.expr import Expr, as_expr, convert, var
from tilewright.ir.stmt import If, ParallelFor, Stmt, Store
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, TileOp
from tilewright.ops.operand import as_region, bounds_conditions, fixed, has_extent, index_arrays, plain_index


@dataclass(frozen=True, eq=False)
class Fill(TileOp):
    """dst[...] = value, which has the tile's dtype; parts outside the buffer are left out."""

    dst: Region
    value: Expr

    def effects(self) -> Effects:
        return Effects(writes=(self.dst,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        domain = tuple(max(0, n) for _, n in environment.box(self.dst))
        target, axes, value = environment.array(self.dst.buffer), tuple(range(len(domain))), environment.value(self.value)
        plain = plain_index(environment, self.dst, axes, domain)
        if plain is not None:
            target[plain] = value
            return
        indices, inside = index_arrays(environment, self.dst, axes, domain)
        target[tuple(np.broadcast_to(i, domain)[inside] for i in indices)] = value

    def lower(self, context: LoweringContext) -> Stmt:
        extents = tuple(as_expr(n) for n in self.dst.extents)
        variables = tuple(var(name, e.dtype) for name, e in zip("ijklmnop", extents, strict=False))
        at = tuple(s + v for s, v in zip(self.dst.starts, variables, strict=True))
        body: Stmt = Store(self.span, self.dst.buffer, at, self.value)
        inside = bounds_conditions(self.dst, at)
        return ParallelFor(self.span, variables, extents, body if inside is None else If(self.span, inside, body))


def fill(buffer: Any, value: Any, annotations: Any = None) -> None:
    """Sets every element of a buffer or region to `value`, converted to its dtype; an element `A[i, j]` is just assigned."""
    builder = build.current()
    span = builder.here()
    region = as_region(buffer, "the target of T.fill", span)
    converted = convert(as_expr(value), region.dtype)
    if has_extent(region):
        builder.emit(Fill(span, fixed(region), builder.snapshot(converted)))
    else:
        builder.emit(Store(span, region.buffer, region.starts, converted))


def clear(buffer: Any) -> None:
    """Sets every element of a buffer or region to zero."""
    fill(buffer, 0)
