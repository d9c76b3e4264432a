"""T.async_copy as the user wrote it (floor 5): what is not proven to be waited for before its tile or its source is touched is an ordinary copy.

That is always right, only slower: a copy may be complete earlier than it must be. Proven is the plain form, in one sequence of statements: the copy, the
commit of its group, a wait that covers the group, and nothing between that touches the tile or writes the source. Copies that T.Pipelined runs ahead are
made later, and are waited for by construction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tilewright.ir.buffer import Scope
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Seq, Stmt
from tilewright.ir.visit import rewrite, statements
from tilewright.ops.async_copy import CommitGroup, WaitGroup
from tilewright.ops.copy import Copy
from tilewright.ops.operand import may_overlap
from tilewright.passes.context import GpuPassContext
from tilewright.passes.walk import buffers_of, may_leave_loop, storages_written_by


def settle_async_copies(program: Program, context: GpuPassContext) -> Program:
    """Leaves copies asynchronous where that is proven right; a remark tells of the others."""
    return dataclasses.replace(program, launches=tuple(_settle_launch(launch, context) for launch in program.launches))


def _settle_launch(launch: Launch, context: GpuPassContext) -> Launch:
    copies = [s for s in statements(launch.body) if isinstance(s, Copy) and s.is_async]
    if not copies:
        return launch
    sequences = [s.body for s in statements(launch.body) if isinstance(s, Seq)]
    proven = {s for body in sequences for k, s in enumerate(body) if isinstance(s, Copy) and s.is_async and _is_waited_for(s, body[k + 1 :])}
    for copy in copies:
        if copy not in proven:
            context.remark(copy.span, f"{copy.dst.buffer.name} is copied at once: that a wait for it comes before it is used is not proven")

    def settled(stmt: Stmt) -> Stmt:
        return dataclasses.replace(stmt, is_async=False) if isinstance(stmt, Copy) and stmt.is_async and stmt not in proven else stmt

    return dataclasses.replace(launch, body=rewrite(launch.body, post=settled))


def _is_waited_for(copy: Copy, rest: Sequence[Stmt]) -> bool:
    """Whether a wait for the copy comes before what could tell when it lands. Commits that are not counted here only make a wait stricter."""
    commits = 0
    source, tile = copy.src.buffer.storage, copy.dst.buffer.storage
    for stmt in rest:
        if isinstance(stmt, CommitGroup):
            commits += 1
        elif isinstance(stmt, WaitGroup) and stmt.pending < commits:
            return True
        written = storages_written_by(stmt)
        is_beside = isinstance(stmt, Copy) and stmt.is_async and not may_overlap(stmt.dst, copy.dst) and stmt.src.buffer.storage is not tile
        is_touched = any(b.storage is tile for s in statements(stmt) for b in buffers_of(s)) and not is_beside
        may_change = source in written or any(b.scope is Scope.GLOBAL and (b.pointer is not None or source.pointer is not None) for b in written)
        if is_touched or may_change or may_leave_loop(stmt):
            return False
    return False
