"""The state of one function under generation (floor 6): what is known and computed at the current place, and how wide the code is.

Everything that is remembered belongs to a scope: it is forgotten where the control flow leaves the stretch in which it was computed, and
values that came from memory are forgotten where that memory is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

from tilewright.codegen.llvm.emitter import Function, Module, Value, constant, vector_constant, vector_type
from tilewright.codegen.llvm.facts import Facts, Sum, is_index_operation, is_shared_memory
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.stmt import For, Let, ParallelFor, ReduceLoop, Stmt
from tilewright.ir.tileop import TilePlan
from tilewright.ir.visit import statements, subexpressions
from tilewright.target.cpu import CpuTarget


@dataclass(frozen=True, slots=True)
class Ramp:
    """An integer that differs between the lanes by constants: lane k is base + offsets[k].

    multiple   the base is known to be a multiple of this; 0 where it is zero.
    """

    base: Value
    offsets: tuple[int, ...]
    multiple: int = 1

    @property
    def is_uniform(self) -> bool:
        return all(offset == self.offsets[0] for offset in self.offsets)


# A scalar Value has the same value in every lane, a vector Value one per lane.
Operand = Value | Ramp


def is_scalar(operand: Operand) -> TypeGuard[Value]:
    return isinstance(operand, Value) and not operand.type.startswith("<")


class Tables:
    """Dictionaries whose entries live until the scope that made them ends."""

    def __init__(self) -> None:
        self.values: dict[Expr, Operand] = {}  # in the register type of the node's dtype
        self.indices: dict[Expr, Operand] = {}  # integers in i64
        self.known: dict[Expr, bool] = {}  # conditions that hold or fail here
        self.pointers: dict[Any, Any] = {}
        self._log: list[tuple[dict[Any, Any], Any]] = []

    def remember(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        table[key] = value
        self._log.append((table, key))

    @contextmanager
    def scope(self) -> Iterator[None]:
        mark = len(self._log)
        yield
        log = self._log
        while len(log) > mark:
            table, key = log.pop()
            table.pop(key, None)


class Task(Tables):
    """One function: its text so far, the vector variable, and the values at hand.

    lanes    how many turns of `variable` the code being emitted does at once; 1 for scalar code.
    mask     where set, the lanes that the code being emitted counts for: only they may access memory outside what is certainly theirs.
    private  thread-private tiles of which every lane has its own copy, and where these are.
    only_written  tensors of the caller that the launch writes and does not read.
    streamed      those of them whose vectors go past the caches here; each starts at a multiple of its size.
    has_streamed  there are such stores somewhere.
    cells    accesses whose elements are on the stack for the time of a loop: the address there, with the type of the elements.
    """

    def __init__(self, function: Function, target: CpuTarget, plans: Mapping[Buffer, TilePlan], facts: Facts) -> None:
        super().__init__()
        self.f = function
        self.module: Module = function.module
        self.target, self.plans, self.facts = target, plans, facts
        self.lanes = 1
        self.variable: Expr | None = None
        self.mask: Value | None = None
        self.private: dict[Buffer, Value] = {}
        self.only_written: frozenset[Buffer] = frozenset()
        self.streamed: frozenset[Buffer] = frozenset()
        self.has_streamed = False
        self.cells: dict[Expr, Value] = {}
        self.aliases: dict[Expr, Expr] = {}  # variables that stand for index arithmetic
        self.index_variables: set[Expr] = set()  # loop and block indices, symbols, integer parameters
        self.nonnegative: set[Expr] = set()
        self.multiples: dict[Expr, int] = {}
        self.limits: dict[Expr, int] = {}  # static extents of loops: the variable stays below
        self._is_index: dict[Expr, bool] = {}
        self._sums: dict[Expr, Sum] = {}
        self._readers: dict[Buffer, list[tuple[dict[Any, Any], Any]]] = {}

    # -- scopes
    @contextmanager
    def vector(self, lanes: int, variable: Expr, private: Mapping[Buffer, Value]) -> Iterator[None]:
        """Code for `lanes` turns of `variable` at once."""
        before = self.lanes, self.variable, self.private
        self.lanes, self.variable, self.private = lanes, variable, dict(private)
        with self.scope():
            yield
        self.lanes, self.variable, self.private = before

    @contextmanager
    def masked(self, condition: Value, *, holds: bool = True) -> Iterator[None]:
        """Code for the lanes in which a condition holds, or fails."""
        f, outer = self.f, self.mask
        own = condition if holds else f.binary("xor", condition, constant(True, condition.type))
        self.mask = own if outer is None else f.binary("and", outer, own)
        with self.scope():
            yield
        self.mask = outer

    @contextmanager
    def assuming(self, conditions: Iterable[tuple[Expr, bool]]) -> Iterator[None]:
        """Code that runs only where these conditions hold (or fail)."""
        with self.scope():
            for condition, holds in conditions:
                self.remember(self.known, condition, holds)
            yield

    def remember_loaded(self, table: dict[Any, Any], key: Expr, value: Any) -> None:
        """Remembers a value that may have come from memory."""
        self.remember(table, key, value)
        for storage in self.facts.dependences(key).storages:
            self._readers.setdefault(storage, []).append((table, key))

    def forget(self, written: Iterable[Buffer]) -> None:
        """Drops what was computed from memory that is about to change."""
        for buffer in written:
            for storage in [s for s in self._readers if is_shared_memory(s, buffer)]:
                for table, key in self._readers.pop(storage):
                    table.pop(key, None)

    # -- variables
    def declare_loops(self, body: Stmt) -> None:
        """Makes known which variables of a body are indices, before any code asks."""
        for node in statements(body):
            match node:
                case For():
                    self._declare_index(node.variable, node.extent)
                case ParallelFor():
                    for variable, extent in zip(node.variables, node.extents, strict=True):
                        self._declare_index(variable, extent)
                case ReduceLoop():
                    self._declare_index(node.axis, node.extent)
                case Let() if node.value.dtype.is_integer and node.value.dtype.is_signed and node.value.dtype.bits >= 32 and self.is_index(node.value):
                    self.aliases[node.variable] = node.value

    def _declare_index(self, variable: Expr, extent: Expr) -> None:
        self.index_variables.add(variable)
        self.nonnegative.add(variable)
        if extent.is_const:
            self.limits[variable] = int(extent.value)

    def interval(self, node: Expr) -> tuple[float, float]:
        """Bounds of an index, both included, from the extents of loops alone."""
        total = self.sum(node)
        low: float = total.constant
        high: float = total.constant
        for atom, scale in total.terms:
            ends = [scale * end if end else 0 for end in self._atom_interval(atom)]
            low, high = low + min(ends), high + max(ends)
        return low, high

    def _atom_interval(self, atom: Expr) -> tuple[float, float]:
        if atom in self.index_variables:
            return (0 if atom in self.nonnegative else -math.inf), self.limits.get(atom, math.inf) - 1
        if atom.op in (Op.FLOORDIV, Op.FLOORMOD) and atom.args[1].is_const and atom.args[1].value > 0:
            by = int(atom.args[1].value)
            low, high = self.interval(atom.args[0])
            if atom.op is Op.FLOORDIV:
                return low // by, high // by
            return (low, high) if low >= 0 and high < by else (0, by - 1)
        if atom.op in (Op.MIN, Op.MAX):
            (a, b), (c, d) = map(self.interval, atom.args)
            return (min(a, c), min(b, d)) if atom.op is Op.MIN else (max(a, c), max(b, d))
        return -math.inf, math.inf

    def is_safe(self, node: Expr) -> bool:
        """Whether every load in an expression stays inside a tile, whatever conditions stand around it."""
        for inner in subexpressions(node):
            if inner.op is Op.LOAD:
                if inner.buffer.scope is Scope.GLOBAL:
                    return False
                for position, extent in zip(inner.args, inner.buffer.shape, strict=True):
                    low, high = self.interval(position)
                    if low < 0 or not isinstance(extent, int) or high >= extent:
                        return False
        return True

    def bind_index(self, variable: Expr, value: Operand, *, multiple: int = 1) -> None:
        """Gives an integer variable its i64 value."""
        self.multiples[variable] = multiple
        self.remember(self.indices, variable, value)

    def is_bound(self, expression: Expr) -> bool:
        """Whether all variables that an expression needs have values here."""
        return all(
            v in self.indices or v in self.values or (v in self.aliases and self.is_bound(self.aliases[v]))
            for v in self.facts.dependences(expression).variables
        )

    # -- index arithmetic
    def is_index(self, root: Expr) -> bool:
        """Whether an integer comes from loop indices, symbols and constants alone: such values never wrap, and are computed in 64 bits."""
        found = self._is_index.get(root)
        if found is not None:
            return found
        for node in subexpressions(root):
            if node in self._is_index:
                continue
            if node.op is Op.VAR:
                made = node in self.index_variables or node in self.aliases
            elif node.op is Op.CAST:
                made = _is_widening(node) and self._is_index[node.args[0]]
            else:
                made = node.op is Op.CONST or (is_index_operation(node) and all(self._is_index[a] for a in node.args))
            self._is_index[node] = made
        return self._is_index[root]

    def sum(self, node: Expr) -> Sum:
        """An integer as a sum over atoms; what is loaded stays whole inside products, because there its arithmetic may wrap."""
        found = self._sums.get(node)
        if found is None:
            terms: dict[Expr, int] = {}
            rest = self._add_terms(node, terms)
            found = self._sums[node] = Sum(tuple((atom, scale) for atom, scale in terms.items() if scale), rest)
        return found

    def _add_terms(self, root: Expr, terms: dict[Expr, int]) -> int:
        """Adds the terms of a sum; gives its constant part."""
        total = 0
        stack = [(root, 1)]
        while stack:
            node, scale = stack.pop()
            match node.op:
                case Op.CONST:
                    total += int(node.value) * scale
                case Op.ADD | Op.SUB if is_index_operation(node):
                    stack += [(node.args[1], scale if node.op is Op.ADD else -scale), (node.args[0], scale)]
                case Op.MUL if self.is_index(node) and (node.args[0].is_const or node.args[1].is_const):
                    factor, other = node.args if node.args[0].is_const else node.args[::-1]
                    stack.append((other, scale * int(factor.value)))
                case Op.CAST if _is_widening(node):
                    stack.append((node.args[0], scale))
                case Op.VAR if node in self.aliases:
                    stack.append((self.aliases[node], scale))
                case _:
                    terms[node] = terms.get(node, 0) + scale
        return total

    def is_nonnegative(self, node: Expr) -> bool:
        """Whether an index is known not to be negative, from its shape alone."""
        match node.op:
            case Op.CONST:
                return bool(node.value >= 0)
            case Op.VAR:
                return node in self.nonnegative or (node in self.aliases and self.is_nonnegative(self.aliases[node]))
            case Op.ADD | Op.MUL | Op.MIN | Op.FLOORDIV:
                return all(self.is_nonnegative(a) for a in node.args)
            case Op.MAX:
                return any(self.is_nonnegative(a) for a in node.args)
            case Op.FLOORMOD:
                return node.args[1].is_const and node.args[1].value > 0
            case Op.CAST:
                return _is_widening(node) and self.is_nonnegative(node.args[0])
        return False

    def multiple_of(self, node: Expr) -> int:
        """A number that divides an index; 0 where it is zero."""
        total = self.sum(node)
        return math.gcd(total.constant, *(scale * self._multiple_of_atom(atom) for atom, scale in total.terms))

    def _multiple_of_atom(self, atom: Expr) -> int:
        if atom.op is Op.VAR:
            return self.multiples.get(atom, 1)
        if atom.op is Op.MUL:
            return self.multiple_of(atom.args[0]) * self.multiple_of(atom.args[1])
        return 1

    # -- operands
    def widened(self, operand: Operand) -> Value:
        """One value per lane, whatever the form; a scalar in scalar code."""
        if isinstance(operand, Value):
            return self.f.splat(operand, self.lanes)
        base = self.f.splat(operand.base, self.lanes)
        if not any(operand.offsets):
            return base
        lanes = vector_constant([wrap(offset, operand.base.type) for offset in operand.offsets], operand.base.type)
        return lanes if operand.base.text == "0" else self.f.binary("add", base, lanes)

    def lane(self, operand: Operand, lane: int) -> Value:
        """The scalar of one lane."""
        if isinstance(operand, Ramp):
            return self.add_constant(operand.base, operand.offsets[lane])
        return operand if is_scalar(operand) else self.f.extract(operand, lane)

    def simplified(self, ramp: Ramp) -> Operand:
        """A ramp, or the scalar that it is where all lanes are equal."""
        return self.add_constant(ramp.base, ramp.offsets[0]) if ramp.is_uniform else ramp

    def add_constant(self, value: Value, amount: int) -> Value:
        if not amount:
            return value
        if not value.text.startswith("%"):
            return constant(wrap(int(value.text) + amount, value.type), value.type)
        return self.f.binary("add", value, constant(wrap(amount, value.type), value.type))

    def add(self, a: Operand, b: Operand, *, sign: int = 1, multiple: int = 1) -> Operand:
        """a + b or a - b of integers of one type; `multiple` is what is known of a uniform side."""
        op = "add" if sign > 0 else "sub"
        if isinstance(a, Value) and isinstance(b, Value):
            if a.lanes == b.lanes:
                return fold_sum(self, op, a, b)
            return self.f.binary(op, self.widened(a), self.widened(b))
        left, right = self.as_ramp(a, multiple), self.as_ramp(b, multiple)
        if left is None or right is None:
            return self.f.binary(op, self.widened(a), self.widened(b))
        offsets = tuple(x + sign * y for x, y in zip(left.offsets, right.offsets, strict=True))
        return Ramp(fold_sum(self, op, left.base, right.base), offsets, math.gcd(left.multiple, right.multiple))

    def scale(self, a: Operand, factor: int) -> Operand:
        """a * factor."""
        if isinstance(a, Ramp):
            return Ramp(self.scale_value(a.base, factor), tuple(o * factor for o in a.offsets), a.multiple * factor)
        return self.scale_value(a, factor)

    def scale_value(self, a: Value, factor: int) -> Value:
        if factor == 1:
            return a
        if factor == 0 or (is_scalar(a) and not a.text.startswith("%")):
            return constant(wrap(int(a.text) * factor, a.type) if factor else 0, a.type)
        return self.f.binary("mul", a, constant(wrap(factor, a.element), a.type))

    def as_ramp(self, operand: Operand, multiple: int = 1) -> Ramp | None:
        """A scalar as a ramp with equal lanes; constants go into the offsets, so that the base stays a round number."""
        if isinstance(operand, Ramp):
            return operand
        if not is_scalar(operand):
            return None
        if not operand.text.startswith("%"):
            return Ramp(constant(0, operand.type), (int(operand.text),) * self.lanes, 0)
        return Ramp(operand, (0,) * self.lanes, multiple)

    def type_of(self, element: str) -> str:
        return vector_type(element, self.lanes)


def wrap(number: int, type_: str) -> int:
    """A number as a signed integer of an LLVM type."""
    half = 1 << (int(type_[1:]) - 1)
    return (number + half) % (2 * half) - half


def fold_sum(task: Task, op: str, a: Value, b: Value) -> Value:
    """a + b or a - b, without an instruction where a side is a constant zero or both are constants."""
    is_a, is_b = not a.text.startswith("%"), not b.text.startswith("%")
    if b.text == "0":
        return a
    if a.text == "0" and op == "add":
        return b
    if is_a and is_b and a.lanes == 1:
        return constant(wrap(int(a.text) + (int(b.text) if op == "add" else -int(b.text)), a.type), a.type)
    return task.f.binary(op, a, b)


def _is_widening(node: Expr) -> bool:
    """A cast that keeps every value of a signed integer."""
    source = node.args[0].dtype
    return source.is_integer and source.is_signed and node.dtype.is_integer and node.dtype.is_signed and node.dtype.bits >= source.bits
