"""Division that must leave no remainder (floor 3)."""

from __future__ import annotations

from tilewright.arith.bounds import Facts
from tilewright.arith.prove import is_divisible
from tilewright.arith.simplify import Simplifier, simplify
from tilewright.ir.expr import Expr


class ArithError(ValueError):
    """A property of an expression that the caller needs could not be proved. Callers turn it into a diagnostic if a user caused it."""


def exact_div(value: Expr | int, divisor: int, facts: Facts) -> Expr | int:
    """value / divisor, simplified. Raises: ArithError unless the facts prove that the divisor (positive) divides the value."""
    if isinstance(value, int):
        if value % divisor:
            raise ArithError(f"{value} is not divisible by {divisor}")
        return value // divisor
    form = Simplifier.under(facts).form(value)
    if form.content() % divisor == 0 and form.constant % divisor == 0:
        return form.divided(divisor).to_expr(value.dtype)
    if not is_divisible(value, divisor, facts).is_proved:
        raise ArithError(f"`{value}` is not known to be divisible by {divisor}")
    return simplify(value // divisor, facts)
