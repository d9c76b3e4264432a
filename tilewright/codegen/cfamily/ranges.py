"""Ranges of the integers of one kernel, for the width of index arithmetic and for divisions (floor 6).

Every variable is given its range where it is bound; `arith.value_range` carries ranges through operations. Arithmetic of int32 and int64 on indices is
exact by the promise of the language; all other arithmetic wraps, and has the range of its dtype unless the exact result fits.
"""

from __future__ import annotations

from tilewright.arith import value_range as vr
from tilewright.arith.value_range import BOOLEAN, OPERATIONS, UNLIMITED, ValueRange, dtype_range, exactly
from tilewright.ir.expr import COMPARISONS, LOGICAL, Expr, Op

INT32 = ValueRange(-(1 << 31), (1 << 31) - 1)

_EXACT = frozenset({Op.ADD, Op.SUB, Op.MUL, Op.FLOORDIV, Op.FLOORMOD, Op.MIN, Op.MAX, Op.NEG})


def fits_int32(known: ValueRange) -> bool:
    return known.is_inside(INT32.low, INT32.high)


class Ranges:
    """What is known of the integers in scope."""

    def __init__(self) -> None:
        self._variables: dict[Expr, ValueRange] = {}
        self._known: dict[Expr, ValueRange] = {}
        self._indices: set[Expr] = set()  # variables that index arithmetic is made of
        self._is_index: dict[Expr, bool] = {}

    def bind(self, variable: Expr, known: ValueRange, *, is_index: bool) -> None:
        """Says what a variable holds from here on. One that is bound again forgets what followed from its earlier range."""
        if variable in self._variables:
            self._known.clear()
            self._is_index.clear()
        self._variables[variable] = vr.meet(known, dtype_range(variable.dtype)) if variable.dtype.is_integer else known
        if is_index:
            self._indices.add(variable)
        else:
            self._indices.discard(variable)

    def is_index(self, node: Expr) -> bool:
        """Whether a signed integer is computed from index variables and constants alone, by arithmetic that is promised not to overflow."""
        found = self._is_index.get(node)
        if found is None:
            for part in _waiting(node, self._is_index):
                self._is_index[part] = self._compute_is_index(part)
            found = self._is_index[node]
        return found

    def _compute_is_index(self, node: Expr) -> bool:
        if not (node.dtype.is_integer and node.dtype.is_signed and node.dtype.bits >= 32 and node.dtype.lanes == 1):
            return False
        if node.op is Op.CONST:
            return True
        if node.op is Op.VAR:
            return node in self._indices
        return (node.op in _EXACT or node.op is Op.CAST) and all(self._is_index[a] for a in node.args)

    def of(self, node: Expr) -> ValueRange:
        """A range that holds every value of an integer or bool expression; UNLIMITED for others."""
        found = self._known.get(node)
        if found is None:
            for part in _waiting(node, self._known):
                self._known[part] = self._compute(part)
            found = self._known[node]
        return found

    def _compute(self, node: Expr) -> ValueRange:
        dtype = node.dtype
        if not (dtype.is_integer or dtype.is_bool) or dtype.lanes > 1:
            return UNLIMITED
        exact = self._exact(node)
        whole = dtype_range(dtype)
        if exact.is_inside(whole.low, whole.high):
            return exact
        return exact if self.is_index(node) and node.op is not Op.CAST else whole

    def _exact(self, node: Expr) -> ValueRange:
        op, args = node.op, node.args
        if op is Op.CONST:
            return exactly(int(node.value))
        if op is Op.VAR:
            return self._variables.get(node, UNLIMITED)
        if op in COMPARISONS or op in LOGICAL:
            return BOOLEAN
        if op in OPERATIONS:
            return OPERATIONS[op](self._known[args[0]], self._known[args[1]])
        match op:
            case Op.NEG:
                return vr.negate(self._known[args[0]])
            case Op.BIT_NOT:
                return vr.bit_not(self._known[args[0]])
            case Op.SELECT | Op.IF_THEN_ELSE:
                return vr.join(self._known[args[1]], self._known[args[2]])
            case Op.CAST if args[0].dtype.is_integer or args[0].dtype.is_bool:
                return self._known[args[0]]
            case _:
                return UNLIMITED


def _waiting(root: Expr, done: dict[Expr, object] | dict[Expr, ValueRange] | dict[Expr, bool]) -> list[Expr]:
    """What is not done of `root` and everything below it, operands first."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            order.append(node)
        elif node not in seen and node not in done:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a, False) for a in node.args)
    return order
