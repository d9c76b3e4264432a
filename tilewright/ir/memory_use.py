"""Which global buffers a program reads and writes (floor 2): what the host checks arguments with."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.instruction import Access
from tilewright.ir.program import Program
from tilewright.ir.stmt import AtomicKind, AtomicUpdate, Store
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import own_expressions, statements, subexpressions


@dataclass(frozen=True)
class MemoryUse:
    """Global buffers by what may happen to them, in order of first use; memory reached through raw pointers is not listed."""

    read: tuple[Buffer, ...]
    written: tuple[Buffer, ...]


def memory_use(program: Program) -> MemoryUse:
    """What a traced program touches."""
    read: dict[Buffer, None] = {}
    written: dict[Buffer, None] = {}

    def add(into: dict[Buffer, None], buffer: Buffer) -> None:
        if buffer.storage.scope is Scope.GLOBAL:
            into[buffer.storage] = None

    def loads(expression: Expr) -> None:
        for node in subexpressions(expression):
            if node.op is Op.LOAD:
                add(read, node.buffer)

    for check in program.checks:
        loads(check.condition)
    for launch in program.launches:
        for expression in (*launch.grid, *(value for _, value in launch.safe_values)):
            loads(expression)
        for stmt in statements(launch.body):
            for expression in own_expressions(stmt):
                loads(expression)
            if isinstance(stmt, TileOp):
                effects = stmt.effects()
                for region in effects.reads:
                    add(read, region.buffer)
                for region in effects.writes:
                    add(written, region.buffer)
            elif isinstance(stmt, Store):
                add(written, stmt.buffer)
            elif isinstance(stmt, AtomicUpdate):
                add(read, stmt.buffer)
                if stmt.kind is not AtomicKind.LOAD:
                    add(written, stmt.buffer)
            elif isinstance(stmt, ForeignCall):
                for address, reach in stmt.addresses():
                    if reach.access is not Access.WRITE:
                        add(read, address.buffer)
                    if reach.access is not Access.READ:
                        add(written, address.buffer)
            else:
                for value in vars(stmt).values():
                    if isinstance(value, Buffer):
                        add(read, value)
                    elif isinstance(value, Region):
                        add(read, value.buffer)
    return MemoryUse(tuple(read), tuple(written))


def used_parameters(program: Program) -> tuple[list[str], list[str]]:
    """Names of the tensor parameters that a program may write, and of those that no statement touches.

    Memory reached through a raw pointer may be that of any tensor of the same kind of argument; pointers themselves count as used.
    """
    use = memory_use(program)
    names = {p.buffer: p.name for p in program.parameters if p.buffer is not None}
    touched = {names[b] for b in (*use.read, *use.written) if b in names}
    return [names[b] for b in use.written if b in names], [n for n in names.values() if n not in touched]
