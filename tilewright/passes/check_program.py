"""Finds what is wrong with a program before anything is generated (floor 5): on the program as the user wrote it, so that every message names the user's line."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.arith.bounds import Facts
from tilewright.errors import Kind, Label, fail
from tilewright.ir.buffer import Buffer, Scope, format_shape
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import If, ParallelFor, Seq, Stmt, Store
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.passes.context import PassContext
from tilewright.passes.walk import statements_with_facts


def check_program(program: Program, context: PassContext) -> Program:
    """Raises TileError at the first mistake; gives the program back unchanged."""
    for launch in program.launches:
        if launch.is_thread_level:
            fail(Kind.THREAD_LEVEL, "T.get_thread_binding makes this launch thread-level code, which this version does not run", launch.span,
                 because="tile-level constructs are supported; code that asks for its thread is not yet", help="express it with T.Parallel")
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
        if isinstance(stmt, ParallelFor):
            _check_races(stmt)


def _always_evaluated(expression: Expr) -> Iterator[Expr]:
    """The nodes that no lazy choice can leave out: a guarded load may stand where its index never is."""
    yield expression
    for operand in expression.args[:1] if expression.op in (Op.IF_THEN_ELSE, Op.AND, Op.OR) else expression.args:
        yield from _always_evaluated(operand)


def _check_index(buffer: Buffer, indices: tuple[Expr, ...], stmt: Stmt, facts: Facts) -> None:
    """A tile has no guard: an index that is certainly outside is a mistake."""
    if buffer.scope is Scope.GLOBAL or facts.is_contradictory:
        return
    for axis, (index, extent) in enumerate(zip(indices, buffer.shape, strict=True)):
        known = facts.range_of(index)
        if not isinstance(extent, int) or (known.low is None and known.high is None):
            continue
        if (known.low is not None and known.low >= extent) or (known.high is not None and known.high < 0):
            value = f"{known.low}" if known.low == known.high else f"at least {known.low}" if known.low is not None and known.low >= extent else f"at most {known.high}"
            fail(Kind.INDEX_RANGE, f"the index `{index}` is {value}, outside {buffer.name}, whose dimension {axis} has {extent} elements",
                 (Label(stmt.span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
                 because=f"the last index is {extent - 1}; only global tensors are guarded against indices outside", help="correct the index, or allocate a larger tile")


def _check_races(loop: ParallelFor) -> None:
    """Iterations of T.Parallel run in any order: two of them may not write different values to one element."""
    definitions: dict[Expr, Expr] = {}
    _check_body(loop, loop.body, frozenset(), definitions)


def _check_body(loop: ParallelFor, stmt: Stmt, pinned: frozenset[Expr], definitions: dict[Expr, Expr]) -> None:
    match stmt:
        case Seq():
            for inner in stmt.body:
                _check_body(loop, inner, pinned, definitions)
        case If():
            # A condition on a variable may single out one iteration (`if i == 0`), so the variable counts as chosen.
            inside = pinned | _variables(stmt.condition)
            _check_body(loop, stmt.then_body, inside, definitions)
            if stmt.else_body is not None:
                _check_body(loop, stmt.else_body, inside, definitions)
        case Store():
            _check_store(loop, stmt, pinned)
        case _:
            for inner in statements(stmt):
                if isinstance(inner, Store):
                    _check_store(loop, inner, pinned | frozenset(v for s in statements(stmt) for e in own_expressions(s) for v in _variables(e) if not isinstance(s, Store)))


def _check_store(loop: ParallelFor, store: Store, pinned: frozenset[Expr]) -> None:
    if store.buffer.scope is Scope.REDUCER or _is_set_by_iteration(loop, store.buffer):
        return
    used: frozenset[Expr] = frozenset().union(*(_variables(i) for i in store.indices)) if store.indices else frozenset()
    has_indirect = any(n.op is Op.VAR and not any(n is v for v in loop.variables) for i in store.indices for n in subexpressions(i)) or any(
        n.op is Op.LOAD for i in store.indices for n in subexpressions(i))
    for variable, extent in zip(loop.variables, loop.extents, strict=True):
        if extent.is_const and extent.value <= 1:
            continue
        if variable in used or variable in pinned or has_indirect:
            continue
        if variable in _variables(store.value) or any(n.op is Op.LOAD for n in subexpressions(store.value) if n.op is Op.LOAD and n.buffer is store.buffer):
            fail(Kind.PARALLEL_RACE, f"all iterations of `{variable}` write the same element of {store.buffer.name}", (Label(store.span), Label(loop.span, "the parallel loop")),
                 because="the iterations run in any order and at the same time, so which value stays is not defined",
                 help=f"index {store.buffer.name} by `{variable}`, combine with T.reduce_sum or T.atomic_add, or write a T.serial loop")


def _is_set_by_iteration(loop: ParallelFor, buffer: Buffer) -> bool:
    """Whether an iteration has a copy of its own: a per-thread buffer whose first store in the body does not read it."""
    if buffer.scope not in (Scope.LOCAL, Scope.VARIABLE):
        return False
    first = next(s for s in statements(loop.body) if isinstance(s, Store) and s.buffer is buffer)
    return not any(n.op is Op.LOAD and n.buffer is buffer for n in subexpressions(first.value))


def _variables(expression: Expr) -> frozenset[Expr]:
    return frozenset(n for n in subexpressions(expression) if n.op is Op.VAR)
