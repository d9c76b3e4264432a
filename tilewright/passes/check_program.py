"""Finds what is wrong with a program before anything is generated (floor 5), on the program as the user wrote it."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.arith.bounds import Facts
from tilewright.errors import Kind, Label, fail
from tilewright.ir.buffer import Buffer, Region, Scope, format_shape
from tilewright.ir.expr import Expr, Op
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import AtomicUpdate, For, If, Let, ParallelFor, ReduceLoop, Seq, Stmt, Store, While
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.ops.atomic import AtomicTile
from tilewright.ops.copy import Copy
from tilewright.ops.fill import Fill
from tilewright.passes.check_threads import check_threads
from tilewright.passes.context import Remarks
from tilewright.passes.walk import statements_with_facts

_CLIPPING = (Copy, Fill, AtomicTile)  # operations that leave out what lies outside a tile


def check_program(program: Program, context: Remarks) -> Program:
    """Raises TileError at the first mistake; gives the program back unchanged."""
    for launch in program.launches:
        if launch.is_thread_level:
            check_threads(launch)
        _check_launch(launch)
    return program


def _check_launch(launch: Launch) -> None:
    for stmt, facts in statements_with_facts(launch):
        for expression in own_expressions(stmt):
            for node in _always_evaluated(expression):
                if node.op is Op.LOAD:
                    _check_index(node.buffer, node.args, stmt, facts)
        if isinstance(stmt, Store):
            _check_index(stmt.buffer, stmt.indices, stmt, facts)
        if isinstance(stmt, TileOp) and not isinstance(stmt, _CLIPPING):
            for region in (*stmt.effects().reads, *stmt.effects().writes):
                _check_region(region, stmt, facts)
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


def _check_index(buffer: Buffer, indices: tuple[Expr, ...], stmt: Stmt, facts: Facts) -> None:
    """A tile has no guard: an index that is certainly outside is a mistake."""
    if buffer.scope is Scope.GLOBAL or facts.is_contradictory:
        return
    for axis, (index, extent) in enumerate(zip(indices, buffer.shape, strict=True)):
        known = facts.range_of(index)
        if not isinstance(extent, int) or (known.low is None and known.high is None):
            continue
        if (known.low is not None and known.low >= extent) or (known.high is not None and known.high < 0):
            value = (
                f"{known.low}"
                if known.low == known.high
                else f"at least {known.low}"
                if known.low is not None and known.low >= extent
                else f"at most {known.high}"
            )
            fail(
                Kind.INDEX_RANGE,
                f"the index `{index}` is {value}, outside {buffer.name}, whose dimension {axis} has {extent} elements",
                (Label(stmt.span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
                because=f"the last index is {extent - 1}; only global tensors are guarded against indices outside",
                help="correct the index, or allocate a larger tile",
            )


def _check_region(region: Region, stmt: Stmt, facts: Facts) -> None:
    """An operation that needs every element of a tile's region, part of which is certainly outside."""
    buffer = region.buffer
    if buffer.scope is Scope.GLOBAL or facts.is_contradictory:
        return
    for axis, (start, length, extent) in enumerate(zip(region.starts, region.extents, buffer.shape, strict=True)):
        known = facts.range_of(start)
        if (
            isinstance(length, int)
            and isinstance(extent, int)
            and ((known.low is not None and known.low + length > extent) or (known.high is not None and known.high < 0))
        ):
            fail(
                Kind.REGION_RANGE,
                f"the region {region} goes outside {buffer.name}, whose dimension {axis} has {extent} elements",
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
