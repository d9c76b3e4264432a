"""The part of a loop's range where a condition holds (floor 3): loops are split there, so that their bodies need no test."""

from __future__ import annotations

from typing import NamedTuple

from tilewright.arith.bounds import NEGATED_COMPARISONS, Facts
from tilewright.arith.linear import LinearForm, contains, is_exact
from tilewright.arith.simplify import simplify
from tilewright.dtypes import int64
from tilewright.ir.expr import COMPARISONS, Expr, Op, binary, unary
from tilewright.ir.visit import subexpressions

_DIVISIONS = frozenset({Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD})


class AffineRange(NamedTuple):
    """condition = (every low <= v) and (v < every high) and (all residual conditions, in their order, each evaluated only where those before hold).

    Lows and highs have the dtype of v, or int64 where a term that changed sides might not fit. They are free of v and safe to evaluate where
    the whole condition would have been: they load nothing and divide by no zero.
    """

    lows: tuple[Expr, ...]
    highs: tuple[Expr, ...]
    residual: tuple[Expr, ...]


def affine_range(condition: Expr, variable: Expr, facts: Facts | None = None) -> AffineRange:
    """Splits a condition into bounds of an integer variable and what is not of the form `c * variable + rest op 0` with a constant c.

    The bounds are exact for every c, by floor and ceiling quotients. Facts, if given, simplify the bounds.
    """
    facts = facts if facts is not None else Facts()
    lows: list[Expr] = []
    highs: list[Expr] = []
    residual: list[Expr] = []
    for conjunct in conjuncts(condition):
        found = _bounds_in(conjunct, variable, facts)
        if found is None:
            residual.append(conjunct)
        else:
            lows += found[0]
            highs += found[1]
    return AffineRange(_distinct(lows, facts), _distinct(highs, facts), tuple(residual))


def conjuncts(condition: Expr) -> list[Expr]:
    """The conditions that `and` joins, in order; negations are pushed inwards."""
    if condition.op is Op.AND:
        return conjuncts(condition.args[0]) + conjuncts(condition.args[1])
    if condition.op is Op.NOT:
        inner = condition.args[0]
        if inner.op is Op.OR:
            return conjuncts(unary(Op.NOT, inner.args[0])) + conjuncts(unary(Op.NOT, inner.args[1]))
        if inner.op in COMPARISONS and inner.args[0].dtype.is_integer:
            return [binary(NEGATED_COMPARISONS[inner.op], *inner.args)]
    return [condition]


def _distinct(bounds: list[Expr], facts: Facts) -> tuple[Expr, ...]:
    return tuple(dict.fromkeys(simplify(bound, facts) for bound in bounds))


def _bounds_in(conjunct: Expr, variable: Expr, facts: Facts) -> tuple[list[Expr], list[Expr]] | None:
    """(lows, highs) that together say what one comparison says; None if it is not of the form."""
    op, dtype = conjunct.op, conjunct.args[0].dtype if conjunct.args else conjunct.dtype
    if op not in COMPARISONS or op is Op.NE or not is_exact(dtype) or not contains(conjunct, variable) or not _is_safe_anywhere(conjunct, facts):
        return None
    form = facts.linearizer.form(conjunct.args[0]) - facts.linearizer.form(conjunct.args[1])
    split = facts.linearizer.split(form, variable)
    if split is None or not split[0].is_constant or split[0].is_zero:
        return None
    coefficient, rest = split[0].constant, split[1]
    if op in (Op.LT, Op.LE):  # say f >= 0 instead of f < 0 or f <= 0
        coefficient, rest, op = -coefficient, (-rest).shifted(-1 if op is Op.LT else 0), Op.GE
    elif op is Op.GT:
        rest, op = rest.shifted(-1), Op.GE
    # c * v + rest >= 0: v >= ceil(-rest / c) for c > 0, and v <= floor(rest / -c) for c < 0.
    least, past = _quotient(rest, coefficient, facts, variable)
    if op is Op.GE:
        return ([least], []) if coefficient > 0 else ([], [past])
    if coefficient < 0:
        coefficient, rest = -coefficient, -rest
        least, _ = _quotient(rest, coefficient, facts, variable)
    _, past = _quotient(-rest, -coefficient, facts, variable)
    return [least], [past]


def _quotient(rest: LinearForm, coefficient: int, facts: Facts, variable: Expr) -> tuple[Expr, Expr]:
    """(ceil(-rest / c), floor(rest / -c) + 1): the first and the past-the-last v with c * v + rest >= 0, whichever the sign of c makes meaningful."""
    known = facts.range_of_form(rest)
    dtype = variable.dtype if known.is_inside(-int(variable.dtype.maximum), int(variable.dtype.maximum) - 1) else int64
    divided = facts.linearizer.floordiv(rest, LinearForm(abs(coefficient)), dtype)
    return (-divided).to_expr(dtype), divided.shifted(1).to_expr(dtype)


def _is_safe_anywhere(expr: Expr, facts: Facts) -> bool:
    """Whether evaluating the expression where it would not have been evaluated does no harm: no loads, no calls, no division by zero."""
    return not any(
        node.op is Op.LOAD or node.op is Op.CALL or (node.op in _DIVISIONS and facts.range_of(node.args[1]).contains(0)) for node in subexpressions(expr)
    )
