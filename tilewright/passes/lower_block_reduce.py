"""Reductions over the threads of a block as shuffles, shared memory and loops (floor 5), for GPUs.

The lanes of a warp that are of one group combine their values by shuffles. Where a group has threads of several warps, what comes out is stored, and
after the barrier that `insert_gpu_barriers` puts there each thread combines the values of its group, all threads in the same order. In blocks of odd sizes
every value is stored for groups that are neither the block nor runs of whole warps.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from tilewright.dtypes import uint32
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, cast, const, load, select, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import WARP_THREADS, BlockReduce, For, If, Let, LoopKind, ReduceKind, Seq, Stmt, Store, WarpExchange, WarpExchangeKind
from tilewright.ir.visit import replace_by_several
from tilewright.ops.reduce import accumulation_dtype, combine, identity
from tilewright.passes.context import Remarks
from tilewright.passes.expand_threads import flat_thread

_IN_WARPS = {
    ReduceKind.SUM: WarpExchangeKind.SUM,
    ReduceKind.MAX: WarpExchangeKind.MAX,
    ReduceKind.MIN: WarpExchangeKind.MIN,
    ReduceKind.BIT_AND: WarpExchangeKind.BIT_AND,
    ReduceKind.BIT_OR: WarpExchangeKind.BIT_OR,
}
_ALL_LANES = 0xFFFFFFFF


def lower_block_reduce(program: Program, context: Remarks) -> Program:
    """Thread-level launches without reductions over the block; other launches stay as they are."""
    return dataclasses.replace(program, launches=tuple(_lower_launch(x) if x.is_thread_level else x for x in program.launches))


def _lower_launch(launch: Launch) -> Launch:
    buffers: list[Buffer] = []
    body = replace_by_several(launch.body, lambda s: _lowered(s, launch, buffers) if isinstance(s, BlockReduce) else None)
    return launch if body is launch.body else dataclasses.replace(launch, body=body, buffers=(*launch.buffers, *buffers))


@dataclass(frozen=True)
class _Plan:
    """How the values of a group of threads come together.

    lanes      the bits of a thread's number that differ within the group, below those of its warp: combined by butterfly shuffles.
    is_tail    the lanes of the last warp may be fewer than 32: its values fall together to lane 0, over whatever lanes there are.
    stored     how many values then lie in shared memory, `slot` the number of a thread's own; 0 where none do.
    first      the first value of a thread's group; `terms`, (extent, place) each, count the others from there.
    """

    lanes: tuple[int, ...]
    is_tail: bool
    stored: int
    slot: Expr
    first: Expr
    terms: tuple[tuple[int, int], ...]
    is_by_warp: bool = False  # one value for each warp, which lane 0 stores


def _plan(threads: tuple[int, int, int], axes: tuple[int, ...], variables: tuple[Expr, ...], flat: Expr) -> _Plan:
    places = (1, threads[0], threads[0] * threads[1])
    count = math.prod(threads)
    used = [a for a in range(3) if threads[a] > 1]
    inner = [a for a in axes if threads[a] > 1]
    size = math.prod(threads[a] for a in inner)
    warp = flat // WARP_THREADS
    every_lane = tuple(1 << k for k in range(WARP_THREADS.bit_length() - 1))
    if inner == used[: len(inner)] and size % WARP_THREADS == 0:  # a group is warps that follow each other
        warps = size // WARP_THREADS
        terms = ((warps, 1),) if warps > 1 else ()
        return _Plan(every_lane, False, count // WARP_THREADS if terms else 0, warp, flat // size * warps, terms, is_by_warp=True)
    if inner == used and count & (count - 1):
        warps = -(-count // WARP_THREADS)
        return _Plan(every_lane, True, warps if warps > 1 else 0, warp, const(0), ((warps, 1),) if warps > 1 else (), is_by_warp=True)
    if all(n & (n - 1) == 0 for n in threads):  # bits of a thread's number
        bits = [places[a] << k for a in inner for k in range(threads[a].bit_length() - 1)]
        lanes, others = tuple(b for b in bits if b < WARP_THREADS), [b for b in bits if b >= WARP_THREADS]
        first: Expr = flat
        for b in others:
            first = first - flat // b % 2 * b
        return _Plan(lanes, False, count if others else 0, flat, first, tuple((2, b) for b in others))
    outer: Expr = const(0)
    for a in used:
        if a not in inner:
            outer = outer + variables[a] * places[a]
    return _Plan((), False, count, flat, outer, tuple((threads[a], places[a]) for a in inner))


def _lowered(node: BlockReduce, launch: Launch, buffers: list[Buffer]) -> Seq:
    """The statements; what they are computed in is added to `buffers`."""
    span, dtype, kind = node.span, node.value.dtype, node.kind
    flat = flat_thread(launch.threads, launch.thread_variables)
    plan = _plan(launch.threads, node.axes, launch.thread_variables, flat)
    wide = accumulation_dtype(dtype)
    made: list[Stmt] = []
    value = cast(node.value, wide)

    def exchange(how: WarpExchangeKind, operand: Expr | None) -> Expr:
        received = var("of_warp" if operand is None else "other", wide)
        made.append(WarpExchange(span, received, how, value, operand, WARP_THREADS, const(_ALL_LANES, uint32)))
        return received

    def named(expression: Expr) -> Expr:
        name = var("combined", wide)
        made.append(Let(span, name, expression))
        return name

    if len(plan.lanes) == WARP_THREADS.bit_length() - 1 and not plan.is_tail and kind in _IN_WARPS and dtype.bits == 32:
        value = exchange(_IN_WARPS[kind], None)
    elif plan.is_tail:
        value, count = named(value), math.prod(launch.threads)
        for distance in reversed(plan.lanes):
            value = named(select(flat + distance < count, combine(kind, value, exchange(WarpExchangeKind.SHUFFLE_DOWN, const(distance))), value))
        if not plan.stored:
            value = exchange(WarpExchangeKind.SHUFFLE, const(0))
    else:
        for bit in plan.lanes:
            value = named(value)
            value = combine(kind, value, exchange(WarpExchangeKind.SHUFFLE_XOR, const(bit)))
    if not plan.stored:
        return Seq(span, (*made, Let(span, node.result, cast(value, dtype))))
    values, total = Buffer("given", wide, (plan.stored,), Scope.SHARED, span), Buffer("combined", wide, (1,), Scope.LOCAL, span)
    buffers += (values, total)
    given: Stmt = Store(span, values, (plan.slot,), value)
    made.append(If(span, binary(Op.EQ, flat % WARP_THREADS, const(0)), given) if plan.is_by_warp else given)
    step, place, size, zero = var("t"), plan.first, 1, (const(0),)
    for extent, weight in plan.terms:  # the step counts through them, the first one fastest
        place = place + step // size % extent * weight
        size *= extent
    made.append(Store(span, total, zero, identity(kind, wide)))
    made.append(For(span, step, const(size), LoopKind.SERIAL, Store(span, total, zero, combine(kind, load(total, zero), load(values, (place,))))))
    return Seq(span, (*made, Let(span, node.result, cast(load(total, zero), dtype))))


__all__ = ["lower_block_reduce"]
