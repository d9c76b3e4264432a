"""Facts about variables, and the ranges of expressions that follow from them (floor 3).

`Facts` is immutable: every `with_…` and `assuming` gives new facts. They hold a range (interval and congruence) for atoms and linear inequalities
between them, such as `i < n`. Atoms are those of `linear`: a fact about `n % 32` or `A[i]` is kept like one about a variable.

Sums, products and quotients of int32 and int64 are taken as exact integers, because the language promises that index arithmetic does not
overflow; what may wrap (other integer dtypes, narrowing casts) gets its whole dtype as range unless the exact result provably fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

from tilewright.arith import value_range as vr
from tilewright.arith.linear import LinearForm, Linearizer, is_exact
from tilewright.arith.value_range import BOOLEAN, OPERATIONS, UNLIMITED, ValueRange, dtype_range, exactly, value_range
from tilewright.dtypes import DType
from tilewright.ir.buffer import Extent
from tilewright.ir.expr import COMPARISONS, Expr, Op, as_expr, binary
from tilewright.ir.visit import subexpressions

NEGATED_COMPARISONS = {Op.EQ: Op.NE, Op.NE: Op.EQ, Op.LT: Op.GE, Op.GE: Op.LT, Op.GT: Op.LE, Op.LE: Op.GT}
_MAX_NESTING = 6
_MAX_SPLITS = 16  # choices that one choice makes to be looked at under both answers: those that define the names in its condition, and theirs
_MAX_ROUNDS = 2


class _Splits:
    """How many choices are being looked at under both answers, and how many more may be; shared by all facts that come from one another."""

    def __init__(self) -> None:
        self.open, self.left = 0, 0


class Facts:
    """What holds wherever an expression is evaluated.

    ranges            what is known of single atoms.
    inequalities      forms that are >= 0.
    unequal           forms that are not 0.
    conditions        everything that was assumed, as written: what a counterexample must satisfy.
    is_contradictory  whether the facts exclude each other, so the place is never reached.
    memo              what other parts of `arith` computed under these facts, by the class that computed it.
    """

    __slots__ = (
        "_assumed",
        "_known",
        "_narrowed",
        "_nesting",
        "_splits",
        "_structural",
        "conditions",
        "inequalities",
        "is_contradictory",
        "linearizer",
        "memo",
        "ranges",
        "unequal",
    )

    def __init__(self) -> None:
        self.linearizer = Linearizer(is_expanding=True)
        self.ranges: dict[Expr, ValueRange] = {}
        self.inequalities: tuple[LinearForm, ...] = ()
        self.unequal: tuple[LinearForm, ...] = ()
        self.conditions: tuple[Expr, ...] = ()
        self.is_contradictory = False
        self._nesting = 0
        self._splits = _Splits()
        self._narrowed: set[Expr] = set()
        self._start_memos()

    def _start_memos(self) -> None:
        self.memo: dict[type, Any] = {}
        self._known: dict[Expr, ValueRange] = {}
        self._structural: dict[Expr, ValueRange] = {}
        self._assumed: dict[tuple[Expr, bool], Facts] = {}

    def _copy(self) -> Facts:
        facts = Facts.__new__(Facts)
        facts.linearizer, facts.ranges, facts.inequalities = self.linearizer, dict(self.ranges), self.inequalities
        facts.unequal, facts.conditions, facts.is_contradictory = self.unequal, self.conditions, self.is_contradictory
        facts._nesting, facts._splits, facts._narrowed = self._nesting, self._splits, set()
        facts._start_memos()
        return facts

    # ------------------------------------------------------------------------------------------------------------- adding facts

    def with_range(self, variable: Expr, low: int | None = None, high: int | None = None, modulus: int = 1, residue: int = 0) -> Facts:
        """low <= variable <= high and variable = residue mod modulus."""
        facts = self._copy()
        if low is not None:
            facts.conditions += (binary(Op.GE, variable, low),)
        if high is not None:
            facts.conditions += (binary(Op.LE, variable, high),)
        if modulus > 1:
            facts.conditions += (binary(Op.EQ, binary(Op.FLOORMOD, variable, modulus), residue % modulus),)
        facts._narrow(variable, value_range(low, high, modulus, residue))
        facts._settle()
        return facts

    def with_loop(self, variable: Expr, extent: Extent) -> Facts:
        """0 <= variable < extent, as in the body of a loop."""
        return self.with_box((variable,), (extent,))

    def with_box(self, variables: Sequence[Expr], extents: Sequence[Extent]) -> Facts:
        """0 <= variable < extent on every axis: loops, grids, parallel boxes."""
        facts = self._copy()
        for variable, extent in zip(variables, extents, strict=True):
            bound = as_expr(extent)
            facts._narrow(variable, value_range(0, None))
            facts.conditions += (binary(Op.GE, variable, 0), binary(Op.LT, variable, bound))
            if not _has_unstable_value(bound):
                facts._add_inequality(facts.linearizer.form(bound).plus(facts.linearizer.form(variable), -1).shifted(-1))
            elif (high := facts.range_of(bound).high) is not None:
                facts._narrow(variable, value_range(None, high - 1))
        facts._settle()
        return facts

    def with_definition(self, variable: Expr, value: Expr) -> Facts:
        """variable = value, evaluated here: a `Let`. Of a value that reads memory only the range is kept, for memory may change afterwards."""
        if not (value.dtype.is_integer or value.dtype.is_bool):
            return self
        facts = self._copy()
        if _has_unstable_value(value) or not value.dtype.is_integer:
            facts._narrow(variable, self.range_of(value))
        else:
            facts.conditions += (binary(Op.EQ, variable, value),)
            facts._add_equality(facts.linearizer.form(variable) - facts.linearizer.form(value))
            facts._narrow(variable, self.range_of(value))
        facts._settle()
        return facts

    def with_inequality(self, form: LinearForm) -> Facts:
        """form >= 0, for a form of these facts' linearizer."""
        facts = self._copy()
        facts._add_inequality(form)
        facts._settle()
        return facts

    def assuming(self, condition: Expr, *, has_stable_loads: bool = False) -> Facts:
        """These facts and a condition that holds: a guard, T.assume, the condition of an if.

        Conjuncts that read memory are dropped, since a store may change what they said, unless the caller knows that none happens in the scope.
        """
        key = (condition, has_stable_loads)
        found = self._assumed.get(key)
        if found is None:
            found = self._assumed[key] = self._copy()
            found.conditions += (condition,)
            found._nesting += 1
            found._assume(condition, True, has_stable_loads)
            found._settle()
        return found

    def assuming_not(self, condition: Expr, *, has_stable_loads: bool = False) -> Facts:
        """These facts and the negation of a condition: the scope of an else."""
        return self.assuming(~condition, has_stable_loads=has_stable_loads)

    def _assume(self, condition: Expr, truth: bool, has_stable_loads: bool) -> None:
        op, args = condition.op, condition.args
        if op is Op.NOT:
            self._assume(args[0], not truth, has_stable_loads)
        elif op is (Op.AND if truth else Op.OR):
            self._assume(args[0], truth, has_stable_loads)
            self._assume(args[1], truth, has_stable_loads)
        elif op is Op.CONST:
            self.is_contradictory |= bool(condition.value) is not truth
        elif not _has_unstable_value(condition, may_load=has_stable_loads):
            if op in COMPARISONS and args[0].dtype.is_integer and args[0].dtype.lanes == 1:
                self._compare(op if truth else NEGATED_COMPARISONS[op], args[0], args[1])
            self.ranges[condition] = exactly(int(truth))

    def _compare(self, op: Op, left: Expr, right: Expr) -> None:
        difference = self.linearizer.form(left) - self.linearizer.form(right)
        match op:
            case Op.LT:
                self._add_inequality((-difference).shifted(-1))
            case Op.LE:
                self._add_inequality(-difference)
            case Op.GT:
                self._add_inequality(difference.shifted(-1))
            case Op.GE:
                self._add_inequality(difference)
            case Op.EQ:
                self._add_equality(difference)
            case _:
                self._add_unequal(difference)

    def _settle(self) -> None:
        """Ends an addition of facts: what was narrowed narrows its neighbours in earlier inequalities once, and old results are forgotten."""
        for _ in range(_MAX_ROUNDS):
            narrowed, self._narrowed = self._narrowed, set()
            self._start_memos()
            for form in self.inequalities if narrowed else ():
                if not narrowed.isdisjoint(form.terms):
                    self._narrow_terms(form)
        self._start_memos()

    def _narrow(self, atom: Expr, known: ValueRange) -> None:
        """Records what is known of an atom; contradictions are noted, not stored, so that ranges stay usable."""
        combined = vr.meet(self.range_of(atom), known)
        if combined.is_empty:
            self.is_contradictory = True
        elif combined != self.range_of(atom):
            # What is remembered of larger expressions stays valid, only wider than need be; the methods that add facts end by forgetting it.
            self.ranges[atom] = self._known[atom] = self._structural[atom] = combined
            self._narrowed.add(atom)

    def _add_inequality(self, form: LinearForm) -> None:
        """Records form >= 0."""
        for atom, coefficient in form.terms.items():
            op, operands = self.linearizer.meaning.get(atom, (None, ()))
            if op is (Op.MIN if coefficient > 0 else Op.MAX):  # n < min(a, b) says n < a and n < b
                for operand in operands:
                    self._add_inequality(form.replaced(atom, operand))
                return
        if form.is_constant:
            self.is_contradictory |= form.constant < 0
            return
        content = form.content()
        if content > 1:
            form = LinearForm(form.constant // content, {atom: c // content for atom, c in form.terms.items()})
        self._narrow_terms(form)
        if len(form.terms) > 1 and not self.range_of_form(form).is_inside(0, None):
            for other in self.inequalities:
                self.is_contradictory |= (total := form + other).is_constant and total.constant < 0
            self.inequalities += (form,)

    def _narrow_terms(self, form: LinearForm) -> None:
        """form >= 0 bounds each atom by the ranges of the others."""
        for atom, coefficient in form.terms.items():
            rest = self.range_of_form(form.plus(LinearForm(0, {atom: 1}), -coefficient)).high
            if rest is not None:
                self._narrow(atom, value_range(-(rest // coefficient), None) if coefficient > 0 else value_range(None, rest // -coefficient))

    def _add_equality(self, form: LinearForm) -> None:
        """Records form = 0: two inequalities, and for each atom the residue class that the others leave it."""
        if form.constant % (form.content() or 1) or (form.is_constant and form.constant):
            self.is_contradictory = True
            return
        self._add_inequality(form)
        self._add_inequality(-form)
        for atom, coefficient in form.terms.items():
            rest = self.range_of_form(form.plus(LinearForm(0, {atom: 1}), -coefficient))
            common = gcd(rest.modulus, coefficient)
            if rest.modulus > 1 and rest.residue % common == 0:  # coefficient * atom = -rest mod modulus
                modulus = rest.modulus // common
                inverse = pow(coefficient // common, -1, modulus) if modulus > 1 else 0
                self._narrow(atom, value_range(None, None, modulus, -rest.residue // common * inverse))
            if abs(coefficient) == 1:
                self._narrow(atom, vr.scale(rest, -coefficient))
        self._add_remainder(form)

    def _add_remainder(self, form: LinearForm) -> None:
        """x % k = r says that x lies in a residue class."""
        if len(form.terms) != 1:
            return
        ((atom, coefficient),) = form.terms.items()
        op, operands = self.linearizer.meaning.get(atom, (None, ()))
        if op is not Op.FLOORMOD or not operands[1].is_constant:
            return
        numerator, modulus, remainder = operands[0], operands[1].constant, -form.constant // coefficient
        # numerator = remainder mod modulus, and each of its atoms with an invertible coefficient is then in a class too.
        if len(numerator.terms) == 1:
            ((inner, factor),) = numerator.terms.items()
            if gcd(factor, modulus) == 1:
                self._narrow(inner, value_range(None, None, modulus, (remainder - numerator.constant) * pow(factor, -1, modulus)))

    def _add_unequal(self, form: LinearForm) -> None:
        if form.is_constant:
            self.is_contradictory |= form.constant == 0
            return
        self.unequal += (form,)
        if len(form.terms) == 1:
            ((atom, coefficient),) = form.terms.items()
            if form.constant % coefficient == 0:
                self._exclude(atom, -form.constant // coefficient)

    def _exclude(self, atom: Expr, value: int) -> None:
        known = self.range_of(atom)
        if known.low == value:
            self._narrow(atom, value_range(value + 1, None))
        elif known.high == value:
            self._narrow(atom, value_range(None, value - 1))

    # ------------------------------------------------------------------------------------------------------------------ ranges

    def range_of(self, expr: Expr) -> ValueRange:
        """A range that contains every value of an integer or bool expression under these facts; UNLIMITED for others."""
        found = self._known.get(expr)
        if found is None:
            found = self._structure(expr)
            if expr.op in (Op.ADD, Op.SUB) and is_exact(expr.dtype):
                # The normal form cancels terms that the structure treats as independent.
                narrowed = vr.meet(found, self.range_of_form(self.linearizer.form(expr)))
                found = found if narrowed.is_empty else narrowed
            self._known[expr] = found
        return found

    def range_of_form(self, form: LinearForm) -> ValueRange:
        """The range of a sum of atoms."""
        low: int | None = form.constant
        high: int | None = form.constant
        modulus, residue = 0, form.constant
        for atom, coefficient in form.terms.items():
            part = self._known.get(atom) or self.range_of(atom)
            lower, upper = (part.low, part.high) if coefficient > 0 else (part.high, part.low)
            low = None if low is None or lower is None else low + coefficient * lower
            high = None if high is None or upper is None else high + coefficient * upper
            modulus, residue = gcd(modulus, part.modulus * coefficient), residue + part.residue * coefficient
        return value_range(low, high, modulus, residue)

    def _structure(self, root: Expr) -> ValueRange:
        # An explicit stack through sums: unrolled kernels make them deeper than Python's recursion limit.
        known = self._structural
        stack = [root]
        while stack:
            node = stack[-1]
            if node in known:
                stack.pop()
                continue
            if node.op in (Op.ADD, Op.SUB, Op.MUL):
                missing = [a for a in node.args if a not in known]
                if missing:
                    stack.extend(missing)
                    continue
                found = OPERATIONS[node.op](known[node.args[0]], known[node.args[1]])
            else:
                found = self._of_node(node)
            found = _fitted(found, node.dtype)
            if node in self.ranges:
                narrowed = vr.meet(found, self.ranges[node])
                found = self.ranges[node] if narrowed.is_empty else narrowed
            known[node] = found
            stack.pop()
        return known[root]

    def _of_node(self, node: Expr) -> ValueRange:
        op, args, dtype = node.op, node.args, node.dtype
        if dtype.lanes != 1 or not (dtype.is_integer or dtype.is_bool):
            return UNLIMITED
        if op is Op.CONST:
            return exactly(int(node.value))
        if op is Op.VAR or op is Op.LOAD or op is Op.CALL or op is Op.REINTERPRET:
            return UNLIMITED
        if op in COMPARISONS:
            return self._of_comparison(op, args[0], args[1])
        if op in OPERATIONS:
            return OPERATIONS[op](self.range_of(args[0]), self.range_of(args[1]))
        match op:
            case Op.NEG:
                return vr.negate(self.range_of(args[0]))
            case Op.BIT_NOT:
                return vr.bit_not(self.range_of(args[0]))
            case Op.NOT:
                return vr.subtract(exactly(1), self.range_of(args[0]))
            case Op.AND:
                return vr.minimum(self.range_of(args[0]), self.range_of(args[1]))
            case Op.OR:
                return vr.maximum(self.range_of(args[0]), self.range_of(args[1]))
            case Op.SELECT | Op.IF_THEN_ELSE:
                return self._of_select(*args)
            case Op.CAST if args[0].dtype.is_integer or args[0].dtype.is_bool:
                exact = self.range_of(args[0])
                return exact if exact.is_inside(int(dtype.minimum), int(dtype.maximum)) else UNLIMITED
            case _:
                return UNLIMITED

    def _of_select(self, condition: Expr, if_true: Expr, if_false: Expr) -> ValueRange:
        decided = self.range_of(condition)
        if decided.is_constant:
            return self.range_of(if_true if decided.residue else if_false)
        splits = self._splits
        is_outermost = splits.open == 0
        if is_outermost:
            splits.left = _MAX_SPLITS
        is_too_deep = self._nesting >= _MAX_NESTING or splits.left == 0
        if is_too_deep or any(node.op in (Op.SELECT, Op.IF_THEN_ELSE) for node in subexpressions(condition)):
            return vr.join(self.range_of(if_true), self.range_of(if_false))  # facts from nested conditions would multiply
        splits.left -= 1
        splits.open += 1
        try:
            # One expression is evaluated at one moment, so what it loads in the condition and in a side is the same.
            sides = ((if_true, self.assuming(condition, has_stable_loads=True)), (if_false, self.assuming_not(condition, has_stable_loads=True)))
            ranges = [facts.range_of(side) for side, facts in sides if not facts.is_contradictory]
        finally:
            splits.open -= 1
        return vr.join(ranges[0], ranges[-1]) if ranges else UNLIMITED

    def _of_comparison(self, op: Op, left: Expr, right: Expr) -> ValueRange:
        if not left.dtype.is_integer or left.dtype.lanes != 1:
            return BOOLEAN
        difference = self.range_of_form(self.linearizer.form(left) - self.linearizer.form(right))
        narrowed = vr.meet(difference, vr.subtract(self.range_of(left), self.range_of(right)))
        answer = compare_with_zero(op, difference if narrowed.is_empty else narrowed)
        return BOOLEAN if answer is None else exactly(int(answer))


def compare_with_zero(op: Op, known: ValueRange) -> bool | None:
    """Whether every member of a range compares with 0 as `op` says; None where some do and some may not."""
    match op:
        case Op.LT:
            return True if known.is_inside(None, -1) else False if known.is_inside(0, None) else None
        case Op.LE:
            return True if known.is_inside(None, 0) else False if known.is_inside(1, None) else None
        case Op.EQ:
            return True if known.is_constant and known.residue == 0 else False if not known.contains(0) else None
        case _:
            opposite = compare_with_zero(NEGATED_COMPARISONS[op], known)
            return None if opposite is None else not opposite


def _fitted(exact: ValueRange, dtype: DType) -> ValueRange:
    """The range of a result whose exact value lies in `exact`: unchanged where it does not wrap, or is promised not to."""
    if is_exact(dtype) and exact != UNLIMITED:
        return exact
    if dtype.is_bool:
        return exact if exact.is_inside(0, 1) else BOOLEAN
    if not dtype.is_integer or dtype.lanes != 1:
        return UNLIMITED
    whole = dtype_range(dtype)
    return exact if exact.is_inside(whole.low, whole.high) else whole


def _has_unstable_value(expr: Expr, *, may_load: bool = False) -> bool:
    """Whether evaluating the expression again later may give something else: it reads memory, or calls what is not pure."""
    return any((node.op is Op.LOAD and not may_load) or (node.op is Op.CALL and not node.attribute.is_pure) for node in subexpressions(expr))


def bounds_of(expr: Expr, facts: Facts) -> ValueRange:
    """The range of an integer or bool expression under facts."""
    return facts.range_of(expr)
