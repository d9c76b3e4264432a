"""Exchanges between threads as loops over a tile that holds what every thread gives (floor 5)."""

from __future__ import annotations

from typing import Protocol

from tilewright.dtypes import DType, as_dtype, bool_, int32, uint32
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op, as_condition, as_expr, binary, cast, const, load, logical, minimum, reinterpret, select, var
from tilewright.ir.program import Launch
from tilewright.ir.stmt import WARP_THREADS, BlockReduce, If, Let, ParallelFor, ReduceKind, ReduceLoop, Seq, Stmt, Store, WarpExchange, WarpExchangeKind
from tilewright.ops.reduce import identity
from tilewright.passes.thread_variance import Variance

_COMBINED = {
    WarpExchangeKind.ANY: ReduceKind.MAX,
    WarpExchangeKind.ALL: ReduceKind.MIN,
    WarpExchangeKind.BALLOT: ReduceKind.BIT_OR,
    WarpExchangeKind.ACTIVE_MASK: ReduceKind.BIT_OR,
    WarpExchangeKind.SUM: ReduceKind.SUM,
    WarpExchangeKind.MAX: ReduceKind.MAX,
    WarpExchangeKind.MIN: ReduceKind.MIN,
    WarpExchangeKind.BIT_AND: ReduceKind.BIT_AND,
    WarpExchangeKind.BIT_OR: ReduceKind.BIT_OR,
}


class Threads(Protocol):
    """What an exchange asks of the lowering of its launch."""

    launch: Launch
    variance: Variance
    thread_count: int
    flat: Expr

    def tile(self, name: str, dtype: DType, size: int | None = None) -> Buffer: ...

    def mine(self, tile: Buffer) -> Expr: ...

    def set_mine(self, span: Span, tile: Buffer, value: Expr) -> Stmt: ...

    def every_thread(self, span: Span, *body: Stmt) -> Stmt: ...


_MATCHES = (WarpExchangeKind.MATCH_ANY, WarpExchangeKind.MATCH_ALL)
_ALL_LANES = 0xFFFFFFFF
Parts = tuple[list[Stmt], list[Stmt]]  # statements of the block, and what each thread does after them


def exchange_as_loops(node: WarpExchange, mask: Expr | None, threads: Threads) -> Parts:
    """An exchange that the threads for which the mask holds come to. Lanes that do not come give their value too where they know it."""
    span = node.span
    if mask is not None and node.kind is not WarpExchangeKind.ACTIVE_MASK and threads.variance.is_known_everywhere(node.value):
        mask = None
    given = _bits(node.value) if node.kind in _MATCHES else _given(node, threads.flat)
    values = threads.tile("given", given.dtype)
    active = None if mask is None else threads.tile("active", bool_)
    store = threads.set_mine(span, values, given)
    before: list[Stmt] = []
    if active is None or mask is None:
        before.append(threads.every_thread(span, store))
    else:
        before.append(threads.every_thread(span, threads.set_mine(span, active, mask), If(span, mask, store)))
    if node.operand is not None:
        return before, [Let(span, node.result, _shuffled(node, values, active, threads))]
    if node.kind in _MATCHES:
        return before, _matched(node, values, active, threads)
    kind = _COMBINED[node.kind]
    neutral = as_expr(identity(kind, given.dtype))
    warps = -(-threads.thread_count // WARP_THREADS)

    def combined(warp: Expr) -> tuple[Expr, Stmt]:
        """A statement that combines what the lanes of a warp give, and the name of what comes out."""
        lane, result = var("lane"), var("exchanged", given.dtype)
        at = warp * WARP_THREADS + lane
        value, takes_part = load(values, (at,)), _takes_part(node, active, lane, at)
        if not takes_part.is_const:
            value = select(takes_part, value, neutral)
        return result, ReduceLoop(span, result, kind, neutral, lane, _lanes(warp, threads), value)

    if not (node.mask.is_const and node.mask.value == _ALL_LANES):  # the mask may be another one on every thread
        result, statement = combined(threads.flat // WARP_THREADS)
        return before, [statement, Let(span, node.result, result)]
    warp = var("warp")
    results = threads.tile("exchanged", given.dtype, warps)
    result, statement = combined(warp)
    before.append(ParallelFor(span, (warp,), (const(warps),), Seq(span, (statement, Store(span, results, (warp,), result)))))
    return before, [Let(span, node.result, load(results, (threads.flat // WARP_THREADS,)))]


def _takes_part(node: WarpExchange, active: Buffer | None, lane: Expr, at: Expr) -> Expr:
    """Whether the thread at a place, on a lane, gives a value: the mask of the thread that asks names it, and it comes there."""
    named: Expr = const(True)
    if not (node.mask.is_const and node.mask.value == _ALL_LANES) and node.kind is not WarpExchangeKind.ACTIVE_MASK:
        bit = binary(Op.SHIFT_RIGHT, node.mask, cast(lane, uint32))
        named = as_condition(binary(Op.BIT_AND, bit, const(1, uint32)))
    return named if active is None else logical(Op.AND, named, load(active, (at,)))


def _given(node: WarpExchange, flat: Expr) -> Expr:
    match node.kind:
        case WarpExchangeKind.ANY | WarpExchangeKind.ALL:
            return cast(node.value, int32)
        case WarpExchangeKind.BALLOT | WarpExchangeKind.ACTIVE_MASK:
            bit = binary(Op.SHIFT_LEFT, const(1, uint32), cast(flat % WARP_THREADS, uint32))
            return select(node.value, bit, const(0, uint32))
    return node.value


def _bits(value: Expr) -> Expr:
    """What two lanes compare: the bits."""
    if not value.dtype.is_float:
        return value
    return reinterpret(value, as_dtype(f"uint{value.dtype.bits}"))


def _lanes(warp: Expr, threads: Threads) -> Expr:
    """How many threads a warp has: the last one may have fewer."""
    if threads.thread_count % WARP_THREADS == 0:
        return const(WARP_THREADS)
    return minimum(const(threads.thread_count) - warp * WARP_THREADS, WARP_THREADS)


def _shuffled(node: WarpExchange, values: Buffer, active: Buffer | None, threads: Threads) -> Expr:
    """The value of another lane; the thread's own where there is no such lane, or it does not take part."""
    assert node.operand is not None
    flat, width = threads.flat, node.width
    lane = flat % WARP_THREADS
    group, inside = lane // width * width, lane % width
    is_there: Expr = const(True)
    match node.kind:
        case WarpExchangeKind.SHUFFLE:
            source = group + node.operand % width
        case WarpExchangeKind.SHUFFLE_UP:
            source, is_there = lane - node.operand, logical(Op.AND, inside >= node.operand, node.operand >= 0)
        case WarpExchangeKind.SHUFFLE_DOWN:
            source, is_there = lane + node.operand, logical(Op.AND, inside + node.operand < width, node.operand >= 0)
        case _:
            source = binary(Op.BIT_XOR, lane, binary(Op.BIT_AND, node.operand, WARP_THREADS - 1))
            is_there = source // width <= lane // width
    at = flat - lane + source
    if threads.thread_count % WARP_THREADS:
        is_there = logical(Op.AND, is_there, at < threads.thread_count)
    if active is not None:
        is_there = logical(Op.AND, is_there, load(active, (at,)))
    return select(is_there, load(values, (at,)), threads.mine(values), is_lazy=True)


def _matched(node: WarpExchange, values: Buffer, active: Buffer | None, threads: Threads) -> list[Stmt]:
    """The lanes of the warp that have the same bits, or all of them where all have."""
    warp, zero = threads.flat // WARP_THREADS, const(0, uint32)

    def lanes(name: str, is_equal: bool) -> tuple[Expr, Stmt]:
        """The lanes that take part, or those of them that have the thread's bits, as a mask."""
        lane, result = var("lane"), var(name, uint32)
        at = warp * WARP_THREADS + lane
        condition = _takes_part(node, active, lane, at)
        if is_equal:
            condition = logical(Op.AND, condition, binary(Op.EQ, load(values, (at,)), threads.mine(values)))
        bit = binary(Op.SHIFT_LEFT, const(1, uint32), cast(lane, uint32))
        return result, ReduceLoop(node.span, result, ReduceKind.BIT_OR, zero, lane, _lanes(warp, threads), select(condition, bit, zero))

    same, find_same = lanes("same", is_equal=True)
    if node.kind is WarpExchangeKind.MATCH_ANY:
        return [find_same, Let(node.span, node.result, same)]
    whole, find_whole = lanes("whole", is_equal=False)
    return [find_same, find_whole, Let(node.span, node.result, select(binary(Op.EQ, same, whole), same, zero))]


def reduce_as_loops(node: BlockReduce, threads: Threads) -> Parts:
    """A reduction over the block, or over some of its axes."""
    span, n = node.span, threads.launch.threads
    values = threads.tile("given", node.value.dtype)
    before: list[Stmt] = [threads.every_thread(span, threads.set_mine(span, values, node.value))]
    neutral = as_expr(identity(node.kind, node.value.dtype))
    steps = (1, n[0], n[0] * n[1])
    inner = [a for a in node.axes if n[a] > 1]
    outer = [a for a in range(3) if n[a] > 1 and a not in inner]
    count = 1
    axis = var("t")
    place = const(0)
    for a in inner:  # the axis counts through the combined coordinates, the first one fastest
        place = place + axis // count % n[a] * steps[a]
        count *= n[a]
    if not outer:
        before.append(ReduceLoop(span, node.result, node.kind, neutral, axis, const(count), load(values, (axis,))))
        return before, []
    variables = [var("xyz"[a]) for a in outer]
    for variable, a in zip(variables, outer, strict=True):
        place = place + variable * steps[a]
    groups, total = const(0), 1
    mine = const(0)
    for variable, a in zip(variables, outer, strict=True):
        groups = groups + variable * total
        mine = mine + threads.launch.thread_variables[a] * total
        total *= n[a]
    results = threads.tile("reduced", node.value.dtype, total)
    found = var("reduced", node.value.dtype)
    body = (ReduceLoop(span, found, node.kind, neutral, axis, const(count), load(values, (place,))), Store(span, results, (groups,), found))
    before.append(ParallelFor(span, tuple(reversed(variables)), tuple(const(n[a]) for a in reversed(outer)), Seq(span, body)))
    return before, [Let(span, node.result, load(results, (mine,)))]


__all__ = ["Parts", "exchange_as_loops", "reduce_as_loops"]
