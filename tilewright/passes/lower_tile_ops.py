"""Replaces every tile operation by loops and products (floor 5): after it no TileOp is left."""

from __future__ import annotations

import dataclasses
from typing import Any

from tilewright.arith.bounds import Facts
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, const, logical, maximum, minimum, select
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import For, PackPanels, Stmt
from tilewright.ir.tileop import Storage, TileOp, TilePlan
from tilewright.ir.visit import rewrite, statements
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import panel_tile_offset
from tilewright.passes.context import PassContext
from tilewright.passes.plan_tiles import is_unit
from tilewright.passes.walk import launch_facts


def lower_tile_ops(program: Program, context: PassContext) -> Program:
    """Asks each operation for its loops; scratch tiles that they need join the launch."""
    return dataclasses.replace(program, launches=tuple(_lower_launch(launch, context) for launch in program.launches))


def _lower_launch(launch: Launch, context: PassContext) -> Launch:
    lowering = CpuLowering(launch, context)
    body = rewrite(launch.body, post=lambda stmt: stmt.lower(lowering) if isinstance(stmt, TileOp) else stmt)
    return dataclasses.replace(launch, body=body, buffers=(*launch.buffers, *lowering.scratches))


class CpuLowering:
    """What the operations of one launch may ask (the LoweringContext of `ir.tileop`)."""

    def __init__(self, launch: Launch, context: PassContext) -> None:
        self.context = context
        self.facts: Facts = launch_facts(launch)
        for stmt in statements(launch.body):
            if isinstance(stmt, For):  # its variable is bound nowhere else
                self.facts = self.facts.with_loop(stmt.variable, stmt.extent)
        self.scratches: list[Buffer] = []

    def plan(self, buffer: Buffer) -> TilePlan:
        found = self.context.plans.get(buffer)
        return found if found is not None else TilePlan(buffer.dtype, Storage.ROW_MAJOR, int(buffer.shape[-1]) if isinstance(buffer.shape[-1], int) else 0)

    def panel_columns(self, dtype: DType) -> int:
        return self.context.panel_columns(dtype)

    def scratch(self, name: str, dtype: DType, shape: tuple[int, ...], span: Span) -> Buffer:
        buffer = Buffer(name, dtype, shape, Scope.SHARED, span)
        self.context.plans[buffer] = TilePlan(dtype, Storage.ROW_MAJOR, shape[-1])
        self.scratches.append(buffer)
        return buffer

    def lower_packed_copy(self, copy: Any) -> Stmt | None:
        if not isinstance(copy, Copy):
            raise CompilerBug("only copies are packed")
        plan = self.plan(copy.dst.buffer)
        if plan.storage is not Storage.PANELS:
            return None
        depth_axis, column_axis = (1, 0) if plan.is_transposed else (0, 1)
        shape = copy.dst.buffer.static_shape[-2:]
        source, strides = copy.src.buffer, copy.src.buffer.element_strides()
        axis_of = {domain: axis for axis, domain in enumerate(copy.src_axes) if domain >= 0}
        offset: Expr = const(0)
        is_inside: Expr | None = None
        for axis, (start, stride) in enumerate(zip(copy.src.starts, strides, strict=True)):
            offset = offset + start * stride
            if copy.src_axes[axis] < 0:
                inside = logical(Op.AND, start >= 0, binary(Op.LT, start, source.shape[axis]))
                is_inside = inside if is_inside is None else logical(Op.AND, is_inside, inside)

        def valid(domain: int) -> Expr:
            axis = axis_of[domain]
            rest = maximum(minimum(binary(Op.SUB, source.shape[axis], copy.src.starts[axis]), shape[domain]), 0)
            return rest if is_inside is None else select(is_inside, rest, const(0))

        is_transposed = not is_unit(strides[axis_of[column_axis]])
        leading = strides[axis_of[column_axis if is_transposed else depth_axis]]
        return PackPanels(
            copy.span,
            source,
            offset,
            const(leading) if isinstance(leading, int) else leading,
            is_transposed,
            valid(depth_axis),
            valid(column_axis),
            copy.dst.buffer,
            panel_tile_offset(copy.dst, -(-shape[column_axis] // plan.panel_columns) * plan.panel_stride),
            shape[depth_axis],
            shape[column_axis],
            plan.panel_columns,
            plan.panel_stride,
        )
