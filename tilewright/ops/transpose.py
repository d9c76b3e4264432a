"""`T.transpose`: the last two axes of a tile exchanged (floor 4; language.md 7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.errors import Kind, Label, fail
from tilewright.ir import build
from tilewright.ir.buffer import Region, format_shape
from tilewright.ir.expr import as_expr, cast, const, load, var
from tilewright.ir.stmt import ParallelFor, Seq, Stmt, Store
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, TileOp
from tilewright.ops.operand import as_region, fixed, may_overlap, name_region, read_box, same_extent, write_box


@dataclass(frozen=True, eq=False)
class Transpose(TileOp):
    """dst[.., j, i] = src[.., i, j]."""

    src: Region
    dst: Region

    def effects(self) -> Effects:
        return Effects(reads=(self.src,), writes=(self.dst,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        source = read_box(environment, self.src)
        write_box(environment, self.dst, environment.convert(np.swapaxes(source, -1, -2).copy(), self.src.dtype, self.dst.dtype))

    def lower(self, context: LoweringContext) -> Stmt:
        if may_overlap(self.src, self.dst):
            shape = tuple(int(n) for n in self.src.extents)
            scratch = context.scratch("transposed", self.src.dtype, shape, self.span)
            held = Region(scratch, tuple(const(0) for _ in shape), shape, (True,) * len(shape), self.span)
            straight = tuple(range(len(shape)))
            return Seq(self.span, (_loops(self.src, held, straight, self), _loops(held, self.dst, _swapped(len(shape)), self)))
        return _loops(self.src, self.dst, _swapped(len(self.src.extents)), self)


def _swapped(rank: int) -> tuple[int, ...]:
    return (*range(rank - 2), rank - 1, rank - 2)


def _loops(src: Region, dst: Region, axes: tuple[int, ...], op: Transpose) -> Stmt:
    variables = tuple(var("ijklmn"[a]) for a in range(len(dst.extents)))
    dst_at = tuple(s + v for s, v in zip(dst.starts, variables, strict=True))
    src_at = tuple(s + variables[axes[a]] for a, s in enumerate(src.starts))
    return ParallelFor(op.span, variables, tuple(as_expr(n) for n in dst.extents), Store(op.span, dst.buffer, dst_at, cast(load(src.buffer, src_at), dst.dtype)))


def transpose(src: Any, dst: Any, annotations: Any = None) -> None:
    """dst[.., j, i] = src[.., i, j] on tiles of two or more dimensions.

    Raises TileError (transpose-shape) where the shapes are not each other's transpose.
    """
    builder = build.current()
    span = builder.here()
    source, target = fixed(as_region(src, "the source of T.transpose", span)), fixed(as_region(dst, "the destination of T.transpose", span))
    n, m = source.extents, target.extents
    if len(n) < 2:
        fail(Kind.TRANSPOSE_SHAPE, f"{name_region(source)} is {format_shape(source.buffer)}", (Label(span), Label(source.buffer.span)), because="T.transpose exchanges the last two dimensions",
             help="give a tile of two dimensions; T.copy moves a tile of one")
    if len(n) < 2 or len(n) != len(m) or not all(map(same_extent, (*n[:-2], n[-1], n[-2]), m)) or not all(isinstance(e, int) for e in n):
        wanted = f"({', '.join(str(e) for e in (*n[:-2], *reversed(n[-2:])))})"
        fail(Kind.TRANSPOSE_SHAPE, f"{name_region(source)} is {format_shape(source)}, so its transpose has the shape {wanted}, but {name_region(target)} is {format_shape(target)}",
             (Label(span), Label(source.buffer.span), Label(target.buffer.span)), because="T.transpose exchanges the last two dimensions of a tile of static shape",
             help=f"allocate {target.buffer.name} with shape {wanted}")
    builder.emit(Transpose(span, source, target))
