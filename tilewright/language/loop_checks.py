"""What can be told of a loop from its body (floor 5; language.md 6): whether stages and order fit a pipeline, whether a `while` can end."""

from __future__ import annotations

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.instruction import Access
from tilewright.ir.stmt import Assert, AtomicUpdate, Break, For, Let, Pipeline, Stmt, Store, While
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import own_expressions, statements, subexpressions


def check_pipeline(pipeline: Pipeline, body: list[Stmt], span: Span) -> None:
    """Raises TileError (pipeline-order) where the entries do not match the statements, or a tile is read before it is written."""
    for name, entries in (("stage", pipeline.stage), ("order", pipeline.order)):
        plain = [s for s in body if not isinstance(s, Let)]
        if entries and not len(plain) <= len(entries) <= len(body):
            fail(
                Kind.PIPELINE_ORDER,
                f"{name} has {len(entries)} entries, but the body of the loop has {len(plain)} statements",
                (Label(span), *(Label(s.span) for s in plain)),
                because=f"{name} has one entry per statement of the body",
                help=f"give {len(plain)} entries, or leave {name} out",
            )
    if not pipeline.stage:
        return
    steps = body if len(pipeline.stage) == len(body) else [s for s in body if not isinstance(s, Let)]
    order = pipeline.order or tuple(range(len(steps)))
    for later, consumer in enumerate(steps):
        for earlier, producer in enumerate(steps[:later]):
            shared = _accesses(producer)[1] & _accesses(consumer)[0]
            places = (pipeline.stage[earlier], order[earlier]), (pipeline.stage[later], order[later])
            if shared and places[0] > places[1]:
                name = min(b.name for b in shared)
                fail(
                    Kind.PIPELINE_ORDER,
                    f"{name} is read in stage {places[1][0]}, before it is written in stage {places[0][0]}",
                    (Label(consumer.span, f"reads {name}"), Label(producer.span, f"writes {name}"), Label(span)),
                    because="a statement of an earlier stage runs for a later turn of the loop, so a tile would be read before this turn has written it",
                    help="give the statement that writes the tile the same stage or an earlier one, and the lower order within a stage",
                )


def _accesses(stmt: Stmt) -> tuple[set[Buffer], set[Buffer]]:
    """The tiles that a statement reads, and those that it writes."""
    reads: set[Buffer] = set()
    writes: set[Buffer] = set()
    for inner in statements(stmt):
        for expression in own_expressions(inner):
            reads |= {n.buffer.storage for n in subexpressions(expression) if n.op is Op.LOAD}
        if isinstance(inner, (Store, AtomicUpdate)):
            writes.add(inner.buffer.storage)
        if isinstance(inner, ForeignCall):
            for address, reach in inner.addresses():
                reads |= {address.buffer.storage} if reach.access is not Access.WRITE else set()
                writes |= {address.buffer.storage} if reach.access is not Access.READ else set()
        if isinstance(inner, TileOp):
            effects = inner.effects()
            reads |= {r.buffer.storage for r in effects.reads}
            writes |= {r.buffer.storage for r in effects.writes}
    return {b for b in reads if b.scope is not Scope.GLOBAL}, {b for b in writes if b.scope is not Scope.GLOBAL}


def can_end(test: Expr, body: list[Stmt]) -> bool:
    """Whether a `while` may stop: its condition depends on something that can change, or the body may break out of it.

    Tensors and shared tiles can be changed by other blocks and threads, so a condition on them counts as changing.
    """
    nodes = list(subexpressions(test))
    if any(n.op is Op.CALL and not n.attribute.is_pure for n in nodes) or any(_may_break(s) for s in body):
        return True
    read = {n.buffer.storage for n in nodes if n.op is Op.LOAD}
    written = set().union(*(_accesses(s)[1] for s in body))
    return any(b.scope in (Scope.GLOBAL, Scope.SHARED) or b in written for b in read)


def _may_break(stmt: Stmt) -> bool:
    """Whether a statement of a loop's body may leave that loop, or stop the kernel."""
    if isinstance(stmt, (Break, Assert)):
        return True
    if isinstance(stmt, (For, While)):  # a `break` in there leaves the inner loop
        return any(isinstance(inner, Assert) for inner in statements(stmt))
    parts = [item for value in vars(stmt).values() for item in (value if isinstance(value, tuple) else (value,))]
    return any(isinstance(part, Stmt) and _may_break(part) for part in parts)
