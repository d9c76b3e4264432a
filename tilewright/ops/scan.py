"""`T.cumsum` and `T.cummax`: inclusive scans along one axis (floor 4; language.md 7.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright import dtypes
from tilewright.errors import Kind, Label, fail
from tilewright.ir import build
from tilewright.ir.buffer import Region, format_shape
from tilewright.ir.expr import Expr, as_expr, cast, const, describe_operand, load, var
from tilewright.ir.stmt import For, LoopKind, ParallelFor, ReduceKind, Seq, Stmt, Store
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, TileOp
from tilewright.ops.operand import as_flag, as_region, name_region, same_extent
from tilewright.ops.reduce import accumulation_dtype, combine, identity


@dataclass(frozen=True, eq=False)
class Scan(TileOp):
    """dst[.., t, ..] = src[.., 0, ..] combined up to t (from the end where `is_reverse`).

    The running value of narrow floats is kept in float32; each element is rounded once.
    """

    src: Region
    dst: Region
    kind: ReduceKind
    axis: int
    is_reverse: bool

    def effects(self) -> Effects:
        return Effects(reads=(self.src,), writes=(self.dst,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        source = environment.array(self.src.buffer)[tuple(slice(s, s + n) for s, n in environment.box(self.src))]
        target = environment.array(self.dst.buffer)[tuple(slice(s, s + n) for s, n in environment.box(self.dst))]
        dtype = self.dst.dtype
        wide: Any = np.float64 if dtype.is_float else np.int64
        values = environment.convert(source, self.src.dtype, dtype).astype(wide)
        flip = (slice(None),) * self.axis + (slice(None, None, -1),)
        ordered = values[flip] if self.is_reverse else values
        with np.errstate(all="ignore"):
            scanned = (np.add if self.kind is ReduceKind.SUM else np.fmax).accumulate(ordered, axis=self.axis)
        scanned = scanned[flip] if self.is_reverse else scanned
        target[...] = environment.convert(scanned, dtypes.float64 if dtype.is_float else dtypes.int64, dtype)

    def lower(self, context: LoweringContext) -> Stmt:
        wide = accumulation_dtype(self.dst.dtype)
        others = [a for a in range(len(self.src.extents)) if a != self.axis]
        shape = tuple(int(n) for n in (self.src.extents[a] for a in others)) or (1,)
        running = context.scratch("running", wide, shape, self.span)
        step = var("t")
        extent = as_expr(self.src.extents[self.axis])
        position = extent - 1 - step if self.is_reverse else step

        def loop(value_at: Any) -> Stmt:
            variables = tuple(var("ijklmn"[p]) for p in range(len(shape)))
            at = dict(zip(others, variables, strict=False))

            def indices(region: Region) -> tuple[Expr, ...]:
                return tuple(s + (position if a == self.axis else at[a]) for a, s in enumerate(region.starts))

            return ParallelFor(self.span, variables, tuple(const(n) for n in shape), Seq(self.span, value_at(variables, indices)))

        def start(variables: tuple[Expr, ...], indices: Any) -> tuple[Stmt, ...]:
            return (Store(self.span, running, variables, cast(identity(self.kind, self.dst.dtype), wide)),)

        def turn(variables: tuple[Expr, ...], indices: Any) -> tuple[Stmt, ...]:
            element = cast(cast(load(self.src.buffer, indices(self.src)), self.dst.dtype), wide)
            return (Store(self.span, running, variables, combine(self.kind, load(running, variables), element)),
                    Store(self.span, self.dst.buffer, indices(self.dst), cast(load(running, variables), self.dst.dtype)))

        return Seq(self.span, (loop(start), For(self.span, step, extent, LoopKind.SERIAL, loop(turn))))


def _scan(src: Any, dst: Any, dim: int, reverse: bool, kind: ReduceKind, name: str) -> None:
    builder = build.current()
    span = builder.here()
    source = as_region(src, f"the source of T.{name}", span)
    target = source if dst is None else as_region(dst, f"the result of T.{name}", span)
    kept = [a for a, k in enumerate(source.is_slice) if k]
    if not kept:
        fail(Kind.OPERAND_KIND, f"the source of T.{name} is the element {source}", span, because="a scan runs along one axis of a tile", help=f"give the tile {source.buffer.name}, or a region of it")
    if not isinstance(dim, int) or not -len(kept) <= dim < len(kept):
        fail(Kind.REDUCE_AXIS, f"dim is {dim if isinstance(dim, int) else describe_operand(dim)}, but {name_region(source)} has {len(kept)} dimension{'s' * (len(kept) != 1)} ({format_shape(source)})", span,
             because=f"an axis lies between {-len(kept)} and {len(kept) - 1}", help="count the axes from 0, or from -1 at the end")
    if len(source.extents) != len(target.extents) or not all(map(same_extent, source.extents, target.extents)):
        fail(Kind.SCAN_SHAPE, f"{name_region(source)} is {format_shape(source)}, {name_region(target)} is {format_shape(target)}",
             (Label(span), Label(source.buffer.span), Label(target.buffer.span)), because="a scan gives a tile of the shape of its source", help="give a destination of the same shape, or none to scan in place")
    if not all(isinstance(n, int) for n in source.extents):
        fail(Kind.SHAPE_STATIC, f"{name_region(source)} is {format_shape(source)}", span, because="a scan works on a tile whose size is known when it is compiled", help="scan a whole tile")
    if source.dtype.is_bool or target.dtype.is_bool:
        fail(Kind.REDUCE_DTYPE, f"T.{name} of {source.dtype!s} into {target.dtype!s}", span, because="a scan works on numbers", help="convert to int32 first")
    builder.emit(Scan(span, source, target, kind, kept[dim], as_flag(reverse, "reverse", span)))


def cumsum(src: Any, dst: Any = None, dim: int = 0, reverse: bool = False, annotations: Any = None) -> None:
    """Inclusive running sum along `dim`, in place where `dst` is None; `reverse` runs from the end."""
    _scan(src, dst, dim, reverse, ReduceKind.SUM, "cumsum")


def cummax(src: Any, dst: Any = None, dim: int = 0, reverse: bool = False, annotations: Any = None) -> None:
    """Inclusive running maximum along `dim`, in place where `dst` is None; `reverse` runs from the end."""
    _scan(src, dst, dim, reverse, ReduceKind.MAX, "cummax")
