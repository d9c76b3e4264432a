"""Turns tile operations into parallel loops, for GPUs (floor 5).

Copies, fills, transpositions and atomics become loops that layout inference can spread over the threads. Products, reductions and scans stay whole, and so
do asynchronous copies: they are lowered together with their threads. Reducers become shared tiles with atomics.
"""

from __future__ import annotations

import dataclasses

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, const, load, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import For, Let, LoopKind, ParallelFor, ReduceLoop, Seq, Stmt, Store
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import replace_by_several, rewrite, rewrite_expr, statements, subexpressions
from tilewright.ops.async_copy import CommitGroup, WaitGroup
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import Gemm
from tilewright.ops.reduce import Reduce, combine
from tilewright.ops.scan import Scan
from tilewright.passes.context import GpuPassContext
from tilewright.passes.scratch import Scratch
from tilewright.passes.stage_operands import is_whole_fragment


def expand_tile_ops(program: Program, context: GpuPassContext) -> Program:
    """Replaces the operations; scratch tiles and variables that they need join the launch."""
    return dataclasses.replace(program, launches=tuple(_expand_launch(launch) for launch in program.launches))


def _expand_launch(launch: Launch) -> Launch:
    scratch = Scratch()

    def post(node: Stmt) -> Stmt:
        if isinstance(node, TileOp) and not is_kept_whole(node):
            return expand_op(node, scratch)
        return node

    body = _without_reduce_loops(rewrite(_with_shared_operands(launch, scratch), post=post), scratch)
    return _share_reducers(dataclasses.replace(launch, body=body, buffers=(*launch.buffers, *scratch.buffers)))


def _with_shared_operands(launch: Launch, scratch: Scratch) -> Stmt:
    """The body with the fragments that every thread combines by itself (T.any_of) copied to shared memory once, in front of the loop."""
    if launch.is_thread_level:
        return launch.body
    inside = {s for p in statements(launch.body) if isinstance(p, ParallelFor) for s in statements(p)}

    def staged(node: Stmt) -> Seq | None:
        if not isinstance(node, ReduceLoop) or node in inside:
            return None
        loaded = dict.fromkeys(e.buffer for e in subexpressions(node.value) if e.op is Op.LOAD and e.buffer.scope is Scope.FRAGMENT)
        tiles = {b: scratch.scratch(f"{b.name}_tile", b.dtype, b.static_shape, node.span) for b in loaded}
        memo: dict[Expr, Expr] = {}
        value = rewrite_expr(node.value, lambda e: load(tiles[e.buffer], e.args) if e.op is Op.LOAD and e.buffer in tiles else e, memo)
        copies = (_copied(fragment, tile) for fragment, tile in tiles.items())
        return Seq(node.span, (*copies, dataclasses.replace(node, value=value))) if tiles else None

    return replace_by_several(launch.body, staged)


def _copied(fragment: Buffer, tile: Buffer) -> ParallelFor:
    at = tuple(var(f"i{axis}") for axis in range(fragment.rank))
    return ParallelFor(tile.span, at, tuple(map(const, fragment.static_shape)), Store(tile.span, tile, at, load(fragment, at)))


def is_kept_whole(op: TileOp) -> bool:
    """Whether an operation is lowered to threads by itself."""
    match op:
        case Gemm() | CommitGroup() | WaitGroup():
            return True
        case Reduce() | Scan():
            return is_whole_fragment(op.src) and is_whole_fragment(op.dst)
    return False


def expand_op(op: TileOp, scratch: Scratch) -> Stmt:
    """The loops of an operation."""
    loops = op.as_loops(scratch) if isinstance(op, Scan) and op.src.buffer.scope is Scope.SHARED else op.lower(scratch)
    if isinstance(op, Copy) and op.is_async and isinstance(loops, ParallelFor):
        return dataclasses.replace(loops, is_async=True)
    return _without_reduce_loops(loops, scratch)


def _without_reduce_loops(root: Stmt, scratch: Scratch) -> Stmt:
    return replace_by_several(root, lambda node: _loop(node, scratch) if isinstance(node, ReduceLoop) else None)


def _loop(node: ReduceLoop, scratch: Scratch) -> Seq:
    """A combination over an axis as a serial loop of the thread."""
    zero = (const(0),)
    total = scratch.make(node.result.name, node.result.dtype, (1,), Scope.VARIABLE, node.span)
    turn = Store(node.span, total, zero, combine(node.kind, load(total, zero), node.value))
    return Seq(
        node.span,
        (
            Store(node.span, total, zero, node.initial),
            For(node.span, node.axis, node.extent, LoopKind.SERIAL, turn),
            Let(node.span, node.result, load(total, zero)),
        ),
    )


def _share_reducers(launch: Launch) -> Launch:
    """Any iteration may update any element of a reducer, so it lives in shared memory."""
    shared = {b: dataclasses.replace(b, scope=Scope.SHARED) for b in launch.buffers if b.scope is Scope.REDUCER}
    return replace_buffers(launch, shared)


def replace_buffers(launch: Launch, made: dict[Buffer, Buffer]) -> Launch:
    """The launch with buffers exchanged for others of the same shape and dtype."""
    if not made:
        return launch
    memo: dict[Expr, Expr] = {}

    def expression(root: Expr) -> Expr:
        return rewrite_expr(root, lambda e: load(made[e.buffer], e.args) if e.op is Op.LOAD and e.buffer in made else e, memo)

    body = rewrite(launch.body, on_expr=expression, on_buffer=lambda b: made.get(b, b))
    return dataclasses.replace(launch, body=body, buffers=tuple(made.get(b, b) for b in launch.buffers))
