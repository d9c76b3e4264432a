"""Runs thread-level code on a CPU (floor 5): the threads of a block become loops, one loop from barrier to barrier.

Statements between two points at which threads meet (barriers, exchanges in a warp, operations of the whole block) form a region; a region is a parallel
loop over the threads. Control flow around a meeting point is the block's own where all threads take it together. Where they may part, every thread
keeps a flag for whether it takes part, and the block goes on as long as any thread does, so that a meeting point inside a branch or a loop of some
threads needs no other thread. What a thread keeps from one region to another (its T.alloc_local buffers, named values) lies in tiles with one place
per thread. Afterwards the launch is an ordinary tile program.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from tilewright.dtypes import DType, bool_, int32
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, as_condition, cast, const, load, logical, select, unary, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import (
    AtomicKind,
    AtomicUpdate,
    Barrier,
    BlockReduce,
    Break,
    Continue,
    For,
    If,
    Let,
    LoopKind,
    ParallelFor,
    ReduceKind,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    While,
)
from tilewright.ir.visit import inner_statements, names_made, own_expressions, rewrite, statements, subexpressions
from tilewright.passes.context import PassContext
from tilewright.passes.exchange_threads import Parts, exchange_as_loops, reduce_as_loops
from tilewright.passes.expand_threads import Region, expand_threads, flat_thread, replaced_buffers
from tilewright.passes.thread_variance import Variance, is_cooperative, is_private
from tilewright.passes.walk import may_leave_loop

# Done once or once per thread, the element is the same afterwards.
_IDEMPOTENT = frozenset({AtomicKind.MAX, AtomicKind.MIN, AtomicKind.AND, AtomicKind.OR, AtomicKind.EXCHANGE, AtomicKind.LOAD})


def loop_over_threads(program: Program, context: PassContext) -> Program:
    """The program without threads.

    In launches without thread-level code, whose statements run one after the other with the same values on every thread, barriers go, and atomics outside
    parallel loops are repeated: every thread of the block does them.
    """
    return dataclasses.replace(program, launches=tuple(_Launch(x).lowered() if x.is_thread_level else _without_threads(x) for x in program.launches))


def _without_threads(launch: Launch) -> Launch:
    if not any(isinstance(s, (Barrier, AtomicUpdate)) for s in statements(launch.body)):
        return launch
    count = math.prod(launch.threads)
    of_iterations = {inner for s in statements(launch.body) if isinstance(s, ParallelFor) for inner in statements(s.body)}

    def change(stmt: Stmt) -> Stmt | None:
        if isinstance(stmt, Barrier):
            return None
        if isinstance(stmt, AtomicUpdate) and stmt.kind not in _IDEMPOTENT and count > 1 and stmt not in of_iterations:
            return For(stmt.span, var("thread"), const(count), LoopKind.SERIAL, stmt)
        return stmt

    return dataclasses.replace(launch, body=rewrite(launch.body, post=change))


@dataclass
class _Loop:
    """An open loop of the block; where threads leave it at different turns, who is still in it, and who is still in this turn."""

    live: Buffer | None = None
    turn: Buffer | None = None


@dataclass
class _Block:
    """What has been made of a sequence: statements of the block and regions; `pending` are the statements of a region that is still open."""

    mask: Expr | None  # which threads are here; None where all are
    loop: _Loop | None
    done: list[Stmt] = field(default_factory=list)
    pending: list[Stmt] = field(default_factory=list)

    def flush(self) -> None:
        if self.pending:
            span = self.pending[0].span
            self.done.append(Region(span, self.mask, Seq(span, tuple(self.pending))))
            self.pending = []

    def body(self, span: Span) -> Seq:
        self.flush()
        return Seq(span, tuple(self.done))


class _Launch:
    """The lowering of one launch."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.variance = Variance(launch)
        self.thread_count = launch.threads[0] * launch.threads[1] * launch.threads[2]
        self.flat = flat_thread(launch.threads, launch.thread_variables)
        self.buffers: list[Buffer] = []
        self.block_variables = frozenset(launch.block_variables)
        self.region_names: set[Expr] = set()  # named inside regions: not known to the block
        self.single: set[Buffer] = set()  # private memory that is the same on all threads, of which the block keeps one copy
        self.needed: set[Expr] = set()  # names that the block itself evaluates something from
        self._holds: dict[Stmt, bool] = {}
        self._find_single()

    def lowered(self) -> Launch:
        block = _Block(None, None)
        self._sequence((self.launch.body,), block)
        body, made = expand_threads(block.body(self.launch.span), self.launch, frozenset(self.single))
        return dataclasses.replace(self.launch, body=body, buffers=(*made, *self.buffers), is_thread_level=False)

    # -- where threads meet
    def _meets(self, stmt: Stmt) -> bool:
        """Whether a statement, inner ones aside, is done by the block and not by its threads."""
        return (
            isinstance(stmt, (Barrier, BlockReduce, WarpExchange)) or is_cooperative(stmt) or (isinstance(stmt, Store) and stmt.buffer.storage in self.single)
        )

    def _holds_meeting(self, stmt: Stmt) -> bool:
        found = self._holds.get(stmt)
        if found is None:
            found = self._holds[stmt] = self._meets(stmt) or any(map(self._holds_meeting, inner_statements(stmt)))
        return found

    def _is_split(self, stmt: Stmt, loop: _Loop | None) -> bool:
        """Whether a statement cannot stand in a region: it holds a meeting point, or leaves a loop that does."""
        return self._holds_meeting(stmt) or (loop is not None and may_leave_loop(stmt))

    def _find_single(self) -> None:
        """What the block must know by itself: conditions and extents around meeting points, and what operations of the block use."""
        definitions = {s.variable: s.value for s in statements(self.launch.body) if isinstance(s, Let)}
        reductions = {s.result: s for s in statements(self.launch.body) if isinstance(s, ReduceLoop)}
        while True:
            self._holds = {}
            roots = [e for s in statements(self.launch.body) for e in self._block_expressions(s)]
            found: set[Buffer] = set()
            needed: set[Expr] = set()
            while roots:
                for node in subexpressions(roots.pop()):
                    if node.op is Op.LOAD and is_private(node.buffer) and node.buffer.storage not in self.variance.buffers:
                        found.add(node.buffer.storage)
                    if node.op is Op.VAR and node not in needed and node not in self.variance.variables:
                        needed.add(node)
                        if node in definitions:
                            roots.append(definitions[node])
                        if node in reductions:
                            roots += own_expressions(reductions[node])
            self.needed = needed
            if found <= self.single:
                return
            self.single |= found

    def _block_expressions(self, stmt: Stmt) -> list[Expr]:
        if isinstance(stmt, (If, For, While)):
            is_block = self._holds_meeting(stmt) or (isinstance(stmt, If) and may_leave_loop(stmt))
            header = stmt.extent if isinstance(stmt, For) else stmt.condition
            return [header] if is_block and not self.variance.is_varying(header) else []
        if is_cooperative(stmt):
            return [e for inner in statements(stmt) for e in own_expressions(inner)]
        return list(own_expressions(stmt)) if isinstance(stmt, Store) and stmt.buffer.storage in self.single else []

    def _is_blocks(self, header: Expr, mask: Expr | None) -> bool:
        """Whether the block can evaluate a condition or extent itself. Where only some threads are, memory that they do not guard is not read."""
        if self.variance.is_varying(header):
            return False
        nodes = list(subexpressions(header))
        return not any(n in self.region_names for n in nodes) and (mask is None or not any(n.op is Op.LOAD for n in nodes))

    # -- tiles with a place per thread
    def tile(self, name: str, dtype: DType, size: int | None = None) -> Buffer:
        """A tile of the block with one place per thread, or `size` places."""
        self.buffers.append(Buffer(name, dtype, (size or self.thread_count,), Scope.SHARED, self.launch.span))
        return self.buffers[-1]

    def mine(self, tile: Buffer) -> Expr:
        """The thread's place in a tile, read."""
        return load(tile, (self.flat,))

    def set_mine(self, span: Span, tile: Buffer, value: Expr) -> Stmt:
        return Store(span, tile, (self.flat,), cast(value, tile.dtype))

    def every_thread(self, span: Span, *body: Stmt) -> Stmt:
        """A region of all threads, wherever it stands."""
        return Region(span, None, Seq(span, body))

    def any_thread(self, span: Span, flags: Buffer) -> tuple[Stmt, Expr]:
        """A statement of the block, and the condition it makes: whether the flag of any thread is set."""
        axis, found = var("t"), var("any", int32)
        loop = ReduceLoop(span, found, ReduceKind.MAX, const(0), axis, const(self.thread_count), cast(load(flags, (axis,)), int32))
        return loop, as_condition(found)

    # -- statements
    def _sequence(self, body: tuple[Stmt, ...], block: _Block) -> None:
        for stmt in body:
            if isinstance(stmt, Seq):
                self._sequence(stmt.body, block)
            elif self._is_split(stmt, block.loop):
                block.flush()
                self._split(stmt, block)
            elif block.mask is None and isinstance(stmt, (Let, ReduceLoop)) and self.needed.issuperset(names_made(stmt)):
                if any(n.op is Op.LOAD for e in own_expressions(stmt) for n in subexpressions(e)):
                    block.flush()
                block.done.append(stmt)
            else:
                self.region_names.update(name for s in statements(stmt) for name in names_made(s))
                block.pending.append(stmt)

    def _inner(self, body: Stmt, mask: Expr | None, loop: _Loop | None) -> _Block:
        block = _Block(mask, loop)
        self._sequence((body,), block)
        return block

    def _split(self, stmt: Stmt, block: _Block) -> None:
        match stmt:
            case Barrier():
                pass
            case WarpExchange():
                self._parts(exchange_as_loops(stmt, block.mask, self), block)
            case BlockReduce():
                self._parts(reduce_as_loops(stmt, self), block)
            case If():
                self._if(stmt, block)
            case For():
                self._for(stmt, block)
            case While():
                self._while(stmt, block)
            case Break() | Continue():
                self._leave(stmt, block)
            case _:
                if block.mask is not None:
                    raise CompilerBug(f"{type(stmt).__name__} at {stmt.span} is done by the block, but only some threads come there")
                block.done.append(self._without_private_writes(stmt))

    def _parts(self, parts: Parts, block: _Block) -> None:
        """Statements of the block, and those with which the threads go on."""
        before, after = parts
        block.done += before
        self.region_names.update(name for s in after for name in names_made(s))
        block.pending += after

    def _without_private_writes(self, stmt: Stmt) -> Stmt:
        """An operation of the block whose iterations write thread memory: each iteration has a copy of its own."""
        if not is_cooperative(stmt):
            return stmt
        written = dict.fromkeys(s.buffer.storage for s in statements(stmt) if isinstance(s, Store) and is_private(s.buffer))
        copies = {b: dataclasses.replace(b) for b in written}
        self.buffers += copies.values()
        return replaced_buffers(stmt, copies) if copies else stmt

    def _if(self, stmt: If, block: _Block) -> None:
        if self._is_blocks(stmt.condition, block.mask):
            then = self._inner(stmt.then_body, block.mask, block.loop).body(stmt.span)
            otherwise = None if stmt.else_body is None else self._inner(stmt.else_body, block.mask, block.loop).body(stmt.span)
            block.done.append(If(stmt.span, stmt.condition, then, otherwise))
            return
        condition = stmt.condition
        if any(n.op is Op.LOAD or n.op is Op.CALL for n in subexpressions(condition)):
            taken = self.tile("taken", bool_)
            block.done.append(Region(stmt.span, block.mask, Seq(stmt.span, (self.set_mine(stmt.span, taken, condition),))))
            condition = self.mine(taken)
        for body, holds in ((stmt.then_body, condition), (stmt.else_body, unary(Op.NOT, condition))):
            if body is not None:
                block.done.append(self._inner(body, both(block.mask, holds), block.loop).body(stmt.span))

    def _leaves_apart(self, body: Stmt, mask: Expr | None) -> bool:
        """Whether some threads may leave the loop, or a turn of it, that others go on with."""
        match body:
            case If():
                inside = (body.then_body,) if body.else_body is None else (body.then_body, body.else_body)
                if any(map(may_leave_loop, inside)):
                    return not self._is_blocks_later(body.condition, mask) or any(self._leaves_apart(b, mask) for b in inside)
                return False
            case For() | While():
                return False
        return any(self._leaves_apart(inner, mask) for inner in inner_statements(body))

    def _is_blocks_later(self, header: Expr, mask: Expr | None) -> bool:
        """`_is_blocks` for a header further on, whose names are not made yet."""
        if mask is None:
            return not self.variance.is_varying(header)
        return all(n.op not in (Op.LOAD, Op.VAR) or n in self.block_variables for n in subexpressions(header))

    def _for(self, stmt: For, block: _Block) -> None:
        span, mask, total = stmt.span, block.mask, stmt.extent
        if not self._is_blocks(stmt.extent, mask):
            turns = self.tile("turns", stmt.extent.dtype)
            extent = stmt.extent if mask is None else select(mask, stmt.extent, const(0, stmt.extent.dtype), is_lazy=True)
            axis, total = var("t"), var("most", stmt.extent.dtype)
            block.done.append(self.every_thread(span, self.set_mine(span, turns, extent)))
            block.done.append(ReduceLoop(span, total, ReduceKind.MAX, const(0, total.dtype), axis, const(self.thread_count), load(turns, (axis,))))
            mask = both(mask, stmt.variable < self.mine(turns))
        loop = _Loop()
        body = _Block(mask, loop)
        if self._leaves_apart(stmt.body, mask):
            loop.live, loop.turn = self.tile("live", bool_), self.tile("turn", bool_)
            block.done.append(self.every_thread(span, self.set_mine(span, loop.live, const(True) if block.mask is None else block.mask)))
            body.done.append(self.every_thread(span, self.set_mine(span, loop.turn, both(mask, self.mine(loop.live)))))
            test, is_any = self.any_thread(span, loop.live)
            body.done += [test, If(span, unary(Op.NOT, is_any), Break(span))]
            body.mask = self.mine(loop.turn)
        self._sequence((stmt.body,), body)
        block.done.append(For(span, stmt.variable, total, stmt.kind, body.body(span), stmt.pipeline))

    def _while(self, stmt: While, block: _Block) -> None:
        span = stmt.span
        if self._is_blocks(stmt.condition, block.mask) and not self._leaves_apart(stmt.body, block.mask):
            block.done.append(While(span, stmt.condition, self._inner(stmt.body, block.mask, _Loop()).body(span)))
            return
        loop = _Loop(self.tile("live", bool_), self.tile("turn", bool_))
        assert loop.live is not None and loop.turn is not None
        block.done.append(self.every_thread(span, self.set_mine(span, loop.live, const(True) if block.mask is None else block.mask)))
        body = _Block(self.mine(loop.turn), loop)
        goes_on = logical(Op.AND, self.mine(loop.live), stmt.condition)
        body.done.append(self.every_thread(span, self.set_mine(span, loop.turn, goes_on), self.set_mine(span, loop.live, self.mine(loop.turn))))
        test, is_any = self.any_thread(span, loop.turn)
        body.done += [test, If(span, unary(Op.NOT, is_any), Break(span))]
        self._sequence((stmt.body,), body)
        block.done.append(While(span, const(True), body.body(span)))

    def _leave(self, stmt: Break | Continue, block: _Block) -> None:
        loop = block.loop
        if loop is None:
            raise CompilerBug(f"{type(stmt).__name__} at {stmt.span} stands in no loop of the block")
        if loop.live is None or loop.turn is None:
            block.done.append(stmt)
            return
        flags = (loop.turn, loop.live) if isinstance(stmt, Break) else (loop.turn,)
        block.done.append(Region(stmt.span, block.mask, Seq(stmt.span, tuple(self.set_mine(stmt.span, f, const(False)) for f in flags))))


def both(mask: Expr | None, condition: Expr) -> Expr:
    return condition if mask is None else logical(Op.AND, mask, condition)
