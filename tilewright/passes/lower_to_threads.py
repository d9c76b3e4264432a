"""From tiles to threads (floor 5): what one thread of the block runs. After it no tile operation, parallel loop or fragment is left.

A parallel loop becomes a loop over the registers of its layout, and its variables become expressions of register, lane and warp. Fragments become arrays
of registers, shared tiles buffers of one axis in the layout that was chosen for them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from tilewright.arith.lower_layout import is_below, lower_layout, lower_memory_layout
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, const, load, logical, var
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assert, AtomicUpdate, For, If, Let, LoopKind, ParallelFor, Print, Seq, Stmt, Store, While
from tilewright.ir.thread import Address, AsyncRegion
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import rewrite, rewrite_expr, statements, substitute, substitute_expr
from tilewright.layout import LANE, REG, WARP, Layout, MemoryLayout, TableLayout, tile_axes, whole_registers
from tilewright.passes.context import GpuPassContext
from tilewright.passes.loop_layout import (
    VECTOR,
    Access,
    LoopPlan,
    accesses_of,
    every_thread,
    is_private,
    match_registers,
    plan_loop,
    unrollable_loops,
)
from tilewright.passes.scratch import Scratch
from tilewright.target.nvidia import Feature, NvidiaTarget

_UNROLLED_ACCESSES = 16  # wide accesses of one copy that are under way together
_ALONE: dict[str, Expr] = {VECTOR: const(0), REG: const(0)}  # outside parallel loops, a thread runs a statement once


def lower_to_threads(program: Program, context: GpuPassContext) -> Program:
    """Lowers each launch; layouts must have been inferred and barriers inserted."""
    return dataclasses.replace(program, launches=tuple(_Lowering(launch, context).run() for launch in program.launches))


class _Lowering:
    """One launch; also what an operation may ask (`ThreadContext`)."""

    def __init__(self, launch: Launch, context: GpuPassContext) -> None:
        self.launch, self.context = launch, context
        self.num_threads = math.prod(launch.threads)
        self.lane, self.warp = var("lane"), var("warp")
        self.made: dict[Buffer, Buffer] = {}
        self.extra = Scratch()
        self.loops: dict[Expr, int] = unrollable_loops(launch.body)
        self.unrolled: set[Expr] = set()
        self.num_loops = 0  # around the statement that is being lowered

    # -- ThreadContext
    @property
    def target(self) -> NvidiaTarget:
        return self.context.target

    @property
    def is_repeated(self) -> bool:
        return self.num_loops > 0

    def fragment(self, buffer: Buffer) -> tuple[Layout, Buffer]:
        return self.context.fragments[buffer], self.buffer(buffer)

    def shared(self, buffer: Buffer) -> tuple[MemoryLayout | TableLayout, Buffer]:
        return self.memory_layout(buffer), self.buffer(buffer)

    def registers(self, name: str, dtype: DType, count: int, span: Span, source: Buffer | None = None) -> Buffer:
        return self.extra.make(name, dtype, (count,), Scope.LOCAL, span, source)

    def scratch(self, name: str, dtype: DType, elements: int, span: Span) -> Buffer:
        return self.extra.make(name, dtype, (elements,), Scope.SHARED, span)

    def remark(self, span: Span, text: str) -> None:
        self.context.remark(span, text)

    # -- buffers
    def memory_layout(self, buffer: Buffer) -> MemoryLayout | TableLayout:
        found = self.context.shared.get(buffer)
        return found if found is not None else MemoryLayout.natural(Layout.row_major(tile_axes(buffer.static_shape)))

    def buffer(self, buffer: Buffer) -> Buffer:
        """The buffer of one axis that stands for a tile, an array or a view; a global tensor as it is."""
        if buffer.scope in (Scope.GLOBAL, Scope.VARIABLE, Scope.BARRIER) or buffer in self.extra.buffers:
            return buffer
        if buffer not in self.made:
            scope, elements = buffer.scope, math.prod(buffer.static_shape)
            if scope is Scope.FRAGMENT:
                scope, elements = Scope.LOCAL, self.context.fragments[buffer].in_axis(REG).extent
            elif buffer in self.context.shared:
                elements = self.context.shared[buffer].size_elements
            source = None if buffer.source is None else self.buffer(buffer.source)
            self.made[buffer] = Buffer(buffer.name, buffer.dtype, (elements,), scope, buffer.span, source=source)
            self.context.origins[self.made[buffer]] = buffer
        return self.made[buffer]

    def place(self, buffer: Buffer, indices: tuple[Expr, ...], loop: ParallelFor | None, plan: LoopPlan, registers: Mapping[str, Expr]) -> tuple[Expr, ...]:
        """The indices of an element in what its buffer became."""
        if buffer.scope is Scope.FRAGMENT:
            scalar = loop if loop is not None else ParallelFor(buffer.span, (), (), Seq(buffer.span, ()))
            found = match_registers(scalar, plan, Access(buffer, indices, False), self.context.fragments[buffer], self.loops)
            if found is None:
                raise CompilerBug(f"an access of {buffer.name} was left that its threads cannot serve")
            self.unrolled.update(found.unrolled)
            return (found.expression(registers),)
        if buffer.scope is Scope.SHARED and buffer in self.context.shared:
            layout = self.context.shared[buffer]
            if isinstance(layout, TableLayout):
                formula = self.context.formulas[buffer]
                return (substitute_expr(formula.place, dict(zip(formula.variables, indices, strict=True))),)
            return (lower_memory_layout(layout, {f"d{a}": index for a, index in enumerate(indices)}),)
        if buffer.scope in (Scope.SHARED, Scope.LOCAL):
            flat: Expr = const(0)
            for index, extent in zip(indices, buffer.shape, strict=True):
                flat = flat * extent + index
            return (flat,)
        return indices

    def address(self, address: Address, loop: ParallelFor | None, plan: LoopPlan, registers: Mapping[str, Expr]) -> Address:
        """Where an element lies in what its buffer became."""
        if address.buffer.scope in (Scope.GLOBAL, Scope.VARIABLE):
            return address
        return Address(self.buffer(address.buffer), self.place(address.buffer, address.indices, loop, plan, registers))

    # -- statements
    def run(self) -> Launch:
        launch = self.launch
        x, y, z = launch.thread_variables
        thread: Expr = x
        if launch.threads[1] > 1 or launch.threads[2] > 1:
            thread = x + (y + z * launch.threads[1]) * launch.threads[0]
        lowered = self.stmt(launch.body)
        names = (Let(launch.span, self.lane, thread % 32), Let(launch.span, self.warp, thread // 32))
        body = rewrite(Seq(launch.span, (*names, lowered)), post=self.unroll)
        kept = [b for b in launch.buffers if b.scope in (Scope.VARIABLE, Scope.BARRIER, Scope.GLOBAL)]
        made = [self.buffer(b) for b in launch.buffers if b not in kept]
        return dataclasses.replace(launch, body=body, buffers=(*kept, *made, *self.extra.buffers))

    def unroll(self, node: Stmt) -> Stmt:
        return dataclasses.replace(node, kind=LoopKind.UNROLLED) if isinstance(node, For) and node.variable in self.unrolled else node

    def stmt(self, node: Stmt) -> Stmt:
        match node:
            case ParallelFor():
                return self.parallel(node)
            case TileOp():
                return node.lower_to_threads(self)
            case Seq():
                return dataclasses.replace(node, body=tuple(map(self.stmt, node.body)))
            case For():
                kind = LoopKind.SERIAL if node.kind is LoopKind.PIPELINED else node.kind
                return dataclasses.replace(node, extent=self.scalar(node.extent), body=self.repeated(node.body), kind=kind, pipeline=None)
            case If():
                otherwise = None if node.else_body is None else self.stmt(node.else_body)
                return dataclasses.replace(node, condition=self.scalar(node.condition), then_body=self.stmt(node.then_body), else_body=otherwise)
            case While():
                return dataclasses.replace(node, condition=self.scalar(node.condition), body=self.repeated(node.body))
            case Print() if node.buffer is not None:
                return self.print_tile(node)
            case Print() if not self.launch.is_thread_level:
                return If(node.span, self.is_first_thread, self.body(node, None, every_thread(self.num_threads), _ALONE))
        return self.body(node, None, every_thread(self.num_threads), _ALONE)

    def repeated(self, body: Stmt) -> Stmt:
        """The body of a loop."""
        self.num_loops += 1
        lowered = self.stmt(body)
        self.num_loops -= 1
        return lowered

    @property
    def is_first_thread(self) -> Expr:
        return logical(Op.AND, binary(Op.EQ, self.lane, const(0)), binary(Op.EQ, self.warp, const(0)))

    def scalar(self, root: Expr) -> Expr:
        return self.expression(root, None, every_thread(self.num_threads), _ALONE, {})

    def expression(self, root: Expr, loop: ParallelFor | None, plan: LoopPlan, registers: Mapping[str, Expr], memo: dict[Expr, Expr]) -> Expr:
        def access(node: Expr) -> Expr:
            if node.op is not Op.LOAD or node.buffer.scope in (Scope.GLOBAL, Scope.VARIABLE):
                return node
            return load(self.buffer(node.buffer), self.place(node.buffer, node.args, loop, plan, registers))

        return rewrite_expr(root, access, memo)

    def body(self, node: Stmt, loop: ParallelFor | None, plan: LoopPlan, registers: Mapping[str, Expr], elected: Expr | None = None) -> Stmt:
        """A statement with its accesses in terms of registers and flat buffers; loop variables stay."""
        memo: dict[Expr, Expr] = {}

        def value(root: Expr) -> Expr:
            return self.expression(root, loop, plan, registers, memo)

        def statement(inner: Stmt) -> Stmt:
            if isinstance(inner, (Store, AtomicUpdate)) and inner.buffer.scope not in (Scope.GLOBAL, Scope.VARIABLE):
                at = self.place(inner.buffer, inner.indices, loop, plan, registers)
                inner = dataclasses.replace(inner, buffer=self.buffer(inner.buffer), indices=at)
            if isinstance(inner, ForeignCall):
                inner = inner.at(lambda a: self.address(a, loop, plan, registers))
            if elected is not None and has_effects(inner):
                return If(inner.span, elected, inner)
            return inner

        return rewrite(node, on_expr=value, post=statement)

    def parallel(self, loop: ParallelFor) -> Stmt:
        if is_private(loop):
            return self.private(loop)
        plan = plan_loop(loop, self.context.fragments, self.num_threads)
        if plan is None:
            return self.counted(loop)
        span = loop.span
        vector, register = var("v"), var("r")
        layout = plan.split
        num_vectors = layout.in_axis(REG).extent
        v: Expr = vector if plan.vector_elements > 1 else const(0)
        r: Expr = register if num_vectors > 1 else const(0)
        registers = {VECTOR: v, REG: r}
        coordinates = lower_layout(layout, {**registers, LANE: self.lane, WARP: self.warp})
        places = [coordinates[f"d{a}"] for a in range(len(plan.extents))]
        has_fragments = any(a.buffer.scope is Scope.FRAGMENT for a in accesses_of(loop.body))
        elected = self.elected(plan.layout) if any(map(has_effects, statements(loop.body))) else None
        # Threads that run the same iterations: where each needs the result in registers of its own, all compute it, and one stores to memory; else only
        # that one runs them, so that none reads what another one of them has already changed.
        fills_registers = any(isinstance(s, Store) and s.buffer.scope is Scope.FRAGMENT for s in statements(loop.body))
        if elected is not None and fills_registers and _updates_memory(loop):
            raise CompilerBug(f"the loop at {span} changes memory that it reads, while several threads run the same iterations")
        inner = self.body(loop.body, loop, plan, registers, elected if fills_registers else None)
        body = substitute(inner, dict(zip(loop.variables, places, strict=True)))
        for place, extent in zip(places, loop.extents, strict=True):
            if not extent.is_const:
                body = If(span, binary(Op.LT, place, self.scalar(extent)), body)
        # No vector is cut by the end of the tile, so its first element stands for it.
        first_elements = {VECTOR: const(0), REG: r, LANE: self.lane, WARP: self.warp}
        guards = [is_below(layout, first_elements, f"d{a}", plan.extents[a]) for a in plan.guarded_axes]
        # The first registers may lie inside in every thread: only the others are guarded.
        num_whole = whole_registers(plan.layout, plan.extents) // plan.vector_elements if guards else num_vectors
        parts: list[Stmt] = []
        for first, count in ((0, num_whole), (num_whole, num_vectors - num_whole)):
            part = body
            for condition in guards if first == num_whole else ():
                part = If(span, condition, part)
            if plan.vector_elements > 1:
                part = For(span, vector, const(plan.vector_elements), LoopKind.VECTORIZED, part)
            if count == 1:
                parts.append(substitute(part, {register: const(first)}))
            elif count > 1:
                kind = LoopKind.UNROLLED if has_fragments or count <= _UNROLLED_ACCESSES else LoopKind.SERIAL
                turn = register if first == 0 else var("r")
                parts.append(For(span, turn, const(count), kind, part if first == 0 else substitute(part, {register: turn + first})))
        body = parts[0] if len(parts) == 1 else Seq(span, tuple(parts))
        if plan.num_threads < self.num_threads:
            body = If(span, binary(Op.LT, self.warp, const(plan.layout.in_axis(WARP).extent)), body)
            if plan.layout.in_axis(LANE).extent < min(32, self.num_threads):
                body = If(span, binary(Op.LT, self.lane, const(plan.layout.in_axis(LANE).extent)), body)
        if elected is not None and not fills_registers:
            body = If(span, elected, body)
        return AsyncRegion(span, body) if loop.is_async and self.target.has(Feature.CP_ASYNC) else body

    def elected(self, layout: Layout) -> Expr | None:
        """Which of the threads that run the same iterations changes memory; None where no two do."""
        condition: Expr | None = None
        for digit in layout.replicated_digits():
            for name, number in ((LANE, self.lane), (WARP, self.warp)):
                digits = layout.in_digits(name)
                if digit in digits:
                    axis, position = layout.in_axis(name), digit - digits.start
                    test = binary(Op.EQ, number // axis.places[position] % axis.digits[position], const(0))
                    condition = test if condition is None else logical(Op.AND, condition, test)
        return condition

    def private(self, loop: ParallelFor) -> Stmt:
        """A loop over arrays that each thread has of its own: every thread runs all of it."""
        body = self.body(loop.body, None, every_thread(self.num_threads), _ALONE)
        for variable, extent in reversed(list(zip(loop.variables, loop.extents, strict=True))):
            kind = LoopKind.UNROLLED if extent.is_const and extent.value <= 32 else LoopKind.SERIAL
            body = For(loop.span, variable, self.scalar(extent), kind, body)
        return body

    def counted(self, loop: ParallelFor) -> Stmt:
        """A loop whose size is known only at run time: the block strides over its iterations in row-major order."""
        span = loop.span
        extents = [self.scalar(e) for e in loop.extents]
        total: Expr = const(1)
        for extent in extents:
            total = total * extent
        turn = var("turn", total.dtype)
        flat = turn * self.num_threads + self.warp * 32 + self.lane
        places: list[Expr] = []
        rest = flat
        for position, extent in reversed(list(enumerate(extents))):
            places.append(rest % extent if position else rest)
            rest = rest // extent
        body = self.body(loop.body, None, every_thread(self.num_threads), _ALONE)
        body = substitute(body, dict(zip(loop.variables, reversed(places), strict=True)))
        turns = (total + (self.num_threads - 1)) // self.num_threads
        return For(span, turn, turns, LoopKind.SERIAL, If(span, binary(Op.LT, flat, total), body))

    def print_tile(self, node: Print) -> Stmt:
        """One thread prints all elements of a tile that the block shares; every thread those of its own."""
        buffer = node.buffer
        assert buffer is not None
        variables = tuple(var(name) for name, _ in zip("ijklmnop", buffer.shape, strict=False))
        shown = Print(node.span, node.message, (*variables, load(buffer, variables)))
        body = self.body(shown, None, every_thread(self.num_threads), _ALONE)
        for variable, extent in reversed(list(zip(variables, buffer.shape, strict=True))):
            body = For(node.span, variable, const(extent) if isinstance(extent, int) else extent, LoopKind.SERIAL, body)
        return body if buffer.scope in (Scope.LOCAL, Scope.GLOBAL) and self.launch.is_thread_level else If(node.span, self.is_first_thread, body)


def _updates_memory(loop: ParallelFor) -> bool:
    """Whether a loop loads from memory of the block that it also stores to."""
    accesses = [a for a in accesses_of(loop.body) if a.buffer.storage.scope in (Scope.GLOBAL, Scope.SHARED)]
    written = {a.buffer.storage for a in accesses if a.is_store}
    return any(a.buffer.storage in written for a in accesses if not a.is_store)


def has_effects(node: Stmt) -> bool:
    """Whether a statement changes more than the thread's own registers."""
    if isinstance(node, Store):
        return node.buffer.scope in (Scope.GLOBAL, Scope.SHARED)
    return isinstance(node, (AtomicUpdate, ForeignCall, Print, Assert))
