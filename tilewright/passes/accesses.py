"""What loop bodies touch, element by element (floor 5): the questions that passes ask before they move loops together."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op, load
from tilewright.ir.stmt import Seq, Stmt, Store
from tilewright.ir.visit import own_expressions, statements, subexpressions


def flat(node: Stmt) -> list[Stmt]:
    """The statements of nested sequences, one after the other."""
    return [inner for part in node.body for inner in flat(part)] if isinstance(node, Seq) else [node]


class Accesses:
    """What a body touches, by root buffer; every access as the load of its element."""

    def __init__(self, body: Stmt) -> None:
        self.elements: dict[Buffer, dict[Expr, None]] = {}
        self.written: dict[Buffer, None] = {}
        self.read: dict[Buffer, None] = {}
        for node in statements(body):
            if isinstance(node, Store):
                target = load(node.buffer, node.indices)
                self.elements.setdefault(node.buffer.storage, {})[target] = None
                self.written[node.buffer.storage] = None
            for expression in own_expressions(node):
                for inner in subexpressions(expression):
                    if inner.op is Op.LOAD:
                        self.elements.setdefault(inner.buffer.storage, {})[inner] = None
                        self.read[inner.buffer.storage] = None

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return tuple(self.elements)


def is_element_by_element(buffer: Buffer, before: Accesses, after: Accesses, variables: Sequence[Expr]) -> bool:
    """Whether the two bodies may meet in a buffer: neither writes it, or both touch one element each turn, a different one in every turn."""
    if buffer.pointer is not None and (before.written or after.written):
        return False
    if buffer not in before.written and buffer not in after.written:
        return True
    elements = {**before.elements.get(buffer, {}), **after.elements.get(buffer, {})}
    if buffer not in before.elements or buffer not in after.elements:
        return True
    return len(elements) == 1 and is_injective(next(iter(elements)).args, variables)


def is_injective(indices: Sequence[Expr], variables: Sequence[Expr]) -> bool:
    """Every variable moves an index of its own: it, or it and something that no variable changes."""
    free = set(variables)

    def moved_by(index: Expr) -> Expr | None:
        inside = [v for v in subexpressions(index) if v in free]
        if len(inside) != 1 or any(n.op is Op.LOAD for n in subexpressions(index)):
            return None
        while index.op is Op.ADD:
            index = index.args[0] if any(v is inside[0] for v in subexpressions(index.args[0])) else index.args[1]
        return index if index is inside[0] else None

    return free <= {moved_by(index) for index in indices}


def is_pure(value: Expr) -> bool:
    """Whether a value may be computed any number of times."""
    return all(node.op is not Op.CALL or node.attribute.is_pure for node in subexpressions(value))
