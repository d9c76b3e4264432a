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
# Where the second operand is read in place nothing but the first one takes room, and what counts are long runs of memory.
STREAM_DEPTH = 2048


def merge_depth(program: Program, context: PassContext) -> Program:
    """Merges where it is possible and worth while."""
    return dataclasses.replace(program, launches=tuple(_merge_launch(launch, context) for launch in program.launches))


def _merge_launch(launch: Launch, context: PassContext) -> Launch:
    replaced: dict[Buffer, Buffer] = {}

    def merge(stmt: Stmt) -> Stmt:
        if isinstance(stmt, For):
            merged = _merge(stmt, launch, replaced)
            if merged is not None:
                loop, depth = merged
                context.remark(stmt.span, f"steps of the reduction loop are merged to a depth of {depth}")
                return loop
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


def _merge(loop: For, launch: Launch, replaced: dict[Buffer, Buffer]) -> tuple[For, int] | None:
    """The loop with longer steps, and the depth of a step."""
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
    factor = (STREAM_DEPTH if all(g.is_streamed for g in products) else DEPTH) // step
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
        _deeper_copy(s, stagings[s.dst.buffer].depth_axis, tiles, first) if isinstance(s, Copy) else _deeper_product(s, tiles, depth, first, factor)
        for s in body
        if isinstance(s, (Copy, Gemm))
    )
    return For(loop.span, turn, ceildiv(loop.extent, const(factor, loop.extent.dtype)), loop.kind, Seq(loop.span, made), loop.pipeline), factor * step


def _is_plain(product: Gemm) -> bool:
    """Sums may be regrouped (nothing is rounded between steps) and every step adds to the accumulator."""
    return (
        product.depth is None
        and product.clear.is_const
        and not product.clear.value
        and product.c.dtype == compute_dtype(product.a.dtype, product.c.dtype)
        and product.a.is_whole
        and (product.is_streamed or (product.b.is_whole and product.b.buffer.rank == 2))
        and product.a.buffer.rank == 2
    )


def _stagings(loop: For, products: Sequence[Gemm], copies: dict[Buffer, Copy]) -> dict[Buffer, _Staging] | None:
    """The tiles that feed the products; None where one of them is not staged step by step."""
    found: dict[Buffer, _Staging] = {}
    for product in products:
        for region, axis in ((product.a, 0 if product.transpose_a else 1), (product.b, 1 if product.transpose_b else 0)):
            buffer = region.buffer
            if region is product.b and product.is_streamed:
                if not _advances(region, buffer.rank - 2 + axis, product.m_n_k[2], loop.variable):
                    return None
                continue
            copy = copies.get(buffer)
            if copy is None or not fills_whole(copy) or axis not in copy.src_axes or (buffer in found and found[buffer].depth_axis != axis):
                return None
            found[buffer] = _Staging(copy, axis)
            if not _advances(copy.src, copy.src_axes.index(axis), found[buffer].step, loop.variable):
                return None
    accumulators = {g.c.buffer for g in products}
    if len(found) != len(copies) or accumulators & set(found) or any(c.src.buffer in accumulators or c.src.buffer in found for c in copies.values()):
        return None
    return found


def _advances(source: Region, depth_axis: int, step: int, variable: Expr) -> bool:
    """Each turn's source begins where the last one's ended along the depth, and stays where it is along the other axes."""
    for axis, start in enumerate(source.starts):
        split = Linearizer(is_expanding=True)
        parts = split.split(split.form(start), variable)
        if parts is None:
            return False
        coefficient, _ = parts
        if not coefficient.is_constant or coefficient.constant != (step if axis == depth_axis else 0):
            return False
    return True


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


def _deeper_region(region: Region, axis: int, depth: int, first: dict[Expr, Expr]) -> Region:
    starts = tuple(substitute_expr(s, first) for s in region.starts)
    return dataclasses.replace(region, starts=starts, extents=tuple(depth if a == axis else n for a, n in enumerate(region.extents)))


def _deeper_copy(copy: Copy, depth_axis: int, tiles: dict[Buffer, Buffer], first: dict[Expr, Expr]) -> Copy:
    tile = tiles[copy.dst.buffer]
    depth = tile.static_shape[depth_axis]
    source = _deeper_region(copy.src, copy.src_axes.index(depth_axis), depth, first)
    domain = tuple(const(depth) if d == depth_axis else e for d, e in enumerate(copy.extents))
    return dataclasses.replace(copy, src=source, dst=_whole_region(tile, copy.dst.span), extents=domain)


def _deeper_product(product: Gemm, tiles: dict[Buffer, Buffer], depth: Expr, first: dict[Expr, Expr], factor: int) -> Gemm:
    if product.is_streamed:
        axis = product.b.buffer.rank - (1 if product.transpose_b else 2)
        b = _deeper_region(product.b, axis, product.m_n_k[2] * factor, first)
    else:
        b = _whole_region(tiles[product.b.buffer], product.b.span)
    return dataclasses.replace(product, a=_whole_region(tiles[product.a.buffer], product.a.span), b=b, depth=depth)
