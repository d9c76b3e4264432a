"""`T.transpose`: the last two axes of a tile exchanged (floor 4; language.md 7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.errors import Kind, Label, fail
from tilewright.ir import build
from tilewright.ir.buffer import Region, format_shape, whole
from tilewright.ir.expr import as_expr, cast, load, var
from tilewright.ir.stmt import ParallelFor, Seq, Stmt, Store
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, TileOp
from tilewright.ops.operand import as_region, fixed, may_overlap, name_region, place, read_box, same_extent, write_box


@dataclass(frozen=True, eq=False)
class Transpose(TileOp):
    """dst[.., j, i] = src[.., i, j]."""

    src: Region
    dst: Region

    def effects(self) -> Effects:
        return Effects(reads=(self.src,), writes=(self.dst,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        source = read_box(environment, self.src).reshape(self._sizes)
        turned = np.swapaxes(source, -1, -2).reshape([n for _, n in environment.box(self.dst)])
        write_box(environment, self.dst, environment.convert(turned, self.src.dtype, self.dst.dtype))

    def lower(self, context: LoweringContext) -> Stmt:
        if not may_overlap(self.src, self.dst):
            return self._loops(self.src, self.dst, is_swapping=True)
        held = whole(context.scratch("transposed", self.src.dtype, self._sizes, self.span))
        return Seq(self.span, (self._loops(self.src, held, is_swapping=False), self._loops(held, self.dst, is_swapping=True)))

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.src.shape)

    def _loops(self, src: Region, dst: Region, is_swapping: bool) -> Stmt:
        """A parallel loop over the elements of `dst`, in its order."""
        variables = tuple(var(name) for name, _ in zip("ijklmnop", dst.shape, strict=False))
        source = load(src.buffer, place(src, (*variables[:-2], variables[-1], variables[-2]) if is_swapping else variables))
        store = Store(self.span, dst.buffer, place(dst, variables), cast(source, dst.dtype))
        return ParallelFor(self.span, variables, tuple(as_expr(n) for n in dst.shape), store)


def transpose(src: Any, dst: Any, annotations: Any = None) -> None:
    """dst[.., j, i] = src[.., i, j] on tiles of two or more dimensions.

    Raises TileError (transpose-shape) where the shapes are not each other's transpose.
    """
    builder = build.current()
    span = builder.here()
    source, target = fixed(as_region(src, "the source of T.transpose", span)), fixed(as_region(dst, "the destination of T.transpose", span))
    n, m = source.shape, target.shape
    if len(n) < 2:
        fail(
            Kind.TRANSPOSE_SHAPE,
            f"{name_region(source)} is {format_shape(source.buffer)}",
            (Label(span), Label(source.buffer.span)),
            because="T.transpose exchanges the last two dimensions",
            help="give a tile of two dimensions; T.copy moves a tile of one",
        )
    if len(n) != len(m) or not all(map(same_extent, (*n[:-2], n[-1], n[-2]), m)) or not all(isinstance(e, int) for e in n):
        wanted = f"({', '.join(str(e) for e in (*n[:-2], *reversed(n[-2:])))})"
        fail(
            Kind.TRANSPOSE_SHAPE,
            f"{name_region(source)} is {format_shape(source)}, so its transpose has the shape {wanted}, but {name_region(target)} is {format_shape(target)}",
            (Label(span), Label(source.buffer.span), Label(target.buffer.span)),
            because="T.transpose exchanges the last two dimensions of a tile of static shape",
            help=f"allocate {target.buffer.name} with shape {wanted}",
        )
    builder.emit(Transpose(span, source, target))
