"""Asynchronous copies are started behind the product that follows them (floor 5).

At the top of a turn a product waits for its first operands, and for nothing else; and the assembler moves no load of shared memory across a copy that may
write there. So the loads and the products go first, and starting the copies for a later turn overlaps with what comes then. A copy may land at any time
up to the wait for its group, so nothing before that wait can tell when it was started.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tilewright.intrin.nvidia.cp_async import CP_ASYNC_COMMIT_GROUP, CpAsync
from tilewright.intrin.nvidia.ldmatrix import LdMatrix
from tilewright.intrin.nvidia.mma import Mma
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Op
from tilewright.ir.instruction import Instruction
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import For, If, Let, Seq, Stmt
from tilewright.ir.thread import InstructionCall, Registers
from tilewright.ir.visit import own_expressions, rewrite, statements, subexpressions
from tilewright.passes.context import GpuPassContext


def delay_copies(program: Program, context: GpuPassContext) -> Program:
    """Reorders the statements of each sequence."""

    def launch(node: Launch) -> Launch:
        return dataclasses.replace(node, body=rewrite(node.body, post=lambda stmt: _delayed(stmt) if isinstance(stmt, Seq) else stmt))

    return dataclasses.replace(program, launches=tuple(map(launch, program.launches)))


def _delayed(node: Seq) -> Seq:
    if not any(map(starts_copies, node.body)):
        return node
    body = [inner for stmt in node.body for inner in (stmt.body if isinstance(stmt, Seq) else (stmt,))]
    position = 0
    while position < len(body):
        middle = _run(body, position, starts_copies)
        stop = _run(body, middle, lambda stmt: loads_operands(stmt) or _multiplies(stmt))
        copies, loads = body[position:middle], body[middle:stop]
        if copies and any(not isinstance(stmt, Let) for stmt in loads) and not _read_by(copies) & _registers_of(loads):
            body[position:stop] = [*loads, *copies]
        position = max(stop, position + 1)
    return dataclasses.replace(node, body=tuple(body))


def _run(body: list[Stmt], start: int, is_member: Callable[[Stmt], bool]) -> int:
    """The end of the run of such statements from `start` on."""
    while start < len(body) and is_member(body[start]):
        start += 1
    return start


def starts_copies(stmt: Stmt) -> bool:
    """Starts asynchronous copies, or closes their group, and does nothing else."""
    leaves = [s for s in statements(stmt) if not isinstance(s, (For, If, Seq))]
    return bool(leaves) and all(isinstance(s, InstructionCall) and _belongs_to_copies(s.instruction) for s in leaves)


def _belongs_to_copies(instruction: Instruction) -> bool:
    return isinstance(instruction, CpAsync) or instruction is CP_ASYNC_COMMIT_GROUP


def loads_operands(stmt: Stmt) -> bool:
    """Loads operands from shared memory into registers, or names a value."""
    leaves = [s for s in statements(stmt) if not isinstance(s, (For, Seq))]
    return all(isinstance(s, Let) or (isinstance(s, InstructionCall) and isinstance(s.instruction, LdMatrix)) for s in leaves)


def _multiplies(stmt: Stmt) -> bool:
    """Multiplies on tensor cores, loading operands a step ahead, and does nothing else."""
    leaves = [s for s in statements(stmt) if not isinstance(s, (For, If, Seq))]
    return bool(leaves) and all(isinstance(s, InstructionCall) and isinstance(s.instruction, (LdMatrix, Mma)) for s in leaves)


def _read_by(body: list[Stmt]) -> set[Buffer]:
    """Buffers that expressions in statements read."""
    return {e.buffer for stmt in body for s in statements(stmt) for root in own_expressions(s) for e in subexpressions(root) if e.op is Op.LOAD}


def _registers_of(body: list[Stmt]) -> set[Buffer]:
    """Registers that instructions in statements name."""
    calls = (s for stmt in body for s in statements(stmt) if isinstance(s, InstructionCall))
    return {operand.buffer for call in calls for operand in call.operands if isinstance(operand, Registers)}
