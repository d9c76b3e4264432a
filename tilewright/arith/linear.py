"""The normal form of integer expressions: `c0 + c1 * atom1 + c2 * atom2 + …` (floor 3).

Atoms are expressions that addition and constant factors cannot take apart: variables, loads, `x // k`, `x % k`, min, max, products of variables
and whatever else is opaque. Two equal forms have equal atoms, because each kind of atom is itself put together from normal forms. Terms stand in
the order in which their atoms first appeared, so everything printed from a form is the same in every run.

Arithmetic of int32 and int64 is taken to be exact: the language promises that index arithmetic does not overflow. Operations of other integer
dtypes may wrap, so they are opaque here; `bounds` still knows their ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd

from tilewright.dtypes import DType, int32, int64
from tilewright.ir.expr import Expr, Op, binary, cast, const
from tilewright.ir.visit import subexpressions, substitute_expr

# A product of sums is multiplied out only while it stays small.
_MAX_EXPANDED_TERMS = 64


def is_exact(dtype: DType) -> bool:
    """Whether arithmetic of this dtype is promised not to overflow."""
    return dtype is int32 or dtype is int64


def is_value_preserving(source: DType, target: DType) -> bool:
    """Whether every value of one integer dtype is one of the other."""
    return (
        source.is_integer and target.is_integer and source.lanes == target.lanes == 1 and target.minimum <= source.minimum and source.maximum <= target.maximum
    )


class LinearForm:
    """constant + sum of coefficient * atom. No coefficient is zero; `terms` is never changed after construction."""

    __slots__ = ("constant", "terms")

    def __init__(self, constant: int = 0, terms: Mapping[Expr, int] | None = None) -> None:
        self.constant = constant
        self.terms: Mapping[Expr, int] = terms if terms is not None else {}

    @property
    def is_constant(self) -> bool:
        return not self.terms

    @property
    def is_zero(self) -> bool:
        return not self.terms and self.constant == 0

    @property
    def single_atom(self) -> Expr | None:
        """The atom of a form that is just one atom."""
        if self.constant == 0 and len(self.terms) == 1:
            atom, coefficient = next(iter(self.terms.items()))
            return atom if coefficient == 1 else None
        return None

    def coefficient(self, atom: Expr) -> int:
        return self.terms.get(atom, 0)

    def key(self) -> tuple[int, frozenset[tuple[Expr, int]]]:
        """A hashable value that equal forms share, in whatever order their terms stand."""
        return self.constant, frozenset(self.terms.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LinearForm) and self.constant == other.constant and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.key())

    def __add__(self, other: LinearForm) -> LinearForm:
        return self.plus(other, 1)

    def __sub__(self, other: LinearForm) -> LinearForm:
        return self.plus(other, -1)

    def __neg__(self) -> LinearForm:
        return self.scaled(-1)

    def plus(self, other: LinearForm, factor: int) -> LinearForm:
        """self + factor * other."""
        if not other.terms:
            return LinearForm(self.constant + factor * other.constant, self.terms)
        terms = dict(self.terms)
        for atom, coefficient in other.terms.items():
            total = terms.get(atom, 0) + factor * coefficient
            if total:
                terms[atom] = total
            else:
                terms.pop(atom, None)
        return LinearForm(self.constant + factor * other.constant, terms)

    def shifted(self, constant: int) -> LinearForm:
        return LinearForm(self.constant + constant, self.terms)

    def scaled(self, factor: int) -> LinearForm:
        if factor == 1:
            return self
        if factor == 0:
            return LinearForm()
        return LinearForm(self.constant * factor, {atom: c * factor for atom, c in self.terms.items()})

    def divided(self, divisor: int) -> LinearForm:
        """The form over a common divisor of all its numbers."""
        return LinearForm(self.constant // divisor, {atom: c // divisor for atom, c in self.terms.items()})

    def content(self) -> int:
        """The greatest common divisor of the coefficients (not the constant); 0 for a constant."""
        return gcd(*self.terms.values())

    def replaced(self, atom: Expr, value: LinearForm) -> LinearForm:
        """The form with one of its atoms replaced; atoms that contain it stay (see `Linearizer.substitute`)."""
        coefficient = self.terms.get(atom)
        if coefficient is None:
            return self
        return LinearForm(self.constant, {a: c for a, c in self.terms.items() if a is not atom}).plus(value, coefficient)

    def to_expr(self, dtype: DType = int32) -> Expr:
        """The form as an expression of `dtype`: the first positive term, the others in order, the constant last.

        Terms whose coefficients differ only in sign share one multiplication: `(i - j) * 64 + k`.
        """
        groups: dict[int, dict[Expr, int]] = {}
        for atom, c in self.terms.items():
            if abs(c) > 1:
                groups.setdefault(abs(c), {})[atom] = 1 if c > 0 else -1
        parts: list[tuple[Expr, int]] = []  # (sum of atoms, coefficient)
        for atom, c in self.terms.items():
            group = groups.pop(abs(c), None) if abs(c) > 1 else {atom: 1 if c > 0 else -1}
            if group is not None:
                sign = 1 if max(group.values()) > 0 else -1
                total = cast(atom, dtype) if len(group) == 1 else LinearForm(0, {a: v * sign for a, v in group.items()}).to_expr(dtype)
                parts.append((total, sign * abs(c)))
        first = next((number for number, (_, c) in enumerate(parts) if c > 0), None)
        if first is not None:
            parts.insert(0, parts.pop(first))
        constant = self.constant
        result: Expr | None = None
        for total, c in parts:
            if result is None and (c > 0 or constant <= 0):
                result = total if c == 1 else -total if c == -1 else binary(Op.MUL, total, const(c, dtype))
                continue
            if result is None:
                result, constant = const(constant, dtype), 0
            product = total if abs(c) == 1 else binary(Op.MUL, total, const(abs(c), dtype))
            result = binary(Op.ADD if c > 0 else Op.SUB, result, product)
        if result is None or constant == 0:
            return const(constant, dtype) if result is None else result
        return binary(Op.ADD if constant > 0 else Op.SUB, result, const(abs(constant), dtype))

    def __repr__(self) -> str:
        return f"LinearForm({' + '.join([*(f'{c}*({a})' for a, c in self.terms.items()), str(self.constant)])})"


class Linearizer:
    """Puts expressions into normal form and remembers the results.

    is_expanding   multiply products of sums out, so that they cancel (proofs); otherwise such a product is one atom (code).
    meaning        what an atom stands for: (FLOORDIV or FLOORMOD, form, divisor form), (MIN or MAX, form, form), (MUL, factor forms…).
    Subclasses that know facts override `reduce_quotient`, `reduce_remainder`, `resolve` and `is_safe`.
    """

    def __init__(self, *, is_expanding: bool) -> None:
        self.is_expanding = is_expanding
        self.meaning: dict[Expr, tuple[Op, tuple[LinearForm, ...]]] = {}
        self._forms: dict[Expr, LinearForm] = {}
        self._atoms: dict[tuple[object, ...], Expr] = {}
        self._factors: dict[Expr, tuple[Expr, ...]] = {}
        self._order: dict[Expr, int] = {}

    # -- what subclasses may know better

    def reduce_quotient(self, form: LinearForm, divisor: LinearForm, dtype: DType) -> LinearForm | None:
        """form // divisor, where facts make it simpler than an atom."""
        return None

    def reduce_remainder(self, form: LinearForm, divisor: LinearForm, dtype: DType) -> LinearForm | None:
        """form % divisor, where facts make it simpler than an atom."""
        return None

    def resolve(self, node: Expr) -> Expr:
        """A better expression for a node that is no integer arithmetic; the node itself where there is none."""
        return node

    def is_safe(self, form: LinearForm, dtype: DType) -> bool:
        """Whether a new sum may be computed in `dtype`: that the old ones do not overflow does not say that their parts do not. Proofs compute nothing."""
        return True

    # -- from expressions

    def form(self, expr: Expr) -> LinearForm:
        """The normal form of an integer expression."""
        found = self._forms.get(expr)
        if found is None:
            found = self._forms[expr] = self._accumulate(expr)
        return found

    def _accumulate(self, root: Expr) -> LinearForm:
        constant = 0
        terms: dict[Expr, int] = {}
        may_merge = False
        stack = [(root, 1)]
        while stack:
            node, scale = stack.pop()
            op, args = node.op, node.args
            if op is Op.VAR:
                terms[node] = terms.get(node, 0) + scale
            elif op is Op.CONST:
                constant += scale * int(node.value)
            elif op is Op.CAST and is_value_preserving(args[0].dtype, node.dtype):
                stack.append((args[0], scale))
            elif not is_exact(node.dtype):
                constant = self._add(terms, constant, self.opaque(node), scale)
            elif op is Op.ADD:
                stack.append((args[1], scale))
                stack.append((args[0], scale))
            elif op is Op.SUB:
                stack.append((args[1], -scale))
                stack.append((args[0], scale))
            elif op is Op.MUL and args[1].is_const:
                stack.append((args[0], scale * int(args[1].value)))
            elif op is Op.MUL and args[0].is_const:
                stack.append((args[1], scale * int(args[0].value)))
            elif op is Op.NEG:
                stack.append((args[0], -scale))
            elif op is Op.SHIFT_LEFT and _is_shift_count(args[1], node.dtype):
                stack.append((args[0], scale << int(args[1].value)))
            else:
                form = self._nonlinear(node)
                may_merge = True
                constant = self._add(terms, constant, form, scale)
        for atom in [a for a, c in terms.items() if c == 0]:
            del terms[atom]
        form = LinearForm(constant, terms)
        return self.merge_remainders(form) if may_merge and len(terms) > 1 else form

    @staticmethod
    def _add(terms: dict[Expr, int], constant: int, form: LinearForm, scale: int) -> int:
        for atom, coefficient in form.terms.items():
            terms[atom] = terms.get(atom, 0) + scale * coefficient
        return constant + scale * form.constant

    def _nonlinear(self, node: Expr) -> LinearForm:
        op, args = node.op, node.args
        match op:
            case Op.FLOORDIV | Op.FLOORMOD:
                divisor = self.form(args[1])
                if divisor.is_constant and divisor.constant == 0:  # no value at all: let the program that divides keep it
                    return LinearForm(0, {node: 1})
                return (self.floordiv if op is Op.FLOORDIV else self.floormod)(self.form(args[0]), divisor, node.dtype)
            case Op.SHIFT_RIGHT if _is_shift_count(args[1], node.dtype):
                return self.floordiv(self.form(args[0]), LinearForm(1 << int(args[1].value)), node.dtype)
            case Op.BIT_AND if args[1].is_const and args[1].value >= 0 and args[1].value & (args[1].value + 1) == 0:
                return self.floormod(self.form(args[0]), LinearForm(int(args[1].value) + 1), node.dtype)
            case Op.MUL:
                return self.product(self.form(args[0]), self.form(args[1]), node.dtype)
            case Op.MIN | Op.MAX:
                return self.extremum(op, self.form(args[0]), self.form(args[1]), node)
            case _:
                return self.opaque(node)

    def opaque(self, node: Expr) -> LinearForm:
        better = self.resolve(node)
        if better is not node:
            return self.form(better)
        return LinearForm(0, {node: 1})

    # -- operations on forms

    def floordiv(self, form: LinearForm, divisor: LinearForm, dtype: DType) -> LinearForm:
        """form // divisor with all multiples of a constant divisor (not 0) taken out of the quotient."""
        if not divisor.is_constant:
            return self.reduce_quotient(form, divisor, dtype) or self._binary_atom(Op.FLOORDIV, form, divisor, dtype)
        k = divisor.constant
        if k < 0:
            return self.floordiv(-form, LinearForm(-k), dtype)
        whole, inner = self._without_multiples(form, k, dtype)
        if inner.is_constant:
            return whole.shifted(inner.constant // k)
        common = gcd(k, inner.content())
        inner = LinearForm(inner.constant // common, {a: c // common for a, c in inner.terms.items()} if common > 1 else inner.terms)
        return whole + self._quotient(inner, k // common, dtype) if k > common else whole + inner

    def _without_multiples(self, form: LinearForm, k: int, dtype: DType) -> tuple[LinearForm, LinearForm]:
        """(whole, inner) with form = k * whole + inner: what a quotient by k lets out and a remainder by k drops."""
        terms = {a: r for a, c in form.terms.items() if (r := _truncated_remainder(c, k))}
        inner = LinearForm(form.constant % k, terms)
        is_smaller = (terms == form.terms and inner.constant <= form.constant) or (len(terms) < 2 and inner.constant == 0)
        if not is_smaller and not self.is_safe(inner, dtype):
            return LinearForm(), form
        whole = {a: (c - terms.get(a, 0)) // k for a, c in form.terms.items() if c != terms.get(a)}
        return LinearForm(form.constant // k, whole), inner

    def _quotient(self, inner: LinearForm, k: int, dtype: DType) -> LinearForm:
        if len(inner.terms) == 1:
            ((atom, coefficient),) = inner.terms.items()
            known = self.meaning.get(atom)
            if known is not None and coefficient == 1 and known[1][-1].is_constant and known[1][-1].constant > 0:
                op, (numerator, divisor) = known
                if op is Op.FLOORDIV and divisor.constant * k <= dtype.maximum:  # (x // a + c) // k = (x + a * c) // (a * k)
                    shifted = numerator.shifted(inner.constant * divisor.constant)
                    if inner.constant == 0 or self.is_safe(shifted, dtype):
                        return self.floordiv(shifted, divisor.scaled(k), dtype)
                if op is Op.FLOORMOD and inner.constant == 0 and divisor.constant % k == 0:  # x % (a * k) // k = x // k % a
                    return self.floormod(self.floordiv(numerator, LinearForm(k), dtype), LinearForm(divisor.constant // k), dtype)
        divisor = LinearForm(k)
        return self.reduce_quotient(inner, divisor, dtype) or self._binary_atom(Op.FLOORDIV, inner, divisor, dtype)

    def floormod(self, form: LinearForm, divisor: LinearForm, dtype: DType) -> LinearForm:
        """form % divisor with all multiples of a constant divisor (not 0) dropped."""
        if not divisor.is_constant:
            return self.reduce_remainder(form, divisor, dtype) or self._binary_atom(Op.FLOORMOD, form, divisor, dtype)
        k = divisor.constant
        if k < 0:
            return -self.floormod(-form, LinearForm(-k), dtype)
        _, inner = self._without_multiples(form, k, dtype)
        if inner.is_constant:
            return LinearForm(inner.constant % k)
        for atom in inner.terms:  # x % (a * k) = x mod k
            op, operands = self.meaning.get(atom, (None, ()))
            if op is Op.FLOORMOD and operands[1].is_constant and operands[1].constant % k == 0:
                replaced = inner.replaced(atom, operands[0])
                if len(inner.terms) == 1 or self.is_safe(replaced, dtype):
                    return self.floormod(replaced, divisor, dtype)
        common = gcd(k, inner.content())
        if common > 1:
            outside = inner.constant % common
            reduced = LinearForm(inner.constant // common, {a: c // common for a, c in inner.terms.items()})
            if common == k:
                return LinearForm(outside)
            return self.floormod(reduced, LinearForm(k // common), dtype).scaled(common).shifted(outside)
        return self._remainder(inner, k, dtype)

    def _remainder(self, inner: LinearForm, k: int, dtype: DType) -> LinearForm:
        divisor = LinearForm(k)
        return self.reduce_remainder(inner, divisor, dtype) or self._binary_atom(Op.FLOORMOD, inner, divisor, dtype)

    def _binary_atom(self, op: Op, a: LinearForm, b: LinearForm, dtype: DType) -> LinearForm:
        key = (op, dtype, a.key(), b.key()) if op not in (Op.MIN, Op.MAX) else (op, dtype, frozenset((a.key(), b.key())))
        atom = self._atoms.get(key)
        if atom is None:
            atom = self._atoms[key] = binary(op, a.to_expr(dtype), b.to_expr(dtype))
            self.meaning[atom] = (op, (a, b))
        return LinearForm(0, {atom: 1})

    def product(self, a: LinearForm, b: LinearForm, dtype: DType) -> LinearForm:
        """a * b, multiplied out if this linearizer expands."""
        if a.is_constant:
            return b.scaled(a.constant)
        if b.is_constant:
            return a.scaled(b.constant)
        if self.is_expanding and len(a.terms) * len(b.terms) <= _MAX_EXPANDED_TERMS:
            total = b.scaled(a.constant).plus(a, b.constant).shifted(-a.constant * b.constant)
            for x, c in a.terms.items():
                total = total + LinearForm(0, _collect((self._monomial(x, y, dtype), c * d) for y, d in b.terms.items()))
            return total
        factor_a, factor_b = gcd(a.content(), a.constant), gcd(b.content(), b.constant)
        atoms = []
        for form, factor in ((a, factor_a), (b, factor_b)):
            primitive = form.divided(factor)
            atom = primitive.single_atom
            if atom is None:
                atom = primitive.to_expr(dtype)
                self._forms[atom] = primitive
            atoms.append(atom)
        return LinearForm(0, {self._monomial(atoms[0], atoms[1], dtype): factor_a * factor_b})

    def _monomial(self, x: Expr, y: Expr, dtype: DType) -> Expr:
        """The product of two atoms or products, its factors in the order of their first appearance."""
        factors = (*self._factors.get(x, (x,)), *self._factors.get(y, (y,)))
        for factor in factors:
            self._order.setdefault(factor, len(self._order))
        factors = tuple(sorted(factors, key=self._order.__getitem__))
        key = (Op.MUL, dtype, factors)
        atom = self._atoms.get(key)
        if atom is None:
            atom = cast(factors[0], dtype)
            for factor in factors[1:]:
                atom = binary(Op.MUL, atom, cast(factor, dtype))
            self._atoms[key] = atom
            self._factors[atom] = factors
            self.meaning[atom] = (Op.MUL, tuple(LinearForm(0, {f: 1}) for f in factors))
        return atom

    def factors(self, atom: Expr) -> tuple[Expr, ...]:
        """The factors of a product; the atom alone for any other."""
        return self._factors.get(atom, (atom,))

    def extremum(self, op: Op, a: LinearForm, b: LinearForm, node: Expr) -> LinearForm:
        """min(x + s, y + s) = min(x, y) + s; decided where the two differ by a constant."""
        difference = a - b
        if difference.is_constant:
            return a if (difference.constant <= 0) == (op is Op.MIN) else b
        shared = LinearForm(a.constant if a.constant == b.constant else 0, {t: c for t, c in a.terms.items() if b.terms.get(t) == c})
        if not (self.is_safe(a - shared, node.dtype) and self.is_safe(b - shared, node.dtype)):
            shared = LinearForm()
        return shared + self._binary_atom(op, a - shared, b - shared, node.dtype)

    # -- x // k and x % k put together again

    def merge_remainders(self, form: LinearForm) -> LinearForm:
        """(x // k) * k + x % k = x, x // k % a * k + x % k = x % (a * k), and x - (x // k) * k = x % k, with any common factor."""
        merged: LinearForm | None = form
        while merged is not None:
            form, merged = merged, self._merge_once(merged)
        return form

    def _merge_once(self, form: LinearForm) -> LinearForm | None:
        if len(form.terms) < 2:
            return None
        for atom, c in form.terms.items():
            op, operands = self.meaning.get(atom, (None, ()))
            if op is Op.MIN or op is Op.MAX:
                if (moved := self._move_inside(form, atom, c, op, operands)) is not None:
                    return moved
                continue
            if op is not Op.FLOORMOD and op is not Op.FLOORDIV:
                continue
            numerator, divisor = operands
            if not divisor.is_constant or divisor.constant <= 0:
                continue
            k = divisor.constant
            if op is Op.FLOORDIV:
                if c % k == 0 and all(form.terms.get(t) == -(c // k) * v for t, v in numerator.terms.items()):
                    rest = form.plus(numerator, c // k).plus(LinearForm(0, {atom: 1}), -c)
                    return rest.plus(self.floormod(numerator, divisor, atom.dtype), -(c // k))
                continue
            quotient = self.floordiv(numerator, divisor, atom.dtype)
            high = quotient.single_atom
            if high is None:
                continue
            if form.terms.get(high) == c * k:
                return form.plus(LinearForm(0, {atom: c, high: c * k}), -1).plus(numerator, c)
            for other, d in form.terms.items():
                other_op, parts = self.meaning.get(other, (None, ()))
                if d == c * k and other_op is Op.FLOORMOD and parts[0] == quotient and parts[1].is_constant and parts[1].constant > 0:
                    whole = self.floormod(numerator, LinearForm(k * parts[1].constant), atom.dtype)
                    return form.plus(LinearForm(0, {atom: c, other: d}), -1).plus(whole, c)
        return None

    def _move_inside(self, form: LinearForm, atom: Expr, c: int, op: Op, operands: tuple[LinearForm, ...]) -> LinearForm | None:
        """min(s + x, y) - s = min(x, y - s): terms of one operand cancel."""
        for operand in operands:
            part = LinearForm(0, {t: v for t, v in operand.terms.items() if form.terms.get(t) == -c * v})
            if part.terms and all(self.is_safe(o - part, atom.dtype) for o in operands):
                moved = self._binary_atom(op, operands[0] - part, operands[1] - part, atom.dtype)
                return form.plus(LinearForm(0, {atom: 1}), -c).plus(part, c).plus(moved, c)
        return None

    # -- queries on forms

    def substitute(self, form: LinearForm, values: Mapping[Expr, Expr], dtype: DType = int32) -> LinearForm:
        """The form with variables replaced everywhere, inside atoms as well."""
        return self.form(substitute_expr(form.to_expr(dtype), values))

    def split(self, form: LinearForm, variable: Expr) -> tuple[LinearForm, LinearForm] | None:
        """(coefficient, rest) with form = coefficient * variable + rest, both free of the variable; None if the form is not affine in it."""
        coefficient, slope, rest = 0, LinearForm(), LinearForm()
        for atom, c in form.terms.items():
            if atom is variable:
                coefficient = c
            elif not contains(atom, variable):
                rest = rest + LinearForm(0, {atom: c})
            else:
                others = [f for f in self.factors(atom) if f is not variable]
                if len(others) != len(self.factors(atom)) - 1 or any(contains(f, variable) for f in others):
                    return None
                product = others[0]
                for factor in others[1:]:
                    product = self._monomial(product, factor, atom.dtype)
                slope = slope + LinearForm(0, {product: c})
        return slope.shifted(coefficient), rest.shifted(form.constant)


def _is_shift_count(count: Expr, dtype: DType) -> bool:
    return count.is_const and 0 <= int(count.value) < dtype.bits


def _truncated_remainder(value: int, k: int) -> int:
    """The remainder with the sign of `value`: small negative coefficients stay small."""
    return value % k if value >= 0 else -(-value % k)


def _collect(terms: Iterable[tuple[Expr, int]]) -> dict[Expr, int]:
    collected: dict[Expr, int] = {}
    for atom, coefficient in terms:
        collected[atom] = collected.get(atom, 0) + coefficient
    return collected


def contains(expr: Expr, variable: Expr) -> bool:
    """Whether `variable` occurs in `expr`."""
    return any(node is variable for node in subexpressions(expr))


def from_expr(expr: Expr, linearizer: Linearizer | None = None) -> LinearForm:
    """The normal form of an integer expression. Forms are comparable with each other only if they come from one linearizer."""
    return (linearizer or Linearizer(is_expanding=True)).form(expr)
