"""Merges steps of a product's reduction loop (floor 5): a loop that stages 32 columns at a time does 256 at a time.

A GPU wants short steps, which hide the latency of copies; a CPU wants long ones, because each step reads and writes the accumulator once. Only the
size of the staging tiles changes: the loop must do nothing but copy into tiles and multiply them, each step's source following on the last one's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tilewright.arith.linear import Linearizer
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Region
from tilewright.ir.expr import Expr, ceildiv, const, minimum, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import For, Seq, Stmt
from tilewright.ir.visit import rewrite, statements, substitute_expr
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import Gemm, compute_dtype
from tilewright.passes.context import PassContext
from tilewright.passes.walk import buffers_of, fills_whole, viewed_tiles

# Depth of one step: a panel of B (this deep, two vectors wide) and the rows of A that meet it fill half of a first-level cache. Measured:
# 256 beats 32 by a fifth, and 512 is no better because the tiles then fall out of the second-level cache.
DEPTH = 256


def merge_depth(program: Program, context: PassContext) -> Program:
    """Merges where it is possible and worth while."""
    return dataclasses.replace(program, launches=tuple(_merge_launch(launch, context) for launch in program.launches))


def _merge_launch(launch: Launch, context: PassContext) -> Launch:
    replaced: dict[Buffer, Buffer] = {}

    def merge(stmt: Stmt) -> Stmt:
        if isinstance(stmt, For):
            merged = _merge(stmt, launch, replaced)
            if merged is not None:
                context.remark(stmt.span, f"steps of the reduction loop are merged to a depth of {DEPTH}")
                return merged
        return stmt

    body = rewrite(launch.body, post=merge)
    return launch if body is launch.body else dataclasses.replace(launch, body=body, buffers=tuple(replaced.get(b, b) for b in launch.buffers))


@dataclasses.dataclass(frozen=True)
class _Staging:
    """A tile that one copy of the loop fills and products of the loop read."""

    copy: Copy
    depth_axis: int

    @property
    def step(self) -> int:
        """Depth of one turn."""
        return self.copy.dst.buffer.static_shape[self.depth_axis]


def _merge(loop: For, launch: Launch, replaced: dict[Buffer, Buffer]) -> For | None:
    body = loop.body.body if isinstance(loop.body, Seq) else (loop.body,)
    products = [s for s in body if isinstance(s, Gemm)]
    copies = {s.dst.buffer: s for s in body if isinstance(s, Copy)}
    if not products or len(copies) + len(products) != len(body) or any(not _is_plain(g) for g in products):
        return None
    if any(
        isinstance(later, Copy) and later.dst.buffer in (product.a.buffer, product.b.buffer)
        for position, product in enumerate(body)
        if isinstance(product, Gemm)
        for later in body[position + 1 :]
    ):
        return None  # a product that reads what the turn before has staged
    stagings = _stagings(loop, products, copies)
    if stagings is None or len({s.step for s in stagings.values()}) != 1 or any(_is_used_elsewhere(b, launch, body) for b in stagings):
        return None
    step = next(iter(stagings.values())).step
    factor = DEPTH // step
    if loop.extent.is_const:
        factor = min(factor, loop.extent.value)
    if factor < 2:
        return None
    turn = var(loop.variable.name, loop.variable.dtype)
    depth: Expr = minimum(const(factor * step), (loop.extent - turn * factor) * step)
    if loop.extent.is_const and loop.extent.value % factor == 0:
        depth = const(factor * step)
    tiles = {buffer: _deepened(buffer, s.depth_axis, factor) for buffer, s in stagings.items()}
    replaced.update(tiles)
    first = {loop.variable: turn * factor}
    made = tuple(
        _deeper_copy(s, stagings[s.dst.buffer].depth_axis, tiles, first, factor) if isinstance(s, Copy) else _deeper_product(s, tiles, depth)
        for s in body
        if isinstance(s, (Copy, Gemm))
    )
    return For(loop.span, turn, ceildiv(loop.extent, const(factor, loop.extent.dtype)), loop.kind, Seq(loop.span, made), loop.pipeline)


def _is_plain(product: Gemm) -> bool:
    """Sums may be regrouped (nothing is rounded between steps) and every step adds to the accumulator."""
    return (
        product.depth is None
        and product.clear.is_const
        and not product.clear.value
        and product.c.dtype == compute_dtype(product.a.dtype, product.c.dtype)
        and product.a.is_whole
        and product.b.is_whole
        and product.a.buffer.rank == product.b.buffer.rank == 2
    )


def _stagings(loop: For, products: Sequence[Gemm], copies: dict[Buffer, Copy]) -> dict[Buffer, _Staging] | None:
    """The tiles that feed the products; None where one of them is not staged step by step."""
    found: dict[Buffer, _Staging] = {}
    for product in products:
        for region, axis in ((product.a, 0 if product.transpose_a else 1), (product.b, 1 if product.transpose_b else 0)):
            buffer = region.buffer
            copy = copies.get(buffer)
            if copy is None or not fills_whole(copy) or (buffer in found and found[buffer].depth_axis != axis) or not _advances(copy, axis, loop.variable):
                return None
            found[buffer] = _Staging(copy, axis)
    accumulators = {g.c.buffer for g in products}
    if len(found) != len(copies) or accumulators & set(found) or any(c.src.buffer in accumulators or c.src.buffer in found for c in copies.values()):
        return None
    return found


def _advances(copy: Copy, depth_axis: int, variable: Expr) -> bool:
    """Each turn's source begins where the last one's ended along the depth, and stays where it is along the other axes."""
    for axis, start in enumerate(copy.src.starts):
        split = Linearizer(is_expanding=True)
        parts = split.split(split.form(start), variable)
        if parts is None:
            return False
        coefficient, _ = parts
        wanted = copy.dst.buffer.static_shape[depth_axis] if copy.src_axes[axis] == depth_axis else 0
        if not coefficient.is_constant or coefficient.constant != wanted:
            return False
    return depth_axis in copy.src_axes


def _is_used_elsewhere(buffer: Buffer, launch: Launch, body: Sequence[Stmt]) -> bool:
    inside = set(map(id, body))
    return buffer in viewed_tiles(launch) or any(
        buffer in buffers_of(stmt) for stmt in statements(launch.body) if id(stmt) not in inside and not isinstance(stmt, (Seq, For))
    )


def _deepened(buffer: Buffer, axis: int, factor: int) -> Buffer:
    shape = tuple(n * factor if a == axis else n for a, n in enumerate(buffer.static_shape))
    return dataclasses.replace(buffer, shape=shape)


def _whole_region(buffer: Buffer, span: Span) -> Region:
    return Region(buffer, tuple(const(0) for _ in buffer.shape), buffer.shape, (True,) * buffer.rank, span)


def _deeper_copy(copy: Copy, depth_axis: int, tiles: dict[Buffer, Buffer], first: dict[Expr, Expr], factor: int) -> Copy:
    tile = tiles[copy.dst.buffer]
    depth = tile.static_shape[depth_axis]
    starts = tuple(substitute_expr(s, first) for s in copy.src.starts)
    extents = tuple(depth if copy.src_axes[a] == depth_axis else n for a, n in enumerate(copy.src.extents))
    domain = tuple(const(depth) if d == depth_axis else e for d, e in enumerate(copy.extents))
    source = Region(copy.src.buffer, starts, extents, copy.src.is_slice, copy.src.span)
    return dataclasses.replace(copy, src=source, dst=_whole_region(tile, copy.dst.span), extents=domain)


def _deeper_product(product: Gemm, tiles: dict[Buffer, Buffer], depth: Expr) -> Gemm:
    return dataclasses.replace(
        product, a=_whole_region(tiles[product.a.buffer], product.a.span), b=_whole_region(tiles[product.b.buffer], product.b.span), depth=depth
    )
