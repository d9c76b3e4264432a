"""Whether two accesses of thread-level code may touch one element from different threads (floor 5).

Three ways to show that they do not: where an index depends on nothing but the thread, loops of constant extent, and terms that both accesses share, all
threads are enumerated, which is exact; otherwise a proof over one thread and another one, each with the conditions under which it comes there; and where
the common loops have few turns, the enumeration in each of them, as for `tx ^ (1 << k)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from tilewright.arith.bounds import Facts
from tilewright.arith.evaluate import evaluate
from tilewright.arith.linear import LinearForm, Linearizer
from tilewright.arith.prove import are_disjoint
from tilewright.ir.buffer import Buffer, Extent
from tilewright.ir.expr import Expr, Op, const, unary, var
from tilewright.ir.program import Launch
from tilewright.ir.stmt import WARP_THREADS, Stmt
from tilewright.ir.visit import rewrite_expr, subexpressions, substitute_expr
from tilewright.passes.thread_variance import Variance, is_private
from tilewright.passes.walk import launch_facts

_MAX_POINTS = 1 << 16
_MAX_PROOFS = 200  # per launch: a proof takes about a millisecond
_MAX_TURNS = 1000  # per launch: likewise

Array = np.ndarray[Any, Any]
Box = tuple[tuple[Expr, Extent], ...]
Loop = tuple[Expr, Expr | None]  # variable and extent; a `while` has a variable that nobody knows, and no extent


class Order(Enum):
    """Which threads a barrier has ordered an access for already."""

    NONE = "none"
    WARP = "warp"  # those of the same warp
    GROUP = "group"  # those that take the same way


@dataclass(frozen=True, eq=False)
class Access:
    """One access of every thread that comes there.

    indices  None for an operation of the whole block, of which any thread may do any part.
    box      of such an operation: start and extent on each axis of what it may touch; None for the whole buffer.
    """

    stmt: Stmt
    buffer: Buffer
    indices: tuple[Expr, ...] | None
    is_write: bool
    is_atomic: bool = False
    conditions: tuple[tuple[Expr, bool], ...] = ()
    loops: tuple[Loop, ...] = ()
    order: Order = Order.NONE
    box: Box | None = None

    @property
    def touched(self) -> Box | None:
        """What one thread may touch; None for anything in the buffer."""
        return self.box if self.indices is None else tuple((index, 1) for index in self.indices)

    def expressions(self) -> Iterator[Expr]:
        """All that says where and whether the access happens."""
        yield from (e for part in self.touched or () for e in part if isinstance(e, Expr))
        yield from (condition for condition, _ in self.conditions)
        for variable, extent in self.loops:
            yield variable
            yield from () if extent is None else (extent,)

    def ordered(self, order: Order) -> Access:
        return self if self.order is order else dataclasses.replace(self, order=order)


class Values:
    """What is known of the names of a launch: their values as far as they are integers, the loops in which they are made, and which threads share."""

    def __init__(self, variance: Variance) -> None:
        self.variance = variance
        self.varying: set[Expr] = set(variance.variables)
        self.definitions: dict[Expr, Expr] = {}
        self.births: dict[Expr, frozenset[Expr]] = {}
        self.versions: dict[Buffer, int] = {}
        self.contents: dict[tuple[Expr, int], Expr] = {}  # a load and the version of its buffer: the symbol for what it gives


class Place:
    """A point in a launch: the conditions and loops around it. Places of one launch share what they know of names."""

    def __init__(self, values: Values, conditions: tuple[tuple[Expr, bool], ...] = (), loops: tuple[Loop, ...] = ()) -> None:
        self.values, self.conditions, self.loops = values, conditions, loops

    def under(self, condition: Expr, truth: bool) -> Place:
        """Inside a branch; the condition is `expanded`."""
        return Place(self.values, (*self.conditions, (condition, truth)), self.loops)

    def inside(self, variable: Expr | None, extent: Expr | None) -> Place:
        """Inside a loop; a `while` has neither."""
        loop = (var("turn") if variable is None else variable, None if extent is None else self.expanded(extent))
        return Place(self.values, self.conditions, (*self.loops, loop))

    def name(self, variable: Expr) -> None:
        """A name is made here, whose value is not known."""
        self.values.births[variable] = frozenset(v for v, _ in self.loops)

    def define(self, variable: Expr, value: Expr) -> None:
        """A name is made here, for a value."""
        self.name(variable)
        if value.dtype.is_integer or value.dtype.is_bool:
            expanded = self.expanded(value)
            if not any(n.op is Op.LOAD for n in subexpressions(expanded)):
                self.values.definitions[variable] = expanded

    def written(self, buffer: Buffer) -> None:
        """A thread's own memory changes here."""
        self.values.versions[buffer.storage] = self.values.versions.get(buffer.storage, 0) + 1

    def expanded(self, expression: Expr) -> Expr:
        """The expression with the values of names, and symbols for what a thread's own memory holds now."""
        values = self.values

        def known(node: Expr) -> Expr:
            if node.op is Op.VAR:
                return values.definitions.get(node, node)
            if node.op is not Op.LOAD or not is_private(node.buffer) or node.buffer.source is not None or not all(i.is_const for i in node.args):
                return node
            key = (node, values.versions.get(node.buffer, 0))
            if key not in values.contents:
                symbol = values.contents[key] = var(node.buffer.name, node.dtype)
                self.name(symbol)
                if node.buffer in values.variance.buffers:
                    values.varying.add(symbol)
            return values.contents[key]

        return rewrite_expr(expression, known)

    def access(self, stmt: Stmt, buffer: Buffer, indices: tuple[Expr, ...], *, is_write: bool, is_atomic: bool = False) -> Access:
        """An access of the threads that come here."""
        return Access(stmt, buffer, tuple(map(self.expanded, indices)), is_write, is_atomic, self.conditions, self.loops)


class Conflicts:
    """Answers for one launch."""

    def __init__(self, launch: Launch, values: Values) -> None:
        self.launch, self.values = launch, values
        self.thread_count = math.prod(launch.threads)
        self.axes = [k for k, n in enumerate(launch.threads) if n > 1]
        self.facts = launch_facts(launch)
        self.linearizer = Linearizer(is_expanding=True)
        self.proofs_left = _MAX_PROOFS
        self.turns_left = _MAX_TURNS
        self._answers: dict[tuple[Any, ...], bool] = {}

    def meet(self, first: Access, second: Access, carried_by: Place | None = None) -> bool:
        """Whether a thread's `first` and another thread's `second` may touch one element in an order that counts.

        carried_by   the inside of a loop: `second` belongs to a later turn of it than `first`. Without it both belong to the same turn of all common loops.
        """
        if first.buffer.storage is not second.buffer.storage or not (first.is_write or second.is_write) or (first.is_atomic and second.is_atomic):
            return False
        if first.order is Order.GROUP or self.thread_count == 1:
            return False
        if first.buffer is not second.buffer or first.touched is None or second.touched is None:
            return True
        carrier = None if carried_by is None else carried_by.loops[-1][0]
        key = (*((a.touched, a.indices is None, a.conditions, a.loops) for a in (first, second)), first.order, carrier)
        if key not in self._answers:
            self._answers[key] = self._meet(first, second, carrier)
        return self._answers[key]

    def _meet(self, first: Access, second: Access, carrier: Expr | None) -> bool:
        common: list[Loop] = []
        for a, b in zip(first.loops, second.loops, strict=False):
            if a[0] is not b[0] or a[0] is carrier:
                break
            common.append(a)
        shared = frozenset(v for v, _ in common)
        if first.indices is not None and second.indices is not None and not self._meet_when_enumerated(first, second, shared):
            return False
        return not self._is_proved_apart(first, second, common, carrier) and self._meet_in_some_turn(first, second, common)

    # -- all threads, one by one
    def _meet_when_enumerated(self, first: Access, second: Access, shared: frozenset[Expr]) -> bool:
        """False where enumeration shows that no two threads meet; True where they do, or it cannot tell."""
        assert first.indices is not None and second.indices is not None
        points = [_Points(self, access, shared) for access in (first, second)]
        if any(p.size == 0 for p in points):
            return False
        keys: list[tuple[Array, Array]] = []
        for a, b in zip(first.indices, second.indices, strict=True):
            parts = [p.split(self.linearizer.form(index)) for p, index in zip(points, (a, b), strict=True)]
            left, right = parts
            if left is None or right is None:
                continue
            distance = left[1] - right[1]
            if distance.is_constant:
                keys.append((left[0] + distance.constant, right[0]))
        if not keys:
            return True
        step = 1 if first.order is Order.NONE else WARP_THREADS
        codes = [np.zeros(p.size, np.int64) for p in points]
        for left_key, right_key in keys:
            low, high = min(left_key.min(), right_key.min()), max(left_key.max(), right_key.max())
            if high - low >= 1 << 31:
                return True
            codes = [code * (high - low + 1) + (k - low) for code, k in zip(codes, (left_key, right_key), strict=True)]
            _, joined = np.unique(np.concatenate(codes), return_inverse=True)
            codes = np.split(joined.reshape(-1), [points[0].size])
        count = int(max(codes[0].max(), codes[1].max())) + 1
        least, most = np.full((2, count), self.thread_count), np.full((2, count), -1)
        for row, (code, p) in enumerate(zip(codes, points, strict=True)):
            np.minimum.at(least[row], code, p.threads // step)
            np.maximum.at(most[row], code, p.threads // step)
        is_met = (most >= 0).all(axis=0)
        return bool((is_met & (least.min(axis=0) != most.max(axis=0))).any())

    def _meet_in_some_turn(self, first: Access, second: Access, common: list[Loop]) -> bool:
        """False where enumeration shows for every turn of the common loops that no two threads meet; True where they do, or it cannot tell."""
        if first.indices is None or second.indices is None or not common or self.turns_left <= 0:
            return True
        (variable, extent), *rest = common
        if not any(n is variable for access in (first, second) for root in access.expressions() for n in subexpressions(root) if root is not variable):
            return self._meet_in_some_turn(_without(first, variable), _without(second, variable), rest)
        if extent is None or not extent.is_const or extent.value > self.turns_left:
            return True
        for turn in range(max(extent.value, 0)):
            self.turns_left -= 1
            value = {variable: const(turn, variable.dtype)}
            a, b = (_renamed(_without(access, variable), value) for access in (first, second))
            inner = [(v, None if n is None else substitute_expr(n, value)) for v, n in rest]
            if self._meet_when_enumerated(a, b, frozenset(v for v, _ in inner)) and self._meet_in_some_turn(a, b, inner):
                return True
        return False

    # -- one thread and another one
    def _is_proved_apart(self, first: Access, second: Access, common: list[Loop], carrier: Expr | None) -> bool:
        are_threads = first.indices is not None and second.indices is not None
        if (are_threads and len(self.axes) != 1) or self.proofs_left <= 0:
            return False
        self.proofs_left -= 1
        shared = frozenset(v for v, _ in common)
        other: dict[Expr, Expr] = {}
        for root in second.expressions():
            for node in subexpressions(root):
                if node.op is Op.VAR and node not in other and self._is_own(node, second, shared):
                    other[node] = var(node.name, node.dtype)
        facts = self.facts
        renamed = second if not other else _renamed(second, other)
        for number, count in zip(self.launch.thread_variables, self.launch.threads, strict=True):
            if number in other or (are_threads and count > 1):
                facts = facts.with_loop(other.setdefault(number, var(number.name)), count)
        for access in (first, renamed):
            for variable, extent in access.loops:
                if extent is not None and not (access is renamed and variable in shared):
                    facts = facts.with_loop(variable, extent)
            for condition, truth in access.conditions:
                facts = facts.assuming(condition if truth else unary(Op.NOT, condition))
        if carrier is not None and carrier in other:
            facts = facts.assuming(carrier < other[carrier])
        left, right = first.touched, renamed.touched
        assert left is not None and right is not None
        cases: list[Facts] = [facts]
        if are_threads:
            thread = self.launch.thread_variables[self.axes[0]]
            cases = [facts.assuming(thread < other[thread]), facts.assuming(thread > other[thread])]
        return all(case.is_contradictory or are_disjoint(left, right, case).is_proved for case in cases)

    def _is_own(self, name: Expr, access: Access, shared: frozenset[Expr]) -> bool:
        """Whether a name may have another value for the other thread, or in the other turn."""
        if name in self.values.varying or any(name is v and v not in shared for v, _ in access.loops):
            return True
        return not self.values.births.get(name, frozenset()) <= shared


def _renamed(access: Access, names: dict[Expr, Expr]) -> Access:
    def box(item: Extent) -> Extent:
        return substitute_expr(item, names) if isinstance(item, Expr) else item

    return dataclasses.replace(
        access,
        indices=None if access.indices is None else tuple(substitute_expr(i, names) for i in access.indices),
        box=None if access.box is None else tuple((substitute_expr(start, names), box(extent)) for start, extent in access.box),
        conditions=tuple((substitute_expr(c, names), truth) for c, truth in access.conditions),
        loops=tuple((names.get(v, v), None if n is None else substitute_expr(n, names)) for v, n in access.loops),
    )


def _without(access: Access, variable: Expr) -> Access:
    """The access in one turn of a loop around it."""
    return dataclasses.replace(access, loops=tuple(loop for loop in access.loops if loop[0] is not variable))


class _Points:
    """The turns of one access that can be enumerated: all threads, and all turns of loops of its own that have constant extents."""

    def __init__(self, owner: Conflicts, access: Access, shared: frozenset[Expr]) -> None:
        self.owner, self.access, self.shared = owner, access, shared
        launch = owner.launch
        names, sizes = list(reversed(launch.thread_variables)), list(reversed(launch.threads))
        for variable, extent in access.loops:
            if variable not in shared and extent is not None and extent.is_const and math.prod(sizes) * max(extent.value, 0) <= _MAX_POINTS:
                names.append(variable)
                sizes.append(max(extent.value, 0))
        grid = np.meshgrid(*(np.arange(n) for n in sizes), indexing="ij")
        self.values: dict[Expr, Array] = {name: places.reshape(-1).astype(name.dtype.numpy) for name, places in zip(names, grid, strict=True)}
        number = np.arange(owner.thread_count).reshape(*sizes[:3], *(1,) * (len(sizes) - 3))
        self.threads = np.broadcast_to(number, sizes).reshape(-1)
        active = np.ones(self.threads.size, np.bool_)
        for condition, truth in access.conditions:
            if self._is_enumerable(condition):
                active &= np.broadcast_to(evaluate(condition, self.values, _no_memory), active.shape) == truth
        self.values = {name: places[active] for name, places in self.values.items()}
        self.threads = self.threads[active]

    @property
    def size(self) -> int:
        return int(self.threads.size)

    def _is_enumerable(self, expression: Expr) -> bool:
        return all(n.op not in (Op.VAR, Op.LOAD) or n in self.values for n in subexpressions(expression)) and all(
            n.op is not Op.CALL or n.attribute.is_pure for n in subexpressions(expression)
        )

    def split(self, form: LinearForm) -> tuple[Array, LinearForm] | None:
        """The part of an index that is enumerated, and the rest, which is the same for both threads; None where the rest may differ."""
        total = np.full(self.size, 0, np.int64)
        rest: dict[Expr, int] = {}
        for atom, factor in form.terms.items():
            if self._is_enumerable(atom):
                total += factor * np.broadcast_to(evaluate(atom, self.values, _no_memory), total.shape).astype(np.int64)
                continue
            for node in subexpressions(atom):
                if node.op is Op.LOAD or (node.op is Op.VAR and (node in self.values or self.owner._is_own(node, self.access, self.shared))):
                    return None
            rest[atom] = factor
        return total, LinearForm(form.constant, rest)


def _no_memory(*_: object) -> Array:
    raise AssertionError("nothing is loaded")


__all__ = ["Access", "Box", "Conflicts", "Order", "Place", "Values"]
