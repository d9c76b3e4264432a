"""Expressions as Python functions on arrays, compiled once per launch (floor 7). Their meaning is that of `arith.evaluate`.

A function takes a group and a mask (None where all rows take part) and gives an array of the expression's dtype: without axes where all rows have one
value, else one value per row. What depends on nothing but the row, such as most of an index, is computed once per batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import numpy as np

from tilewright.arith.evaluate import apply, convert, exact_operation, reinterpret
from tilewright.dtypes import DType
from tilewright.execution.memory import Array
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import COMPARISONS, Expr, Op, Rounding
from tilewright.ir.visit import subexpressions
from tilewright.sim.group import Group

Function = Callable[[Group, Array | None], Array]

_OPERATORS = {
    Op.ADD: "+",
    Op.SUB: "-",
    Op.MUL: "*",
    Op.EQ: "==",
    Op.NE: "!=",
    Op.LT: "<",
    Op.LE: "<=",
    Op.GT: ">",
    Op.GE: ">=",
    Op.BIT_AND: "&",
    Op.BIT_OR: "|",
    Op.BIT_XOR: "^",
    Op.AND: "&",
    Op.OR: "|",
}


class Port(Protocol):
    """A buffer that expressions load from."""

    def load(self, site: int, group: Group, mask: Array | None, indices: tuple[Array, ...]) -> Array: ...


class ExpressionCompiler:
    """Collects expressions; `finish` compiles them all at once and makes the functions usable.

    row_variables   variables that have one value in each row for the whole batch.
    port            what a buffer is accessed through.
    """

    def __init__(self, row_variables: Iterable[Expr], port: Callable[[Buffer], Port]) -> None:
        self._slots: dict[Expr, int] = {}
        self._row_variables = set(row_variables)
        self._port = port
        self._names: dict[str, Any] = {"_where": np.where, "_lazy": _lazy, "_lazy_and": _lazy_and}
        self._lines: list[str] = []
        self._is_constant: dict[Expr, bool] = {}
        self._constants: dict[Expr, int] = {}
        self._holders: list[tuple[Evaluation, str]] = []
        self._objects: dict[int, str] = {}
        self._kept: list[Any] = []

    def slot(self, variable: Expr) -> int:
        """Where a group keeps the value of a variable."""
        return self._slots.setdefault(variable, len(self._slots))

    @property
    def num_slots(self) -> int:
        return len(self._slots)

    def function(self, expression: Expr, site: int) -> Evaluation:
        """What computes the expression as part of statement `site`."""
        deferred = Evaluation(self._slots_of([expression]), int(expression.dtype.lanes > 1))
        self._holders.append((deferred, self._define([expression], site)))
        return deferred

    def functions(self, expressions: Iterable[Expr], site: int) -> Evaluation:
        """What computes several expressions, as a tuple."""
        given = list(expressions)
        deferred = Evaluation(self._slots_of(given), 0)
        self._holders.append((deferred, self._define(given, site, is_tuple=True)))
        return deferred

    def _slots_of(self, expressions: list[Expr]) -> frozenset[int]:
        return frozenset(self.slot(node) for e in expressions for node in subexpressions(e) if node.op is Op.VAR)

    def finish(self) -> Callable[[Group], list[Array]]:
        """Compiles everything; gives what computes the constants of a batch from its row variables (a group's values)."""
        body = _Body(self, -1, is_constant=True)
        results = [body.value(expression) for expression in self._constants]
        self._lines += ["def _constants(g, m):", "    v = g.values", *body.lines, f"    return [{', '.join(results)}]", ""]
        exec(compile("\n".join(self._lines), "<expressions of the simulator>", "exec"), self._names)
        for deferred, name in self._holders:
            deferred.call = self._names[name]
        return partial(self._names["_constants"], m=None)

    # -- used by bodies
    def _define(self, expressions: list[Expr], site: int, *, is_tuple: bool = False) -> str:
        body = _Body(self, site)
        values = [body.value(e) for e in expressions]
        name = f"f{len(self._names)}"
        self._names[name] = None
        result = f"({''.join(v + ', ' for v in values)})" if is_tuple else values[0]
        self._lines += [f"def {name}(g, m):", "    v = g.values", "    c = g.constants", *body.lines, f"    return {result}", ""]
        return name

    def _object(self, value: Any) -> str:
        """The name of a Python object in the generated code."""
        name = self._objects.get(id(value))
        if name is None:
            name = self._objects[id(value)] = f"o{len(self._kept)}"
            self._names[name] = value
            self._kept.append(value)
        return name

    def _constant(self, node: Expr) -> str | None:
        """Where a batch keeps the value of a node that depends on the row alone; None for others."""
        if not self.depends_on_row_only(node):
            return None
        return f"c[{self._constants.setdefault(node, len(self._constants)) + 1}]"

    def depends_on_row_only(self, node: Expr) -> bool:
        stack = [node]
        known = self._is_constant
        while stack:
            top = stack[-1]
            if top in known:
                stack.pop()
                continue
            if top.op is Op.VAR:
                known[top] = top in self._row_variables
            elif top.op in (Op.LOAD, Op.CALL):
                known[top] = False
            elif waiting := [a for a in top.args if a not in known]:
                stack += waiting
            else:
                known[top] = all(known[a] for a in top.args)
        return known[node]


class Evaluation:
    """A function that exists after `finish`.

    slots   of the variables that it reads.
    rank    1 where its value has lanes.
    """

    __slots__ = ("call", "rank", "slots")
    call: Any

    def __init__(self, slots: frozenset[int], rank: int) -> None:
        self.slots, self.rank = slots, rank

    def __call__(self, group: Group, mask: Array | None) -> Any:
        return self.call(group, mask)


class _Body:
    """The statements of one generated function: each node once, operands first."""

    def __init__(self, compiler: ExpressionCompiler, site: int, *, is_constant: bool = False) -> None:
        self.compiler, self.site, self.is_constant = compiler, site, is_constant
        self.lines: list[str] = []
        self._names: dict[Expr, str] = {}

    def value(self, root: Expr) -> str:
        stack = [root]
        while stack:
            node = stack[-1]
            if node in self._names:
                stack.pop()
                continue
            if node.op is Op.CONST or node.op is Op.VAR:
                self._names[node] = self._leaf(node)
                continue
            if not self.is_constant and (kept := self.compiler._constant(node)) is not None:
                self._names[node] = kept
                continue
            eager = node.args[:1] if self._is_lazy(node) else node.args
            waiting = [a for a in eager if a not in self._names]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            stack.pop()
            name = f"x{len(self.lines)}"
            self.lines.append(f"    {name} = {self._text(node, [self._names[a] for a in eager])}")
            self._names[node] = name
        return self._names[root]

    def _is_lazy(self, node: Expr) -> bool:
        """Whether a side may only be computed where it is taken: it loads, or calls something with an effect."""
        if node.op not in (Op.IF_THEN_ELSE, Op.AND, Op.OR):
            return False
        seen: set[Expr] = set()
        stack = list(node.args[1:])
        while stack:
            inner = stack.pop()
            if inner in seen or self.compiler.depends_on_row_only(inner):
                continue
            seen.add(inner)
            if inner.op is Op.LOAD or (inner.op is Op.CALL and not inner.attribute.is_pure):
                return True
            stack += inner.args
        return False

    def _leaf(self, node: Expr) -> str:
        if node.op is Op.VAR:
            return f"v[{self.compiler.slot(node)}]"
        return self.compiler._object(constant(node))

    def _text(self, node: Expr, operands: list[str]) -> str:
        name = self.compiler._object
        match node.op:
            case Op.LOAD:
                return f"{name(partial(self.compiler._port(node.buffer).load, self.site))}(g, m, ({''.join(o + ', ' for o in operands)}))"
            case Op.CALL:
                return f"{name(partial(_call, node.attribute.meaning, node.dtype))}({', '.join(operands)})"
            case Op.CAST:
                return self._cast(node, operands[0])
            case Op.REINTERPRET:
                return f"{name(partial(_reinterpret, node.args[0].dtype, node.dtype))}({operands[0]})"
            case Op.SELECT | Op.IF_THEN_ELSE if len(operands) == 3:
                condition = f"{operands[0]}[..., None]" if node.dtype.lanes > 1 else operands[0]
                return f"_where({condition}, {operands[1]}, {operands[2]})"
            case Op.IF_THEN_ELSE:
                sides = [self._inner(side) for side in node.args[1:]]
                zero = name(np.zeros((node.dtype.lanes,) if node.dtype.lanes > 1 else (), node.dtype.numpy))
                return f"_lazy(g, m, {operands[0]}, {sides[0]}, {sides[1]}, {zero}, {node.dtype.lanes > 1})"
            case Op.AND | Op.OR if len(operands) == 1:
                return f"_lazy_and(g, m, {operands[0]}, {self._inner(node.args[1])}, {node.op is Op.OR})"
            case Op.NOT:
                return f"~{operands[0]}"
            case Op.FLOORDIV | Op.FLOORMOD if (shift := _power_of_two(node.args[1], node.dtype)) is not None:
                if node.op is Op.FLOORDIV:
                    return f"{operands[0]} >> {name(np.asarray(shift, node.dtype.numpy)[()])}"
                return f"{operands[0]} & {name(np.asarray((1 << shift) - 1, node.dtype.numpy)[()])}"
        dtype = node.args[0].dtype
        exact = exact_operation(node.op, dtype)
        if exact is None:
            return f"{name(partial(_apply, node.op, dtype))}({', '.join(operands)})"
        if node.op in _OPERATORS and (node.op in COMPARISONS or not dtype.is_bool or node.op in (Op.AND, Op.OR)):
            return f"{operands[0]} {_OPERATORS[node.op]} {operands[1]}"
        return f"{name(exact)}({', '.join(operands)})"

    def _inner(self, side: Expr) -> str:
        """A side of a lazy operation as a function of its own."""
        return self.compiler._define([side], self.site)

    def _cast(self, node: Expr, operand: str) -> str:
        source, target = node.args[0].dtype, node.dtype
        if node.attribute is Rounding.NEAREST_EVEN and source.lanes == target.lanes and is_plain_cast(source, target):
            return f"{operand}.astype({self.compiler._object(target.numpy)})"
        return f"{self.compiler._object(partial(_convert, source, target, node.attribute))}({operand})"


def constant(node: Expr) -> Any:
    """The value of a CONST as a numpy scalar of its dtype, or an array of its lanes."""
    value = np.asarray(node.value, np.float64 if node.dtype.is_float else None).astype(node.dtype.numpy)
    return value[()] if node.dtype.lanes == 1 else np.broadcast_to(value[..., None], (node.dtype.lanes,))


def is_plain_cast(source: DType, target: DType) -> bool:
    """Whether numpy's astype alone is `convert`."""
    if source.is_packed or target.is_packed or target.is_bool:
        return False
    if target.is_integer:
        return not source.is_float
    if source.is_float and source.bits < 32:
        return target.bits == 32
    return target.bits >= 32 or source.numpy == np.float32


def _power_of_two(divisor: Expr, dtype: DType) -> int | None:
    """The exponent of a constant divisor of integers that is a power of two."""
    if not divisor.is_const or not dtype.is_integer or dtype.is_packed or dtype.lanes > 1:
        return None
    value = divisor.value
    return value.bit_length() - 1 if value > 0 and value & (value - 1) == 0 else None


def _apply(op: Op, dtype: DType, *operands: Any) -> Array:
    return apply(op, dtype, [np.asarray(o) for o in operands])


def _convert(source: DType, target: DType, rounding: Rounding, value: Any) -> Array:
    converted = convert(np.asarray(value), source, target, rounding)
    return converted if source.lanes == target.lanes else np.broadcast_to(converted[..., None], (*converted.shape, target.lanes))


def _reinterpret(source: DType, target: DType, value: Any) -> Array:
    return reinterpret(np.asarray(value), source, target)


def _call(meaning: Callable[..., Any], dtype: DType, *operands: Any) -> Array:
    result = np.asarray(meaning(*(np.asarray(o) for o in operands)))
    if result.dtype == dtype.numpy:
        return result
    return result.astype(np.float32).astype(dtype.numpy) if dtype.is_float and dtype.bits < 32 else result.astype(dtype.numpy)


def _taken(mask: Array | None, condition: Array) -> Array:
    return condition if mask is None else mask & condition


def _lazy(group: Group, mask: Array | None, condition: Any, if_true: Function, if_false: Function, zero: Array, has_lanes: bool) -> Array:
    if np.ndim(condition) == 0:
        return if_true(group, mask) if condition else if_false(group, mask)
    sides = []
    for side, taken in ((if_true, condition), (if_false, ~condition)):
        inner = _taken(mask, taken)
        sides.append(side(group, inner) if inner.any() else zero)
    return np.where(condition[..., None] if has_lanes else condition, *sides)


def _lazy_and(group: Group, mask: Array | None, left: Any, right: Function, is_or: bool) -> Array:
    if np.ndim(left) == 0:
        return left if bool(left) == is_or else right(group, mask)
    inner = _taken(mask, ~left if is_or else left)
    if not inner.any():
        return np.asarray(left)
    found = right(group, inner)
    return np.asarray(left | found if is_or else left & found)
