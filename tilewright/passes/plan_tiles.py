"""Chooses how a CPU stores each tile (floor 5): widened where it feeds a product, in panels where it is a product's second operand.

The choice follows the consumer, as layout inference does for a GPU: a copy into such a tile converts and packs on the way, so that the product
reads its operands in the order and dtype it needs, with no second pass over the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tilewright.dtypes import DType
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Stmt
from tilewright.ir.tileop import Storage, TilePlan
from tilewright.ir.visit import own_expressions, subexpressions
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import Gemm, compute_dtype, panel_stride
from tilewright.passes.context import PassContext
from tilewright.passes.walk import covers_matrix, fills_whole, statements_with_facts

# Rows whose distance is a multiple of this fall into the same few sets of a first-level cache; one more cache line per row spreads them.
_ALIASING_BYTES = 512
_CACHE_LINE_BYTES = 64


@dataclass
class _Uses:
    """What a launch does with one tile."""

    products: list[DType] = field(default_factory=list)  # compute dtypes of products that read or write it
    second_operands: list[bool] = field(default_factory=list)  # is_transposed of products whose second operand is all of it
    copies: list[tuple[Copy, bool]] = field(default_factory=list)  # into all of it; whether the source begins inside its tensor, beyond which it is 0
    is_accessed: bool = False  # in any other way
    has_views: bool = False


def plan_tiles(program: Program, context: PassContext) -> Program:
    """Fills `context.plans` for every tile; the program stays as it is."""
    for launch in program.launches:
        for buffer, uses in _collect(launch).items():
            context.plans[buffer] = _plan(buffer, uses, context)
    return program


def _collect(launch: Launch) -> dict[Buffer, _Uses]:
    uses = {buffer: _Uses() for buffer in launch.buffers}
    annotated = {buffer for buffer, _ in launch.safe_values}
    for stmt, facts in statements_with_facts(launch):
        for expression in own_expressions(stmt):
            for node in subexpressions(expression):
                if node.op is Op.LOAD:
                    _use(uses, node.buffer).is_accessed = True
        match stmt:
            case Gemm():
                dtype = compute_dtype(stmt.a.dtype, stmt.c.dtype)
                for region in (stmt.a, stmt.b, stmt.c):
                    _use(uses, region.buffer).products.append(dtype)
                if covers_matrix(stmt.b) and stmt.b.buffer.scope is not Scope.GLOBAL:
                    _use(uses, stmt.b.buffer).second_operands.append(stmt.transpose_b)
                else:
                    _use(uses, stmt.b.buffer).is_accessed = True
                for region in (stmt.a, stmt.c):
                    _use(uses, region.buffer).is_accessed = True
            case Copy():
                # Packing fills what lies outside with zeros, so it cannot stand for another safe value.
                begins_inside = all(facts.range_of(s).low is not None and (facts.range_of(s).low or 0) >= 0 for s in stmt.src.starts)
                is_inside = begins_inside and stmt.src.buffer not in annotated
                if fills_whole(stmt):
                    _use(uses, stmt.dst.buffer).copies.append((stmt, is_inside))
                else:
                    _use(uses, stmt.dst.buffer).is_accessed = True
                _use(uses, stmt.src.buffer).is_accessed = True
            case _:
                for buffer in _named_buffers(stmt):
                    _use(uses, buffer).is_accessed = True
    for buffer in list(uses):
        if buffer.source is not None:
            _use(uses, buffer.storage).has_views = _use(uses, buffer).has_views = True
    return uses


def _use(uses: dict[Buffer, _Uses], buffer: Buffer) -> _Uses:
    """The record of a tile; uses of a view count for the view's own record, global buffers for a throw-away one."""
    if buffer.scope is Scope.GLOBAL:
        return _Uses()
    if buffer.source is not None:
        uses.setdefault(buffer.storage, _Uses()).has_views = True
    return uses.setdefault(buffer, _Uses())


def _named_buffers(stmt: Stmt) -> list[Buffer]:
    found = []
    for value in vars(stmt).values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Buffer):
                found.append(item)
            elif isinstance(item, Region):
                found.append(item.buffer)
    return found


def _plan(buffer: Buffer, uses: _Uses, context: PassContext) -> TilePlan:
    columns = int(buffer.shape[-1])
    if uses.has_views or not uses.products or any(d != uses.products[0] for d in uses.products):
        return TilePlan(buffer.dtype, Storage.ROW_MAJOR, columns)
    dtype = uses.products[0]
    if _can_be_panels(buffer, uses, dtype):
        panel = context.panel_columns(dtype)
        context.remark(buffer.span, f"{buffer.name} is kept in panels of {panel} columns as {dtype!s}, packed as it is copied")
        depth = int(buffer.shape[-1] if uses.second_operands[0] else buffer.shape[-2])
        return TilePlan(dtype, Storage.PANELS, columns, panel, panel_stride(depth, panel), uses.second_operands[0])
    pitch = columns
    if buffer.rank > 1 and columns * dtype.itemsize % _ALIASING_BYTES == 0:
        pitch += _CACHE_LINE_BYTES // dtype.itemsize
    if dtype != buffer.dtype:
        context.remark(buffer.span, f"{buffer.name} is kept as {dtype!s}, which holds {buffer.dtype!s} exactly")
    return TilePlan(dtype, Storage.ROW_MAJOR, pitch)


def _can_be_panels(buffer: Buffer, uses: _Uses, dtype: DType) -> bool:
    """Only read as a product's second operand, in one orientation, and only written by whole copies that a packing routine can do."""
    return (
        bool(uses.second_operands)
        and not uses.is_accessed
        and len(uses.second_operands) == len(uses.products)
        and all(t == uses.second_operands[0] for t in uses.second_operands)
        and bool(uses.copies)
        and all(is_inside and is_packable(copy, dtype) for copy, is_inside in uses.copies)
    )


def is_packable(copy: Copy, dtype: DType) -> bool:
    """Whether a copy into a 2-D tile reads a global tensor along two axes, one of them contiguous, with no rounding on the way."""
    source = copy.src.buffer
    if source.scope is not Scope.GLOBAL or source.dtype.is_packed or source.dtype.is_bool or len(copy.extents) != 2:
        return False
    if source.dtype != copy.dst.dtype or sorted(a for a in copy.src_axes if a >= 0) != [0, 1]:
        return False
    return any(is_unit(source.element_strides()[axis]) for axis, domain in enumerate(copy.src_axes) if domain >= 0)


def is_unit(stride: int | Expr) -> bool:
    return isinstance(stride, int) and stride == 1
