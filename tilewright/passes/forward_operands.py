"""Lets products read their first operand where it lies (floor 5): a copy that only brings rows of a global tensor into a tile is left out.

A CPU reaches global memory as directly as any tile; what a copy would add is an in-order conversion or the clipping at an edge. Where neither is
needed, and nothing writes the tensor in this launch, the product takes the tensor's own rows.
"""

from __future__ import annotations

import dataclasses

from tilewright.arith.bounds import Facts
from tilewright.arith.prove import decide
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op, as_expr, binary, const
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Seq, Stmt
from tilewright.ir.visit import rewrite, statements
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import Gemm, compute_dtype
from tilewright.passes.context import PassContext
from tilewright.passes.walk import fills_whole, statements_with_facts, users_of, viewed_tiles, written_storages


def forward_operands(program: Program, context: PassContext) -> Program:
    """Removes copies whose tile is only the first operand of products that can read the source itself."""
    return dataclasses.replace(program, launches=tuple(_forward_launch(launch, context) for launch in program.launches))


def _forward_launch(launch: Launch, context: PassContext) -> Launch:
    written = written_storages(launch)
    if any(b.pointer is not None for b in written):  # a raw pointer may lead into any tensor
        return launch
    users = users_of(launch)
    views = viewed_tiles(launch)
    sources: dict[Buffer, Region] = {}
    for stmt, facts in statements_with_facts(launch):
        if isinstance(stmt, Copy) and stmt.dst.buffer not in views and stmt.src.buffer.storage not in written:
            region = _source_rows(stmt, users.get(stmt.dst.buffer, []), facts)
            if region is not None and _is_followed(stmt, launch, users[stmt.dst.buffer]):
                sources[stmt.dst.buffer] = region
                context.remark(stmt.span, f"{stmt.dst.buffer.name} is not copied: products read {stmt.src.buffer.name} in place")
    if not sources:
        return launch

    def forward(stmt: Stmt) -> Stmt | None:
        if isinstance(stmt, Copy) and stmt.dst.buffer in sources:
            return None
        if isinstance(stmt, Gemm) and stmt.a.buffer in sources:
            return dataclasses.replace(stmt, a=sources[stmt.a.buffer])
        return stmt

    return dataclasses.replace(launch, body=rewrite(launch.body, post=forward), buffers=tuple(b for b in launch.buffers if b not in sources))


def _source_rows(copy: Copy, users: list[Stmt], facts: Facts) -> Region | None:
    """The source as a matrix region that a product may read, None where it may not."""
    source = copy.src.buffer
    products = [s for s in users if isinstance(s, Gemm)]
    if (
        source.scope is not Scope.GLOBAL
        or source.pointer is not None
        or not products
        or len(products) + 1 != len(users)
        or copy.dst.buffer.rank != 2
        or not fills_whole(copy)
    ):
        return None
    rank = source.rank
    if copy.src_axes != (*(-1,) * (rank - 2), 0, 1) or not all(isinstance(s, int) for s in source.element_strides()):
        return None
    for product in products:
        is_first_only = (
            product.a.buffer is copy.dst.buffer and product.a.is_whole and product.b.buffer is not copy.dst.buffer and product.c.buffer is not copy.dst.buffer
        )
        if not is_first_only or source.dtype != copy.dst.dtype or source.dtype != compute_dtype(product.a.dtype, product.c.dtype):
            return None
        depth_axis = rank - 2 if product.transpose_a else rank - 1
        for axis, start in enumerate(copy.src.starts):
            length: Expr = (
                product.depth
                if product.depth is not None and axis == depth_axis
                else as_expr(copy.dst.buffer.shape[axis - rank + 2] if axis >= rank - 2 else 1)
            )
            is_inside = decide(binary(Op.GE, start, const(0)), facts) and decide(binary(Op.LE, start + length, as_expr(source.shape[axis])), facts)
            if not is_inside:
                return None
    extents = tuple(1 if a < rank - 2 else copy.dst.buffer.shape[a - rank + 2] for a in range(rank))
    return Region(source, copy.src.starts, extents, tuple(a >= rank - 2 for a in range(rank)), copy.src.span)


def _is_followed(copy: Copy, launch: Launch, users: list[Stmt]) -> bool:
    """Every product that reads the tile comes after the copy in the same sequence, so the variables of its source mean the same there."""
    for stmt in statements(launch.body):
        if isinstance(stmt, Seq) and any(s is copy for s in stmt.body):
            at = next(k for k, s in enumerate(stmt.body) if s is copy)
            later = {id(inner) for s in stmt.body[at + 1 :] for inner in statements(s)}
            return all(id(user) in later for user in users if user is not copy)
    return False
