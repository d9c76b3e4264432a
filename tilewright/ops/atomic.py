"""Atomics: an element, or every element of a tile, combined with memory in one step (floor 4; language.md 7.8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Reference, Region, Scope
from tilewright.ir.expr import Expr, Op, as_expr, cast, const, load, select, var
from tilewright.ir.stmt import AtomicKind, AtomicUpdate, If, MemoryOrder, ParallelFor, Stmt
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, TileOp
from tilewright.ops.copy import match_tiles
from tilewright.ops.operand import as_element, as_flag, as_region, bounds_conditions, fixed, has_extent, index_arrays, leading_axes

_NUMPY = {AtomicKind.ADD: np.add, AtomicKind.MAX: np.fmax, AtomicKind.MIN: np.fmin, AtomicKind.OR: np.bitwise_or}


@dataclass(frozen=True, eq=False)
class AtomicTile(TileOp):
    """dst[p] is combined with src[p], element by element, each one step; parts of dst outside its buffer are left out."""

    kind: AtomicKind
    src: Region | None  # None: `value` everywhere
    value: Expr | None
    dst: Region
    extents: tuple[Expr, ...]
    src_axes: tuple[int, ...]
    dst_axes: tuple[int, ...]
    order: MemoryOrder

    def effects(self) -> Effects:
        return Effects(reads=() if self.src is None else (self.src,), writes=(self.dst,), is_atomic=True)

    def with_regions(self, change: Callable[[Region], Region]) -> AtomicTile:
        dst, src = change(self.dst), None if self.src is None else change(self.src)
        src_axes = self.src_axes if src is None or self.src is None else leading_axes(src, self.src, -1) + self.src_axes
        return dataclasses.replace(self, src=src, dst=dst, src_axes=src_axes, dst_axes=leading_axes(dst, self.dst, -1) + self.dst_axes)

    def reference(self, environment: ReferenceEnvironment) -> None:
        domain = tuple(max(0, int(environment.value(e))) for e in self.extents)
        dst_indices, writable = index_arrays(environment, self.dst, self.dst_axes, domain)
        if self.src is not None:
            src_indices, readable = index_arrays(environment, self.src, self.src_axes, domain)
            source = environment.array(self.src.buffer)
            clipped = tuple(np.broadcast_to(np.clip(i, 0, n - 1), domain) for i, n in zip(src_indices, source.shape, strict=True))
            values = np.where(readable, source[clipped], np.zeros((), source.dtype))
            values = environment.convert(values, self.src.dtype, self.dst.dtype)
        else:
            values = np.broadcast_to(np.asarray(environment.value(self.value)), domain)  # type: ignore[arg-type]
        target = environment.array(self.dst.buffer)
        at = tuple(np.broadcast_to(i, domain)[writable] for i in dst_indices)
        wide: Any = np.float64 if self.dst.dtype.is_float else target.dtype
        total = _NUMPY[self.kind](target[at].astype(wide), values[writable].astype(wide))
        target[at] = total.astype(target.dtype)

    def lower(self, context: LoweringContext) -> Stmt:
        variables = tuple(var(name, e.dtype) for name, e in zip("ijklmnop", self.extents, strict=False))
        dst_at = tuple(s + variables[a] if a >= 0 else s for s, a in zip(self.dst.starts, self.dst_axes, strict=True))
        if self.src is not None:
            src_at = tuple(s + variables[a] if a >= 0 else s for s, a in zip(self.src.starts, self.src_axes, strict=True))
            value = cast(load(self.src.buffer, src_at), self.dst.dtype)
            readable = bounds_conditions(self.src, src_at)
            value = value if readable is None else select(readable, value, const(0, self.dst.dtype), is_lazy=True)
        else:
            assert self.value is not None
            value = self.value
        update = AtomicUpdate(self.span, self.kind, self.dst.buffer, dst_at, value, self.order)
        writable = bounds_conditions(self.dst, dst_at)
        return ParallelFor(self.span, variables, self.extents, update if writable is None else If(self.span, writable, update))


def _memory_order(order: Any, span: Span, default: MemoryOrder = MemoryOrder.RELAXED) -> MemoryOrder:
    if order is None:
        return default
    if isinstance(order, str) and order in {o.value for o in MemoryOrder}:
        return MemoryOrder(order)
    fail(
        Kind.MEMORY_ORDER,
        f"there is no memory order {order!r}",
        span,
        because=f"known are {', '.join(o.value for o in MemoryOrder)}",
        help='leave it out for "relaxed"',
    )


def _is_element(value: Any) -> bool:
    return isinstance(value, Expr) and value.op is Op.LOAD


def _check(dst: Region, kind: AtomicKind, span: Span) -> None:
    if dst.buffer.scope not in (Scope.GLOBAL, Scope.SHARED):
        fail(
            Kind.ATOMIC_TARGET,
            f"{dst.buffer.name}, the target of an atomic, is a {dst.buffer.scope.value} buffer",
            (Label(span), Label(dst.buffer.span, "allocated here")),
            because="an atomic works on memory that several threads see: global or shared",
            help="use an ordinary assignment",
        )
    if kind in (AtomicKind.OR, AtomicKind.AND) and not dst.dtype.is_integer:
        fail(
            Kind.ATOMIC_DTYPE,
            f"a bitwise atomic on {dst.buffer.name}, which is {dst.dtype!s}",
            (Label(span), Label(dst.buffer.span)),
            because="bits are combined on integers only",
            help="use an integer buffer",
        )
    if dst.dtype.is_bool or dst.dtype.is_packed or dst.dtype.lanes > 1:
        fail(
            Kind.ATOMIC_DTYPE,
            f"an atomic on {dst.buffer.name}, which is {dst.dtype!s}",
            (Label(span), Label(dst.buffer.span)),
            because="atomics work on single numbers of whole bytes",
            help="use an int32 buffer",
        )


def _atomic(kind: AtomicKind, dst: Any, value: Any, memory_order: Any, return_prev: bool, name: str) -> Expr | None:
    builder = build.current()
    span = builder.here()
    dst = dst.target if isinstance(dst, Reference) else dst
    target = as_region(dst, f"the target of T.{name}", span)
    _check(target, kind, span)
    order = _memory_order(memory_order, span)
    is_tile_value = isinstance(value, Region) or (isinstance(value, Buffer) and value.scope is not Scope.VARIABLE)
    if _is_element(dst) and not is_tile_value:
        return _element(kind, target, value, order, as_flag(return_prev, "return_prev", span), span)
    if as_flag(return_prev, "return_prev", span):
        fail(
            Kind.ATOMIC_TARGET,
            f"T.{name} with return_prev=True on a tile",
            span,
            because="only the element form gives the previous value",
            help="write it in a T.Parallel loop, one element at a time",
        )
    if is_tile_value or (_is_element(value) and has_extent(target)):
        source = fixed(as_region(value, f"the value of T.{name}", span))
        matched = match_tiles(source, fixed(target), isinstance(value, Buffer) and isinstance(dst, Buffer), span)
        builder.emit(AtomicTile(span, kind, matched.src, None, matched.dst, matched.extents, matched.src_axes, matched.dst_axes, order))
        return None
    target = fixed(target)
    extents = tuple(as_expr(n) for n in target.extents)
    builder.emit(AtomicTile(span, kind, None, builder.snapshot(cast(as_expr(value), target.dtype)), target, extents, (), tuple(range(len(extents))), order))
    return None


def _element(kind: AtomicKind, target: Region, value: Any, order: MemoryOrder, return_prev: bool, span: Span) -> Expr | None:
    previous = var("previous", target.dtype) if return_prev else None
    build.current().emit(AtomicUpdate(span, kind, target.buffer, target.starts, cast(as_expr(value), target.dtype), order, previous))
    return previous


def atomic_add(dst: Any, value: Any, memory_order: str | None = None, return_prev: bool = False, use_tma: bool = False, annotations: Any = None) -> Expr | None:
    """dst += value as one step. `dst` is an element B[i, j] of global or shared memory, or a tile; `return_prev` gives the element's value before."""
    return _atomic(AtomicKind.ADD, dst, value, memory_order, return_prev, "atomic_add")


def atomic_max(dst: Any, value: Any, memory_order: str | None = None, return_prev: bool = False) -> Expr | None:
    """dst = max(dst, value) as one step."""
    return _atomic(AtomicKind.MAX, dst, value, memory_order, return_prev, "atomic_max")


def atomic_min(dst: Any, value: Any, memory_order: str | None = None, return_prev: bool = False) -> Expr | None:
    """dst = min(dst, value) as one step."""
    return _atomic(AtomicKind.MIN, dst, value, memory_order, return_prev, "atomic_min")


def atomic_or(dst: Any, value: Any, memory_order: str | None = None, return_prev: bool = False) -> Expr | None:
    """dst |= value as one step."""
    return _atomic(AtomicKind.OR, dst, value, memory_order, return_prev, "atomic_or")


def _adjacent(dst: Any, value: Any, count: int, return_prev: Any, name: str) -> None:
    builder = build.current()
    span = builder.here()
    if as_flag(return_prev, "return_prev", span):
        fail(
            Kind.ATOMIC_TARGET,
            f"T.{name} with return_prev=True",
            span,
            because="only T.atomic_add, max, min and or of one element give the previous value",
            help="write one T.atomic_add per element",
        )
    target, source = as_region(dst, f"the target of T.{name}", span), as_region(value, f"the value of T.{name}", span)
    _check(target, AtomicKind.ADD, span)
    for region, what in ((target, "target"), (source, "value")):
        if isinstance(region.buffer.shape[-1], int) and region.buffer.shape[-1] < count:
            fail(
                Kind.ATOMIC_TARGET,
                f"the {what} of T.{name} is {region.buffer.name}, whose last dimension has {region.buffer.shape[-1]} elements",
                (Label(span), Label(region.buffer.span)),
                because=f"T.{name} works on {count} neighbouring elements",
                help="use T.atomic_add for one element",
            )
    for lane in range(count):
        at = (*target.starts[:-1], target.starts[-1] + lane)
        element = load(source.buffer, (*source.starts[:-1], source.starts[-1] + lane))
        builder.emit(AtomicUpdate(span, AtomicKind.ADD, target.buffer, at, cast(element, target.dtype)))


def atomic_addx2(dst: Any, value: Any, return_prev: bool = False) -> None:
    """Two adjacent elements from `dst` += two adjacent elements from `value`."""
    _adjacent(dst, value, 2, return_prev, "atomic_addx2")


def atomic_addx4(dst: Any, value: Any, return_prev: bool = False) -> None:
    """Four adjacent elements from `dst` += four adjacent elements from `value`."""
    _adjacent(dst, value, 4, return_prev, "atomic_addx4")


def atomic_load(src: Any, memory_order: str = "seq_cst") -> Expr:
    """The element, read as one step."""
    span = build.current().here()
    target = as_element(src, "the source of T.atomic_load", span)
    _check(target, AtomicKind.LOAD, span)
    previous = _element(AtomicKind.LOAD, target, const(0, target.dtype), _memory_order(memory_order, span), True, span)
    assert previous is not None
    return previous


def atomic_store(dst: Any, value: Any, memory_order: str = "seq_cst") -> None:
    """dst = value as one step."""
    span = build.current().here()
    target = as_element(dst, "the target of T.atomic_store", span)
    _check(target, AtomicKind.EXCHANGE, span)
    _element(AtomicKind.EXCHANGE, target, value, _memory_order(memory_order, span), False, span)
