"""Wide accesses (floor 5): a VECTORIZED loop of one thread becomes accesses of 2, 4, 8 or 16 bytes around an unrolled loop on registers.

An access to global or shared memory becomes wide where its elements lie side by side, the first address is proven to be a multiple of the access, and
the conditions that it stands under are proven to be the same for all its elements. Loads move in front of the loop and stores behind it, so both need
memory that the loop uses in no other way than element by element. What is not proven stays an access per element; the result is always that of the
serial loop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tilewright.arith.bounds import Facts
from tilewright.arith.linear import LinearForm
from tilewright.arith.prove import prove
from tilewright.arith.simplify import simplify
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import COMPARISONS, Expr, Op, as_expr, binary, const, load, logical, unary, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assert, Assume, AtomicUpdate, For, If, Let, LoopKind, Seq, Stmt, Store, While
from tilewright.ir.thread import Address, AsyncRegion, VectorCopy
from tilewright.ir.visit import own_expressions, rewrite, rewrite_expr, statements, subexpressions, substitute, substitute_expr
from tilewright.passes.context import Remarks
from tilewright.passes.walk import launch_facts

ALIGNMENT_BYTES = 16  # of the memory of every tensor and tile; the host checks that of the caller's
_MOST_LANES = 16
_WIDTHS_BYTES = (16, 8, 4, 2)
_MEMORY = (Scope.GLOBAL, Scope.SHARED)
_LAZY = frozenset({Op.IF_THEN_ELSE, Op.AND, Op.OR})


def vectorize(program: Program, context: Remarks) -> Program:
    """Replaces every VECTORIZED loop."""
    return dataclasses.replace(program, launches=tuple(_Walk(launch, context).run() for launch in program.launches))


class _Walk:
    """Finds the loops of a launch, and what is known where they stand."""

    def __init__(self, launch: Launch, context: Remarks) -> None:
        self.launch, self.context = launch, context
        self.buffers: list[Buffer] = []

    def run(self) -> Launch:
        body = self.stmt(self.launch.body, launch_facts(self.launch))
        return self.launch if body is self.launch.body else dataclasses.replace(self.launch, body=body, buffers=(*self.launch.buffers, *self.buffers))

    def stmt(self, node: Stmt, facts: Facts) -> Stmt:
        if not any(isinstance(s, For) and s.kind is LoopKind.VECTORIZED for s in statements(node)):
            return node
        match node:
            case Seq():
                body = []
                for inner in node.body:
                    body.append(self.stmt(inner, facts))
                    if isinstance(inner, Assume):
                        facts = facts.assuming(inner.condition)
                    elif isinstance(inner, Let):
                        facts = facts.with_definition(inner.variable, inner.value)
                return dataclasses.replace(node, body=tuple(body))
            case For() if node.kind is LoopKind.VECTORIZED:
                return self.loop(node, facts)
            case For():
                return dataclasses.replace(node, body=self.stmt(node.body, facts.with_loop(node.variable, node.extent)))
            case If():
                otherwise = None if node.else_body is None else self.stmt(node.else_body, facts.assuming_not(node.condition))
                return dataclasses.replace(node, then_body=self.stmt(node.then_body, facts.assuming(node.condition)), else_body=otherwise)
            case While() | AsyncRegion():
                return dataclasses.replace(node, body=self.stmt(node.body, facts))
            case _:
                return node

    def loop(self, node: For, facts: Facts) -> Stmt:
        node = dataclasses.replace(node, kind=LoopKind.SERIAL)
        lanes = int(node.extent.value) if node.extent.is_const else 0
        inner = math.gcd(lanes, _MOST_LANES)
        if lanes > _MOST_LANES and inner > 1:
            step = var(f"{node.variable.name}_step", node.variable.dtype)
            lane = var(node.variable.name, node.variable.dtype)
            part = For(node.span, lane, const(inner), LoopKind.SERIAL, substitute(node.body, {node.variable: step * inner + lane}))
            return For(node.span, step, const(lanes // inner), LoopKind.SERIAL, self.lanes(part, facts.with_loop(step, lanes // inner)))
        return self.lanes(node, facts)

    def lanes(self, node: For, facts: Facts) -> Stmt:
        """A loop of few turns."""
        if not node.extent.is_const or not 1 <= node.extent.value <= _MOST_LANES or any(isinstance(s, (For, While)) for s in statements(node.body)):
            return dataclasses.replace(node, body=self.stmt(node.body, facts.with_loop(node.variable, node.extent)))
        made = _Lanes(node, facts)
        for access in made.narrow:
            text = f"{access.buffer.name} is accessed element by element: that vectors of it are aligned and inside as a whole is not proven"
            self.context.remark(access.stmt.span, text)
        self.buffers += made.buffers
        return made.result


@dataclass(eq=False)
class _Access:
    """One load, or one store, of every lane; `conditions` must all hold for it to happen.

    last          where it stands in the body, the last time where it is loaded again: the number of a statement.
    width         elements of each wide access that it becomes; 0 for an access per element.
    array, offset the registers on the other side, and the place of lane 0 in them.
    otherwise     of a load: what its registers hold where only its last condition does not hold.
    """

    buffer: Buffer
    indices: tuple[Expr, ...]
    conditions: tuple[Expr, ...]
    stmt: Stmt
    last: int
    is_repeated: bool = False
    width: int = 0
    array: Buffer | None = None
    offset: Expr = field(default_factory=lambda: const(0))
    otherwise: Expr | None = None


class _Lanes:
    """One loop: what its accesses are, which of them become wide, and the statement that it becomes."""

    def __init__(self, loop: For, facts: Facts) -> None:
        self.loop, self.variable, self.count = loop, loop.variable, int(loop.extent.value)
        self.facts = facts.with_loop(loop.variable, loop.extent)
        self.buffers: list[Buffer] = []
        self.narrow: list[_Access] = []
        self.lets: dict[Expr, Expr] = {}
        self.loads: dict[Expr, _Access] = {}
        self.stores: dict[Stmt, _Access] = {}
        self.position = 0
        self.stored = [s.buffer.storage for s in statements(loop.body) if isinstance(s, (Store, AtomicUpdate))]
        self.opaque = {s.previous for s in statements(loop.body) if isinstance(s, AtomicUpdate)}
        self.result: Stmt = self._vectorized() if self._collect(loop.body, ()) else self._unrolled()

    def _unrolled(self) -> For:
        return dataclasses.replace(self.loop, kind=LoopKind.UNROLLED)

    # -- what the body accesses
    def _collect(self, node: Stmt, conditions: tuple[Expr, ...]) -> bool:
        """Notes the accesses in program order; False where the body holds what cannot be done lane by lane around them."""
        self.position += 1
        match node:
            case Seq():
                return all([self._collect(inner, conditions) for inner in node.body])
            case If():
                self._collect_loads(node.condition, conditions, node)
                condition = self._inlined(node.condition)
                parts = [self._collect(node.then_body, (*conditions, condition))]
                if node.else_body is not None:
                    parts.append(self._collect(node.else_body, (*conditions, unary(Op.NOT, condition))))
                return all(parts)
            case Let() | Store() | AtomicUpdate() | Assert():
                for expression in own_expressions(node):
                    self._collect_loads(expression, conditions, node)
                if isinstance(node, Let):
                    self.lets[node.variable] = self._inlined(node.value)
                elif isinstance(node, Store):
                    self.stores[node] = _Access(node.buffer, tuple(map(self._inlined, node.indices)), conditions, node, self.position)
                return True
            case _:
                return isinstance(node, Assume)

    def _inlined(self, expression: Expr) -> Expr:
        return substitute_expr(expression, self.lets)

    def _collect_loads(self, root: Expr, conditions: tuple[Expr, ...], stmt: Stmt) -> None:
        stack: list[tuple[Expr, tuple[Expr, ...], Expr | None]] = [(root, conditions, None)]
        seen: set[tuple[int, ...]] = set()
        while stack:
            node, known, otherwise = stack.pop()
            key = (id(node), *map(id, known))
            if key in seen:
                continue
            seen.add(key)
            if node.op is Op.LOAD and node.buffer.storage.scope in _MEMORY:
                self._note_load(node, _Access(node.buffer, tuple(map(self._inlined, node.args)), known, stmt, self.position, otherwise=otherwise))
            if node.op not in _LAZY:
                stack.extend((a, known, None) for a in reversed(node.args))
                continue
            first = self._inlined(node.args[0])
            stack.append((node.args[0], known, None))
            if node.op is Op.IF_THEN_ELSE:
                value = node.args[2] if node.args[2].is_const else None
                stack += [(node.args[1], (*known, first), value), (node.args[2], (*known, unary(Op.NOT, first)), None)]
            else:
                stack.append((node.args[1], (*known, first if node.op is Op.AND else unary(Op.NOT, first)), None))

    def _note_load(self, node: Expr, access: _Access) -> None:
        before = self.loads.setdefault(node, access)
        if before is not access:
            before.last, before.is_repeated = access.last, True
            if not _is_same(before.conditions, access.conditions):  # of several ways to it, only one that is always taken covers the others
                before.conditions = (const(False),) if before.conditions and access.conditions else ()
                before.otherwise = None

    # -- which accesses become wide
    def _choose_widths(self) -> None:
        for access in (*self.loads.values(), *self.stores.values()):
            if access.buffer.storage.scope in _MEMORY and not self._has_hazard(access):
                start = self._start(access)
                access.width = 0 if start is None else self._width(access, start)
                if start is not None and not access.width and access.buffer.scope is Scope.GLOBAL:
                    self.narrow.append(access)

    def _has_hazard(self, access: _Access) -> bool:
        """Whether moving a load in front of the loop, or a store behind it, could change what an access of the loop sees."""
        if any(self._may_change(node) for e in (*access.indices, *access.conditions) for node in subexpressions(e)):
            return True
        memory = access.buffer.storage
        writes = [b for b in self.stored if _may_share(b, memory)]
        stores = [s for s in self.stores.values() if _may_share(s.buffer.storage, memory)]
        if len(writes) > 1 or len(stores) != len(writes):
            return True
        # One store: what loads from its memory must load the same element of the same lane, before it is stored.
        loads = [a for a in self.loads.values() if _may_share(a.buffer.storage, memory)] if access in self.stores.values() else [access]
        return any(a.buffer is not s.buffer or not _is_same(a.indices, s.indices) or a.last > s.last for a in loads for s in stores)

    def _may_change(self, node: Expr) -> bool:
        """Whether a value may not be the same before the loop, in it and behind it."""
        if node.op is Op.LOAD:
            return any(_may_share(b, node.buffer.storage) for b in self.stored)
        return node in self.opaque or (node.op is Op.CALL and not node.attribute.is_pure)

    def _start(self, access: _Access) -> LinearForm | None:
        """Where lane 0 is, in elements; None where lane k is not k elements further, or the memory is aligned to nothing."""
        if access.buffer.storage.pointer is not None or access.buffer.dtype.lanes > 1:
            return None
        if self._lane_zero(simplify(access.indices[-1], self.facts)) is None:  # a wide access runs along the last axis, even where rows have one element
            return None
        offset: Expr = const(0)
        for index, stride in zip(access.indices, access.buffer.element_strides(), strict=True):
            offset = offset + simplify(index, self.facts) * as_expr(stride)
        return self._lane_zero(offset)

    def _lane_zero(self, offset: Expr) -> LinearForm | None:
        """An index without its lane, where each lane adds 1."""
        parts = self.facts.linearizer.split(self.facts.linearizer.form(offset), self.variable)
        return parts[1] if parts is not None and parts[0].is_constant and parts[0].constant == 1 else None

    def _width(self, access: _Access, start: LinearForm) -> int:
        """Elements of the widest access that is proven right; 0 for none."""
        known = self.facts.range_of_form(start)
        for size in _WIDTHS_BYTES:
            width = size * 8 // access.buffer.dtype.storage_bits
            if width > 1 and self.count % width == 0 and known.is_divisible(width) and all(self._is_uniform(c, width) for c in access.conditions):
                return width
        return 0

    def _is_uniform(self, condition: Expr, width: int) -> bool:
        """Whether a condition has one value for each `width` lanes from a multiple of it on. (One that is never fulfilled needs no access at all.)"""
        if condition.is_const:
            return bool(condition.value)
        if not any(n is self.variable for n in subexpressions(condition)):
            return True
        if condition.op in (Op.AND, Op.OR, Op.NOT):
            return all(self._is_uniform(a, width) for a in condition.args)
        if condition.op not in COMPARISONS or not condition.args[0].dtype.is_integer:
            return False
        linearizer = self.facts.linearizer
        left, right = (simplify(a, self.facts) for a in condition.args)
        parts = linearizer.split(linearizer.form(right) - linearizer.form(left), self.variable)
        if parts is None or not parts[0].is_constant:
            return False
        # right - left is rest + slope * lane; within a vector it changes its side only where its value in the first lane lies in an interval.
        slope, rest = parts[0].constant, parts[1]
        spread = slope * (width - 1)
        low, high = min(0, -spread), max(0, -spread)
        if condition.op in (Op.LT, Op.GE):  # left < right where right - left >= 1
            low += 1
        elif condition.op in (Op.LE, Op.GT):
            high -= 1
        return all(self._is_outside(rest.shifted(slope * lane), low, high) for lane in range(0, self.count, width))

    def _is_outside(self, form: LinearForm, low: int, high: int) -> bool:
        """Whether a sum is never in low .. high."""
        known = self.facts.range_of_form(form)
        if high - low < 4 * _MOST_LANES and not any(known.contains(value) for value in range(low, high + 1)):
            return True
        value = form.to_expr()
        return prove(logical(Op.OR, binary(Op.LT, value, low), binary(Op.GT, value, high)), self.facts).is_proved

    # -- the statements
    def _vectorized(self) -> Stmt:
        self._choose_widths()
        loads = {node: access for node, access in self.loads.items() if access.width}
        stores = {stmt: access for stmt, access in self.stores.items() if access.width}
        if not loads and not stores:
            return self._unrolled()
        dropped = self._without_detour(loads, stores)
        for access in (*loads.values(), *stores.values()):
            if access.array is None:
                access.array = self._array(access)
        body = self._body(self.loop.body, self._registers_for(loads), stores, dropped)
        before = [s for access in loads.values() for s in self._wide(access, is_load=True)]
        after = [s for access in stores.values() for s in self._wide(access, is_load=False)]
        middle = [] if body is None else [dataclasses.replace(self.loop, kind=LoopKind.UNROLLED, body=body)]
        return Seq(self.loop.span, (*before, *middle, *after))

    def _without_detour(self, loads: Mapping[Expr, _Access], stores: Mapping[Stmt, _Access]) -> set[Stmt]:
        """Stores that only move registers: the wide access takes the registers on the other side. Gives the stores that are no longer needed."""
        dropped: set[Stmt] = set()
        for stmt, store in self.stores.items():
            assert isinstance(stmt, Store)
            value = stmt.value
            load_ = _loaded(value, loads)
            if load_ is not None:
                known = load_.conditions if value.op is Op.LOAD else load_.conditions[:-1]
                is_defined = _is_same(known, store.conditions)
                if is_defined and stmt in stores:
                    load_.array = load_.array or self._array(load_)
                    store.array, store.offset = load_.array, load_.offset
                    dropped.add(stmt)
                elif is_defined and load_.array is None and not load_.is_repeated and self._is_only_use(stmt.buffer.storage):
                    offset = self._register(stmt.buffer, store.indices, load_.width)
                    if offset is not None:
                        load_.array, load_.offset = stmt.buffer, offset
                        dropped.add(stmt)
            elif stmt in stores and value.op is Op.LOAD and value.buffer.storage not in self.stored:
                offset = self._register(value.buffer, tuple(map(self._inlined, value.args)), store.width)
                if offset is not None:
                    store.array, store.offset = value.buffer, offset
                    dropped.add(stmt)
        return dropped

    def _array(self, access: _Access) -> Buffer:
        made = Buffer(f"{access.buffer.name}_vector", access.buffer.dtype, (self.count,), Scope.LOCAL, access.stmt.span)
        self.buffers.append(made)
        return made

    def _register(self, buffer: Buffer, indices: tuple[Expr, ...], width: int) -> Expr | None:
        """The first of registers that lie side by side, a multiple of the width; None where they do not."""
        if buffer.scope is not Scope.LOCAL or buffer.rank != 1:
            return None
        start = self._lane_zero(simplify(indices[0], self.facts))
        return start.to_expr(indices[0].dtype) if start is not None and self.facts.range_of_form(start).is_divisible(width) else None

    def _is_only_use(self, storage: Buffer) -> bool:
        """Whether the loop names an array once, in a store."""
        loads = (n for s in statements(self.loop.body) for e in own_expressions(s) for n in subexpressions(e) if n.op is Op.LOAD)
        return self.stored.count(storage) == 1 and not any(n.buffer.storage is storage for n in loads)

    def _wide(self, access: _Access, is_load: bool) -> list[Stmt]:
        """The wide accesses, each under its conditions."""
        made: list[Stmt] = []
        span = access.stmt.span
        for lane in range(0, self.count, access.width):

            def first(expression: Expr, lane: int = lane) -> Expr:
                return simplify(substitute_expr(expression, {self.variable: const(lane, self.variable.dtype)}), self.facts)

            assert access.array is not None
            memory = Address(access.buffer, tuple(map(first, access.indices)))
            registers = Address(access.array, (simplify(access.offset + lane, self.facts),))
            step: Stmt = VectorCopy(span, registers, memory, access.width) if is_load else VectorCopy(span, memory, registers, access.width)
            otherwise: Stmt | None = None
            if access.otherwise is not None:
                e = var(self.variable.name, self.variable.dtype)
                fill = Store(span, access.array, (registers.indices[0] + e,), access.otherwise)
                otherwise = For(span, e, const(access.width, e.dtype), LoopKind.UNROLLED, fill)
            for condition in reversed(access.conditions):
                tested = first(condition)
                if not (tested.is_const and tested.value):
                    step = If(span, tested, step, otherwise)
                otherwise = None
            made.append(step)
        return made

    def _body(self, node: Stmt, registers: dict[Expr, Expr], stores: Mapping[Stmt, _Access], dropped: set[Stmt]) -> Stmt | None:
        """The loop's body on registers; None where nothing of it is left to do."""
        match node:
            case Seq():
                body = [made for inner in node.body if (made := self._body(inner, registers, stores, dropped)) is not None]
                return None if all(isinstance(s, (Let, Assume)) for s in body) else dataclasses.replace(node, body=tuple(body))
            case If():
                then_body = self._body(node.then_body, registers, stores, dropped)
                else_body = None if node.else_body is None else self._body(node.else_body, registers, stores, dropped)
                if then_body is None and else_body is None:
                    return None
                condition = rewrite_expr(node.condition, lambda e: e, registers)
                return dataclasses.replace(node, condition=condition, then_body=then_body or Seq(node.span, ()), else_body=else_body)
            case Store() if node in dropped:
                return None
        made = rewrite(node, on_expr=lambda root: rewrite_expr(root, lambda e: e, registers))
        if isinstance(made, Store) and node in stores:
            access = stores[node]
            assert access.array is not None
            return dataclasses.replace(made, buffer=access.array, indices=(access.offset + self.variable,))
        return made

    def _registers_for(self, loads: Mapping[Expr, _Access]) -> dict[Expr, Expr]:
        """What stands for each load, and for a choice between it and what its registers hold otherwise."""
        made: dict[Expr, Expr] = {}
        for root in (e for s in statements(self.loop.body) for e in own_expressions(s)):
            for node in subexpressions(root):
                access = _loaded(node, loads)
                if access is not None and access.array is not None:
                    made[node] = load(access.array, (access.offset + self.variable,))
        return made


def _is_same(a: tuple[Expr, ...], b: tuple[Expr, ...]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def _may_share(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers that own memory may be the same memory; a tensor made over an address may lie anywhere in global memory."""
    return a is b or (a.scope is b.scope is Scope.GLOBAL and (a.pointer is not None or b.pointer is not None))


def _loaded(value: Expr, loads: Mapping[Expr, _Access]) -> _Access | None:
    """The wide load that gives a value: itself, or chosen where its last condition holds, else what its registers then hold."""
    if value.op is Op.IF_THEN_ELSE:
        chosen = loads.get(value.args[1])
        return chosen if chosen is not None and chosen.otherwise is value.args[2] else None
    return loads.get(value)
