"""Smaller expressions with the same value under facts (floor 3).

Sums of int32 and int64 are put into normal form, quotients and remainders are split where ranges allow it, and conditions, min, max and selects
are decided by proofs. A load is never moved out of an `if_then_else`, `and` or `or`; it may disappear where its value does not matter. Meant for
indices, extents and conditions: like all of `arith` it relies on their arithmetic not overflowing (see `linear`). Values of other dtypes keep
their operations; only what they are computed from gets simpler.
"""

from __future__ import annotations

from math import gcd

from tilewright.arith.bounds import Facts, compare_with_zero
from tilewright.arith.linear import LinearForm, Linearizer, is_exact, is_value_preserving
from tilewright.arith.prove import decide, is_nonnegative
from tilewright.dtypes import DType
from tilewright.ir.expr import COMPARISONS, Expr, Op, binary, cast, const, logical, rebuild
from tilewright.ir.visit import subexpressions

# Operations that the normal form looks into.
_ARITHMETIC = frozenset({Op.ADD, Op.SUB, Op.MUL, Op.NEG, Op.FLOORDIV, Op.FLOORMOD, Op.MIN, Op.MAX, Op.BIT_AND, Op.SHIFT_LEFT, Op.SHIFT_RIGHT})
_TRUNCATED = {Op.TRUNCDIV: Op.FLOORDIV, Op.TRUNCMOD: Op.FLOORMOD}

_ABSORBED = {(Op.GE, -1): Op.GT, (Op.GT, 1): Op.GE, (Op.LT, -1): Op.LE, (Op.LE, 1): Op.LT}


def simplify(expr: Expr, facts: Facts | None = None) -> Expr:
    """A cheaper expression that has the value and the dtype of `expr` wherever the facts hold; the same object if there is none."""
    return Simplifier.under(facts if facts is not None else Facts()).simplify(expr)


class Simplifier(Linearizer):
    """A linearizer whose atoms are simplified and whose quotients know the ranges of their operands."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(is_expanding=False)
        self.facts = facts
        self._simplified: dict[Expr, Expr] = {}

    @classmethod
    def under(cls, facts: Facts) -> Simplifier:
        """The simplifier of these facts, which remembers what it has done."""
        found: Simplifier | None = facts.memo.get(cls)
        if found is None:
            found = facts.memo[cls] = cls(facts)
        return found

    def simplify(self, expr: Expr) -> Expr:
        found = self._simplified.get(expr)
        if found is None:
            found = self._simplify(expr)
            self._simplified[expr] = found
            self._simplified.setdefault(found, found)
        return found

    def _simplify(self, expr: Expr) -> Expr:
        if expr.op in _ARITHMETIC and is_exact(expr.dtype):
            return self._arithmetic(expr)
        return self.resolve(expr)

    def _constant(self, expr: Expr) -> Expr | None:
        """The constant that the facts make of an expression."""
        if expr.dtype.lanes != 1 or not (expr.dtype.is_integer or expr.dtype.is_bool):
            return None
        known = self.facts.range_of(expr)
        return const(known.residue, expr.dtype) if known.is_constant else None

    def _arithmetic(self, expr: Expr) -> Expr:
        form = self.form(expr)
        known = self.facts.range_of_form(form)
        return const(known.residue, expr.dtype) if known.is_constant else form.to_expr(expr.dtype)

    # -- nodes that are no sums

    def resolve(self, node: Expr) -> Expr:
        """The simplified form of a node that addition cannot take apart."""
        found = self._simplified.get(node)
        if found is None:
            constant = self._constant(node)
            found = self._simplified[node] = self._node(node) if constant is None else constant
            self._simplified.setdefault(found, found)
        return found

    def _node(self, node: Expr) -> Expr:
        op, args = node.op, node.args
        if not args or (op is Op.CALL and not node.attribute.is_pure):
            return node
        if op is Op.IF_THEN_ELSE:
            return self._lazy(node)
        if op is Op.AND or op is Op.OR:
            return self._logical(node)
        if op in COMPARISONS and args[0].dtype.is_integer and args[0].dtype.lanes == 1:
            return self._comparison(node)
        new = tuple(self.simplify(a) for a in args)
        if op is Op.SELECT and (decided := decide(new[0], self.facts)) is not None:
            return new[1] if decided else new[2]
        if op in _TRUNCATED and is_exact(node.dtype) and all(self.facts.range_of(a).is_inside(0, None) for a in new):
            return self.simplify(binary(_TRUNCATED[op], *new))
        if op is Op.CAST and is_exact(node.dtype) and self._keeps_value(new[0], node.dtype):
            return self._cast(new[0], node.dtype)
        return rebuild(node, new) if any(a is not b for a, b in zip(new, args, strict=True)) else node

    def _keeps_value(self, operand: Expr, target: DType) -> bool:
        return operand.dtype.is_integer and self.facts.range_of(operand).is_inside(int(target.minimum), int(target.maximum))

    def _cast(self, operand: Expr, target: DType) -> Expr:
        """A conversion that changes no value: the inner one of two such is dropped."""
        while operand.op is Op.CAST and is_value_preserving(operand.args[0].dtype, operand.dtype) and operand.args[0].dtype.is_integer:
            operand = operand.args[0]
        return cast(operand, target)

    def extremum(self, op: Op, a: LinearForm, b: LinearForm, node: Expr) -> LinearForm:
        known = self.facts.range_of_form(a - b)
        if known.is_inside(None, 0) or decide(binary(Op.LE, *node.args), self.facts):
            return a if op is Op.MIN else b
        if known.is_inside(0, None) or decide(binary(Op.GE, *node.args), self.facts):
            return b if op is Op.MIN else a
        return super().extremum(op, a, b, node)

    def _lazy(self, node: Expr) -> Expr:
        condition = self.simplify(node.args[0])
        decided = decide(condition, self.facts)
        if decided is not None:
            return self.simplify(node.args[1] if decided else node.args[2])
        # Within one expression a load gives one value, so conditions on loads hold in the sides as well.
        if_true = simplify(node.args[1], self.facts.assuming(condition, has_stable_loads=True))
        if_false = simplify(node.args[2], self.facts.assuming_not(condition, has_stable_loads=True))
        return rebuild(node, (condition, if_true, if_false))

    def _logical(self, node: Expr) -> Expr:
        left = self.simplify(node.args[0])
        if left.is_const:
            return self.simplify(node.args[1]) if left.value is (node.op is Op.AND) else left
        if _leaves(left).isdisjoint(_leaves(node.args[1])):  # then the left says nothing about the right
            return logical(node.op, left, self.simplify(node.args[1]))
        assumed = self.facts.assuming if node.op is Op.AND else self.facts.assuming_not
        right = simplify(node.args[1], assumed(left, has_stable_loads=True))
        return logical(node.op, left, right)

    def _comparison(self, node: Expr) -> Expr:
        decided = decide(node, self.facts)
        if decided is not None:
            return const(decided)
        if is_exact(node.args[0].dtype):
            return self._canonical_comparison(node.op, self.form(node.args[0]), self.form(node.args[1]), node.args[0].dtype)
        return rebuild(node, tuple(self.simplify(a) for a in node.args))

    def _canonical_comparison(self, op: Op, a: LinearForm, b: LinearForm, dtype: DType) -> Expr:
        """a op b with common terms cancelled, the common factor taken out and every term on the side where it is positive."""
        difference = a - b
        answer = compare_with_zero(op, self.facts.range_of_form(difference))
        if answer is not None:
            return const(answer)
        content, constant, terms = difference.content(), difference.constant, difference.terms
        if op in (Op.EQ, Op.NE):
            if constant % content:
                return const(op is Op.NE)
            constant //= content
        elif op in (Op.LT, Op.GE):  # c * s + c0 < 0 where s < -c0 / c, that is s < ceil(-c0 / c)
            constant = constant // content
        else:  # c * s + c0 <= 0 where s <= floor(-c0 / c)
            constant = -(-constant // content)
        written = op
        if (op, constant) in _ABSORBED:  # x >= y + 1 reads x > y
            op, constant = _ABSORBED[op, constant], 0
        left = LinearForm(0, {t: c // content for t, c in terms.items() if c > 0})
        right = LinearForm(0, {t: -c // content for t, c in terms.items() if c < 0})
        if left.terms:
            right = right.shifted(-constant)
        else:
            left = left.shifted(constant)
        if op in (Op.EQ, Op.NE) or all(new == old or self.is_safe(new, dtype) for new, old in ((left, a), (right, b))):
            return binary(op, left.to_expr(dtype), right.to_expr(dtype))
        return binary(written, a.to_expr(dtype), b.to_expr(dtype))

    def is_safe(self, form: LinearForm, dtype: DType) -> bool:
        if form.is_constant or form.single_atom is not None:
            return True
        return self.facts.range_of_form(form).is_inside(int(dtype.minimum), int(dtype.maximum))

    # -- quotients that ranges decide

    def reduce_quotient(self, form: LinearForm, divisor: LinearForm, dtype: DType) -> LinearForm | None:
        found = self._split(form, divisor, dtype)
        return None if found is None else found[0]

    def reduce_remainder(self, form: LinearForm, divisor: LinearForm, dtype: DType) -> LinearForm | None:
        found = self._split(form, divisor, dtype)
        return None if found is None else found[1]

    def _split(self, form: LinearForm, divisor: LinearForm, dtype: DType) -> tuple[LinearForm, LinearForm] | None:
        """(form // divisor, form % divisor) where facts make them simpler."""
        if not divisor.is_constant:
            return self._split_by_symbol(form, divisor)
        k = divisor.constant
        known = self.facts.range_of_form(form)
        if known.low is not None and known.high is not None and known.low // k == known.high // k:
            quotient = known.low // k
            return LinearForm(quotient), form.shifted(-quotient * k)
        # (g * a + b) // (g * k) = a // k and (g * a + b) % (g * k) = a % k * g + b for 0 <= b < g.
        for g in sorted({gcd(c, k) for c in form.terms.values()} - {1}, reverse=True):
            high = LinearForm(form.constant // g * g, {a: c for a, c in form.terms.items() if c % g == 0})
            low = form - high
            if self.facts.range_of_form(low).is_inside(0, g - 1):
                inner = high.divided(g)
                if g == k:
                    return inner, low
                rest = LinearForm(k // g)
                return self.floordiv(inner, rest, dtype), self.floormod(inner, rest, dtype).scaled(g) + low
        return None

    def _split_by_symbol(self, form: LinearForm, divisor: LinearForm) -> tuple[LinearForm, LinearForm] | None:
        """(a * n + b) // n = a and (a * n + b) % n = b for 0 <= b < n."""
        symbol = divisor.single_atom
        if symbol is None:
            return None
        quotient, rest = LinearForm(), form
        for atom, coefficient in form.terms.items():
            factors = self.factors(atom)
            if any(f is symbol for f in factors) and len(factors) <= 2:
                other = next((f for f in factors if f is not symbol), None if len(factors) == 1 else symbol)
                part = LinearForm(coefficient) if other is None else LinearForm(0, {other: coefficient})
                quotient, rest = quotient + part, rest - LinearForm(0, {atom: coefficient})
        prover = self.facts.linearizer
        remainder, size = prover.form(rest.to_expr(symbol.dtype)), prover.form(symbol)
        if is_nonnegative(remainder, self.facts) and is_nonnegative((size - remainder).shifted(-1), self.facts):
            return quotient, rest
        return None


def _leaves(expr: Expr) -> set[Expr]:
    """The variables and loads in an expression."""
    return {node for node in subexpressions(expr) if node.op is Op.VAR or node.op is Op.LOAD}
