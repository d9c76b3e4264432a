"""`T.reduce_*`: a tile combined along one axis (floor 4; language.md 7.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from tilewright import dtypes
from tilewright.arith.lower_layout import is_below, lower_layout
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, Label, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Extent, Region, format_shape
from tilewright.ir.expr import Expr, Op, as_expr, binary, cast, const, describe_operand, load, logical, maximum, minimum, select, var
from tilewright.ir.stmt import (
    WARP_THREADS,
    Barrier,
    For,
    If,
    LoopKind,
    ParallelFor,
    ReduceKind,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    WarpExchangeKind,
)
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, ThreadContext, TileOp
from tilewright.layout import LANE, REG, WARP, Axis, Layout, plan_reduction, register_renaming, whole_registers
from tilewright.ops.operand import as_flag, as_region, fixed, is_one, leading_axes, may_overlap, name_region, read_box, same_extent, write_box


class Reduction(Enum):
    """What T.reduce takes as `reduce_type`."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    ABSMAX = "absmax"
    ABSSUM = "abssum"
    BIT_AND = "bitand"
    BIT_OR = "bitor"
    BIT_XOR = "bitxor"

    @property
    def kind(self) -> ReduceKind:
        return {Reduction.ABSMAX: ReduceKind.MAX, Reduction.ABSSUM: ReduceKind.SUM}.get(self) or ReduceKind(self.value)

    @property
    def is_absolute(self) -> bool:
        return self in (Reduction.ABSMAX, Reduction.ABSSUM)

    @property
    def is_bitwise(self) -> bool:
        return self in (Reduction.BIT_AND, Reduction.BIT_OR, Reduction.BIT_XOR)


def identity(kind: ReduceKind, dtype: DType) -> Expr:
    """What combining with changes nothing."""
    if kind in (ReduceKind.MAX, ReduceKind.MIN):
        sign = -1 if kind is ReduceKind.MAX else 1
        if dtype.has_infinity:
            return const(sign * float("inf"), dtype)
        return const(dtype.minimum if kind is ReduceKind.MAX else dtype.maximum, dtype)
    if kind is ReduceKind.BIT_AND:
        return const(True if dtype.is_bool else dtype.maximum if not dtype.is_signed else -1, dtype)
    return const(0, dtype)


def combine(kind: ReduceKind, a: Expr, b: Expr) -> Expr:
    """Two partial results into one."""
    if kind is ReduceKind.SUM:
        return a + b
    if kind in (ReduceKind.MAX, ReduceKind.MIN):
        return maximum(a, b) if kind is ReduceKind.MAX else minimum(a, b)
    if a.dtype.is_bool:
        return logical(Op.AND, a, b) if kind is ReduceKind.BIT_AND else logical(Op.OR, a, b) if kind is ReduceKind.BIT_OR else binary(Op.NE, a, b)
    return binary({ReduceKind.BIT_AND: Op.BIT_AND, ReduceKind.BIT_OR: Op.BIT_OR, ReduceKind.BIT_XOR: Op.BIT_XOR}[kind], a, b)


def accumulation_dtype(dtype: DType) -> DType:
    """What partial results are kept in: float32 at least, so that the order of a sum matters little; the result is rounded once."""
    return dtypes.float32 if dtype.is_float and dtype.bits < 32 else dtype


def absolute(value: Expr) -> Expr:
    """Also 0.0 for -0.0, which the greater of a value and its negative need not be."""
    return value if value.dtype.is_bool or not value.dtype.is_signed else abs(value)


_MERGE: dict[ReduceKind, Callable[..., Any]] = {
    ReduceKind.SUM: np.add,
    ReduceKind.MAX: np.fmax,
    ReduceKind.MIN: np.fmin,
    ReduceKind.BIT_AND: np.bitwise_and,
    ReduceKind.BIT_OR: np.bitwise_or,
    ReduceKind.BIT_XOR: np.bitwise_xor,
}


@dataclass(frozen=True, eq=False)
class Reduce(TileOp):
    """dst[rest] = combination over `axis` of src, from the identity where `clear`, else from what dst holds.

    Elements are converted to dst's dtype first; partial sums of narrow floats are kept in float32 and rounded once.
    """

    src: Region
    dst: Region
    reduction: Reduction
    axis: int
    clear: bool
    dst_axes: tuple[int, ...]  # per axis of src: the axis of dst it runs along, -1 for the reduced one
    is_nan_kept: bool = False  # of max and min: one NaN makes the result NaN

    def effects(self) -> Effects:
        return Effects(reads=(self.src,) if self.clear else (self.src, self.dst), writes=(self.dst,))

    def with_regions(self, change: Callable[[Region], Region]) -> Reduce:
        src, dst = change(self.src), change(self.dst)
        added, shift = leading_axes(src, self.src, -1), dst.buffer.rank - self.dst.buffer.rank
        dst_axes = added + tuple(axis + shift if axis >= 0 else axis for axis in self.dst_axes)
        return dataclasses.replace(self, src=src, dst=dst, axis=self.axis + len(added), dst_axes=dst_axes)

    def reference(self, environment: ReferenceEnvironment) -> None:
        dtype, wide = self.dst.dtype, _widest(self.dst.dtype)
        merge: Any = _MERGE[self.reduction.kind]
        if self.is_nan_kept:
            merge = {np.fmax: np.maximum, np.fmin: np.minimum}[merge]

        def operand(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            """As wide as possible, but with a magnitude that is one of the dtype: that of the least integer wraps."""
            if self.reduction.is_absolute:
                values = environment.convert(np.abs(values.astype(wide.numpy)), wide, dtype)
            return values.astype(wide.numpy)

        values = operand(environment.convert(read_box(environment, self.src), self.src.dtype, dtype))
        with np.errstate(all="ignore"):
            start = np.asarray(identity(self.reduction.kind, dtype).value).astype(wide.numpy)
            reduced = merge.reduce(values, axis=self.axis, initial=start).reshape(tuple(n for _, n in environment.box(self.dst)))
            if not self.clear:
                reduced = merge(operand(read_box(environment, self.dst)), reduced)
        write_box(environment, self.dst, environment.convert(reduced, wide, dtype))

    def lower(self, context: LoweringContext) -> Stmt:
        outer = [a for a in range(len(self.src.extents)) if a != self.axis and not is_one(self.src.extents[a])]
        extents = tuple(as_expr(self.src.extents[a]) for a in outer) or (const(1),)
        is_held = may_overlap(self.src, self.dst) and all(e.is_const for e in extents)

        def loop(body: Callable[[tuple[Expr, ...], tuple[Expr, ...]], Stmt]) -> Stmt:
            """A parallel loop over the results; `body` takes its variables and the place of a result."""
            variables = tuple(var(name, e.dtype) for name, e in zip("ijklmnop", extents, strict=False))
            at = list(self.dst.starts)
            for a, variable in zip(outer, variables, strict=False):
                if self.dst_axes[a] >= 0:
                    at[self.dst_axes[a]] = at[self.dst_axes[a]] + variable
            return ParallelFor(self.span, variables, extents, body(variables, tuple(at)))

        if not is_held:
            return loop(lambda variables, at: self._element(dict(zip(outer, variables, strict=False)), at, self.dst.buffer, at))
        held = context.scratch("reduced", self.dst.dtype, tuple(e.value for e in extents), self.span)
        return Seq(
            self.span,
            (
                loop(lambda variables, at: self._element(dict(zip(outer, variables, strict=False)), at, held, variables)),
                loop(lambda variables, at: Store(self.span, self.dst.buffer, at, load(held, variables))),
            ),
        )

    # -- GPU
    def lower_to_threads(self, context: ThreadContext) -> Stmt:
        """Registers of a thread, then lanes by butterfly shuffles, then warps through shared memory; every thread of the result's layout ends with it.

        Copies of one result are bit-identical: a butterfly adds the same two numbers on both sides, and warps are combined in one order.
        """
        layout, source = context.fragment(self.src.buffer)
        dtype, wide = self.dst.dtype, accumulation_dtype(self.dst.dtype)
        plan = plan_reduction(layout, f"d{self.axis}")
        partial_layout = result_layout(self, layout)
        renaming = register_renaming(partial_layout, _without_axis(self, layout))
        if renaming is None:
            raise CompilerBug(f"the registers of {self.src.buffer.name} do not lie with those of its reduction")
        partials = context.registers("partial", wide, partial_layout.in_axis(REG).extent, self.span)
        start = identity(self.reduction.kind, wide if not dtype.is_float or dtype.has_infinity else dtype)

        def each(count: int, body: Callable[[Expr], Stmt]) -> Stmt:
            step = var("r")
            return For(self.span, step, const(count), LoopKind.UNROLLED, body(step)) if count > 1 else body(const(0))

        extents = tuple(int(n) for n in self.src.extents)
        num_whole = whole_registers(layout, extents)

        def fold(step: Expr, is_whole: bool) -> Stmt:
            at = (lower_layout(renaming, {REG: step})[REG],)
            value = self._operand(cast(load(source, (step,)), dtype), wide)
            for number, extent in enumerate(extents):
                if not is_whole and layout.out_axis(f"d{number}").extent > extent:
                    inside = is_below(layout, {REG: step, LANE: context.lane, WARP: context.warp}, f"d{number}", extent)
                    value = select(inside, value, cast(start, wide), is_lazy=True)
            return Store(self.span, partials, at, self._merge(load(partials, at), value))

        count, num_padded = partials.static_shape[0], layout.in_axis(REG).extent - num_whole
        body = [each(count, lambda r: Store(self.span, partials, (r,), cast(start, wide)))]
        body += [each(num_whole, lambda r: fold(r, True))] if num_whole else []
        body += [each(num_padded, lambda r: fold(r + num_whole, False))] if num_padded else []
        lanes = layout.in_digits(LANE)
        for mask in plan.lane_masks:
            bits = mask >> lanes.start

            def exchange(r: Expr, bits: int = bits) -> Stmt:
                received = var("other", wide)
                shuffle = WarpExchange(
                    self.span, received, WarpExchangeKind.SHUFFLE_XOR, load(partials, (r,)), const(bits), WARP_THREADS, const(0xFFFFFFFF, dtypes.uint32)
                )
                return Seq(self.span, (shuffle, Store(self.span, partials, (r,), self._merge(load(partials, (r,)), received))))

            body.append(each(count, exchange))
        warps = layout.in_axis(WARP).extent
        has_idle_warps = warps * layout.in_axis(LANE).extent < context.num_threads
        if plan.warp_masks:
            scratch = context.scratch("warp_partials", wide, count * warps * WARP_THREADS, self.span)

            def slot(r: Expr, warp: Expr) -> tuple[Expr, ...]:
                return ((r * warps + warp) * WARP_THREADS + context.lane,)

            body.append(each(count, lambda r: Store(self.span, scratch, slot(r, context.warp), load(partials, (r,)))))
            gather = each(count, lambda r: self._gather(layout, plan.warp_masks, partials, r, context.warp, lambda warp: load(scratch, slot(r, warp))))
            body = [self._of_warps(body, warps, has_idle_warps, context), Barrier(self.span), self._of_warps([gather], warps, has_idle_warps, context)]
            if context.is_repeated:  # the next turn stores again
                body.append(Barrier(self.span))
            return Seq(self.span, (*body, self._of_warps([self._finish(context, partial_layout, partials, each)], warps, has_idle_warps, context)))
        return self._of_warps([*body, self._finish(context, partial_layout, partials, each)], warps, has_idle_warps, context)

    def _of_warps(self, body: list[Stmt], warps: int, has_idle_warps: bool, context: ThreadContext) -> Stmt:
        """Statements of the warps that hold the tile."""
        made = Seq(self.span, tuple(body))
        return If(self.span, context.warp < warps, made) if has_idle_warps else made

    def _gather(self, layout: Layout, masks: tuple[int, ...], partials: Buffer, r: Expr, warp: Expr, partial_of: Callable[[Expr], Expr]) -> Stmt:
        """partials[r] = the partial results of all warps that differ in the reduced digits, lowest number first."""
        digits = layout.in_digits(WARP)
        axis = layout.in_axis(WARP)
        base, offsets = warp, [0]
        for mask in masks:
            digit = mask.bit_length() - 1 - digits.start
            place, radix = axis.places[digit], axis.digits[digit]
            base = base - (warp // place % radix) * place
            offsets = [o + k * place for k in range(radix) for o in offsets]
        total = partial_of(base + offsets[0])
        for offset in sorted(offsets)[1:]:
            total = self._merge(total, partial_of(base + offset))
        return Store(self.span, partials, (r,), total)

    def _finish(self, context: ThreadContext, found: Layout, partials: Buffer, each: Callable[[int, Callable[[Expr], Stmt]], Stmt]) -> Stmt:
        """The result's registers, combined with what they hold unless `clear`."""
        wanted, result = context.fragment(self.dst.buffer)
        renaming = register_renaming(found, wanted)
        if renaming is None:
            raise CompilerBug(f"the registers of {self.dst.buffer.name} do not lie with those of the reduction")

        def store(r: Expr) -> Stmt:
            value: Expr = load(partials, (lower_layout(renaming, {REG: r})[REG],))
            if not self.clear:
                value = self._merge(self._operand(load(result, (r,)), partials.dtype), value)
            body: Stmt = Store(self.span, result, (r,), cast(value, self.dst.dtype))
            for number, extent in enumerate(self.dst.extents):  # what pads the tile holds nothing to combine with
                if not self.clear and wanted.out_axis(f"d{number}").extent > int(extent):
                    body = If(self.span, is_below(wanted, {REG: r, LANE: context.lane, WARP: context.warp}, f"d{number}", int(extent)), body)
            return body

        return each(wanted.in_axis(REG).extent, store)

    def _operand(self, element: Expr, wide: DType) -> Expr:
        made = cast(element, wide)
        return absolute(made) if self.reduction.is_absolute else made

    def _merge(self, a: Expr, b: Expr) -> Expr:
        merged = combine(self.reduction.kind, a, b)
        return select(a != a, a, select(b != b, b, merged)) if self.is_nan_kept else merged

    # -- CPU
    def _element(self, variables: dict[int, Expr], at: tuple[Expr, ...], target: Buffer, target_at: tuple[Expr, ...]) -> Stmt:
        """Computes one result, whose old value is at `at` of the destination, into an element of `target`."""
        dtype, kind = self.dst.dtype, self.reduction.kind
        wide = accumulation_dtype(dtype)
        extent = as_expr(self.src.extents[self.axis])

        def value(step: Expr) -> Expr:
            element = load(self.src.buffer, tuple(s + (step if a == self.axis else variables.get(a, 0)) for a, s in enumerate(self.src.starts)))
            return operand(cast(element, dtype))

        def operand(element: Expr) -> Expr:
            made = cast(element, wide)
            return absolute(made) if self.reduction.is_absolute else made

        old = operand(load(self.dst.buffer, at))
        initial = old if not self.clear else identity(kind, wide if not dtype.is_float or dtype.has_infinity else dtype)
        step, result = var("r", extent.dtype), var("reduced", wide)
        body: list[Stmt] = [ReduceLoop(self.span, result, kind, cast(initial, wide), step, extent, value(step))]
        combined = result
        if self.is_nan_kept:
            step, has_nan = var("r", extent.dtype), var("has_nan", dtypes.bool_)
            element = value(step)
            body.append(ReduceLoop(self.span, has_nan, ReduceKind.BIT_OR, const(False) if self.clear else old != old, step, extent, element != element))
            combined = select(has_nan, const(float("nan"), wide), result)
        return Seq(self.span, (*body, Store(self.span, target, target_at, cast(combined, dtype))))


def result_layout(op: Reduce, fragment: Layout) -> Layout:
    """(reg, lane, warp) -> axes of the result, for a whole source fragment: all threads that took part hold their results."""
    return _without_axis(op, fragment).drop_redundant(REG)


def _without_axis(op: Reduce, fragment: Layout) -> Layout:
    """The fragment with its reduced axis forgotten, under the names of the result's axes."""
    rank = len(op.dst.extents)
    layout = fragment.drop_output(f"d{op.axis}")
    layout = layout.rename(outs={f"d{a}": f"r{b}" for a, b in enumerate(op.dst_axes) if a != op.axis})
    units = tuple(Axis(f"r{b}", ()) for b in range(rank) if not layout.has_output(f"r{b}"))
    layout = Layout(layout.ins, (*layout.outs, *units), layout.columns)
    return layout.reorder(outs=[f"r{b}" for b in range(rank)]).rename(outs={f"r{b}": f"d{b}" for b in range(rank)})


def can_reduce_in_registers(op: Reduce, fragment: Layout) -> bool:
    """Whether registers, whole lanes digits and whole warp digits are all that the reduction runs over."""
    plan = plan_reduction(fragment, f"d{op.axis}")
    registers, lanes, warps = (set(fragment.in_digits(name)) for name in (REG, LANE, WARP))

    def inside(mask: int, digits: set[int]) -> bool:
        return all(d in digits for d in range(mask.bit_length()) if mask >> d & 1)

    return (
        all(inside(m, registers) for m in plan.register_masks)
        and all(inside(m, lanes) for m in plan.lane_masks)
        and all(inside(m, warps) and m.bit_count() == 1 for m in plan.warp_masks)
    )


def _widest(dtype: DType) -> DType:
    """The dtype of the same kind in which the reference combines."""
    return dtypes.float64 if dtype.is_float else dtypes.bool_ if dtype.is_bool else dtypes.int64 if dtype.is_signed else dtypes.uint64


def reduce(buffer: Any, out: Any, reduce_type: str, dim: int, clear: bool = True, batch: int = 1, nan_propagate: bool = False, annotations: Any = None) -> None:
    """out = `buffer` combined along `dim`. `out` has the shape of `buffer` without `dim`, or with 1 there; a 1-D buffer reduces to shape (1,).

    clear=False combines with what `out` holds. The reduction is done in `out`'s dtype. Of max and min, a number beats NaN unless `nan_propagate`.
    `batch` is a performance hint.

    Raises TileError where shapes, axis or dtypes do not fit.
    """
    builder = build.current()
    span = builder.here()
    if not isinstance(reduce_type, str) or reduce_type not in {r.value for r in Reduction}:
        fail(
            Kind.REDUCE_OPERATION,
            f"there is no reduction {reduce_type!r}",
            span,
            because=f"known are {', '.join(r.value for r in Reduction)}",
            help="write T.reduce_sum or T.reduce_max",
        )
    reduction = Reduction(reduce_type)
    src, dst = (fixed(as_region(r, f"the {what} of T.reduce_{reduction.value}", span)) for r, what in ((buffer, "source"), (out, "result")))
    kept = [a for a, k in enumerate(src.is_slice) if k]
    if not kept:
        fail(
            Kind.OPERAND_KIND,
            f"the source of T.reduce_{reduction.value} is the element {src}",
            span,
            because="a reduction combines the elements of a tile along one axis",
            help=f"give the tile {src.buffer.name}, or a region of it",
        )
    if not isinstance(dim, int) or not -len(kept) <= dim < len(kept):
        fail(
            Kind.REDUCE_AXIS,
            f"dim is {dim if isinstance(dim, int) else describe_operand(dim)}, but {name_region(src)} has {len(kept)} "
            f"dimension{'s' * (len(kept) != 1)} ({format_shape(src)})",
            span,
            because=f"an axis lies between {-len(kept)} and {len(kept) - 1}",
            help="count the axes from 0, or from -1 at the end",
        )
    axis = kept[dim]
    if reduction.is_bitwise and (src.dtype.is_float or dst.dtype.is_float):
        fail(
            Kind.REDUCE_DTYPE,
            f"a bitwise reduction ({reduction.value}) of {src.dtype!s} into {dst.dtype!s}",
            (Label(span), Label(src.buffer.span)),
            because="bitand, bitor and bitxor work on integers and bools",
            help="use reduce_max, reduce_min or reduce_sum, or view the bits with T.view(buffer, dtype='uint32')",
        )
    if dst.dtype.is_bool and not (reduction.is_bitwise or reduction in (Reduction.MAX, Reduction.MIN)):
        fail(
            Kind.REDUCE_DTYPE,
            f"T.reduce_{reduction.value} of {name_region(src)} goes into {name_region(dst)}, which is bool",
            (Label(span), Label(dst.buffer.span)),
            because="a sum of bools is a count",
            help="reduce into an int32 tile",
        )
    is_nan_kept = as_flag(nan_propagate, "nan_propagate", span) and dst.dtype.is_float and reduction.kind in (ReduceKind.MAX, ReduceKind.MIN)
    builder.emit(Reduce(span, src, dst, reduction, axis, as_flag(clear, "clear", span), _match_result(src, dst, axis, kept, span), is_nan_kept))


def _match_result(src: Region, dst: Region, axis: int, kept: list[int], span: Any) -> tuple[int, ...]:
    """Per axis of src: the axis of dst it runs along."""
    rest = [a for a in kept if a != axis]
    dst_kept = [a for a, k in enumerate(dst.is_slice) if k] or list(range(len(dst.extents)))
    wanted: list[Extent] = [src.extents[a] for a in rest]
    found: list[Extent] = [dst.extents[a] for a in dst_kept]
    if len(found) == len(kept) and is_one(dst.extents[dst_kept[kept.index(axis)]]):
        matched = [a for p, a in enumerate(dst_kept) if p != kept.index(axis)]
    else:
        matched = dst_kept
    if len(matched) != len(rest) or not all(same_extent(dst.extents[b], src.extents[a]) for a, b in zip(rest, matched, strict=False)):
        shape = f"({', '.join(map(str, wanted))}{',' * (len(wanted) == 1)})" if wanted else "(1,)"
        fail(
            Kind.REDUCE_SHAPE,
            f"{name_region(src)} is {format_shape(src)}; without dimension {kept.index(axis)} it is {shape}, but {name_region(dst)} is {format_shape(dst)}",
            (
                Label(span),
                Label(src.buffer.span, f"{src.buffer.name}: {format_shape(src.buffer)}"),
                Label(dst.buffer.span, f"{dst.buffer.name}: {format_shape(dst.buffer)}"),
            ),
            because="the result has the shape of the source without the reduced axis, or with 1 in its place",
            help=f"allocate {dst.buffer.name} with shape {shape}, or reduce another axis",
        )
    axes = [-1] * len(src.extents)
    for a, b in zip(rest, matched, strict=True):
        axes[a] = b
    return tuple(axes)


def reduce_sum(buffer: Any, out: Any, dim: int = -1, clear: bool = True, batch: int = 1, annotations: Any = None) -> None:
    """The sum along `dim`."""
    reduce(buffer, out, "sum", dim, clear, batch)


def reduce_max(buffer: Any, out: Any, dim: int = -1, clear: bool = True, batch: int = 1, annotations: Any = None, nan_propagate: bool = False) -> None:
    """The greatest element along `dim`; a number beats NaN unless `nan_propagate`."""
    reduce(buffer, out, "max", dim, clear, batch, nan_propagate)


def reduce_min(buffer: Any, out: Any, dim: int = -1, clear: bool = True, batch: int = 1, annotations: Any = None, nan_propagate: bool = False) -> None:
    """The least element along `dim`; a number beats NaN unless `nan_propagate`."""
    reduce(buffer, out, "min", dim, clear, batch, nan_propagate)


def reduce_absmax(buffer: Any, out: Any, dim: int = -1, clear: bool = True, batch: int = 1, annotations: Any = None, nan_propagate: bool = False) -> None:
    """The greatest absolute value along `dim`."""
    reduce(buffer, out, "absmax", dim, clear, batch, nan_propagate)


def reduce_abssum(buffer: Any, out: Any, dim: int = -1, batch: int = 1, annotations: Any = None) -> None:
    """The sum of absolute values along `dim`; always starts from zero."""
    reduce(buffer, out, "abssum", dim, True, batch)


def reduce_bitand(buffer: Any, out: Any, dim: int = -1, clear: bool = True, batch: int = 1, annotations: Any = None) -> None:
    """The bitwise and along `dim`, of integers or bools."""
    reduce(buffer, out, "bitand", dim, clear, batch)


def reduce_bitor(buffer: Any, out: Any, dim: int = -1, clear: bool = True, batch: int = 1, annotations: Any = None) -> None:
    """The bitwise or along `dim`, of integers or bools."""
    reduce(buffer, out, "bitor", dim, clear, batch)


def reduce_bitxor(buffer: Any, out: Any, dim: int = -1, clear: bool = True, batch: int = 1, annotations: Any = None) -> None:
    """The bitwise exclusive or along `dim`, of integers or bools."""
    reduce(buffer, out, "bitxor", dim, clear, batch)
