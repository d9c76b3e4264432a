"""Lets products of few rows read their second operand where it lies (floor 5), without staging or packing it.

Packing pays when an element that was packed is used by many rows. Where the rows that will ever meet it fit the vector registers, the time it takes to
bring the operand from memory is what counts, and every other pass over it is lost. The product then reads the tensor itself, converts in registers,
and takes what lies outside the tensor as the zeros that the copy would have put there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tilewright.arith.bounds import Facts
from tilewright.arith.prove import decide
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op, as_expr, binary
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Seq, Stmt
from tilewright.ir.visit import rewrite, statements, subexpressions
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import Gemm
from tilewright.ops.operand import same_extent
from tilewright.passes.context import PassContext
from tilewright.passes.plan_tiles import is_packable
from tilewright.passes.walk import fills_whole, statements_with_facts, users_of, viewed_tiles, written_storages


def stream_operands(program: Program, context: PassContext) -> Program:
    """Removes copies whose tile is only the second operand of products of few rows."""
    return dataclasses.replace(program, launches=tuple(_stream_launch(launch, context) for launch in program.launches))


def _stream_launch(launch: Launch, context: PassContext) -> Launch:
    written = written_storages(launch)
    if any(b.pointer is not None for b in written):  # a raw pointer may lead into any tensor
        return launch
    users = users_of(launch)
    fixed = written | {b for b, _ in launch.safe_values}
    most_rows = context.target.register_count // 2  # one sum for each row, and as much again for what is multiplied
    views = viewed_tiles(launch)
    sources: dict[Buffer, Region] = {}
    for stmt, facts in statements_with_facts(launch):
        if isinstance(stmt, Copy) and stmt.dst.buffer not in views and stmt.src.buffer.storage not in fixed and stmt.src.buffer not in fixed:
            products = _followers(stmt, launch, users.get(stmt.dst.buffer, []))
            rows = sum(g.m_n_k[0] for g in products) * _sharing_blocks(stmt, launch)
            if products and rows <= most_rows and _is_readable(stmt, facts) and all(_is_depth_equal(g, stmt, users, facts) for g in products):
                sources[stmt.dst.buffer] = dataclasses.replace(stmt.src, is_slice=(False,) * (stmt.src.buffer.rank - 2) + (True, True))
                context.remark(stmt.span, f"{stmt.dst.buffer.name} is not copied: products of {rows} rows read {stmt.src.buffer.name} in place")
    if not sources:
        return launch

    def stream(stmt: Stmt) -> Stmt | None:
        if isinstance(stmt, Copy) and stmt.dst.buffer in sources:
            return None
        if isinstance(stmt, Gemm) and stmt.b.buffer in sources:
            return dataclasses.replace(stmt, b=sources[stmt.b.buffer])
        return stmt

    return dataclasses.replace(launch, body=rewrite(launch.body, post=stream), buffers=tuple(b for b in launch.buffers if b not in sources))


def _followers(copy: Copy, launch: Launch, users: list[Stmt]) -> list[Gemm]:
    """The products that use the tile, each once for every time that it is copied; none where it has another use."""
    tile = copy.dst.buffer
    products = [s for s in users if isinstance(s, Gemm) and s.b.buffer is tile and s.b.is_whole and tile is not s.a.buffer and tile is not s.c.buffer]
    sequence = next((s.body for s in statements(launch.body) if isinstance(s, Seq) and any(inner is copy for inner in s.body)), ())
    position = {id(s): k for k, s in enumerate(sequence)}
    if len(products) + 1 != len(users) or not all(position.get(id(g), -1) > position[id(copy)] for g in products):
        return []
    return products


def _sharing_blocks(copy: Copy, launch: Launch) -> int:
    """How many blocks read the same part of the tensor; a large number where that is known only at run time."""
    used = {n for start in copy.src.starts for n in subexpressions(start)}
    count = 1
    for variable, extent in zip(launch.block_variables, launch.grid, strict=True):
        if variable not in used:
            count *= max(int(extent.value), 1) if extent.is_const else 1 << 20
    return count


def _is_readable(copy: Copy, facts: Facts) -> bool:
    """The source is a matrix of the caller's that begins inside its tensor, with one contiguous axis and nothing to round."""
    source = copy.src.buffer
    begins_inside = all((facts.range_of(s).low or 0) >= 0 and facts.range_of(s).low is not None for s in copy.src.starts)
    return (
        source.scope is Scope.GLOBAL
        and source.pointer is None
        and fills_whole(copy)
        and copy.dst.buffer.rank == 2
        and source.rank >= 2
        and copy.src_axes == (*(-1,) * (source.rank - 2), 0, 1)
        and is_packable(copy, copy.dst.dtype)
        and begins_inside
    )


def _is_depth_equal(product: Gemm, copy: Copy, users: Mapping[Buffer, list[Stmt]], facts: Facts) -> bool:
    """Where the tensor ends within the depth, so does that of the first operand: no element that is not finite meets the zeros behind the end."""
    b_axis = copy.src.buffer.rank - (1 if product.transpose_b else 2)
    start, extent = copy.src.starts[b_axis], copy.src.buffer.shape[b_axis]
    if not product.a.dtype.is_float or decide(binary(Op.LE, start + product.m_n_k[2], as_expr(extent)), facts):
        return True
    fills = [s for s in users[product.a.buffer] if not isinstance(s, Gemm)]
    if len(fills) != 1 or not isinstance(fills[0], Copy) or not fills_whole(fills[0]) or product.a.buffer.rank != 2:
        return False
    first = fills[0]
    depth_axis = 0 if product.transpose_a else 1
    axis = first.src_axes.index(depth_axis) if depth_axis in first.src_axes else -1
    return axis >= 0 and _is_same(first.src.starts[axis], start) and same_extent(first.src.buffer.shape[axis], extent)


def _is_same(left: Expr, right: Expr) -> bool:
    return left is right or (left.is_const and right.is_const and left.value == right.value)
