"""`T.sync_grid()` (floor 5): a launch that meets in the middle becomes one launch up to there and one from there on.

Launches of a function run one after the other, which is all that a barrier of the grid asks for. What a block keeps across it (tiles, per-thread
memory, named values) goes through a workspace with a place per block, and per thread where it is a thread's own.

A barrier inside a loop or branch cannot be cut at. Such a launch stays whole, and its blocks have to run at the same time: GPUs do that, up to as many
blocks as they have room for. All blocks must come to the barrier alike, so the loop or branch may depend on nothing but what the caller gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NoReturn

from tilewright.dtypes import uint64
from tilewright.errors import Kind, Label, fail
from tilewright.ir.buffer import Buffer, Extent, Region, Scope
from tilewright.ir.expr import Expr, Op, as_expr, const, load
from tilewright.ir.program import Launch
from tilewright.ir.stmt import Barrier, BarrierScope, Break, Continue, For, If, Let, Seq, Stmt, Store
from tilewright.ir.thread import Address
from tilewright.ir.visit import inner_statements, names_made, own_expressions, rewrite, rewrite_expr, statements, subexpressions, substitute
from tilewright.ops.copy import Copy

_PRIVATE = (Scope.LOCAL, Scope.VARIABLE)


def split_at_grid_barriers(launch: Launch) -> tuple[list[Launch], list[Buffer]]:
    """The launches that a launch becomes, and the workspaces that they need.

    Raises TileError (grid-barrier) for barriers to which not all blocks come alike, and for reducers that are in use across one.
    """
    if not any(map(is_grid_barrier, statements(launch.body))):
        return [launch], []
    parts: list[list[Stmt]] = [[]]
    for stmt in _flat(launch.body):
        if is_grid_barrier(stmt):
            parts.append([])
        elif any(map(is_grid_barrier, statements(stmt))):
            return _kept_whole(launch)
        else:
            parts[-1].append(stmt)
    return _Split(launch, parts).launches()


def _kept_whole(launch: Launch) -> tuple[list[Launch], list[Buffer]]:
    """The launch with a counter of the blocks that have come, in a workspace."""
    _check_alike(launch, launch.body, (), {*launch.block_variables, *launch.thread_variables})
    counter = Buffer("blocks_arrived", uint64, (1,), Scope.GLOBAL, launch.span)
    return [dataclasses.replace(launch, grid_barrier=counter)], [counter]


def _check_alike(launch: Launch, node: Stmt, around: tuple[Stmt, ...], own: set[Expr]) -> None:
    """Raises TileError where blocks may come to a barrier in `node` a different number of times. `own` are the names that have no one value for the grid."""
    if is_grid_barrier(node):
        for outer in around:
            header = outer.extent if isinstance(outer, For) else outer.condition if isinstance(outer, If) else None
            if header is None or (isinstance(outer, For) and any(isinstance(s, (Break, Continue)) for s in statements(outer.body))):
                _refuse_barrier(launch, node, outer, "when each block leaves it")
            if _differs(header, own):
                _refuse_barrier(launch, node, outer, f"`{header}`")
    if not isinstance(node, Let) or _differs(node.value, own):
        own |= set(names_made(node))
    for inner in inner_statements(node):
        _check_alike(launch, inner, around if isinstance(node, Seq) else (*around, node), own)


def _differs(value: Expr, own: set[Expr]) -> bool:
    """Whether blocks may see different values."""
    return any(n in own or n.op in (Op.LOAD, Op.CALL) for n in subexpressions(value))


def _refuse_barrier(launch: Launch, barrier: Stmt, outer: Stmt, reason: str) -> NoReturn:
    fail(
        Kind.GRID_BARRIER,
        f"a barrier of the grid stands in a {'branch' if isinstance(outer, If) else 'loop'} that depends on {reason}",
        (Label(barrier.span), Label(outer.span, "opened here"), Label(launch.span, "the launch")),
        because="all blocks wait there for each other, so all must come there as often: blocks may differ in what they compute and load",
        help="let the loop or branch depend on constants and on sizes and numbers that the caller gives, or move the barrier out of it",
    )


def is_grid_barrier(stmt: Stmt) -> bool:
    """Whether a statement is a barrier of all blocks."""
    return isinstance(stmt, Barrier) and stmt.scope is BarrierScope.GRID


def _flat(stmt: Stmt) -> Iterable[Stmt]:
    if isinstance(stmt, Seq):
        for inner in stmt.body:
            yield from _flat(inner)
    else:
        yield stmt


class _Split:
    def __init__(self, launch: Launch, parts: list[list[Stmt]]) -> None:
        self.launch, self.parts = launch, parts
        self.buffers = list(launch.buffers)
        self.workspaces: list[Buffer] = []

    def launches(self) -> tuple[list[Launch], list[Buffer]]:
        self._hold_names()
        uses = [{b.storage for stmt in part for s in statements(stmt) for b in _buffers(s)} for part in self.parts]
        before: list[list[Stmt]] = [[] for _ in self.parts]
        after: list[list[Stmt]] = [[] for _ in self.parts]
        for buffer in [b for b in self.buffers if b.source is None]:
            at = [k for k, used in enumerate(uses) if buffer in used]
            if len(at) > 1:
                self._keep(buffer, at, before, after)
        made = []
        for k, part in enumerate(self.parts):
            body: Stmt = Seq(self.launch.span, (*before[k], *part, *after[k]))
            copies = {b: dataclasses.replace(b) for b in self.buffers if b.source is None}
            made.append(dataclasses.replace(self.launch, body=_moved(body, copies), buffers=tuple(copies.values())))
        return made, self.workspaces

    def _hold_names(self) -> None:
        """Values that are named in one part and used in another become variables."""
        homes = {name: k for k, part in enumerate(self.parts) for stmt in part for name in names_made(stmt)}
        for k, part in enumerate(self.parts):
            used = {n for stmt in part for s in statements(stmt) for e in own_expressions(s) for n in subexpressions(e) if n.op is Op.VAR}
            for name in sorted((n for n in used if homes.get(n, k) != k), key=lambda n: n.name):
                held = Buffer(name.name, name.dtype, (1,), Scope.VARIABLE, self.launch.span)
                self.buffers.append(held)
                home = homes.pop(name)
                self.parts[home] = [
                    s for stmt in self.parts[home] for s in ((stmt, Store(stmt.span, held, (const(0),), name)) if name in names_made(stmt) else (stmt,))
                ]
                for later in range(home + 1, len(self.parts)):
                    self.parts[later] = [substitute(stmt, {name: load(held, (const(0),))}) for stmt in self.parts[later]]

    def _keep(self, buffer: Buffer, at: list[int], before: list[list[Stmt]], after: list[list[Stmt]]) -> None:
        """Writes a buffer to a workspace after the parts that use it, and reads it back before the next one that does."""
        launch = self.launch
        if buffer.scope is Scope.REDUCER:
            fail(
                Kind.GRID_BARRIER,
                f"the reducer {buffer.name} is in use across a barrier of the grid",
                (Label(buffer.span), Label(launch.span, "the launch")),
                because="the launch is cut in two there, and an unfinished reduction cannot be kept",
                help="finish it with T.finalize_reducer before the barrier",
            )
        places: list[tuple[Expr, Extent]] = [(v, n.value if n.is_const else n) for v, n in zip(launch.block_variables, launch.grid, strict=True)]
        if launch.is_thread_level and buffer.scope in _PRIVATE:
            places += [(v, n) for v, n in zip(launch.thread_variables, launch.threads, strict=True) if n > 1]
        workspace = Buffer(f"{buffer.name}_kept", buffer.dtype, (*(n for _, n in places), *buffer.shape), Scope.GLOBAL, launch.span)
        self.workspaces.append(workspace)
        zeros, inner = tuple(const(0) for _ in buffer.shape), tuple(range(buffer.rank))
        whole = Region(buffer, zeros, buffer.shape, (True,) * buffer.rank, launch.span)
        kept_shape = (*(1 for _ in places), *buffer.shape)
        kept_slices = (*(False for _ in places), *(True for _ in buffer.shape))
        kept = Region(workspace, (*(v for v, _ in places), *zeros), kept_shape, kept_slices, launch.span)
        kept_axes = (*(-1 for _ in places), *inner)
        extents = tuple(map(as_expr, buffer.shape))
        for k in at[:-1]:
            after[k].append(Copy(launch.span, whole, kept, extents, inner, kept_axes))
        for k in at[1:]:
            before[k].append(Copy(launch.span, kept, whole, extents, kept_axes, inner))


def _moved(body: Stmt, copies: dict[Buffer, Buffer]) -> Stmt:
    """The body on other tiles; views follow theirs."""
    made = dict(copies)

    def moved(buffer: Buffer) -> Buffer:
        if buffer not in made:
            made[buffer] = buffer if buffer.source is None or buffer.storage not in copies else dataclasses.replace(buffer, source=moved(buffer.source))
        return made[buffer]

    memo: dict[Expr, Expr] = {}

    def read(node: Expr) -> Expr:
        return load(moved(node.buffer), node.args) if node.op is Op.LOAD else node

    return rewrite(body, on_expr=lambda e: rewrite_expr(e, read, memo), on_buffer=moved)


def _buffers(stmt: Stmt) -> Iterable[Buffer]:
    for value in vars(stmt).values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, (Address, Buffer, Region)):
                yield item if isinstance(item, Buffer) else item.buffer
    for expression in own_expressions(stmt):
        for node in subexpressions(expression):
            if node.op is Op.LOAD:
                yield node.buffer


__all__ = ["split_at_grid_barriers"]
