"""Software pipelines (floor 5): copies of a T.Pipelined loop from global to shared memory run some turns ahead of what reads them.

A tile that is filled ahead gets `slots` versions, a leading axis; turn k uses slot k % slots. With a distance of d turns the loop becomes

    for p in range(d):  issue the copies of turn p, if there is one;  commit
    for k in range(n):
        wait until the copies of turn k have landed                     # all but the youngest d - 1 groups
        barrier                                                         # for all threads; and turn k - 1 has been read by all
        if k + d < n:  issue the copies of turn k + d                   # into the slot that turn k - 1 has left
        commit                                                          # also where nothing was issued, so that counting groups counts turns
        the rest of the body

One loop with a guard instead of a separate drain: the body stands in the code once, and loops of 0, 1, d - 1 turns need no case of their own.

A copy stays in its place, with a remark that says why, where running it ahead could change the result: its tile is not filled whole before it is used,
or is still read after the loop; its source is written in the loop; its place depends on what the loop computes; it is conditional.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op, binary, const, load, logical, var
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import AtomicUpdate, Barrier, Break, For, If, Let, LoopKind, Print, Seq, Stmt, Store, While
from tilewright.ir.thread import Address
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import inner_statements, names_bound, own_expressions, rewrite_expr, statements, subexpressions, substitute, substitute_expr
from tilewright.ops.async_copy import CommitGroup, WaitGroup
from tilewright.ops.copy import Copy
from tilewright.passes.context import GpuPassContext, TileVersions
from tilewright.passes.lifetimes import carried_by, is_used_afterwards, touches
from tilewright.passes.walk import buffers_of, storages_written_by


def expand_pipeline(program: Program, context: GpuPassContext) -> Program:
    """Makes every T.Pipelined loop a serial one, with asynchronous copies ahead where that is asked for and right."""
    return dataclasses.replace(program, launches=tuple(_Expansion(launch, context).run() for launch in program.launches))


@dataclass(frozen=True, eq=False)
class _Pipeline:
    """What runs ahead in one loop: each copy with its distance in turns, the names that they need, and the slots of each tile."""

    loop: For
    distances: dict[Stmt, int]
    needed: frozenset[Stmt]
    slots: dict[Buffer, int]

    @property
    def depth(self) -> int:
        return max(self.distances.values())


class _Expansion:
    """One launch."""

    def __init__(self, launch: Launch, context: GpuPassContext) -> None:
        self.owner, self.context = launch, context
        self.pipelines: dict[Stmt, _Pipeline] = {}
        self.versions: dict[Buffer, Buffer] = {}

    def run(self) -> Launch:
        loops = [s for s in statements(self.owner.body) if isinstance(s, For) and s.kind is LoopKind.PIPELINED]
        if not loops:
            return self.owner
        for loop in loops:  # outer loops first: a tile belongs to one of them
            self._plan(loop)
        self._make_versions()
        buffers = tuple(self.versions.get(b, b) for b in self.owner.buffers)
        return dataclasses.replace(self.owner, body=self._stmt(self.owner.body, {}), buffers=buffers)

    # -- what may run ahead
    def _plan(self, loop: For) -> None:
        body = _sequence(loop.body)
        stages = _stages_of(loop, body)
        if stages is None:
            return
        analysis = _LoopAnalysis(loop, body)
        distances: dict[Stmt, int] = {}
        slots: dict[Buffer, int] = {}
        needed: set[Stmt] = set()
        for tile, copies in _copies_by_tile(body).items():
            reason = self._reason_against(loop, tile) or analysis.reason_against(tile, copies)
            if reason is None and is_used_afterwards(self.owner.body, loop, tile):
                reason = "it is read after the loop"
            first_use = min((stages[s] for s in body if s not in copies and s in stages and touches(s, tile)), default=None)
            ahead: dict[Stmt, int] = {c: (max(stages.values()) if first_use is None else first_use) - stages[c] for c in copies}
            if reason is None and min(ahead.values()) < 1:
                reason = "the stages put it into the turn that reads it"
            if reason is not None:
                self.context.remark(copies[0].span, f"{tile.name} is not copied ahead of its turn: {reason}")
                continue
            distances |= ahead
            slots[tile] = max(ahead.values()) + 1
            needed |= analysis.names_needed(copies)
        for copy in _conditional_copies(body):
            self.context.remark(copy.span, f"{copy.dst.buffer.name} is not copied ahead of its turn: the copy stands in a branch or an inner loop")
        if distances:
            self.pipelines[loop] = _Pipeline(loop, distances, frozenset(needed), slots)

    def _reason_against(self, loop: For, tile: Buffer) -> str | None:
        for outer in self.pipelines.values():
            if tile in outer.slots and any(s is loop for s in statements(outer.loop)):
                return "a loop around this one copies it ahead"
        for stmt in statements(self.owner.body):
            if isinstance(stmt, Print) and stmt.buffer is not None and stmt.buffer.storage is tile:
                return "it is printed whole"
        return None

    def _make_versions(self) -> None:
        counts: dict[Buffer, tuple[int, For]] = {}
        for pipeline in self.pipelines.values():
            for tile, count in pipeline.slots.items():
                if count > counts.get(tile, (0, pipeline.loop))[0]:
                    counts[tile] = count, pipeline.loop

        def version(buffer: Buffer) -> Buffer:
            if buffer not in self.versions:
                source = None if buffer.source is None else version(buffer.source)
                self.versions[buffer] = dataclasses.replace(buffer, shape=(counts[buffer.storage][0], *buffer.shape), source=source)
            return self.versions[buffer]

        used = (b for s in statements(self.owner.body) for b in buffers_of(s))
        for buffer in dict.fromkeys((*self.owner.buffers, *used)):
            if buffer.storage in counts:
                count, loop = counts[buffer.storage]
                carried = carried_by(self.owner.body, buffer.storage) | {p.loop.variable for p in self.pipelines.values() if buffer.storage in p.slots}
                self.context.versions[version(buffer)] = TileVersions(buffer, count, loop, carried)

    # -- the new program
    def _stmt(self, node: Stmt, slots: dict[Buffer, Expr]) -> Stmt:
        """The statement with every tile at its slot, by what owns the memory: 0 where none is given."""
        if isinstance(node, For) and node in self.pipelines:
            return self._loop(self.pipelines[node], slots)
        if isinstance(node, For) and node.kind is LoopKind.PIPELINED:
            node = dataclasses.replace(node, kind=LoopKind.SERIAL, pipeline=None)
        inner = {name: self._inner(value, slots) for name, value in vars(node).items() if isinstance(value, (Stmt, tuple))}
        node = dataclasses.replace(node, **{name: value for name, value in inner.items() if value is not vars(node)[name]})
        return node if not self.versions else self._at_slots(node, slots)

    def _inner(self, value: Any, slots: dict[Buffer, Expr]) -> Any:
        if isinstance(value, Stmt):
            return self._stmt(value, slots)
        made = tuple(self._stmt(item, slots) if isinstance(item, Stmt) else item for item in value)
        return value if all(a is b for a, b in zip(made, value, strict=True)) else made

    def _at_slots(self, node: Stmt, slots: dict[Buffer, Expr]) -> Stmt:
        """What a statement itself names and loads, at the slots."""

        def slot(buffer: Buffer) -> Expr:
            return slots.get(buffer.storage, const(0))

        def element(part: Expr) -> Expr:
            made = self.versions.get(part.buffer) if part.op is Op.LOAD else None
            return part if made is None else load(made, (slot(part.buffer), *part.args))

        def region(old: Region) -> Region:
            made = self.versions.get(old.buffer)
            return old if made is None else Region(made, (slot(old.buffer), *old.starts), (1, *old.extents), (False, *old.is_slice), old.span)

        def value(item: Any) -> Any:
            if isinstance(item, Address):
                return Address(item.buffer, tuple(map(value, item.indices)))
            return rewrite_expr(item, element, memo) if isinstance(item, Expr) else item

        memo: dict[Expr, Expr] = {}
        values: dict[str, Any] = {name: tuple(map(value, old)) if isinstance(old, tuple) else value(old) for name, old in vars(node).items()}
        node = dataclasses.replace(node, **values)
        if isinstance(node, TileOp):
            return node.with_regions(region)
        if isinstance(node, (Store, AtomicUpdate)) and node.buffer in self.versions:
            return dataclasses.replace(node, buffer=self.versions[node.buffer], indices=(slot(node.buffer), *node.indices))
        if isinstance(node, ForeignCall):
            return node.at(lambda a: Address(self.versions[a.buffer], (slot(a.buffer), *a.indices)) if a.buffer in self.versions else a)
        return node

    def _loop(self, pipeline: _Pipeline, slots: dict[Buffer, Expr]) -> Stmt:
        loop, span, depth = pipeline.loop, pipeline.loop.span, pipeline.depth
        turn = loop.variable
        own = slots | {tile: binary(Op.FLOORMOD, turn, count) for tile, count in pipeline.slots.items()}
        body = _sequence(loop.body)
        kept = [self._stmt(s, own) for s in body if s not in pipeline.distances]
        steady = Seq(
            span,
            (
                WaitGroup(span, min(pipeline.distances.values()) - 1),
                Barrier(span),
                *self._issue(pipeline, turn, 0, slots),
                CommitGroup(span),
                *_without_unused(kept, pipeline.needed),
            ),
        )
        first = const(0, turn.dtype) if depth == 1 else var(f"{turn.name}_ahead", turn.dtype)
        prologue: Stmt = Seq(span, (*self._issue(pipeline, first, depth, slots), CommitGroup(span)))
        if depth > 1:
            prologue = For(span, first, const(depth, turn.dtype), LoopKind.SERIAL, prologue)
        made: list[Stmt] = [prologue, For(span, turn, loop.extent, LoopKind.SERIAL, steady)]
        if any(_may_break(s) for s in body):
            made.append(WaitGroup(span, 0))  # the loop may be left with copies under way
        return Seq(span, tuple(made))

    def _issue(self, pipeline: _Pipeline, start: Expr, depth: int, slots: dict[Buffer, Expr]) -> list[Stmt]:
        """The copies of later turns, start + distance - depth, for each distance under the condition that there is such a turn."""
        made: list[Stmt] = []
        loop = pipeline.loop
        for distance in sorted(set(pipeline.distances.values()), reverse=True):
            turn = start + (distance - depth)
            own = slots | {tile: binary(Op.FLOORMOD, turn, count) for tile, count in pipeline.slots.items()}
            values: dict[Expr, Expr] = {loop.variable: turn}
            issued: list[Stmt] = []
            for stmt in _sequence(loop.body):
                if isinstance(stmt, Let) and stmt in pipeline.needed:
                    values[stmt.variable] = variable = var(stmt.variable.name, stmt.variable.dtype)
                    issued.append(self._at_slots(Let(stmt.span, variable, substitute_expr(stmt.value, values)), own))
                elif isinstance(stmt, Copy) and pipeline.distances.get(stmt) == distance:
                    issued.append(self._at_slots(substitute(dataclasses.replace(stmt, is_async=True), values), own))
            issued = _without_unused(issued, frozenset(issued))
            exists = binary(Op.LT, turn, loop.extent)
            if distance < depth:
                exists = logical(Op.AND, binary(Op.GE, turn, 0), exists)
            made += issued if exists.is_const and exists.value else [If(loop.span, exists, Seq(loop.span, tuple(issued)))]
        return made


class _LoopAnalysis:
    """What a loop's body says of the copies in it."""

    def __init__(self, loop: For, body: tuple[Stmt, ...]) -> None:
        self.body = body
        self.written = storages_written_by(loop.body)
        self.is_anything_written = any(b.pointer is not None for b in self.written)  # a raw pointer may lead into any tensor
        self.lets = {s.variable: s for s in body if isinstance(s, Let)}
        self.computed = {v for s in statements(loop.body) for v in names_bound(s)} - self.lets.keys()

    def reason_against(self, tile: Buffer, copies: list[Copy]) -> str | None:
        """Why copies that together fill a tile may not run in an earlier turn, as far as the loop itself decides."""
        last = max(k for k, s in enumerate(self.body) if s in copies)
        for stmt in self.body[:last]:
            if stmt not in copies and touches(stmt, tile):
                return "it is used before it is written"
        for copy in copies:
            if copy.src.dtype != copy.dst.dtype:
                return f"{copy.src.dtype!s} is converted to {copy.dst.dtype!s} on the way"
        if not _fill_whole(copies):
            return "not every element of it is written"
        for copy in copies:
            source = copy.src.buffer
            if self._may_change(source):
                return f"{source.name} is written in the loop"
            if not all(self._is_known_ahead(e) for e in own_expressions(copy)):
                return "where it is copied from depends on what the loop computes"
        return None

    def names_needed(self, copies: list[Copy]) -> set[Stmt]:
        """The Lets of the body that copies refer to, directly or through each other."""
        found: set[Stmt] = set()
        waiting = [e for copy in copies for e in own_expressions(copy)]
        while waiting:
            for node in subexpressions(waiting.pop()):
                let = self.lets.get(node)
                if let is not None and let not in found:
                    found.add(let)
                    waiting.append(let.value)
        return found

    def _may_change(self, buffer: Buffer) -> bool:
        is_any = buffer.storage.scope is Scope.GLOBAL and (self.is_anything_written or (buffer.storage.pointer is not None and self._writes_global))
        return is_any or buffer.storage in self.written

    @property
    def _writes_global(self) -> bool:
        return any(b.scope is Scope.GLOBAL for b in self.written)

    def _is_known_ahead(self, root: Expr) -> bool:
        """Whether an expression has the value of its turn when it is evaluated some turns before."""
        for node in subexpressions(root):
            if node in self.computed or (node.op is Op.CALL and not node.attribute.is_pure) or (node.op is Op.LOAD and self._may_change(node.buffer)):
                return False
            if node in self.lets and not self._is_known_ahead(self.lets[node].value):
                return False
        return True


def _sequence(body: Stmt) -> tuple[Stmt, ...]:
    return body.body if isinstance(body, Seq) else (body,)


def _copies_by_tile(body: tuple[Stmt, ...]) -> dict[Buffer, list[Copy]]:
    """The copies from global to shared memory that stand in the body itself."""
    found: dict[Buffer, list[Copy]] = {}
    for stmt in body:
        if isinstance(stmt, Copy) and _is_load(stmt):
            found.setdefault(stmt.dst.buffer.storage, []).append(stmt)
    return found


def _conditional_copies(body: tuple[Stmt, ...]) -> list[Copy]:
    return [s for outer in body if not isinstance(outer, Copy) for s in statements(outer) if isinstance(s, Copy) and _is_load(s)]


def _is_load(copy: Copy) -> bool:
    return copy.src.buffer.scope is Scope.GLOBAL and copy.dst.buffer.scope is Scope.SHARED and not copy.is_async


def _stages_of(loop: For, body: tuple[Stmt, ...]) -> dict[Stmt, int] | None:
    """The stage of each statement that has one: the user's, or 0 for copies and num_stages - 1 for what uses them. None where there is only one stage."""
    assert loop.pipeline is not None
    given = loop.pipeline.stage
    plain = [s for s in body if not isinstance(s, Let)]
    if given:
        steps = body if len(given) == len(body) else plain
        return dict(zip(steps, given, strict=True)) if max(given) > 0 else None
    last = loop.pipeline.num_stages - 1
    return {s: 0 if isinstance(s, Copy) and _is_load(s) else last for s in body} if last > 0 else None


def _fill_whole(copies: list[Copy]) -> bool:
    """Whether copies write every element of their tile, each once: static boxes that lie apart and have its size together."""
    shape = copies[0].dst.buffer.shape
    boxes = [_static_box(copy) for copy in copies]
    if any(copy.dst.buffer is not copies[0].dst.buffer for copy in copies) or not all(isinstance(n, int) for n in shape):
        return False
    total = 0
    for number, box in enumerate(boxes):
        if box is None or not all(start >= 0 and start + extent <= n for (start, extent), n in zip(box, shape, strict=True)):
            return False
        for other in boxes[:number]:
            if other is None or all(a < b + m and b < a + n for (a, n), (b, m) in zip(box, other, strict=True)):
                return False
        total += math.prod(extent for _, extent in box)
    return total == math.prod(int(n) for n in shape)


def _static_box(copy: Copy) -> list[tuple[int, int]] | None:
    """(start, extent) on each axis of the destination; None where they are not constant, or an axis of the domain does not run along one."""
    starts = copy.dst.starts
    along = [a for a in copy.dst_axes if a >= 0]
    if not all(e.is_const for e in (*starts, *copy.extents)) or any(e.value != 1 and along.count(d) != 1 for d, e in enumerate(copy.extents)):
        return None
    return [(int(s.value), 1 if a < 0 else int(copy.extents[a].value)) for s, a in zip(starts, copy.dst_axes, strict=True)]


def _may_break(stmt: Stmt) -> bool:
    """Whether a statement of a loop's body may leave that loop for good."""
    return isinstance(stmt, Break) or (not isinstance(stmt, (For, While)) and any(map(_may_break, inner_statements(stmt))))


def _without_unused(body: list[Stmt], candidates: frozenset[Stmt]) -> list[Stmt]:
    """A sequence without those Lets that nothing behind them refers to; `candidates` bind the variables of the ones that may go."""
    removable = {s.variable for s in candidates if isinstance(s, Let)}
    used: set[Expr] = set()
    kept: list[Stmt] = []
    for stmt in reversed(body):
        if not (isinstance(stmt, Let) and stmt.variable in removable and stmt.variable not in used):
            kept.append(stmt)
            used.update(node for s in statements(stmt) for e in own_expressions(s) for node in subexpressions(e) if node.op is Op.VAR)
    return kept[::-1]
