"""`T.cumsum` and `T.cummax`: inclusive scans along one axis (floor 4; language.md 7.5)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright import dtypes
from tilewright.arith.lower_layout import is_below, lower_layout
from tilewright.errors import Kind, Label, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Region, format_shape, whole
from tilewright.ir.expr import Expr, Op, binary, cast, const, describe_operand, load, select, var
from tilewright.ir.stmt import WARP_THREADS, Barrier, For, If, Let, LoopKind, ParallelFor, ReduceKind, Seq, Stmt, Store, WarpExchange, WarpExchangeKind
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, ScratchContext, ThreadContext, TileOp
from tilewright.layout import LANE, REG, WARP, Axis, Layout, whole_registers
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

    # -- GPU
    def lower_to_threads(self, context: ThreadContext) -> Stmt:
        """One run of digits of the axis after the other, the lowest first: registers one by one, lanes by butterfly shuffles, warps through shared memory.

        After a run each register holds the scan of its block, the elements that differ in the digits so far, and `total` that of the whole block. Source and
        destination lie in one layout, for which `can_scan_in_registers` holds.
        """
        layout, source = context.fragment(self.src.buffer)
        _, target = context.fragment(self.dst.buffer)
        return _ThreadScan(self, context, layout, source, target).run()

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


_UNROLLED_STEPS = 32  # totals of other warps that are loaded together
_BLOCK, _STEP, _GROUP = "block", "step", "group"  # registers: of the block so far, along this run, all others


@dataclass(frozen=True)
class _Run:
    """Neighbouring digits of the axis that are of one kind: positions among the digits of REG, LANE or WARP, lowest first."""

    kind: str
    digits: tuple[int, ...]


def _runs(layout: Layout, axis: int) -> list[_Run]:
    """The digits of an axis, lowest first; those that no register or thread steps are missing."""
    runs: list[_Run] = []
    for bit in layout.out_digits(f"d{axis}"):
        for name in (REG, LANE, WARP):
            for digit, column in enumerate(layout.columns_of(name)):
                if column == 1 << bit:
                    before = runs.pop().digits if runs and runs[-1].kind == name else ()
                    runs.append(_Run(name, (*before, digit)))
    return runs


def can_scan_in_registers(layout: Layout, axis: int) -> bool:
    """Whether each digit of the axis is one digit of registers, lanes or warps, of the lanes one of radix 2."""
    digits = layout.out_digits(f"d{axis}")
    steps = [c for c in layout.columns if any(c >> bit & 1 for bit in digits)]
    lanes = zip(layout.in_axis(LANE).digits, layout.columns_of(LANE), strict=True)
    return sorted(steps) == [1 << bit for bit in digits] and all(radix == 2 for radix, column in lanes if column in steps)


class _ThreadScan:
    """The statements of one thread for a scan."""

    def __init__(self, op: Scan, context: ThreadContext, layout: Layout, source: Buffer, target: Buffer) -> None:
        self.op, self.context, self.layout, self.source, self.target = op, context, layout, source, target
        self.span, self.registers = op.span, layout.in_axis(REG)
        self.wide = accumulation_dtype(op.dst.dtype)
        self.identity = cast(identity(op.kind, op.dst.dtype), self.wide)
        self.scan, self.total = (context.registers(name, self.wide, self.registers.extent, op.span) for name in ("scan", "total"))
        self.block: tuple[int, ...] = ()  # register digits of the runs so far
        self.parts: list[list[Stmt]] = [[]]  # a barrier stands between them

    def run(self) -> Stmt:
        self.load()
        runs = _runs(self.layout, self.op.axis)
        for number, run in enumerate(runs):
            is_first, is_last = number == 0, number == len(runs) - 1
            if is_first and run.kind != REG:
                self.emit(self.unrolled(self.registers.extent, lambda r: self.store(self.total, r, load(self.scan, (r,)))))
            if run.kind == REG:
                self.along_registers(run.digits, is_first, is_last)
            elif run.kind == LANE:
                self.along_lanes(run.digits, is_last)
            else:
                self.along_warps(run.digits, is_last)
        self.emit(self.unrolled(self.registers.extent, lambda r: self.store(self.target, r, cast(load(self.scan, (r,)), self.op.dst.dtype))))
        warps = self.layout.in_axis(WARP).extent
        has_idle_warps = warps * self.layout.in_axis(LANE).extent < self.context.num_threads
        body: list[Stmt] = []
        for part in self.parts:
            made = Seq(self.span, tuple(part))
            body += [Barrier(self.span)] if body else []
            body.append(If(self.span, self.context.warp < warps, made) if has_idle_warps else made)
        return Seq(self.span, tuple(body))

    # -- statements
    def emit(self, *made: Stmt) -> None:
        self.parts[-1] += made

    def store(self, buffer: Buffer, at: Expr, value: Expr) -> Stmt:
        return Store(self.span, buffer, (at,), value)

    def unrolled(self, count: int, body: Callable[[Expr], Stmt]) -> Stmt:
        step = var("r")
        return For(self.span, step, const(count), LoopKind.UNROLLED, body(step)) if count > 1 else body(const(0)) if count else Seq(self.span, ())

    def merged(self, earlier: Expr, later: Expr) -> Expr:
        return combine(self.op.kind, earlier, later)

    def places(self, along: tuple[int, ...]) -> tuple[Callable[[Expr, Expr, Expr], Expr], int, int]:
        """The register at (place in its block, step along these digits, group); how many places a block has, how many groups there are."""
        rest = tuple(d for d in range(len(self.registers.digits)) if d not in self.block and d not in along)
        kinds = ((_BLOCK, self.block), (_STEP, along), (_GROUP, rest))
        axes = tuple(Axis(name, tuple(self.registers.digits[d] for d in digits)) for name, digits in kinds)
        layout = Layout(axes, (self.registers,), tuple(1 << d for _, digits in kinds for d in digits))
        block, _, groups = axes
        return lambda b, s, g: lower_layout(layout, {_BLOCK: b, _STEP: s, _GROUP: g})[REG], block.extent, groups.extent

    def load(self) -> None:
        """scan = the elements. Padding comes first in a scan from the end, and must change nothing there."""
        extents = tuple(int(n) for n in self.op.src.extents)
        axis, count = self.op.axis, self.registers.extent
        is_padded = self.op.is_reverse and self.layout.out_axis(f"d{axis}").extent > extents[axis]
        num_whole = whole_registers(self.layout, extents) if is_padded else count

        def element(r: Expr, is_whole: bool) -> Stmt:
            value = cast(cast(load(self.source, (r,)), self.op.dst.dtype), self.wide)
            if self.op.kind is not ReduceKind.SUM:  # a number beats NaN, the least of all too
                value = self.merged(self.identity, value)
            if not is_whole:
                inside = is_below(self.layout, {REG: r, LANE: self.context.lane, WARP: self.context.warp}, f"d{axis}", extents[axis])
                value = select(inside, value, self.identity, is_lazy=True)
            return self.store(self.scan, r, value)

        self.emit(self.unrolled(num_whole, lambda r: element(r, True)), self.unrolled(count - num_whole, lambda r: element(r + num_whole, False)))

    # -- runs
    def along_registers(self, digits: tuple[int, ...], is_first: bool, is_last: bool) -> None:
        at, size, groups = self.places(digits)
        count = math.prod(self.registers.digits[d] for d in digits)
        zero, last = const(0), const(0 if self.op.is_reverse else count - 1)
        scanned = self.scan if is_first else self.total

        def turn(step: Expr) -> tuple[Expr, Expr]:
            """The earlier and the later of two neighbours."""
            return (count - 1 - step, count - 2 - step) if self.op.is_reverse else (step, step + 1)

        def along(step: Expr) -> Stmt:
            earlier, later = turn(step)

            def one(g: Expr) -> Stmt:
                place = at(zero, later, g)
                return self.store(scanned, place, self.merged(load(scanned, (at(zero, earlier, g),)), load(scanned, (place,))))

            return self.unrolled(groups, one)

        def into_block(step: Expr, g: Expr, b: Expr) -> Stmt:
            earlier, later = turn(step)
            place = at(b, later, g)
            return self.store(self.scan, place, self.merged(load(self.total, (at(zero, earlier, g),)), load(self.scan, (place,))))

        self.emit(self.unrolled(count - 1, along))
        if not is_first:
            self.emit(self.unrolled(count - 1, lambda s: self.unrolled(groups, lambda g: self.unrolled(size, lambda b: into_block(s, g, b)))))
        if not is_last:
            self.emit(self.unrolled(groups, lambda g: self.store(self.total, at(zero, zero, g), load(scanned, (at(zero, last, g),)))))
        self.block = (*self.block, *digits)

    def along_lanes(self, digits: tuple[int, ...], is_last: bool) -> None:
        at, _, groups = self.places(())
        before = self.context.registers("before", self.wide, groups, self.span)
        for number, digit in enumerate(digits):
            later = var("later", dtypes.bool_)
            self.emit(Let(self.span, later, binary(Op.EQ, self.context.lane // (1 << digit) % 2, const(0 if self.op.is_reverse else 1))))
            keeps_total = not is_last or number < len(digits) - 1

            def exchange(g: Expr, later: Expr = later, digit: int = digit, is_first: bool = number == 0, keeps_total: bool = keeps_total) -> Stmt:
                place, other = at(const(0), const(0), g), var("other", self.wide)
                total = load(self.total, (place,))
                shuffle = WarpExchange(self.span, other, WarpExchangeKind.SHUFFLE_XOR, total, const(1 << digit), WARP_THREADS, const(0xFFFFFFFF, dtypes.uint32))
                known = load(before, (g,))
                joined = select(later, other, self.identity) if is_first else select(later, self.merged(other, known), known)
                made = (shuffle, self.store(before, g, joined))
                return Seq(self.span, (*made, self.store(self.total, place, self.merged(total, other))) if keeps_total else made)

            self.emit(self.unrolled(groups, exchange))
        self.add_before(before)

    def along_warps(self, digits: tuple[int, ...], is_last: bool) -> None:
        """Every warp stores its totals, and combines those of the warps before it, and of all where more follows."""
        at, _, groups = self.places(())
        axis, warp = self.layout.in_axis(WARP), self.context.warp
        along = Axis(_STEP, tuple(axis.digits[d] for d in digits))
        numbers = Layout((along,), (axis,), tuple(1 << d for d in digits))
        before = self.context.registers("before", self.wide, groups, self.span)
        scratch = self.context.scratch("warp_totals", self.wide, groups * axis.extent * WARP_THREADS, self.span)
        own: Expr = const(0)  # this warp's step along the digits
        first = warp  # the warp of step 0
        for digit, weight in zip(digits, along.places, strict=True):
            value = warp // axis.places[digit] % axis.digits[digit]
            own, first = own + value * weight, first - value * axis.places[digit]

        def slot(g: Expr, number: Expr) -> tuple[Expr, ...]:
            return ((g * axis.extent + number) * WARP_THREADS + self.context.lane,)

        def give(g: Expr) -> Stmt:
            return Store(self.span, scratch, slot(g, warp), load(self.total, (at(const(0), const(0), g),)))

        def clear(g: Expr) -> Stmt:
            cleared = self.store(before, g, self.identity)
            return cleared if is_last else Seq(self.span, (cleared, self.store(self.total, at(const(0), const(0), g), self.identity)))

        turn = var("t")
        step = along.extent - 1 - turn if self.op.is_reverse else turn
        is_earlier = step > own if self.op.is_reverse else step < own
        number = first + lower_layout(numbers, {_STEP: step})[WARP]

        def take(g: Expr) -> Stmt:
            other, place = load(scratch, slot(g, number)), at(const(0), const(0), g)
            joined = self.store(before, g, select(is_earlier, self.merged(load(before, (g,)), other), load(before, (g,))))
            return joined if is_last else Seq(self.span, (joined, self.store(self.total, place, self.merged(load(self.total, (place,)), other))))

        self.emit(self.unrolled(groups, give))
        self.parts.append([])
        kind = LoopKind.UNROLLED if along.extent * groups <= _UNROLLED_STEPS else LoopKind.SERIAL
        self.emit(self.unrolled(groups, clear), For(self.span, turn, const(along.extent), kind, self.unrolled(groups, take)))
        if self.context.is_repeated:  # the next turn stores again
            self.parts.append([])
        self.add_before(before)

    def add_before(self, before: Buffer) -> None:
        """scan = what comes before the block, and the scan in it."""
        at, size, groups = self.places(())

        def one(g: Expr, b: Expr) -> Stmt:
            place = at(b, const(0), g)
            return self.store(self.scan, place, self.merged(load(before, (g,)), load(self.scan, (place,))))

        self.emit(self.unrolled(groups, lambda g: self.unrolled(size, lambda b: one(g, b))))


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
