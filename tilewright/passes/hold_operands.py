"""First operands of products that a loop does not change are held in registers (floor 5).

The tile Q of attention is multiplied in every turn. Read from shared memory each time, it takes as much of its bandwidth as the tile that changes; copied
once before the loop into a fragment, in the layout that the product wants, it takes none.
"""

from __future__ import annotations

import dataclasses
import math

from tilewright.ir.buffer import Buffer, Scope, whole
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import For, LoopKind, Seq, Stmt
from tilewright.ir.visit import rewrite, statements
from tilewright.layout import REG
from tilewright.ops.copy import match_tiles
from tilewright.ops.gemm import Gemm
from tilewright.passes.context import GpuPassContext
from tilewright.passes.scratch import Scratch
from tilewright.passes.walk import storages_written_by

_MOST_REGISTERS = 32  # of 32 bits, per thread: more would push accumulators out of registers


def hold_operands(program: Program, context: GpuPassContext) -> Program:
    """Adds the copies in front of the loops."""
    return dataclasses.replace(program, launches=tuple(_hold(launch, context) for launch in program.launches))


def _hold(launch: Launch, context: GpuPassContext) -> Launch:
    num_threads = math.prod(launch.threads)
    scratch = Scratch()
    viewed = {b.storage for b in launch.buffers if b.source is not None}

    def loop(node: Stmt) -> Stmt:
        if not isinstance(node, For) or node.kind is LoopKind.UNROLLED:
            return node
        written = {storage for stmt in statements(node.body) for storage in storages_written_by(stmt)}
        held: dict[Buffer, Buffer] = {}
        copies: list[Stmt] = []

        def product(op: Stmt) -> Stmt:
            if not isinstance(op, Gemm) or op.a.buffer.scope is not Scope.SHARED or not op.a.is_whole or op.a.buffer.rank != 2:
                return op
            tile, layout = op.a.buffer, op.plan(num_threads, context.target).a_layout
            if tile.storage in written or tile in viewed or layout is None or layout.in_axis(REG).extent * tile.dtype.bits > 32 * _MOST_REGISTERS:
                return op
            if tile not in held:
                held[tile] = scratch.make(f"{tile.name}_held", tile.dtype, tile.static_shape, Scope.FRAGMENT, op.span)
                copies.append(match_tiles(whole(tile), whole(held[tile]), True, op.span))
                context.remark(op.span, f"{tile.name} does not change in the loop: it is read from shared memory once, and held in registers")
            return dataclasses.replace(op, a=whole(held[tile]))

        made = rewrite(node, post=product)
        return Seq(node.span, (*copies, made)) if copies else node

    body = rewrite(launch.body, post=loop)
    return dataclasses.replace(launch, body=body, buffers=(*launch.buffers, *scratch.buffers)) if scratch.buffers else launch
