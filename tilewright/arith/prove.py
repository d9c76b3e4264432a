"""Proofs about integer expressions: PROVED, REFUTED with a counterexample, or UNKNOWN, which never guesses (floor 3).

A claim is reduced to "this linear form is not negative". That is shown by intervals, or by adding known inequalities until the intervals suffice:
a small search in the manner of Fourier and Motzkin, in which `x // k`, `x % k`, min and max bring the inequalities that define them.
Proofs may fail for claims that hold: then the answer is UNKNOWN, and a guard stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import gcd

from tilewright.arith.bounds import NEGATED_COMPARISONS, Facts
from tilewright.arith.counterexample import find_counterexample
from tilewright.arith.linear import LinearForm
from tilewright.ir.buffer import Extent
from tilewright.ir.expr import COMPARISONS, Expr, Op, as_expr, binary, const, logical

_MAX_DEPTH = 7
_MAX_STEPS = 150
_MAX_STEPS_TO_DECIDE = 40
_MAX_CASES = 8


class Answer(Enum):
    """What is known of a claim."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Proof:
    """An answer; `counterexample` gives values of the variables that satisfy all facts and break the claim where it is REFUTED."""

    answer: Answer
    counterexample: Mapping[Expr, int] | None = None

    @property
    def is_proved(self) -> bool:
        return self.answer is Answer.PROVED

    @property
    def is_refuted(self) -> bool:
        return self.answer is Answer.REFUTED

    def __bool__(self) -> bool:
        raise TypeError("a proof has three answers: ask is_proved or is_refuted")


_PROVED = Proof(Answer.PROVED)
_UNKNOWN = Proof(Answer.UNKNOWN)


def prove(claim: Expr, facts: Facts, *, wants_counterexample: bool = False) -> Proof:
    """Whether a bool expression holds wherever the facts do. Counterexamples cost a search, so they are looked for only on request."""
    if _holds(claim, True, facts):
        return _PROVED
    if wants_counterexample:
        found = find_counterexample(claim, facts)
        if found is not None:
            return Proof(Answer.REFUTED, found)
    return _UNKNOWN


def is_within(expr: Expr, low: Expr | int, high: Expr | int, facts: Facts, *, wants_counterexample: bool = False) -> Proof:
    """low <= expr < high."""
    claim = logical(Op.AND, binary(Op.GE, expr, low), binary(Op.LT, expr, high))
    return prove(claim, facts, wants_counterexample=wants_counterexample)


def is_less(left: Expr | int, right: Expr | int, facts: Facts, *, wants_counterexample: bool = False) -> Proof:
    return prove(binary(Op.LT, left, right), facts, wants_counterexample=wants_counterexample)


def is_at_most(left: Expr | int, right: Expr | int, facts: Facts, *, wants_counterexample: bool = False) -> Proof:
    return prove(binary(Op.LE, left, right), facts, wants_counterexample=wants_counterexample)


def is_equal(left: Expr | int, right: Expr | int, facts: Facts, *, wants_counterexample: bool = False) -> Proof:
    return prove(binary(Op.EQ, left, right), facts, wants_counterexample=wants_counterexample)


def is_divisible(expr: Expr, divisor: int, facts: Facts, *, wants_counterexample: bool = False) -> Proof:
    """Whether expr is a multiple of a positive divisor."""
    if facts.range_of(expr).is_divisible(divisor):
        return _PROVED
    return prove(binary(Op.EQ, binary(Op.FLOORMOD, expr, divisor), 0), facts, wants_counterexample=wants_counterexample)


Box = Sequence[tuple[Expr | int, Extent]]


def are_disjoint(left: Box, right: Box, facts: Facts, *, wants_counterexample: bool = False) -> Proof:
    """Whether two boxes of one buffer, given as (start, extent) on each axis, share no element."""
    claim = const(False)
    for (a, a_extent), (b, b_extent) in zip(left, right, strict=True):
        if as_expr(a_extent) is as_expr(b_extent) is const(1) and _are_other_remainders(a, b, facts):
            return _PROVED
        for start, extent, other in ((a, a_extent, b), (b, b_extent, a)):
            end = binary(Op.ADD, start, extent)
            claim = logical(Op.OR, claim, logical(Op.OR, binary(Op.LE, end, other), binary(Op.LE, as_expr(extent), 0)))
    if _holds(claim, True, facts):
        return _PROVED
    for form in facts.unequal:  # x != y is x < y or y < x: the boxes may lie apart for a different reason in each case
        sides = [facts.with_inequality(side.shifted(-1)) for side in (form, -form)]
        if all(_holds(claim, True, side) for side in sides):
            return _PROVED
    return prove(claim, facts, wants_counterexample=True) if wants_counterexample else _UNKNOWN


def _are_other_remainders(a: Expr | int, b: Expr | int, facts: Facts) -> bool:
    """Whether two points are remainders by one constant of numbers whose constant distance is no multiple of it: the slots of a ring."""
    if not (isinstance(a, Expr) and isinstance(b, Expr) and a.op is b.op is Op.FLOORMOD and a.args[1] is b.args[1] and a.args[1].is_const):
        return False
    distance = facts.linearizer.form(a.args[0]) - facts.linearizer.form(b.args[0])
    return distance.is_constant and distance.constant % int(a.args[1].value) != 0


def decide(condition: Expr, facts: Facts) -> bool | None:
    """True or False where the facts decide the condition, else None; a shorter search than that of `prove`."""
    known = facts.range_of(condition)
    if known.is_constant:
        return bool(known.residue)
    if not facts.inequalities and condition.op in COMPARISONS:
        return None  # the interval has said all there is
    steps = _MAX_STEPS_TO_DECIDE
    return True if _holds(condition, True, facts, steps) else False if _holds(condition, False, facts, steps) else None


def fits_in(expr: Expr, bits: int, facts: Facts) -> bool:
    """Whether the expression and all sums, products and quotients in it lie in the range of signed integers of `bits` bits."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    stack, seen = [expr], set[Expr]()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if not facts.range_of(node).is_inside(low, high):
            return False
        stack.extend(a for a in node.args if a.dtype.is_integer and node.op not in (Op.LOAD, Op.CALL))
    return True


# ------------------------------------------------------------------------------------------------------------------------ the search


def _holds(claim: Expr, truth: bool, facts: Facts, max_steps: int = _MAX_STEPS) -> bool:
    """Whether the claim is certainly `truth`."""
    if facts.is_contradictory:
        return True
    known = facts.range_of(claim)
    if known.is_constant:
        return bool(known.residue) is truth
    op, args = claim.op, claim.args
    if op is Op.NOT:
        return _holds(args[0], not truth, facts, max_steps)
    if op is Op.AND or op is Op.OR:
        if (op is Op.AND) is truth:
            return _holds(args[0], truth, facts, max_steps) and _holds(args[1], truth, facts, max_steps)
        # a or b holds if b holds wherever a does not.
        return _holds(args[0], truth, facts, max_steps) or _holds(args[1], truth, facts.assuming_not(args[0]) if truth else facts.assuming(args[0]), max_steps)
    if op in COMPARISONS and args[0].dtype.is_integer and args[0].dtype.lanes == 1:
        difference = facts.linearizer.form(args[1]) - facts.linearizer.form(args[0])
        return _comparison_holds(op if truth else NEGATED_COMPARISONS[op], difference, facts, max_steps)
    return False


def _comparison_holds(op: Op, difference: LinearForm, facts: Facts, max_steps: int) -> bool:
    """Whether left op right, for difference = right - left."""
    below, above = difference, -difference
    match op:
        case Op.LE:
            return is_nonnegative(below, facts, max_steps)
        case Op.LT:
            return is_nonnegative(below.shifted(-1), facts, max_steps)
        case Op.GE:
            return is_nonnegative(above, facts, max_steps)
        case Op.GT:
            return is_nonnegative(above.shifted(-1), facts, max_steps)
        case Op.EQ:
            return is_nonnegative(below, facts, max_steps) and is_nonnegative(above, facts, max_steps)
        case _:
            return (
                any(known in (below, above) for known in facts.unequal)
                or is_nonnegative(below.shifted(-1), facts, max_steps)
                or is_nonnegative(above.shifted(-1), facts, max_steps)
            )


def is_nonnegative(form: LinearForm, facts: Facts, max_steps: int = _MAX_STEPS) -> bool:
    """Whether form >= 0 follows from the facts."""
    known = facts.range_of_form(form)
    if known.low is not None and known.low >= 0:
        return True
    if known.high is not None and known.high < 0 and not facts.is_contradictory:
        return False
    return all(_Search(facts, max_steps).reaches(case) for case in _cases(form, facts))


def _cases(form: LinearForm, facts: Facts) -> list[LinearForm]:
    """Forms that must all be non-negative: a min that helps may be either of its operands."""
    cases, done = [form], False
    while not done and len(cases) < _MAX_CASES:
        done = True
        for number, case in enumerate(cases):
            for atom, coefficient in case.terms.items():
                op, operands = facts.linearizer.meaning.get(atom, (None, ()))
                if op is (Op.MIN if coefficient > 0 else Op.MAX):
                    cases[number : number + 1] = [case.replaced(atom, operand) for operand in operands]
                    done = False
                    break
            if not done:
                break
    return cases


class _Search:
    """Adds multiples of known inequalities to a goal until intervals bound it from below."""

    def __init__(self, facts: Facts, max_steps: int) -> None:
        self.facts, self.max_steps = facts, max_steps
        self.meaning = facts.linearizer.meaning
        self.seen: set[object] = set()

    def reaches(self, goal: LinearForm, scale: int = 1, depth: int = 0) -> bool:
        """Whether goal > -scale, where the goal to prove is (goal + something not negative) / scale: an integer above -1 is not negative."""
        known = self.facts.range_of_form(goal)
        if known.low is not None and known.low > -scale:
            return True
        key = (goal.key(), scale)
        if depth == _MAX_DEPTH or len(self.seen) == self.max_steps or key in self.seen or (known.high is not None and known.high <= -scale):
            return False
        self.seen.add(key)
        for atom in self._atoms_to_eliminate(goal):
            coefficient = goal.terms[atom]
            for inequality in self._inequalities_with(atom, coefficient > 0):
                other = inequality.terms[atom]
                common = gcd(coefficient, other)
                # goal * m = (goal * m - inequality * n) + inequality * n, and the last is not negative.
                m, n = abs(other) // common, abs(coefficient) // common
                if self.reaches(goal.scaled(m).plus(inequality, -n), scale * m, depth + 1):
                    return True
        return False

    def _atoms_to_eliminate(self, goal: LinearForm) -> list[Expr]:
        """One atom that has no bound on the needed side, since it must go; or else all that are no constants."""
        candidates = []
        for atom, coefficient in goal.terms.items():
            known = self.facts.range_of(atom)
            if (known.low if coefficient > 0 else known.high) is None:
                return [atom]
            if not known.is_constant:
                candidates.append(atom)
        return candidates

    def _inequalities_with(self, atom: Expr, is_lower_bound: bool) -> Iterator[LinearForm]:
        """Known forms >= 0 that bound the atom from below (or above)."""
        for form in self.facts.inequalities:
            coefficient = form.terms.get(atom)
            if coefficient is not None and (coefficient > 0) is is_lower_bound:
                yield form
        op, operands = self.meaning.get(atom, (None, ()))
        if op is not None:
            for form in self._defining(op, atom, operands):
                coefficient = form.terms.get(atom)
                if coefficient is not None and (coefficient > 0) is is_lower_bound:
                    yield form

    def _defining(self, op: Op, atom: Expr, operands: tuple[LinearForm, ...]) -> Iterator[LinearForm]:
        """Forms >= 0 that hold by the meaning of the atom."""
        this = LinearForm(0, {atom: 1})
        first, second = operands[0], operands[1]
        match op:
            case Op.MIN:
                yield first - this
                yield second - this
            case Op.MAX:
                yield this - first
                yield this - second
            case Op.FLOORDIV if second.is_constant:
                # numerator - k * quotient is the remainder.
                remainder = self._remainder_range(first, second.constant)
                yield first.plus(this, -second.constant).shifted(-remainder[0])
                yield this.scaled(second.constant).plus(first, -1).shifted(remainder[1])
            case Op.FLOORMOD if second.is_constant:
                quotient = self.facts.linearizer.floordiv(first, second, atom.dtype)
                rest = first.plus(quotient, -second.constant)
                yield rest - this
                yield this - rest
                if (low := self.facts.range_of_form(first).low) is not None and low >= 0:
                    yield first - this
            case Op.FLOORDIV | Op.FLOORMOD:
                yield from self._defining_by_symbol(op, this, first, second, atom)
            case Op.MUL if len(operands) == 2:
                yield from self._multiplied(first, second, atom)
                yield from self._multiplied(second, first, atom)
            case _:
                return

    def _defining_by_symbol(self, op: Op, this: LinearForm, numerator: LinearForm, divisor: LinearForm, atom: Expr) -> Iterator[LinearForm]:
        """For x // n and x % n with n >= 0; a zero n has no quotient, so it needs no care."""
        low = self.facts.range_of_form(divisor).low
        if low is None or low < 0:
            return
        if op is Op.FLOORMOD:
            yield (divisor - this).shifted(-1)
            if (first_low := self.facts.range_of_form(numerator).low) is not None and first_low >= 0:
                yield numerator - this
            return
        linearizer = self.facts.linearizer
        product = linearizer.product(this, divisor, atom.dtype)
        yield from self._quotient_limits(product, numerator, divisor)
        symbol = divisor.single_atom
        for known in self.facts.inequalities if symbol is not None else ():
            for term in known.terms:
                factors = linearizer.factors(term)
                if len(factors) == 2 and any(f is symbol for f in factors):  # numerator < other * divisor gives quotient < other
                    slack = known - (LinearForm(0, {term: 1}) - numerator)
                    if slack.is_constant and slack.constant < 0:
                        yield LinearForm(-1, {factors[0] if factors[1] is symbol else factors[1]: 1}) - this

    def _quotient_limits(self, product: LinearForm, numerator: LinearForm, divisor: LinearForm) -> Iterator[LinearForm]:
        """For product = numerator // divisor * divisor."""
        yield numerator - product
        yield (product + divisor - numerator).shifted(-1)

    def _multiplied(self, factor: LinearForm, other: LinearForm, atom: Expr) -> Iterator[LinearForm]:
        """Inequalities on one factor of a product, times the other factor where that is not negative."""
        low = self.facts.range_of_form(other).low
        symbol = factor.single_atom
        if low is None or low < 0 or symbol is None:
            return
        op, operands = self.meaning.get(symbol, (None, ()))
        if op is Op.FLOORDIV and operands[1] == other:
            yield from self._quotient_limits(LinearForm(0, {atom: 1}), operands[0], other)
        known = self.facts.range_of(symbol)
        if known.low is not None:
            yield LinearForm(0, {atom: 1}).plus(other, -known.low)
        if known.high is not None:
            yield other.scaled(known.high) - LinearForm(0, {atom: 1})
        for form in self.facts.inequalities:
            if symbol in form.terms and len(form.terms) <= 3:
                yield self.facts.linearizer.product(form, other, atom.dtype)

    def _remainder_range(self, numerator: LinearForm, k: int) -> tuple[int, int]:
        known = self.facts.range_of_form(numerator)
        common = gcd(known.modulus, k)
        residue = known.residue % common
        return residue, k - common + residue
