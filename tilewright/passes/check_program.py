"""Finds what is wrong with a program before anything is generated (floor 5), on the program as the user wrote it."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.arith.bounds import Facts
from tilewright.arith.counterexample import exact_value, find_counterexample
from tilewright.errors import Kind, Label, fail
from tilewright.ir.buffer import Buffer, Region, Scope, format_shape
from tilewright.ir.expr import Expr, Op, binary, logical
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assert, AtomicUpdate, For, If, Let, ParallelFor, ReduceLoop, Seq, Stmt, Store, While
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.ops.atomic import AtomicTile
from tilewright.ops.copy import Copy
from tilewright.ops.fill import Fill
from tilewright.passes.check_threads import check_threads
from tilewright.passes.context import Remarks
from tilewright.passes.walk import may_leave_loop, statements_with_facts

_CLIPPING = (Copy, Fill, AtomicTile)  # operations that leave out what lies outside a tile
_MAX_SEARCHES = 20  # per launch: one that finds nothing takes some milliseconds


def check_program(program: Program, context: Remarks) -> Program:
    """Raises TileError at the first mistake; gives the program back unchanged."""
    for launch in program.launches:
        if launch.is_thread_level:
            check_threads(launch)
        _check_launch(launch)
    return program


def _check_launch(launch: Launch) -> None:
    turns = _Turns(launch)
    for stmt, facts in statements_with_facts(launch):
        for expression in own_expressions(stmt):
            for node in _always_evaluated(expression):
                if node.op is Op.LOAD:
                    _check_index(node.buffer, node.args, stmt, facts, turns)
        if isinstance(stmt, (Store, AtomicUpdate)):
            _check_index(stmt.buffer, stmt.indices, stmt, facts, turns)
        if isinstance(stmt, TileOp) and not isinstance(stmt, _CLIPPING):
            for region in (*stmt.effects().reads, *stmt.effects().writes):
                _check_region(region, stmt, facts, turns)
        if isinstance(stmt, ParallelFor):
            _check_races(stmt)


def _always_evaluated(expression: Expr) -> Iterator[Expr]:
    """The nodes that no lazy choice can leave out: a guarded load may stand where its index never is."""
    seen: set[Expr] = set()
    stack = [expression]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack.extend(reversed(node.args[:1] if node.op in (Op.IF_THEN_ELSE, Op.AND, Op.OR) else node.args))


class _Turns:
    """Finds blocks, threads and turns of loops that certainly come to a statement.

    counted    variables all of whose values occur: those of grids, blocks and loops of constant extent, and what is computed from them.
    doubtful   statements that may never be reached, whatever the counted variables are.
    """

    def __init__(self, launch: Launch) -> None:
        self.counted: set[Expr] = set()
        self.doubtful: set[Stmt] = set()
        self.searches_left = _MAX_SEARCHES
        for variable, extent in zip(launch.block_variables, launch.grid, strict=True):
            self._count(variable, extent)
        self.counted.update(launch.thread_variables)
        self._walk(launch.body, is_doubtful=any(isinstance(s, Assert) for s in statements(launch.body)))

    def _count(self, variable: Expr, value: Expr | int) -> None:
        if isinstance(value, int) or all(n.op not in (Op.LOAD, Op.CALL) and (n.op is not Op.VAR or n in self.counted) for n in subexpressions(value)):
            self.counted.add(variable)

    def _walk(self, stmt: Stmt, is_doubtful: bool) -> None:
        if is_doubtful:
            self.doubtful.add(stmt)
        match stmt:
            case Seq():
                for inner in stmt.body:
                    self._walk(inner, is_doubtful)
            case Let():
                self._count(stmt.variable, stmt.value)
            case For():
                self._count(stmt.variable, stmt.extent)
                self._walk(stmt.body, is_doubtful or may_leave_loop(stmt.body))
            case ParallelFor():
                for variable, extent in zip(stmt.variables, stmt.extents, strict=True):
                    self._count(variable, extent)
                self._walk(stmt.body, is_doubtful)
            case If():
                is_known = all(n.op is not Op.VAR or n in self.counted for n in subexpressions(stmt.condition))
                for branch in filter(None, (stmt.then_body, stmt.else_body)):
                    self._walk(branch, is_doubtful or not is_known)
            case While():
                self._walk(stmt.body, True)

    def outside(self, index: Expr, last: int, stmt: Stmt, facts: Facts) -> str | None:
        """What a number is in a turn that comes to the statement and has it below 0 or above `last`, as "4, where i = 2"; None if no turn was found."""
        names = list(dict.fromkeys(n for n in subexpressions(index) if n.op is Op.VAR))
        if stmt in self.doubtful or not self.counted.issuperset(names) or self.searches_left == 0:
            return None
        self.searches_left -= 1
        found = find_counterexample(logical(Op.AND, binary(Op.GE, index, 0), binary(Op.LE, index, last)), facts)
        if found is None:
            return None
        values = ", ".join(f"{n.name} = {found[n]}" for n in names if n is not index)
        return f"{exact_value(index, found)}{values and f' where {values}'}"


def _beyond(index: Expr, last: int, stmt: Stmt, facts: Facts, turns: _Turns) -> str | None:
    """How an index goes below 0 or above `last`; None if it does not, or if that is not known."""
    known = facts.range_of(index)
    if index.dtype.lanes > 1 or (known.low is None and known.high is None) or known.is_inside(0, last):
        return None
    if known.low is not None and known.low > last:
        return str(known.low) if known.low == known.high else f"at least {known.low}"
    if known.high is not None and known.high < 0:
        return str(known.high) if known.low == known.high else f"at most {known.high}"
    return turns.outside(index, last, stmt, facts)


def _check_index(buffer: Buffer, indices: tuple[Expr, ...], stmt: Stmt, facts: Facts, turns: _Turns) -> None:
    """A tile has no guard: an index that is outside in some turn is a mistake."""
    if buffer.scope is Scope.GLOBAL or facts.is_contradictory:
        return
    for axis, (index, extent) in enumerate(zip(indices, buffer.shape, strict=True)):
        value = _beyond(index, extent - 1, stmt, facts, turns) if isinstance(extent, int) else None
        if value is not None:
            fail(
                Kind.INDEX_RANGE,
                f"the index `{index}` is {value}, outside {buffer.name}, whose dimension {axis} has {extent} elements",
                (Label(stmt.span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
                because=f"the last index is {int(extent) - 1}; only global tensors are guarded against indices outside",
                help="correct the index or the loop, or allocate a larger tile",
            )


def _check_region(region: Region, stmt: Stmt, facts: Facts, turns: _Turns) -> None:
    """An operation that needs every element of a tile's region, part of which is outside in some turn."""
    buffer = region.buffer
    if buffer.scope is Scope.GLOBAL or facts.is_contradictory:
        return
    for axis, (start, length, extent) in enumerate(zip(region.starts, region.extents, buffer.shape, strict=True)):
        value = _beyond(start, extent - length, stmt, facts, turns) if isinstance(length, int) and isinstance(extent, int) else None
        if value is not None:
            where = "" if start.is_const else f": `{start}` is {value}"
            fail(
                Kind.REGION_RANGE,
                f"the region {region} goes outside {buffer.name}, whose dimension {axis} has {extent} elements{where}",
                (Label(stmt.span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
                because="only T.copy, T.fill and atomics clip a tile's region",
                help="correct the region, or allocate a larger tile",
            )


def _check_races(loop: ParallelFor) -> None:
    """Iterations of T.Parallel run in any order: two of them may not write different values to one element."""
    check = _RaceCheck(loop)
    check.stmt(loop.body, frozenset())


class _RaceCheck:
    """Looks for stores whose place is the same in all iterations of a variable, and whose value is not."""

    def __init__(self, loop: ParallelFor) -> None:
        self.loop = loop
        self.stores = [s for s in statements(loop.body) if isinstance(s, Store)]
        self.known: dict[Expr, frozenset[Expr]] = {v: frozenset([v]) for v in loop.variables}
        self.private: dict[Buffer, frozenset[Expr]] = {}  # what the contents of an iteration's own buffers depend on

    def stmt(self, stmt: Stmt, pinned: frozenset[Expr]) -> None:
        """`pinned` are variables of which a condition may single out one value (`if i == 0`)."""
        match stmt:
            case Seq():
                for inner in stmt.body:
                    self.stmt(inner, pinned)
            case Let():
                self.known[stmt.variable] = self.depends(stmt.value)
            case AtomicUpdate() if stmt.previous is not None:
                self.known[stmt.previous] = frozenset(self.loop.variables)
            case ForeignCall() if stmt.result is not None:
                self.known[stmt.result] = frozenset(self.loop.variables)
            case ReduceLoop():
                self.known[stmt.result] = self.depends(stmt.initial, stmt.value, stmt.extent)
            case If():
                inside = pinned | self.depends(stmt.condition)
                self.stmt(stmt.then_body, inside)
                if stmt.else_body is not None:
                    self.stmt(stmt.else_body, inside)
            case For() | While():
                # A `break` may single out iterations for all that follows it.
                self.stmt(stmt.body, pinned.union(*(self.depends(*own_expressions(s)) for s in statements(stmt) if not isinstance(s, Store))))
            case Store():
                self.store(stmt, pinned)

    def depends(self, *expressions: Expr) -> frozenset[Expr]:
        """The loop's variables that may change a value."""
        found: frozenset[Expr] = frozenset()
        for node in (n for e in expressions for n in subexpressions(e)):
            if node.op is Op.VAR:
                found |= self.known.get(node, frozenset())
            elif node.op is Op.LOAD and node.buffer.scope in _PRIVATE:
                found |= self.contents(node.buffer)
        return found

    def contents(self, buffer: Buffer) -> frozenset[Expr]:
        if buffer not in self.private:
            self.private[buffer] = frozenset()  # its own old contents change nothing
            self.private[buffer] = self.depends(*(e for s in self.stores if s.buffer is buffer for e in (s.value, *s.indices)))
        return self.private[buffer]

    def store(self, store: Store, pinned: frozenset[Expr]) -> None:
        if _is_set_by_iteration(self.stores, store.buffer):
            return
        written = {s.buffer for s in self.stores}
        if any(n.op is Op.LOAD and n.buffer in written and n.buffer.scope not in _PRIVATE for i in store.indices for n in subexpressions(i)):
            return  # the place is read from what the loop itself writes
        places, values = self.depends(*store.indices), self.depends(store.value)
        is_updating = any(n.op is Op.LOAD and n.buffer is store.buffer for n in subexpressions(store.value))
        for variable, extent in zip(self.loop.variables, self.loop.extents, strict=True):
            is_single = extent.is_const and extent.value <= 1
            if not is_single and variable not in places and variable not in pinned and (variable in values or is_updating):
                fail(
                    Kind.PARALLEL_RACE,
                    f"all iterations of `{variable}` write the same element of {store.buffer.name}",
                    (Label(store.span), Label(self.loop.span, "the parallel loop")),
                    because="the iterations run in any order and at the same time, so which value stays is not defined",
                    help=f"index {store.buffer.name} by `{variable}`, combine with T.reduce_sum or T.atomic_add, or write a T.serial loop",
                )


_PRIVATE = (Scope.LOCAL, Scope.VARIABLE)


def _is_set_by_iteration(stores: list[Store], buffer: Buffer) -> bool:
    """Whether an iteration has a copy of its own: a per-thread buffer whose first store in the body does not read it."""
    if buffer.scope not in _PRIVATE:
        return False
    first = next(s for s in stores if s.buffer is buffer)
    return not any(n.op is Op.LOAD and n.buffer is buffer for n in subexpressions(first.value))
