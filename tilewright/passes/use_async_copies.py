"""Copies that may land late become `cp.async` (floor 5): from global to shared memory without registers between.

After `vectorize`, such a copy is a wide load into registers, under the conditions that it is inside, and a wide store of the same registers. A pair of 4, 8
or 16 bytes is one instruction; where the load is conditional, the instruction fills the rest with zeros. Whatever else an asynchronous region holds stays
as it is, which is right as well: it is complete earlier than it must be. PTX ISA, "cp.async".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tilewright.intrin.nvidia.cp_async import cp_async
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, const, select
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import For, If, Seq, Stmt, Store
from tilewright.ir.thread import Address, AsyncRegion, InstructionCall, VectorCopy
from tilewright.ir.visit import rewrite, statements
from tilewright.passes.context import GpuPassContext

_SIZES_BYTES = (4, 8, 16)


def use_async_copies(program: Program, context: GpuPassContext) -> Program:
    """Replaces every asynchronous region; a remark tells of copies that stay synchronous."""

    def region(node: Stmt) -> Stmt:
        if not isinstance(node, AsyncRegion):
            return node
        body = rewrite(node.body, post=_paired)
        if not any(isinstance(s, InstructionCall) for s in statements(body)):
            context.remark(node.span, "this copy is not asynchronous: it converts, or vectors of 4, 8 or 16 bytes of it are not proven to be aligned")
        return body

    def launch(node: Launch) -> Launch:
        return dataclasses.replace(node, body=rewrite(node.body, post=region))

    return dataclasses.replace(program, launches=tuple(map(launch, program.launches)))


@dataclass(frozen=True, eq=False)
class _Load:
    """A wide load from global memory; `condition` is None where it always happens, else the registers are zero otherwise."""

    copy: VectorCopy
    condition: Expr | None


def _paired(node: Stmt) -> Stmt:
    """A sequence with its pairs of load and store made instructions."""
    if not isinstance(node, Seq):
        return node
    loads: dict[tuple[Buffer, Expr], tuple[Stmt, _Load]] = {}
    made: list[Stmt] = []
    for stmt in node.body:
        found = _load(stmt)
        if found is not None:
            loads[_registers(found.copy.dst)] = stmt, found
        if isinstance(stmt, VectorCopy) and stmt.dst.buffer.scope is Scope.SHARED and stmt.size_bytes in _SIZES_BYTES:
            before = loads.pop(_registers(stmt.src), None)
            if before is not None and before[1].copy.elements == stmt.elements:
                made.remove(before[0])
                made.append(_instruction(stmt, before[1]))
                continue
        made.append(stmt)
    return dataclasses.replace(node, body=tuple(made)) if len(made) < len(node.body) else node


def _registers(address: Address) -> tuple[Buffer, Expr]:
    return address.buffer, address.indices[0]


def _load(node: Stmt) -> _Load | None:
    if isinstance(node, VectorCopy) and node.src.buffer.scope is Scope.GLOBAL:
        return _Load(node, None)
    if isinstance(node, If) and isinstance(node.then_body, VectorCopy) and node.then_body.src.buffer.scope is Scope.GLOBAL and _is_zero_fill(node):
        return _Load(node.then_body, node.condition)
    return None


def _is_zero_fill(node: If) -> bool:
    """Whether the registers of the load are zero where it does not happen."""
    fill = node.else_body
    if not isinstance(fill, For) or not isinstance(fill.body, Store) or not isinstance(node.then_body, VectorCopy):
        return False
    value = fill.body.value
    return fill.body.buffer is node.then_body.dst.buffer and value.is_const and not value.dtype.is_bool and value.value == 0


def _instruction(store: VectorCopy, load: _Load) -> Stmt:
    size = store.size_bytes
    operands: tuple[Address | Expr, ...] = (store.dst, load.copy.src)
    if load.condition is not None:
        operands = (*operands, select(load.condition, const(size), const(0)))
    return InstructionCall(store.span, cp_async(size, fills_zeros=load.condition is not None), operands)
