"""Looks for values that satisfy all facts and break a claim (floor 3). What it finds is checked by exact evaluation, so it is never a guess."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from random import Random

from tilewright.arith.bounds import Facts
from tilewright.arith.value_range import ValueRange
from tilewright.ir.expr import Expr, Op
from tilewright.ir.visit import subexpressions

_MAX_POINTS = 400
_FAR = 1 << 20


class _NoValue(Exception):
    """The expression has no exact value at this point: it loads, calls, overflows or divides by zero."""


def find_counterexample(claim: Expr, facts: Facts) -> dict[Expr, int] | None:
    """Values of the variables of the claim and the facts; None where none was found, which says nothing."""
    if facts.is_contradictory:
        return None
    variables: dict[Expr, None] = {}
    for expr in (claim, *facts.conditions):
        for node in subexpressions(expr):
            if node.op is Op.LOAD or node.op is Op.CALL:
                return None
            if node.op is Op.VAR:
                if not (node.dtype.is_integer or node.dtype.is_bool):
                    return None
                variables[node] = None
    for point in islice(_points([facts.range_of(v) for v in variables]), _MAX_POINTS):
        values = dict(zip(variables, point, strict=True))
        try:
            if all(exact_value(condition, values) for condition in facts.conditions) and not exact_value(claim, values):
                return values
        except _NoValue:
            continue
    return None


def _points(ranges: list[ValueRange]) -> Iterator[tuple[int, ...]]:
    """Corners first, then a repeatable random choice of a few values per variable."""
    samples = [_samples(known) for known in ranges]
    yield from product(*(s[:2] for s in samples[:6]), *(s[:1] for s in samples[6:]))
    source = Random(0)
    while True:
        yield tuple(source.choice(s) for s in samples)


def _samples(known: ValueRange) -> list[int]:
    """Some members near the ends; of unlimited ranges small numbers, so that arithmetic on them does not overflow."""
    step = known.modulus or 1
    low = known.low if known.low is not None and known.low > -_FAR else None
    high = known.high if known.high is not None and known.high < _FAR else None
    if low is None:
        low = known.residue - 2 * step if high is None else high - 100 * step
    if high is None:
        high = low + 100 * step
    middle = low + (high - low) // 2 // step * step
    near = (low, high, low + step, high - step, middle, low + 2 * step, low + 3 * step, middle + step)
    return [v for v in dict.fromkeys(near) if known.contains(v)]


def exact_value(root: Expr, values: Mapping[Expr, int]) -> int:
    """The value of an integer or bool expression at one point. Raises: _NoValue where index arithmetic promises none."""
    known: dict[Expr, int] = {}

    def value(node: Expr) -> int:
        found = known.get(node)
        if found is None:
            found = known[node] = _compute(node)
            if node.dtype.is_integer and not node.dtype.minimum <= found <= node.dtype.maximum:
                raise _NoValue
        return found

    def _compute(node: Expr) -> int:
        op, args = node.op, node.args
        if op is Op.CONST:
            return int(node.value)
        if op is Op.VAR:
            return values[node]
        if op is Op.SELECT or op is Op.IF_THEN_ELSE:
            return value(args[1] if value(args[0]) else args[2])
        if op is Op.AND:
            return value(args[0]) and value(args[1])
        if op is Op.OR:
            return value(args[0]) or value(args[1])
        if node.dtype.is_float or any(a.dtype.is_float for a in args):
            raise _NoValue
        return _apply(op, [value(a) for a in args])

    return value(root)


def _apply(op: Op, operands: list[int]) -> int:
    x, y = operands[0], operands[-1]
    if y == 0 and op in (Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD):
        raise _NoValue
    match op:
        case Op.ADD:
            return x + y
        case Op.SUB:
            return x - y
        case Op.MUL:
            return x * y
        case Op.FLOORDIV:
            return x // y
        case Op.FLOORMOD:
            return x % y
        case Op.TRUNCDIV | Op.TRUNCMOD:
            quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
            return quotient if op is Op.TRUNCDIV else x - quotient * y
        case Op.MIN:
            return min(x, y)
        case Op.MAX:
            return max(x, y)
        case Op.BIT_AND:
            return x & y
        case Op.BIT_OR:
            return x | y
        case Op.BIT_XOR:
            return x ^ y
        case Op.SHIFT_LEFT if 0 <= y < 64:
            return x << y
        case Op.SHIFT_RIGHT if 0 <= y < 64:
            return x >> y
        case Op.NEG:
            return -x
        case Op.BIT_NOT:
            return ~x
        case Op.NOT:
            return int(not x)
        case Op.CAST:
            return x
        case Op.EQ:
            return int(x == y)
        case Op.NE:
            return int(x != y)
        case Op.LT:
            return int(x < y)
        case Op.LE:
            return int(x <= y)
        case Op.GT:
            return int(x > y)
        case Op.GE:
            return int(x >= y)
        case _:
            raise _NoValue
