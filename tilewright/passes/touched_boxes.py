"""What an operation of the whole block touches (floor 5): boxes of buffers, from declared effects, or from the indices of a parallel loop."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.arith.linear import Linearizer, contains
from tilewright.ir.buffer import Buffer, Extent, Scope
from tilewright.ir.expr import Expr, Op, as_expr, const
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.instruction import Access
from tilewright.ir.stmt import AtomicKind, AtomicUpdate, For, If, Let, ParallelFor, Seq, Stmt, Store, While
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import names_made, own_expressions, subexpressions, substitute_expr
from tilewright.passes.walk import buffers_of

Box = tuple[tuple[Expr, Extent], ...]  # start and extent on each axis
Touched = tuple[Buffer, Box | None, bool, bool]


def touched_boxes(stmt: Stmt) -> list[Touched]:
    """(buffer, box, whether it is written, whether that is atomic) of each access; the box is None where it may be the whole buffer.

    Boxes are in terms of names that are visible in front of the statement.
    """
    found: dict[tuple[object, ...], Touched] = {}
    for touched in _Walk().stmt(stmt):
        buffer, box, is_write, is_atomic = touched
        found.setdefault((buffer, box, is_write, is_atomic), touched)
    return list(found.values())


class _Walk:
    """The accesses of a statement; `extents` are of the loops around, `values` of names that are sums of other names."""

    def __init__(self) -> None:
        self.linearizer = Linearizer(is_expanding=True)
        self.extents: dict[Expr, Expr] = {}
        self.values: dict[Expr, Expr] = {}
        self.hidden: set[Expr] = set()

    def stmt(self, node: Stmt) -> Iterator[Touched]:
        if isinstance(node, TileOp):
            effects = node.effects()
            for region in effects.reads:
                yield region.buffer, tuple(zip(region.starts, region.extents, strict=True)), False, False
            for region in effects.writes:
                yield region.buffer, tuple(zip(region.starts, region.extents, strict=True)), True, effects.is_atomic
            return
        for root in own_expressions(node):
            for part in subexpressions(root):
                if part.op is Op.LOAD:
                    yield part.buffer, self.box(part.buffer, part.args), False, False
        if not isinstance(node, Let):
            self.hidden.update(names_made(node))
        match node:
            case Seq():
                for inner in node.body:
                    yield from self.stmt(inner)
            case For() | ParallelFor():
                variables, extents = (node.variables, node.extents) if isinstance(node, ParallelFor) else ((node.variable,), (node.extent,))
                self.extents |= {v: substitute_expr(n, self.values) for v, n in zip(variables, extents, strict=True)}
                yield from self.stmt(node.body)
            case If():
                yield from self.stmt(node.then_body)
                if node.else_body is not None:
                    yield from self.stmt(node.else_body)
            case While():
                yield from self.stmt(node.body)
            case Let():
                if any(n.op in (Op.LOAD, Op.CALL) for n in subexpressions(node.value)):
                    self.hidden.add(node.variable)
                else:
                    self.values[node.variable] = substitute_expr(node.value, self.values)
            case Store() | AtomicUpdate():
                is_atomic = isinstance(node, AtomicUpdate)
                yield node.buffer, self.box(node.buffer, node.indices), not (isinstance(node, AtomicUpdate) and node.kind is AtomicKind.LOAD), is_atomic
            case ForeignCall():
                for address, reach in node.addresses():
                    box = self.box(address.buffer, address.indices) if reach.is_element else None
                    is_atomic = address.buffer.storage.scope is Scope.GLOBAL  # among themselves, such calls see to their order in global memory
                    yield address.buffer, box, reach.access is not Access.READ, is_atomic
            case _:
                for buffer in buffers_of(node):
                    yield buffer, None, False, False

    def box(self, buffer: Buffer, indices: tuple[Expr, ...]) -> Box:
        """What the turns of the loops around reach."""
        return tuple(self.interval(index) or (const(0), extent) for index, extent in zip(indices, buffer.shape, strict=True))

    def interval(self, index: Expr) -> tuple[Expr, Extent] | None:
        """(start, extent) of an index; None where it is no sum of multiples of loop variables and of what is known outside."""
        form = self.linearizer.form(substitute_expr(index, self.values))
        extent: Extent = 1
        for atom, factor in form.terms.items():
            size = self.extents.get(atom)
            if size is None:
                if any(contains(atom, v) for v in (*self.extents, *self.hidden)) or any(n.op is Op.LOAD for n in subexpressions(atom)):
                    return None
                continue
            if any(contains(size, v) for v in (*self.extents, *self.hidden)) or any(n.op is Op.LOAD for n in subexpressions(size)):
                return None
            steps = (int(size.value) if size.is_const else size) - 1
            form = form.replaced(atom, self.linearizer.form(as_expr(steps if factor < 0 else 0)))
            extent = extent + steps * abs(factor)
        return form.to_expr(index.dtype), extent
