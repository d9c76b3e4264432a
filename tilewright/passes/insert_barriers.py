"""Puts the barriers into thread-level code that its memory needs (floor 5; language.md 4), for any target.

Threads of a block run apart between barriers. Where one of them may touch an element that another one touches, and one of both writes it, a barrier
must stand between: the program says in which order the statements count. This pass finds the pairs that have none, and inserts it; pairs that provably
meet in no element, or only in a thread's own, get none.

A barrier goes as far out as it can: before the statement of the innermost sequence that holds both accesses. Where that lies in a branch or loop that
only some threads take, it stands there: a CPU, which runs one statement for all threads before it goes on, has no difficulty with it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Extent, Scope
from tilewright.ir.expr import Expr, Op, const, unary, var
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.instruction import Access as Touches
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import (
    AtomicUpdate,
    Barrier,
    BarrierScope,
    BlockReduce,
    Break,
    For,
    If,
    Let,
    ParallelFor,
    Print,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    While,
)
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import inner_statements, names_made, own_expressions, statements, subexpressions
from tilewright.ops.async_copy import WaitGroup
from tilewright.passes.context import GpuPassContext, PassContext
from tilewright.passes.thread_conflicts import Access, Conflicts, Order, Place, Values
from tilewright.passes.thread_variance import Variance, is_cooperative, is_private
from tilewright.passes.touched_boxes import touched_boxes
from tilewright.passes.walk import may_leave_loop, storages_written_by


@dataclass(frozen=True)
class Machine:
    """How a target runs the threads of a block.

    scopes               memory whose accesses barriers order: others have no order between threads, or need none.
    is_block_in_step     operations of the whole block, and exchanges in a warp, are barriers by themselves.
    """

    scopes: frozenset[Scope]
    is_block_in_step: bool


CPU_THREADS = Machine(frozenset({Scope.SHARED, Scope.FRAGMENT, Scope.REDUCER, Scope.GLOBAL}), is_block_in_step=True)
GPU_THREADS = Machine(frozenset({Scope.SHARED, Scope.GLOBAL}), is_block_in_step=False)
Pair = tuple[Access, Access]


def insert_barriers(program: Program, context: PassContext) -> Program:
    """Thread-level launches with all barriers that a CPU needs between regions; other launches stay as they are."""
    return dataclasses.replace(program, launches=tuple(with_barriers(x, CPU_THREADS) if x.is_thread_level else x for x in program.launches))


def insert_gpu_barriers(program: Program, context: GpuPassContext) -> Program:
    """Every launch with all barriers that the threads of a GPU need; operations of the block have not been lowered to threads yet.

    Raises TileError (divergent-barrier) where a barrier would have to stand where only some threads come.
    """
    return dataclasses.replace(program, launches=tuple(with_barriers(x, GPU_THREADS) for x in program.launches))


def with_barriers(launch: Launch, machine: Machine) -> Launch:
    """The launch, whose threads' own tile operations have been lowered, with the barriers that it lacks."""
    inserter = _Inserter(launch, machine)
    body = inserter.visit(launch.body).stmt
    if not machine.is_block_in_step:
        inserter.refuse_divergent(body)
    return launch if body is launch.body else dataclasses.replace(launch, body=body)


@dataclass
class _Result:
    """What became of a statement.

    heads    accesses that may happen before any barrier in it.
    tails    accesses that may happen after the last one.
    every    all accesses.
    is_closed   whether it holds a barrier that every thread passes.
    """

    stmt: Stmt
    heads: list[Access] = field(default_factory=list)
    tails: list[Access] = field(default_factory=list)
    every: list[Access] = field(default_factory=list)
    is_closed: bool = False

    @classmethod
    def of(cls, stmt: Stmt, accesses: list[Access]) -> _Result:
        return cls(stmt, accesses, accesses, accesses)


class _Inserter:
    def __init__(self, launch: Launch, machine: Machine) -> None:
        self.launch, self.machine = launch, machine
        self.variance = Variance(launch)
        values = Values(self.variance)
        self.conflicts = Conflicts(launch, values)
        self.place = Place(values)
        self.inserted: dict[Stmt, Pair] = {}  # barriers, with two accesses that need each
        self.copied_late = self._late_copies()

    def _late_copies(self) -> list[Access]:
        """The tiles that asynchronous copies write, each once."""
        loops = [s for s in statements(self.launch.body) if isinstance(s, ParallelFor) and s.is_async]
        stores = {s.buffer.storage: s for loop in loops for s in statements(loop) if isinstance(s, Store)}
        return [Access(store, store.buffer, None, is_write=True) for buffer, store in stores.items() if self._counts(buffer)]

    # -- accesses
    def _counts(self, buffer: Buffer) -> bool:
        return not is_private(buffer) and buffer.storage.scope in self.machine.scopes

    def _access(self, stmt: Stmt, buffer: Buffer, indices: tuple[Expr, ...], *, is_write: bool, is_atomic: bool = False) -> Access:
        return self.place.access(stmt, buffer, indices, is_write=is_write, is_atomic=is_atomic)

    def _reads(self, stmt: Stmt, *expressions: Expr) -> list[Access]:
        """The loads of expressions, each under the conditions that protect it in the expression."""
        found = []
        for expression in expressions:
            for node in subexpressions(expression):
                if node.op is Op.LOAD and self._counts(node.buffer):
                    found.append(self._access(stmt, node.buffer, node.args, is_write=False))
        return found

    def _block_accesses(self, stmt: Stmt) -> list[Access]:
        """What an operation of the whole block may touch: any thread any of it."""
        found = []
        for buffer, box, is_write, is_atomic in touched_boxes(stmt):
            if self._counts(buffer):
                expanded = None if box is None else tuple((self.place.expanded(start), self._extent(extent)) for start, extent in box)
                found.append(Access(stmt, buffer, None, is_write, is_atomic, self.place.conditions, self.place.loops, box=expanded))
        return found

    def _extent(self, extent: Extent) -> Extent:
        return self.place.expanded(extent) if isinstance(extent, Expr) else extent

    def _landed(self, wait: WaitGroup) -> _Result:
        """After a wait, what a thread has copied asynchronously is there, for the other threads only after a barrier. What must be over before such a
        copy must be so when it is issued, so at the wait nothing is asked of what came before."""
        tails = [dataclasses.replace(a, stmt=wait, box=None, loops=self.place.loops, conditions=self.place.conditions) for a in self.copied_late]
        return _Result(wait, [], tails, tails)

    def _meeting(self, earlier: list[Access], later: list[Access], carried_by: Place | None = None) -> Pair | None:
        """Two accesses that need a barrier between them."""
        return next(((a, b) for a in earlier for b in later if self.conflicts.meet(a, b, carried_by=carried_by)), None)

    def _barrier(self, span: Span, pair: Pair) -> Barrier:
        made = Barrier(span)
        self.inserted[made] = pair
        return made

    # -- statements
    def visit(self, stmt: Stmt) -> _Result:
        for name in names_made(stmt):
            self.place.name(name)
        match stmt:
            case Seq():
                return self._seq(stmt)
            case If():
                return self._if(stmt)
            case For() | While():
                return self._loop(stmt)
            case Barrier():
                return _Result(stmt, is_closed=stmt.scope is not BarrierScope.WARP and stmt.num_threads is None)
            case BlockReduce():
                accesses = self._reads(stmt, stmt.value)
                return _Result(stmt, accesses, [], accesses, is_closed=True)
            case WarpExchange() if self.machine.is_block_in_step:
                accesses = self._reads(stmt, *own_expressions(stmt))
                return _Result(stmt, accesses, [], accesses, is_closed=True)
            case WaitGroup():
                return self._landed(stmt)
            case Print() if stmt.buffer is not None and self._counts(stmt.buffer):
                return _Result.of(stmt, [*self._reads(stmt, *own_expressions(stmt)), Access(stmt, stmt.buffer, None, is_write=False)])
            case ParallelFor() | TileOp() if is_cooperative(stmt):
                if self.machine.is_block_in_step:
                    return _Result(stmt, is_closed=True)
                return _Result.of(stmt, self._block_accesses(stmt))
            case Store() | AtomicUpdate():
                return self._update(stmt)
            case ForeignCall():
                return _Result.of(stmt, [*self._reads(stmt, *own_expressions(stmt)), *self._foreign(stmt)])
            case Let():
                accesses = self._reads(stmt, stmt.value)
                self.place.define(stmt.variable, stmt.value)
                return _Result.of(stmt, accesses)
            case ReduceLoop():
                before = self.place
                self.place = before.inside(stmt.axis, stmt.extent)
                accesses = self._reads(stmt, stmt.value)
                self.place = before
                return _Result.of(stmt, [*accesses, *self._reads(stmt, stmt.initial, stmt.extent)])
            case _:
                return _Result.of(stmt, self._reads(stmt, *own_expressions(stmt)))

    def _update(self, stmt: Store | AtomicUpdate) -> _Result:
        """A store. Where it may overwrite what another thread still has to read for the same statement, all threads read first."""
        reads = self._reads(stmt, *stmt.indices, stmt.value)
        if is_private(stmt.buffer):
            self.place.written(stmt.buffer)
        if not self._counts(stmt.buffer):
            return _Result.of(stmt, reads)
        write = self._access(stmt, stmt.buffer, stmt.indices, is_write=True, is_atomic=isinstance(stmt, AtomicUpdate))
        every = [*reads, write]
        pair = self._meeting(reads, [write])
        if pair is None:
            return _Result.of(stmt, every)
        names: list[Let] = []

        def held(value: Expr, name: str) -> Expr:
            if not any(n.op is Op.LOAD for n in subexpressions(value)):
                return value
            names.append(Let(stmt.span, var(name, value.dtype), value))
            return names[-1].variable

        indices = tuple(held(i, "index") for i in stmt.indices)
        value = held(stmt.value, "value")
        parts = (*names, self._barrier(stmt.span, pair), dataclasses.replace(stmt, indices=indices, value=value))
        return _Result(Seq(stmt.span, parts), reads, [write], every, is_closed=True)

    def _foreign(self, stmt: ForeignCall) -> list[Access]:
        """What code that is not known may touch. Between two such accesses to global memory nothing is put: it may use atomics there."""
        found = []
        for address, reach in stmt.addresses():
            is_write, is_atomic = reach.access is not Touches.READ, address.buffer.storage.scope is Scope.GLOBAL
            if is_private(address.buffer) and is_write:
                self.place.written(address.buffer)
            if not self._counts(address.buffer):
                continue
            if reach.is_element:
                found.append(self._access(stmt, address.buffer, address.indices, is_write=is_write, is_atomic=is_atomic))
            else:
                found.append(Access(stmt, address.buffer, None, is_write, is_atomic, self.place.conditions, self.place.loops))
        return found

    def _seq(self, node: Seq) -> _Result:
        made: list[Stmt] = []
        heads: list[Access] = []
        pending: list[Access] = []
        every: list[Access] = []
        is_closed = False
        for child in node.body:
            result = self.visit(child)
            pair = self._meeting(pending, result.heads)
            if pair is not None:
                made.append(self._barrier(child.span, pair))
                pending, is_closed = [], True
            # What a statement names is visible in the rest of its sequence: a Let that was made for it must stand there itself.
            made += result.stmt.body if isinstance(result.stmt, Seq) and not isinstance(child, Seq) else [result.stmt]
            if not is_closed:
                heads += result.heads
            every += result.every
            if isinstance(child, Barrier) and not result.is_closed:
                pending = [a.ordered(Order.WARP if child.scope is BarrierScope.WARP else Order.GROUP) for a in pending]
            elif result.is_closed:
                pending, is_closed = list(result.tails), True
            else:
                pending = [*pending, *result.tails]
        stmt = (
            node if len(made) == len(node.body) and all(a is b for a, b in zip(made, node.body, strict=True)) else dataclasses.replace(node, body=tuple(made))
        )
        # A barrier of some threads orders nothing for the others.
        return _Result(stmt, heads, [a.ordered(Order.NONE) if a.order is Order.GROUP else a for a in pending], every, is_closed)

    def _if(self, node: If) -> _Result:
        first = self._reads(node, node.condition)
        condition = self.place.expanded(node.condition)
        before = self.place
        results: list[_Result] = []
        for body, truth in ((node.then_body, True), (node.else_body, False)):
            if body is not None:
                self.place = before.under(condition, truth)
                results.append(self.visit(body))
        self.place = before
        for storage in filter(is_private, storages_written_by(node)):
            self.place.written(storage)
        then, otherwise = results[0], results[1] if len(results) > 1 else None
        heads, every = [*first, *then.heads], [*first, *then.every]
        tails = [*(first if otherwise is None or not (then.is_closed and otherwise.is_closed) else []), *then.tails]
        if otherwise is None:
            stmt = node if then.stmt is node.then_body else dataclasses.replace(node, then_body=then.stmt)
            return _Result(stmt, heads, tails, every)
        pair = self._meeting(then.every, otherwise.every) if self.variance.is_varying(node.condition) else None
        if pair is not None:
            return self._one_after_the_other(node, then, otherwise, first, pair)
        is_same = then.stmt is node.then_body and otherwise.stmt is node.else_body
        stmt = node if is_same else dataclasses.replace(node, then_body=then.stmt, else_body=otherwise.stmt)
        is_closed = then.is_closed and otherwise.is_closed
        return _Result(stmt, [*heads, *otherwise.heads], [*tails, *otherwise.tails], [*every, *otherwise.every], is_closed)

    def _one_after_the_other(self, node: If, then: _Result, otherwise: _Result, first: list[Access], pair: Pair) -> _Result:
        """Threads on both paths may meet in an element: those of the first path go first."""
        condition, made = node.condition, list[Stmt]()
        if condition.op is not Op.VAR:
            condition = var("condition", condition.dtype)
            made.append(Let(node.span, condition, node.condition))
        made += [If(node.span, condition, then.stmt), self._barrier(node.span, pair), If(node.span, unary(Op.NOT, condition), otherwise.stmt)]
        heads = [*first, *then.heads]
        return _Result(Seq(node.span, tuple(made)), heads, list(otherwise.tails), [*first, *then.every, *otherwise.every], is_closed=True)

    def _loop(self, node: For | While) -> _Result:
        header = node.extent if isinstance(node, For) else node.condition
        first = self._reads(node, header)
        before = self.place
        changed = [b for b in storages_written_by(node.body) if is_private(b)]
        for storage in changed:
            before.written(storage)
        if isinstance(node, For):
            self.place = before.inside(node.variable, node.extent)
            repeated: list[Access] = []
        else:
            self.place = before.inside(None, None)
            first = self._reads(node, header)
            repeated = first
        inner = self.place
        result = self.visit(node.body)
        self.place = before
        for storage in changed:
            before.written(storage)
        body, heads, tails, is_closed = result.stmt, [*repeated, *result.heads], result.tails, result.is_closed
        leaves = may_leave_loop(node.body)
        if leaves:
            tails = result.every
        pair = self._meeting(tails, repeated, inner) if isinstance(node, While) else None
        if isinstance(node, While) and pair is not None:
            return self._tested_together(node, body, result, first, pair)
        pair = self._meeting(repeated, result.heads) or self._meeting(tails, result.heads, inner)
        if pair is not None:
            body = Seq(node.span, (self._barrier(node.span, pair), body))
            heads, is_closed = repeated, True
        stmt = node if body is node.body else dataclasses.replace(node, body=body)
        always = is_closed and not leaves and isinstance(node, For) and node.extent.is_const and node.extent.value > 0
        return _Result(stmt, [*first, *heads], [*([] if always else first), *tails], [*first, *result.every], always)

    def refuse_divergent(self, node: Stmt, split: Stmt | None = None) -> None:
        """A diagnostic where an inserted barrier stands in a branch or loop that not all threads take together."""
        if node in self.inserted and split is not None:
            first, second = self.inserted[node]
            name = first.buffer.name
            what = ["writes" if access.is_write else "reads" for access in (first, second)]
            labels = [Label(second.stmt.span, f"{what[1]} {name}"), Label(first.stmt.span, f"{what[0]} {name}, on another thread")]
            if first.stmt is second.stmt:
                labels = [Label(second.stmt.span, f"{' and '.join(dict.fromkeys(what))} {name}: other threads' elements too")]
            foreign = any(isinstance(access.stmt, ForeignCall) for access in (first, second))
            fail(
                Kind.DIVERGENT_BARRIER,
                f"threads may meet in an element of {name} that one of them writes, where no barrier can put them in order",
                (*labels, Label(split.span, "threads part here")),
                because="a barrier between the two would wait for all threads of the block, and those that do not come there never let the others go on",
                help="end the branch or loop between the two accesses, so that a barrier can stand there; or let each thread use elements of its own"
                + (
                    "; T.access_ptr(x[i], extent=1) declares that a function touches one element"
                    if foreign
                    else ", or, around T.sync_warp(), those of its warp"
                ),
            )
        inside = node if self.variance.splits(node) else split
        for inner in inner_statements(node):
            self.refuse_divergent(inner, inside)

    def _tested_together(self, node: While, body: Stmt, result: _Result, reads: list[Access], pair: Pair) -> _Result:
        """A `while` whose condition reads what its body writes: threads meet before they test, and before the body writes again."""
        test = var("condition", node.condition.dtype)
        leave = If(node.span, unary(Op.NOT, test), Seq(node.span, (Break(node.span),)))
        parts = (self._barrier(node.span, pair), Let(node.span, test, node.condition), self._barrier(node.span, pair), leave, body)
        return _Result(While(node.span, const(True), Seq(node.span, parts)), [], [*reads, *result.every], [*reads, *result.every])


__all__ = ["CPU_THREADS", "GPU_THREADS", "Machine", "insert_barriers", "insert_gpu_barriers", "with_barriers"]
