"""Lets a copy of a tile be the tile itself (floor 5), where the copy is only read, and the tile is not written while that happens.

GPU kernels copy accumulators into tiles of the operands' dtype. Where both dtypes are the same, the copy moves what is already in place.
"""

from __future__ import annotations

import dataclasses

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, load
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Print, Seq, Stmt
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import rewrite, rewrite_expr, statements
from tilewright.ops.copy import Copy
from tilewright.passes.context import PassContext
from tilewright.passes.walk import buffers_of, viewed_tiles

_TILES = (Scope.SHARED, Scope.FRAGMENT)


def reuse_tiles(program: Program, context: PassContext) -> Program:
    """Removes copies between tiles whose readers can read the source."""
    return dataclasses.replace(program, launches=tuple(_reuse_launch(launch, context) for launch in program.launches))


def _reuse_launch(launch: Launch, context: PassContext) -> Launch:
    kept_apart = viewed_tiles(launch) | {buffer for buffer, _ in launch.safe_values}
    for sequence in [s for s in statements(launch.body) if isinstance(s, Seq)]:
        for copy in sequence.body:
            if isinstance(copy, Copy) and _is_plain(copy) and kept_apart.isdisjoint((copy.src.buffer, copy.dst.buffer)):
                made = _without(launch, copy)
                if made is not None:
                    context.remark(copy.span, f"{copy.dst.buffer.name} is not copied: what reads it reads {copy.src.buffer.name}")
                    return _reuse_launch(made, context)
    return launch


def _is_plain(copy: Copy) -> bool:
    """From all of one tile to all of another one, element by element, with no conversion."""
    src, dst = copy.src.buffer, copy.dst.buffer
    return (
        src is not dst
        and src.scope in _TILES
        and dst.scope in _TILES
        and src.dtype == dst.dtype
        and src.shape == dst.shape
        and copy.src.is_whole
        and copy.dst.is_whole
        and copy.src_axes == copy.dst_axes == tuple(range(dst.rank))
    )


def _without(launch: Launch, copy: Copy) -> Launch | None:
    """The launch without the copy; None where the two tiles may differ when the second is read."""
    source, tile = copy.src.buffer, copy.dst.buffer
    sequence = next(s for s in statements(launch.body) if isinstance(s, Seq) and any(part is copy for part in s.body))
    position = next(k for k, part in enumerate(sequence.body) if part is copy)
    after = [inner for part in sequence.body[position + 1 :] for inner in statements(part)]
    users = [s for s in statements(launch.body) if s is not copy and tile in buffers_of(s)]
    if not {id(s) for s in users} <= {id(s) for s in after} or any(isinstance(s, Print) for s in users):
        return None
    if any(b in (source, tile) for s in after for b in _written(s)):
        return None
    memo: dict[Expr, Expr] = {}

    def read(node: Expr) -> Expr:
        return load(source, node.args) if node.op is Op.LOAD and node.buffer is tile else node

    rest = rewrite(launch.body, post=lambda s: dataclasses.replace(s, body=tuple(p for p in s.body if p is not copy)) if s is sequence else s)
    body = rewrite(rest, on_expr=lambda e: rewrite_expr(e, read, memo), on_buffer=lambda b: source if b is tile else b)
    return dataclasses.replace(launch, body=body, buffers=tuple(b for b in launch.buffers if b is not tile))


def _written(stmt: Stmt) -> list[Buffer]:
    """Tiles that a statement itself may write: what it names rather than loads from, unless its effects say more."""
    if isinstance(stmt, TileOp):
        return [region.buffer for region in stmt.effects().writes]
    return [value for value in vars(stmt).values() if isinstance(value, Buffer)]
