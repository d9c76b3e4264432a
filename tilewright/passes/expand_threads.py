"""Regions of thread-level code as loops over the threads (floor 5): what `loop_over_threads` makes of a block in its last step.

Memory that belongs to a thread, and values that it names in one region and uses in another, get a place per thread. The thread is the last axis, so that
neighbouring threads lie side by side; where several buffers view the same memory or share bytes it is the first one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, const, load, var
from tilewright.ir.program import Launch
from tilewright.ir.stmt import AtomicUpdate, For, If, LoopKind, ParallelFor, Print, Seq, Stmt, Store, While
from tilewright.ir.visit import inner_statements, names_made, own_expressions, rewrite, rewrite_expr, statements, subexpressions
from tilewright.passes.thread_variance import is_private
from tilewright.passes.walk import buffers_of


@dataclass(frozen=True, eq=False)
class Region(Stmt):
    """Statements that every thread for which the mask holds (None: every thread) runs by itself; no thread meets another one in it."""

    mask: Expr | None
    body: Seq


def flat_thread(threads: tuple[int, int, int], variables: Iterable[Expr]) -> Expr:
    """The number of a thread in its block, x fastest."""
    number, step = const(0), 1
    for variable, extent in zip(variables, threads, strict=True):
        if extent > 1:
            number = number + variable * step
        step *= extent
    return number


def replaced_buffers(stmt: Stmt, made: Mapping[Buffer, Buffer]) -> Stmt:
    """Buffers without views replaced by others of the same shape, in statements and loads."""

    def changed(node: Expr) -> Expr:
        return load(made[node.buffer], node.args) if node.op is Op.LOAD and node.buffer in made else node

    memo: dict[Expr, Expr] = {}
    return rewrite(stmt, on_expr=lambda e: rewrite_expr(e, changed, memo), on_buffer=lambda b: made.get(b, b))


def expand_threads(body: Stmt, launch: Launch, single: frozenset[Buffer]) -> tuple[Stmt, tuple[Buffer, ...]]:
    """The body without regions, and the buffers of the launch. `single` is thread memory of which the block keeps one copy."""
    expansion = _Expansion(body, launch, single)
    made = rewrite(body, post=lambda s: expansion.loop(s) if isinstance(s, Region) else s)
    return made, (*(b for b in launch.buffers if b.storage not in expansion.arrays), *expansion.made)


class _Expansion:
    def __init__(self, body: Stmt, launch: Launch, single: frozenset[Buffer]) -> None:
        self.launch = launch
        self.thread_count = launch.threads[0] * launch.threads[1] * launch.threads[2]
        self.flat = flat_thread(launch.threads, launch.thread_variables)
        self.made: list[Buffer] = []
        self.arrays: dict[Buffer, Buffer] = {}
        self.is_thread_first: set[Buffer] = set()
        # Regions that use thread memory; those inside loops of the block, or that compute where in it, count twice. What is in one region only and at
        # fixed places stays as it is, and ends up in registers.
        self.uses: dict[Buffer, int] = {}
        self.homes: dict[Expr, Region] = {}
        self.carried: dict[Expr, Buffer] = {}  # named in one region, used in others
        self._survey(body, in_loop=False)
        for region in (s for s in _without_regions_inner(body) if isinstance(s, Region)):
            self._note_carried(region)
        views = {b.storage for s in statements(body) for b in buffers_of(s) if b.source is not None}
        for buffer, count in self.uses.items():
            if count > 1 and buffer not in single:
                self._expand(buffer, is_thread_first=buffer in views or buffer.dtype.is_packed)

    # -- what has to be kept
    def _survey(self, stmt: Stmt, in_loop: bool) -> None:
        if isinstance(stmt, Region):
            for inner in statements(stmt):
                self.homes.update(dict.fromkeys(names_made(inner), stmt))
            indexed = _indexed(stmt)
            for buffer in {b.storage for inner in statements(stmt) for b in buffers_of(inner) if is_private(b)}:
                self.uses[buffer] = self.uses.get(buffer, 0) + (2 if in_loop or buffer in indexed else 1)
            return
        for inner in inner_statements(stmt):
            self._survey(inner, in_loop or isinstance(stmt, (For, While)))

    def _note_carried(self, region: Region) -> None:
        for stmt in statements(region):
            for node in (n for e in own_expressions(stmt) for n in subexpressions(e)):
                if node.op is Op.VAR and node in self.homes and self.homes[node] is not region and node not in self.carried:
                    self.carried[node] = Buffer(node.name, node.dtype, (self.thread_count,), Scope.SHARED, region.span)
                    self.made.append(self.carried[node])

    def _expand(self, buffer: Buffer, is_thread_first: bool) -> None:
        shape = (self.thread_count, *buffer.shape) if is_thread_first else (*buffer.shape, self.thread_count)
        self.arrays[buffer] = dataclasses.replace(buffer, shape=shape, scope=Scope.SHARED)
        self.made.append(self.arrays[buffer])
        if is_thread_first:
            self.is_thread_first.add(buffer)

    def _array(self, buffer: Buffer) -> Buffer:
        """The expanded form of thread memory or of a view of it."""
        found = self.arrays.get(buffer)
        if found is None:
            assert buffer.source is not None
            found = dataclasses.replace(buffer, shape=(self.thread_count, *buffer.shape), scope=Scope.SHARED, source=self._array(buffer.source))
            self.arrays[buffer] = found
        return found

    def _place(self, buffer: Buffer, indices: tuple[Expr, ...]) -> tuple[Buffer, tuple[Expr, ...]]:
        if buffer.storage not in self.arrays:
            return buffer, indices
        return self._array(buffer), (self.flat, *indices) if buffer.storage in self.is_thread_first else (*indices, self.flat)

    # -- one region
    def loop(self, region: Region) -> Stmt:
        """The region as a loop over the threads."""
        memo: dict[Expr, Expr] = {}

        def changed(node: Expr) -> Expr:
            if node.op is Op.LOAD:
                return load(*self._place(node.buffer, node.args))
            if node.op is Op.VAR and node in self.carried and self.homes[node] is not region:
                return load(self.carried[node], (self.flat,))
            return node

        def moved(stmt: Stmt) -> Stmt:
            if isinstance(stmt, (Store, AtomicUpdate)):
                buffer, indices = self._place(stmt.buffer, stmt.indices)
                if buffer is not stmt.buffer:
                    stmt = dataclasses.replace(stmt, buffer=buffer, indices=indices)
            elif isinstance(stmt, Print) and stmt.buffer is not None and stmt.buffer.storage in self.arrays:
                return self._printed(stmt, stmt.buffer)
            if isinstance(stmt, Seq):
                return dataclasses.replace(stmt, body=tuple(part for inner in stmt.body for part in self._kept(inner)))
            return stmt

        body = rewrite(region.body, on_expr=lambda e: rewrite_expr(e, changed, memo), post=moved)
        if region.mask is not None:
            body = If(region.span, rewrite_expr(region.mask, changed, memo), body)
        return self._over_threads(region, body)

    def _kept(self, stmt: Stmt) -> tuple[Stmt, ...]:
        """A statement, and the stores of what it names for other regions."""
        kept = [self.carried[name] for name in names_made(stmt) if name in self.carried]
        return (stmt, *(Store(stmt.span, tile, (self.flat,), name) for tile, name in zip(kept, names_made(stmt), strict=False)))

    def _over_threads(self, region: Region, body: Stmt) -> Stmt:
        threads = [(v, var(v.name), n) for v, n in zip(self.launch.thread_variables, self.launch.threads, strict=True)]
        values = {old: new if n > 1 else const(0) for old, new, n in threads}
        memo: dict[Expr, Expr] = {}
        body = rewrite(body, on_expr=lambda e: rewrite_expr(e, lambda x: values.get(x, x), memo))
        axes = [(new, const(n)) for _, new, n in reversed(threads) if n > 1]
        return ParallelFor(region.span, tuple(v for v, _ in axes), tuple(n for _, n in axes), body) if axes else body

    def _printed(self, stmt: Print, buffer: Buffer) -> Stmt:
        """The thread's part of the expanded buffer in a buffer of the old shape, printed."""
        copied = dataclasses.replace(buffer, scope=Scope.LOCAL, source=None)
        self.made.append(copied)
        at = tuple(var(name) for name, _ in zip("ijklmnop", buffer.shape, strict=False))
        made: Stmt = Store(stmt.span, copied, at, load(*self._place(buffer, at)))
        for variable, extent in reversed(list(zip(at, buffer.static_shape, strict=True))):
            made = For(stmt.span, variable, const(extent), LoopKind.SERIAL, made)
        return Seq(stmt.span, (made, dataclasses.replace(stmt, buffer=copied)))


def _indexed(region: Region) -> set[Buffer]:
    """Buffers that some access of a region indexes with something that is not constant."""
    found: set[Buffer] = set()
    for stmt in statements(region):
        if isinstance(stmt, (Store, AtomicUpdate)) and not all(i.is_const for i in stmt.indices):
            found.add(stmt.buffer.storage)
        for expression in own_expressions(stmt):
            found.update(n.buffer.storage for n in subexpressions(expression) if n.op is Op.LOAD and not all(i.is_const for i in n.args))
    return found


def _without_regions_inner(stmt: Stmt) -> Iterable[Stmt]:
    """`stmt` and the statements inside it, those inside regions aside."""
    yield stmt
    if not isinstance(stmt, Region):
        for inner in inner_statements(stmt):
            yield from _without_regions_inner(inner)


__all__ = ["Region", "expand_threads", "flat_thread", "replaced_buffers"]
