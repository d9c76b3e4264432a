"""Replaces the tile operations that every thread does alone by serial loops over elements (floor 5), for any target.

In thread-level code an operation on a thread's own memory (`T.clear(acc)` of a T.alloc_local) is that thread's: afterwards only element statements
and the operations of the whole block are left.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import For, LoopKind, ParallelFor, Stmt
from tilewright.ir.tileop import Storage, TileOp, TilePlan
from tilewright.ir.visit import rewrite
from tilewright.passes.context import Remarks
from tilewright.passes.thread_variance import is_thread_operation


def lower_thread_ops(program: Program, context: Remarks) -> Program:
    """Thread-level launches without operations of single threads; other launches stay as they are."""
    return dataclasses.replace(program, launches=tuple(_lower_launch(x) if x.is_thread_level else x for x in program.launches))


def _lower_launch(launch: Launch) -> Launch:
    lowering = _ThreadLowering()

    def lowered(stmt: Stmt) -> Stmt:
        if isinstance(stmt, TileOp) and is_thread_operation(stmt):
            return rewrite(stmt.lower(lowering), post=_serial)
        return stmt

    body = rewrite(launch.body, post=lowered)
    return launch if body is launch.body else dataclasses.replace(launch, body=body, buffers=(*launch.buffers, *lowering.scratches))


def _serial(stmt: Stmt) -> Stmt:
    if not isinstance(stmt, ParallelFor):
        return stmt
    made = stmt.body
    for variable, extent in reversed(list(zip(stmt.variables, stmt.extents, strict=True))):
        made = For(stmt.span, variable, extent, LoopKind.SERIAL, made)
    return made


class _ThreadLowering:
    """What an operation may ask (the LoweringContext of `ir.tileop`): nothing of a thread's memory is arranged in any other way than declared."""

    def __init__(self) -> None:
        self.scratches: list[Buffer] = []

    def plan(self, buffer: Buffer) -> TilePlan:
        last = buffer.shape[-1]
        return TilePlan(buffer.dtype, Storage.ROW_MAJOR, last if isinstance(last, int) else 0)

    def panel_columns(self, dtype: DType) -> int:
        raise CompilerBug("an operation of one thread asks for panels")

    def lower_packed_copy(self, copy: Any) -> Stmt | None:
        return None

    def scratch(self, name: str, dtype: DType, shape: tuple[int, ...], span: Span) -> Buffer:
        self.scratches.append(Buffer(name, dtype, shape, Scope.LOCAL, span))
        return self.scratches[-1]


__all__ = ["lower_thread_ops"]
