"""Deferred reductions: an accumulator tile that any iteration may update, read once at the end (floor 4; language.md 7.6)."""

from __future__ import annotations

from typing import Any

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op, as_expr, cast, describe_operand
from tilewright.ir.stmt import AtomicKind, AtomicUpdate, MemoryOrder, ReduceKind
from tilewright.ops.copy import copy
from tilewright.ops.fill import fill
from tilewright.ops.operand import as_region, is_one
from tilewright.ops.reduce import identity

ATOMIC_OF = {
    ReduceKind.SUM: AtomicKind.ADD,
    ReduceKind.MAX: AtomicKind.MAX,
    ReduceKind.MIN: AtomicKind.MIN,
    ReduceKind.BIT_AND: AtomicKind.AND,
    ReduceKind.BIT_OR: AtomicKind.OR,
    ReduceKind.BIT_XOR: AtomicKind.XOR,
}
_OPERATIONS = {
    ReduceKind.SUM: Op.ADD,
    ReduceKind.MAX: Op.MAX,
    ReduceKind.MIN: Op.MIN,
    ReduceKind.BIT_AND: Op.BIT_AND,
    ReduceKind.BIT_OR: Op.BIT_OR,
    ReduceKind.BIT_XOR: Op.BIT_XOR,
}


def _reducer(value: Any, what: str, span: Span) -> tuple[Region, ReduceKind]:
    region = as_region(value, what, span)
    kind = build.current().reducers.get(region.buffer)
    if kind is None or region.buffer.scope is not Scope.REDUCER:
        fail(
            Kind.REDUCER_USE,
            f"{region.buffer.name} is a {region.buffer.scope.value} buffer, not a reducer",
            (Label(span), Label(region.buffer.span, "allocated here")),
            because="deferred reductions go through a tile made by T.alloc_reducer",
            help="allocate it with T.alloc_reducer(shape, dtype, op)",
        )
    return region, kind


def reducer_init(accumulator: Any, init: Any = None) -> None:
    """Starts an epoch: every element takes the identity of the reducer's operation, or `init`."""
    region, kind = _reducer(accumulator, "the reducer of T.reducer_init", build.current().here())
    fill(region, identity(kind, region.dtype) if init is None else init)


def reducer_update(element: Any, value: Any) -> None:
    """Combines `value` into one element; inside T.Parallel each logical iteration counts once."""
    builder = build.current()
    span = builder.here()
    region, kind = _reducer(element, "the target of T.reducer_update", span)
    if not all(is_one(n) for n in region.extents):
        fail(
            Kind.REDUCER_USE,
            f"the target of T.reducer_update is {describe_operand(element)}",
            (Label(span), Label(region.buffer.span)),
            because="an update combines one value into one element",
            help=f"write T.reducer_update({region.buffer.name}[{', '.join('ijklmn'[: region.buffer.rank])}], value)",
        )
    update_element(region.buffer, region.starts, kind, cast(as_expr(value), region.dtype), span)


def update_element(buffer: Buffer, indices: tuple[Expr, ...], kind: ReduceKind, value: Expr, span: Span) -> None:
    """Combines `value`, which has the buffer's dtype, into one element."""
    build.current().emit(AtomicUpdate(span, ATOMIC_OF[kind], buffer, indices, value, MemoryOrder.RELAXED))


def store_as_update(target: Expr, value: Expr, span: Span) -> bool:
    """Whether `target = value` has been taken as an update: `acc[i] += x`, `acc[i] = T.max(acc[i], x)`, the older spelling of reducer_update."""
    kind = build.current().reducers.get(target.buffer)
    operation = None if kind is None else _OPERATIONS[kind]
    if kind is None or value.op not in (operation, Op.SUB if kind is ReduceKind.SUM else operation):
        return False
    left, right = value.args
    if _is_of(left, target):
        update_element(target.buffer, target.args, kind, cast(-right if value.op is Op.SUB else right, target.dtype), span)
    elif _is_of(right, target) and value.op is not Op.SUB:
        update_element(target.buffer, target.args, kind, cast(left, target.dtype), span)
    else:
        return False
    return True


def _is_of(value: Expr, target: Expr) -> bool:
    return value is target or (value.op is Op.CAST and value.args[0] is target)


def finalize_reducer(accumulator: Any, dst: Any = None, batch: int = 1) -> None:
    """Ends the epoch: the combined values go to `dst`, or stay in place where it is None."""
    region, _ = _reducer(accumulator, "the reducer of T.finalize_reducer", build.current().here())
    if dst is not None:
        copy(region.buffer, dst)
