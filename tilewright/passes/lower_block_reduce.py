"""Reductions over the threads of a block as shared memory and loops (floor 5), for GPUs.

Each thread stores its value; after the barrier that `insert_gpu_barriers` puts there it combines those of its group, all threads in the same order. Where
the group is the block, the lanes of a warp combine theirs first, and what is stored is one value for each warp.
"""

from __future__ import annotations

import dataclasses

from tilewright.dtypes import uint32
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Op, binary, cast, const, load, var
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


def _lowered(node: BlockReduce, launch: Launch, buffers: list[Buffer]) -> Seq:
    """The statements; what they are computed in is added to `buffers`."""
    span, n, dtype = node.span, launch.threads, node.value.dtype
    flat = flat_thread(n, launch.thread_variables)
    inner = [a for a in node.axes if n[a] > 1]
    count = n[0] * n[1] * n[2]
    is_whole = all(a in inner or n[a] == 1 for a in range(3))
    made: list[Stmt] = []
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    if is_whole and count % WARP_THREADS == 0 and node.kind in _IN_WARPS and dtype.bits == 32:
        value, count = var("of_warp", dtype), count // WARP_THREADS
        values = Buffer("given", dtype, (count,), Scope.SHARED, span)
        made.append(WarpExchange(span, value, _IN_WARPS[node.kind], node.value, None, WARP_THREADS, const(_ALL_LANES, uint32)))
        made.append(If(span, binary(Op.EQ, flat % WARP_THREADS, const(0)), Store(span, values, (flat // WARP_THREADS,), value)))
        inner, sizes, steps, outer = [0], (count,), (1,), const(0)
    else:
        values = Buffer("given", dtype, (count,), Scope.SHARED, span)
        made.append(Store(span, values, (flat,), node.value))
        sizes, steps = n, (1, n[0], n[0] * n[1])
        outer = const(0)
        for a in range(3):
            if n[a] > 1 and a not in inner:
                outer = outer + launch.thread_variables[a] * steps[a]
    step, place, size = var("t"), outer, 1
    for a in inner:  # the step counts through the combined coordinates, the first one fastest
        place = place + step // size % sizes[a] * steps[a]
        size *= sizes[a]
    wide = accumulation_dtype(dtype)
    total, zero = Buffer("combined", wide, (1,), Scope.LOCAL, span), (const(0),)
    buffers += (values, total)
    merged = combine(node.kind, load(total, zero), cast(load(values, (place,)), wide))
    made.append(Store(span, total, zero, identity(node.kind, wide)))
    made.append(For(span, step, const(size), LoopKind.SERIAL, Store(span, total, zero, merged)))
    return Seq(span, (*made, Let(span, node.result, cast(load(total, zero), dtype))))


__all__ = ["lower_block_reduce"]
