"""Names for choices that one expression uses again and again (floor 5).

Helper functions in Python build expressions: `x = T.if_then_else(x > k, x - 1, x)`, done twenty times, is one expression in which each x stands in three
places. Nothing is lost as long as every node is looked at once, but the operands of a choice are looked at under its condition, and those of a choice
among them under both: 3^20 ways. So choices that are made in any case get names before the statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tilewright.ir.expr import Expr, Op, rebuild
from tilewright.ir.stmt import AtomicUpdate, Let, Stmt, Store
from tilewright.ir.visit import own_expressions, rewrite, subexpressions

_LAZY = frozenset({Op.IF_THEN_ELSE, Op.AND, Op.OR})
_MAX_WAYS = 64  # each takes about a third of a millisecond


def bind_shared_choices(stmt: Stmt, bind: Callable[[Expr], Expr]) -> Stmt:
    """The statement with names for shared choices, where there are too many ways through it. `bind` names a value in front of it."""
    if not isinstance(stmt, (Store, Let, AtomicUpdate)):
        return stmt
    roots = tuple(own_expressions(stmt))
    if not any(n.op is Op.IF_THEN_ELSE for root in roots for n in subexpressions(root)) or _ways(roots) <= _MAX_WAYS:
        return stmt
    uses = Counter(a for n in {n for root in roots for n in subexpressions(root)} for a in n.args)
    shared = {n: 1 << k for k, n in enumerate(n for n, count in uses.items() if count > 1 and n.op is Op.IF_THEN_ELSE)}
    made_anyway = _made_anyway(roots, shared)
    named: dict[Expr, Expr] = {}

    def name(root: Expr) -> Expr:
        for node in subexpressions(root):
            if node not in named:
                made = rebuild(node, tuple(named[a] for a in node.args)) if node.args else node
                named[node] = bind(made) if shared.get(node, 0) & made_anyway else made
        return named[root]

    return rewrite(stmt, on_expr=name)


def _ways(roots: tuple[Expr, ...]) -> int:
    """How many lazy operations there would be if nothing were shared."""
    counts: dict[Expr, int] = {}
    for root in roots:
        for node in subexpressions(root):
            counts[node] = (node.op in _LAZY) + sum(counts[a] for a in node.args)
    return sum(counts[root] for root in roots)


def _made_anyway(roots: tuple[Expr, ...], bits: dict[Expr, int]) -> int:
    """The bits of the nodes that are evaluated whatever the conditions are."""
    masks: dict[Expr, int] = {}
    for root in roots:
        for node in subexpressions(root):
            operands = [masks[a] for a in node.args]
            mask = bits.get(node, 0)
            if node.op is Op.IF_THEN_ELSE:
                mask |= operands[0] | (operands[1] & operands[2])
            elif node.op in _LAZY:
                mask |= operands[0]
            else:
                for operand in operands:
                    mask |= operand
            masks[node] = mask
    result = 0
    for root in roots:
        result |= masks[root]
    return result
