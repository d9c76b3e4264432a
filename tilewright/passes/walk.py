"""Statements together with what is known where they stand (floor 5): loop ranges, grid ranges, assumptions and enclosing conditions."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.arith.bounds import Facts
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op, binary, const
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.instruction import Access
from tilewright.ir.program import Launch
from tilewright.ir.stmt import Assume, AtomicUpdate, Break, Continue, For, If, Let, ParallelFor, ReduceLoop, Seq, Stmt, Store, While
from tilewright.ir.thread import Address
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import inner_statements, own_expressions, statements, subexpressions
from tilewright.ops.copy import Copy
from tilewright.ops.operand import same_extent


def launch_facts(launch: Launch) -> Facts:
    """What holds everywhere in a launch: the ranges of block and thread variables, and the sizes of the caller's tensors, which are not negative."""
    facts = Facts()
    for size in _tensor_sizes(launch):
        facts = facts.with_range(size, low=0) if size.op is Op.VAR else facts.assuming(binary(Op.GE, size, const(0)))
    for variable, extent in zip((*launch.block_variables, *launch.thread_variables), (*launch.grid, *map(const, launch.threads)), strict=True):
        facts = facts.with_loop(variable, extent)
    return facts


def _tensor_sizes(launch: Launch) -> tuple[Expr, ...]:
    """Dimensions known only at run time of the tensors that a launch uses. (A tensor made over an address may have any numbers as its shape.)"""
    tensors = dict.fromkeys(
        b.storage for stmt in statements(launch.body) for b in buffers_of(stmt) if b.storage.scope is Scope.GLOBAL and b.storage.pointer is None
    )
    return tuple(dict.fromkeys(n for b in tensors for n in b.shape if isinstance(n, Expr)))


def statements_with_facts(launch: Launch) -> Iterator[tuple[Stmt, Facts]]:
    """Every statement of a launch, outermost first, with the facts that hold when it runs."""
    yield from _walk(launch.body, launch_facts(launch))


def _walk(stmt: Stmt, facts: Facts) -> Iterator[tuple[Stmt, Facts]]:
    yield stmt, facts
    match stmt:
        case Seq():
            for inner in stmt.body:
                yield from _walk(inner, facts)
                if isinstance(inner, Assume):
                    facts = facts.assuming(inner.condition)
                elif isinstance(inner, Let):
                    facts = facts.with_definition(inner.variable, inner.value)
        case For():
            yield from _walk(stmt.body, facts.with_loop(stmt.variable, stmt.extent))
        case ParallelFor():
            yield from _walk(stmt.body, facts.with_box(stmt.variables, stmt.extents))
        case If():
            yield from _walk(stmt.then_body, facts.assuming(stmt.condition))
            if stmt.else_body is not None:
                yield from _walk(stmt.else_body, facts.assuming_not(stmt.condition))
        case While():
            yield from _walk(stmt.body, facts)
        case ReduceLoop() if stmt.body is not None:
            yield from _walk(stmt.body, facts.with_loop(stmt.axis, stmt.extent))


def buffers_of(stmt: Stmt) -> tuple[Buffer, ...]:
    """Buffers that a statement itself names or loads from (inner statements aside), in order of appearance."""
    found: dict[Buffer, None] = {}
    for value in vars(stmt).values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Buffer):
                found[item] = None
            elif isinstance(item, (Address, Region)):
                found[item.buffer] = None
    for expression in own_expressions(stmt):
        for node in subexpressions(expression):
            if node.op is Op.LOAD:
                found[node.buffer] = None
    return tuple(found)


def users_of(launch: Launch) -> dict[Buffer, list[Stmt]]:
    """The statements that name each buffer, in program order."""
    users: dict[Buffer, list[Stmt]] = {}
    for stmt in statements(launch.body):
        for buffer in buffers_of(stmt):
            users.setdefault(buffer, []).append(stmt)
    return users


def written_storages(launch: Launch) -> set[Buffer]:
    """Buffers that own memory which some statement of a launch may write."""
    return storages_written_by(launch.body)


def storages_written_by(root: Stmt) -> set[Buffer]:
    """Buffers that own memory which a statement, or one inside it, may write."""
    found: set[Buffer] = set()
    for stmt in statements(root):
        if isinstance(stmt, TileOp):
            found |= {r.buffer.storage for r in stmt.effects().writes}
        elif isinstance(stmt, (Store, AtomicUpdate)):
            found.add(stmt.buffer.storage)
        elif isinstance(stmt, ForeignCall):
            found |= {address.buffer.storage for address, reach in stmt.addresses() if reach.access is not Access.READ}
    return found


def may_leave_loop(stmt: Stmt) -> bool:
    """Whether the statement holds a `break` or `continue` of a loop around it."""
    if isinstance(stmt, (For, While)):
        return False
    return isinstance(stmt, (Break, Continue)) or any(map(may_leave_loop, inner_statements(stmt)))


def viewed_tiles(launch: Launch) -> frozenset[Buffer]:
    """Views that some statement uses, and the tiles whose memory they share."""
    return frozenset(found for stmt in statements(launch.body) for b in buffers_of(stmt) if b.source is not None for found in (b, b.storage))


def covers_matrix(region: Region) -> bool:
    """The region is all of the last two axes of its buffer, at one point of any axes before them."""
    buffer = region.buffer
    return (
        buffer.rank >= 2
        and all(n == 1 for n in region.extents[:-2])
        and all(s.is_const and s.value == 0 and same_extent(n, m) for s, n, m in zip(region.starts[-2:], region.extents[-2:], buffer.shape[-2:], strict=True))
    )


def fills_whole(copy: Copy) -> bool:
    """The copy writes every element of its destination matrix: a static box of its own shape, axis by axis."""
    dst = copy.dst
    if dst.buffer.rank < 2 or not covers_matrix(dst):
        return False
    leading = dst.buffer.rank - 2
    return (
        copy.dst_axes == (*(-1,) * leading, 0, 1)
        and len(copy.extents) == 2
        and all(e.is_const and same_extent(e, n) for e, n in zip(copy.extents, dst.buffer.shape[-2:], strict=True))
    )
