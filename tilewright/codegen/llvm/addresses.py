"""Element addresses at any width (floor 6).

An address is a pointer plus terms, one per atom of the indices. Terms are added in the order in which their variables are bound: what an
outer loop fixes is computed there once (`prepare`), and the innermost loop is left with an addition or an addressing mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from tilewright.codegen.llvm import registers
from tilewright.codegen.llvm.emitter import Value, constant
from tilewright.codegen.llvm.task import Operand, Ramp, Task, is_scalar
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, Span, fail
from tilewright.ir.buffer import Buffer, Extent, Scope
from tilewright.ir.expr import Expr
from tilewright.ir.tileop import Storage

Index = Callable[[Task, Expr], Operand]
BaseAddress = Callable[[Buffer], Value]


@dataclass(frozen=True, slots=True)
class Term:
    """atom * scale * stride elements; no stride means 1."""

    atom: Expr | None
    scale: int
    stride: Expr | None


@dataclass(frozen=True, slots=True)
class AccessPlan:
    """One access as a sum: everything that does not depend on the place in the code."""

    buffer: Buffer
    dtype: DType  # of the elements in memory
    is_packed: bool
    terms: tuple[Term, ...]
    constant: int


@dataclass(frozen=True, slots=True)
class Location:
    """Where the lanes of an access lie: lane k is `offsets[k]` elements behind `pointer`, and further by what differs at run time.

    pointer  an address; for packed elements the number of the element instead.
    dynamic  (operand, factor): lane k of the operand times the factor.
    """

    plan: AccessPlan
    pointer: Value
    offsets: tuple[int, ...]
    dynamic: tuple[tuple[Operand, Value], ...] = ()
    is_even: bool = False  # packed: the pointer is an even number

    @property
    def is_uniform(self) -> bool:
        return not self.dynamic and all(offset == self.offsets[0] for offset in self.offsets)

    @property
    def is_contiguous(self) -> bool:
        return not self.dynamic and all(offset == self.offsets[0] + lane for lane, offset in enumerate(self.offsets))


@dataclass(frozen=True, slots=True)
class Prefix:
    """An address as far as it is computed: the terms in `done` are part of it; offsets per lane, or one for all."""

    pointer: Value
    offsets: tuple[int, ...]
    done: frozenset[int]


def refuse_vector_dtype(what: str, dtype: DType, span: Span | None = None) -> NoReturn:
    """A diagnostic for dtypes of several lanes."""
    fail(
        Kind.DTYPE_UNSUPPORTED,
        f"{what} is {dtype!s}, which code for a CPU cannot handle",
        span,
        because="only dtypes of one lane exist there",
        help=f"use {dtype.scalar!s} and one more dimension of {dtype.lanes}",
    )


class Addressing:
    """The addresses of the accesses of one task."""

    def __init__(self, task: Task, index: Index, base_address: BaseAddress) -> None:
        self.task = task
        self.index = index
        self.base_address = base_address
        self._plans: dict[Expr, AccessPlan] = {}

    # -- addresses
    def layout(self, buffer: Buffer) -> tuple[DType, tuple[Extent, ...]]:
        """Element dtype in memory and strides in elements."""
        plan = self.task.plans.get(buffer)
        if buffer.scope is Scope.GLOBAL or (plan is None and buffer.source is None):
            return buffer.dtype, buffer.element_strides()
        if plan is None:
            owner = self.task.plans.get(buffer.storage)
            is_same = owner is not None and buffer.dtype == buffer.storage.dtype
            return owner.dtype if owner is not None and is_same else buffer.dtype, buffer.element_strides()
        if plan.storage is not Storage.ROW_MAJOR:
            raise CompilerBug(f"{buffer.name} is kept in panels and cannot be accessed by element")
        if buffer.rank < 2:
            return plan.dtype, buffer.element_strides()
        strides = [1, plan.row_pitch]
        for extent in reversed(buffer.static_shape[1:-1]):
            strides.append(strides[-1] * extent)
        return plan.dtype, tuple(reversed(strides))

    def element_dtype(self, buffer: Buffer) -> DType:
        """What the elements are stored as, in any layout."""
        plan = self.task.plans.get(buffer)
        return plan.dtype if plan is not None and buffer.scope is not Scope.GLOBAL else self.layout(buffer)[0]

    def private_copy(self, tile: Buffer, lanes: int) -> Value:
        """Stack memory for one copy of a tile per lane."""
        return self.task.f.alloca(registers.memory_type(self.element_dtype(tile)), math.prod(tile.static_shape) * lanes)

    def plan(self, access: Expr) -> AccessPlan:
        found = self._plans.get(access)
        if found is None:
            buffer = access.buffer
            if buffer.dtype.lanes > 1:
                refuse_vector_dtype(buffer.name, buffer.dtype, buffer.span)
            dtype, strides = self.layout(buffer)
            terms: list[Term] = []
            fixed = 0
            for position, stride in zip(access.args, strides, strict=True):
                total = self.task.sum(position)
                if isinstance(stride, int):
                    terms += [Term(atom, scale * stride, None) for atom, scale in total.terms if stride]
                    fixed += total.constant * stride
                else:
                    terms += [Term(atom, scale, stride) for atom, scale in total.terms]
                    terms += [Term(None, total.constant, stride)] if total.constant else []
            is_packed = buffer.scope is Scope.GLOBAL and dtype.is_packed
            found = self._plans[access] = AccessPlan(buffer, dtype, is_packed, tuple(terms), fixed)
        return found

    def advance(self, plan: AccessPlan, pointer: Value, amount: Value) -> Value:
        if amount.text == "0":
            return pointer
        if plan.is_packed:
            return self.task.add(pointer, amount)  # type: ignore[return-value]
        return self.task.f.element_address(pointer, registers.memory_type(plan.dtype), amount)

    def prepare(self, access: Expr) -> None:
        """Computes the part of an address that is known here and remembers it for the loops inside."""
        plan = self.plan(access)
        address = plan.buffer.storage.pointer
        if address is not None and not self.task.is_bound(address):
            return  # the loop computes it
        before = self._prefix(access)
        after = self._extended(plan, before, [i for i, term in enumerate(plan.terms) if i not in before.done and self._is_ready(term)])
        if after is not before:
            self.task.remember(self.task.pointers, access, after)

    def _prefix(self, access: Expr) -> Prefix:
        private = self.task.private.get(access.buffer.storage)
        if private is not None:
            # One element per lane side by side; indices of such tiles are constants.
            first = self.plan(access).constant * self.task.lanes
            return Prefix(private, tuple(range(first, first + self.task.lanes)), frozenset())
        found = self.task.pointers.get(access)
        if found is None:
            plan = self.plan(access)
            found = Prefix(constant(0, "i64") if plan.is_packed else self.base_address(plan.buffer), (plan.constant,), frozenset())
        return found if len(found.offsets) == self.task.lanes else replace(found, offsets=found.offsets * self.task.lanes)

    def _extended(self, plan: AccessPlan, prefix: Prefix, terms: list[int]) -> Prefix:
        """The prefix with those of the terms added that are one number, or differ between the lanes by constants."""
        task = self.task
        pointer, offsets, done = prefix.pointer, prefix.offsets, set(prefix.done)
        for i in terms:
            term = plan.terms[i]
            operand = self.index(task, term.atom) if term.atom is not None else constant(1, "i64")
            if is_scalar(operand):
                pointer = self.advance(plan, pointer, self._amount(term, operand))
            elif isinstance(operand, Ramp) and term.stride is None:
                pointer = self.advance(plan, pointer, task.scale_value(operand.base, term.scale))
                offsets = tuple(offset + o * term.scale for offset, o in zip(offsets, operand.offsets, strict=True))
            else:
                continue
            done.add(i)
        return prefix if len(done) == len(prefix.done) else Prefix(pointer, offsets, frozenset(done))

    def _is_ready(self, term: Term) -> bool:
        return all(part is None or (self.task.is_bound(part) and not self.task.facts.dependences(part).storages) for part in (term.atom, term.stride))

    def _amount(self, term: Term, atom: Value) -> Value:
        """The elements that a term adds whose atom is the same in all lanes."""
        task = self.task
        key = (term.atom, term.scale, term.stride)
        found: Value | None = task.pointers.get(key)
        if found is None:
            found = task.scale_value(atom, term.scale)
            if term.stride is not None:
                stride = self._stride(term.stride)
                found = stride if found.text == "1" else task.f.binary("mul", found, stride)
            if term.atom is None or not task.facts.dependences(term.atom).storages:
                task.remember(task.pointers, key, found)
        return found

    def _stride(self, stride: Expr) -> Value:
        found = self.index(self.task, stride)
        if not is_scalar(found):
            raise CompilerBug(f"the stride `{stride}` differs between the lanes")
        return found

    def locate(self, access: Expr) -> Location:
        """The address of an access here, for all lanes."""
        task, plan = self.task, self.plan(access)
        before = self._prefix(access)
        prefix = self._extended(plan, before, [i for i in range(len(plan.terms)) if i not in before.done])
        dynamic: list[tuple[Operand, Value]] = []
        for i, term in enumerate(plan.terms):
            if i not in prefix.done:
                assert term.atom is not None
                factor = constant(term.scale, "i64") if term.stride is None else task.scale_value(self._stride(term.stride), term.scale)
                dynamic.append((self.index(task, term.atom), factor))
        is_even = plan.is_packed and all(map(self._is_even, plan.terms))
        return Location(plan, prefix.pointer, prefix.offsets, tuple(dynamic), is_even)

    def _is_even(self, term: Term) -> bool:
        stride = 1 if term.stride is None else self.task.multiple_of(term.stride)
        atom = 1
        if term.atom is not None:
            operand = self.task.indices.get(term.atom)
            atom = operand.multiple if isinstance(operand, Ramp) else self.task.multiple_of(term.atom)
        return term.scale * stride * atom % 2 == 0

    def lane_address(self, location: Location, lane: int) -> Value:
        """The address (or element number) of one lane."""
        task = self.task
        pointer = self.advance(location.plan, location.pointer, constant(location.offsets[lane], "i64"))
        for operand, factor in location.dynamic:
            position = task.lane(operand, lane)
            if position.type != "i64":
                position = task.f.convert("sext", position, "i64")
            amount = position if factor.text == "1" else task.f.binary("mul", position, factor)
            pointer = self.advance(location.plan, pointer, amount)
        return pointer
