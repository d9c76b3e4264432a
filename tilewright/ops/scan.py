"""`T.cumsum` and `T.cummax`: inclusive scans along one axis (floor 4; language.md 7.5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright import dtypes
from tilewright.errors import Kind, Label, fail
from tilewright.ir import build
from tilewright.ir.buffer import Region, format_shape, whole
from tilewright.ir.expr import Expr, cast, const, describe_operand, load, var
from tilewright.ir.stmt import For, LoopKind, ParallelFor, ReduceKind, Seq, Stmt, Store
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, ScratchContext, TileOp
from tilewright.ops.operand import as_flag, as_region, fixed, may_overlap, name_region, place, read_box, same_extent, write_box
from tilewright.ops.reduce import accumulation_dtype, combine, identity


@dataclass(frozen=True, eq=False)
class Scan(TileOp):
    """dst[.., t, ..] = src[.., 0, ..] combined up to t (from the end where `is_reverse`).

    The running value of narrow floats is kept in float32; each element is rounded once.
    """

    src: Region
    dst: Region
    kind: ReduceKind
    axis: int  # of the sliced axes
    is_reverse: bool

    def effects(self) -> Effects:
        return Effects(reads=(self.src,), writes=(self.dst,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        dtype = self.dst.dtype
        wide = dtypes.float64 if dtype.is_float else dtypes.int64 if dtype.is_signed else dtypes.uint64
        values = environment.convert(read_box(environment, self.src), self.src.dtype, dtype).astype(wide.numpy).reshape(self._sizes)
        flip = (slice(None),) * self.axis + (slice(None, None, -1),)
        ordered = values[flip] if self.is_reverse else values
        with np.errstate(all="ignore"):
            if self.kind is ReduceKind.SUM:
                scanned = np.add.accumulate(ordered, axis=self.axis)
            else:
                scanned = np.fmax(np.fmax.accumulate(ordered, axis=self.axis), np.asarray(identity(self.kind, dtype).value).astype(wide.numpy))
        scanned = (scanned[flip] if self.is_reverse else scanned).reshape([n for _, n in environment.box(self.dst)])
        write_box(environment, self.dst, environment.convert(scanned, wide, dtype))

    def lower(self, context: LoweringContext) -> Stmt:
        if may_overlap(self.src, self.dst) and not self.is_in_place:
            return self._through_scratch(context)
        wide = accumulation_dtype(self.dst.dtype)
        sizes = self._sizes
        lanes = tuple(n for a, n in enumerate(sizes) if a != self.axis) or (1,)
        running = context.scratch("running", wide, lanes, self.span)
        step = var("t")
        position = sizes[self.axis] - 1 - step if self.is_reverse else step

        def loop(body: Callable[[tuple[Expr, ...], tuple[Expr, ...]], tuple[Stmt, ...]]) -> Stmt:
            """A parallel loop over the lanes; `body` takes the place of a lane and that of its element in this step."""
            variables = tuple(var(name) for name, _ in zip("ijklmnop", lanes, strict=False))
            others = variables[: len(sizes) - 1]
            return ParallelFor(
                self.span, variables, tuple(map(const, lanes)), Seq(self.span, body(variables, (*others[: self.axis], position, *others[self.axis :])))
            )

        def turn(lane: tuple[Expr, ...], at: tuple[Expr, ...]) -> tuple[Stmt, ...]:
            element = cast(cast(load(self.src.buffer, place(self.src, at)), self.dst.dtype), wide)
            return (
                Store(self.span, running, lane, combine(self.kind, load(running, lane), element)),
                Store(self.span, self.dst.buffer, place(self.dst, at), cast(load(running, lane), self.dst.dtype)),
            )

        start = loop(lambda lane, at: (Store(self.span, running, lane, cast(identity(self.kind, self.dst.dtype), wide)),))
        return Seq(self.span, (start, For(self.span, step, const(sizes[self.axis]), LoopKind.SERIAL, loop(turn))))

    def as_loops(self, context: ScratchContext) -> Stmt:
        """A parallel loop over the lanes, each of which one thread scans: what a GPU does with tiles in shared memory that overlap in place or not at all."""
        wide = accumulation_dtype(self.dst.dtype)
        sizes = self._sizes
        lanes = tuple(n for a, n in enumerate(sizes) if a != self.axis) or (1,)
        running = context.variable("running", wide, self.span)
        zero = (const(0),)
        step = var("t")
        position = sizes[self.axis] - 1 - step if self.is_reverse else step
        variables = tuple(var(name) for name, _ in zip("ijklmnop", lanes, strict=False))
        others = variables[: len(sizes) - 1]
        at = (*others[: self.axis], position, *others[self.axis :])
        element = cast(cast(load(self.src.buffer, place(self.src, at)), self.dst.dtype), wide)
        turn = Seq(
            self.span,
            (
                Store(self.span, running, zero, combine(self.kind, load(running, zero), element)),
                Store(self.span, self.dst.buffer, place(self.dst, at), cast(load(running, zero), self.dst.dtype)),
            ),
        )
        start = Store(self.span, running, zero, cast(identity(self.kind, self.dst.dtype), wide))
        body = Seq(self.span, (start, For(self.span, step, const(sizes[self.axis]), LoopKind.SERIAL, turn)))
        return ParallelFor(self.span, variables, tuple(map(const, lanes)), body)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.src.shape)

    @property
    def is_in_place(self) -> bool:
        same_starts = self.src.buffer is self.dst.buffer and all(a is b for a, b in zip(self.src.starts, self.dst.starts, strict=True))
        return same_starts and self.src.is_slice == self.dst.is_slice

    def _through_scratch(self, context: LoweringContext) -> Stmt:
        """The destination overlaps the source elsewhere: the source is read before anything is written."""
        held = whole(context.scratch("scanned", self.src.dtype, self._sizes, self.span))
        variables = tuple(var(name) for name, _ in zip("ijklmnop", self._sizes, strict=False))
        fetch = Store(self.span, held.buffer, variables, load(self.src.buffer, place(self.src, variables)))
        return Seq(self.span, (ParallelFor(self.span, variables, tuple(map(const, self._sizes)), fetch), dataclasses.replace(self, src=held).lower(context)))


def _scan(src: Any, dst: Any, dim: int, reverse: bool, kind: ReduceKind, name: str) -> None:
    builder = build.current()
    span = builder.here()
    source = fixed(as_region(src, f"the source of T.{name}", span))
    target = source if dst is None else fixed(as_region(dst, f"the result of T.{name}", span))
    kept = [a for a, k in enumerate(source.is_slice) if k]
    if not kept:
        fail(
            Kind.OPERAND_KIND,
            f"the source of T.{name} is the element {source}",
            span,
            because="a scan runs along one axis of a tile",
            help=f"give the tile {source.buffer.name}, or a region of it",
        )
    if not isinstance(dim, int) or not -len(kept) <= dim < len(kept):
        fail(
            Kind.REDUCE_AXIS,
            f"dim is {dim if isinstance(dim, int) else describe_operand(dim)}, but {name_region(source)} has {len(kept)} "
            f"dimension{'s' * (len(kept) != 1)} ({format_shape(source)})",
            span,
            because=f"an axis lies between {-len(kept)} and {len(kept) - 1}",
            help="count the axes from 0, or from -1 at the end",
        )
    if len(source.shape) != len(target.shape) or not all(map(same_extent, source.shape, target.shape)):
        fail(
            Kind.SCAN_SHAPE,
            f"{name_region(source)} is {format_shape(source)}, but {name_region(target)} is {format_shape(target)}",
            (Label(span), Label(source.buffer.span), Label(target.buffer.span)),
            because="a scan gives a tile of the shape of its source",
            help="give a destination of the same shape, or none to scan in place",
        )
    if not all(isinstance(n, int) for n in source.extents):
        fail(
            Kind.SHAPE_STATIC,
            f"{name_region(source)} is {format_shape(source)}",
            span,
            because="a scan works on a tile whose size is known when it is compiled",
            help="scan a whole tile",
        )
    if source.dtype.is_bool or target.dtype.is_bool:
        fail(Kind.REDUCE_DTYPE, f"T.{name} of {source.dtype!s} into {target.dtype!s}", span, because="a scan works on numbers", help="convert to int32 first")
    builder.emit(Scan(span, source, target, kind, dim % len(kept), as_flag(reverse, "reverse", span)))


def cumsum(src: Any, dst: Any = None, dim: int = 0, reverse: bool = False, annotations: Any = None) -> None:
    """Inclusive running sum along `dim`, in place where `dst` is None; `reverse` runs from the end."""
    _scan(src, dst, dim, reverse, ReduceKind.SUM, "cumsum")


def cummax(src: Any, dst: Any = None, dim: int = 0, reverse: bool = False, annotations: Any = None) -> None:
    """Inclusive running maximum along `dim`, in place where `dst` is None; `reverse` runs from the end."""
    _scan(src, dst, dim, reverse, ReduceKind.MAX, "cummax")
