"""Gives every fragment its layout, and every access of one the register it means (floor 5).

Layouts come from what demands one (annotations of the user, products), then spread along loops and reductions; a connected part that nothing binds
starts at its largest loop, spread for wide accesses to memory. Every program gets layouts: an access that its thread cannot serve from registers goes
through a tile in shared memory, which is told as a remark.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.errors import Kind, Span, fail
from tilewright.ir.buffer import Buffer, Scope, whole
from tilewright.ir.expr import Expr, Op, cast, const, load, var
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import HintKind, Launch, Program
from tilewright.ir.stmt import For, If, ParallelFor, Print, Seq, Stmt, Store, While
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import inner_statements, rewrite, rewrite_expr, statements
from tilewright.layout import (
    LANE,
    REG,
    THREAD,
    WARP,
    Axis,
    FragmentAnnotation,
    Layout,
    LayoutAnnotation,
    LayoutError,
    Reach,
    ShufflePlan,
    distribute,
    plan_relayout,
)
from tilewright.ops.gemm import Gemm, GemmPlan
from tilewright.ops.reduce import Reduce, can_reduce_in_registers, result_layout
from tilewright.ops.relayout import Relayout, cheapest_shuffles
from tilewright.ops.scan import Scan, can_scan_in_registers
from tilewright.passes.context import GpuPassContext
from tilewright.passes.expand_tile_ops import expand_op
from tilewright.passes.loop_layout import (
    Access,
    LoopPlan,
    accesses_of,
    carry_into_fragment,
    carry_into_loop,
    every_thread,
    follow,
    match_registers,
    replicated_fragment,
    spread,
    spread_columns,
    spread_rows,
    static_extents,
    unrollable_loops,
)
from tilewright.passes.scratch import Scratch
from tilewright.passes.shared_layout import choose_shared_layouts
from tilewright.passes.stage_operands import MOST_SCANNED_BITS
from tilewright.passes.walk import buffers_of
from tilewright.passes.wide_stores import widen_store

_REPLICATED_ELEMENTS = 64  # what every thread may hold of a tile that only scalar code reads


def infer_layouts(program: Program, context: GpuPassContext) -> Program:
    """Fills `context.fragments` and `context.shared`; adds copies through shared memory where registers do not suffice."""
    hints = [h for h in program.hints if h.kind is HintKind.LAYOUT]
    annotations, spans = {h.values[0]: h.values[1] for h in hints}, {h.values[0]: h.span for h in hints}
    launches = []
    for launch in program.launches:
        inference = _Inference(launch, annotations, spans, context)
        launches.append(inference.run())
    return dataclasses.replace(program, launches=tuple(launches))


@dataclass(frozen=True, eq=False)
class _Unit:
    """A statement that all threads run together, with the loops around it that may be unrolled."""

    stmt: Stmt
    loops: Mapping[Expr, int]


@dataclass(frozen=True, eq=False)
class _Move:
    """A fragment that a loop touches in another layout, and the shuffles between that and its own."""

    buffer: Buffer
    layout: Layout
    shuffles: ShufflePlan


class _Inference:
    def __init__(self, launch: Launch, annotations: Mapping[object, object], spans: Mapping[object, Span], context: GpuPassContext) -> None:
        self.launch, self.annotations, self.spans, self.context = launch, annotations, spans, context
        self.fragments: dict[Buffer, Layout] = {}
        self.num_threads = math.prod(launch.threads)
        self.scratch = Scratch()

    def run(self) -> Launch:
        self.launch = dataclasses.replace(self.launch, body=rewrite(self.launch.body, post=self.separate_products))
        self.place_annotated()
        units = list(self.units(self.launch.body, {}))
        self.solve(units)
        for buffer in (*self.launch.buffers, *self.scratch.buffers):
            if buffer.scope is Scope.FRAGMENT and buffer not in self.fragments:
                self.fragments[buffer] = distribute(buffer.static_shape, self.num_threads, max(1, 128 // buffer.dtype.bits)).layout
        body = self.stage(self.launch.body, {})
        launch = dataclasses.replace(self.launch, body=body, buffers=(*self.launch.buffers, *self.scratch.buffers))
        self.context.fragments.update(self.fragments)
        choose_shared_layouts(launch, {b: a for b, a in self.annotations.items() if isinstance(a, LayoutAnnotation)}, self.context, self.spans)
        return launch

    # -- what a fragment's layout starts from
    def place_annotated(self) -> None:
        for buffer, annotation in self.annotations.items():
            if isinstance(annotation, FragmentAnnotation) and isinstance(buffer, Buffer) and buffer in self.launch.buffers and buffer not in self.fragments:
                layout = self.annotated(buffer)
                if layout is not None:
                    self.fragments[buffer] = layout
                else:
                    self.context.remark(buffer.span, f"the layout given for {buffer.name} is no digit layout of this block's threads: one was chosen instead")

    def separate_products(self, node: Stmt) -> Stmt:
        """Products that want one fragment in two layouts get a tile of their own for all but the first."""
        if not isinstance(node, Gemm):
            return node
        plan = self.gemm_plan(node)
        before: list[Stmt] = []
        after: list[Stmt] = []
        op = node
        wanted = self.annotated(op.c.buffer) or self.fragments.setdefault(op.c.buffer, plan.accumulator_layout)
        if wanted != plan.accumulator_layout:
            held = self.scratch.make("accumulator", op.c.dtype, op.c.buffer.static_shape, Scope.FRAGMENT, op.span)
            self.fragments[held] = plan.accumulator_layout
            if not (op.clear.is_const and op.clear.value):
                before.append(_copy(op.c.buffer, held, op.span))
            after.append(_copy(held, op.c.buffer, op.span))
            op = dataclasses.replace(op, c=whole(held))
        if op.a.buffer.scope is Scope.FRAGMENT:
            held = op.a.buffer
            layout = plan.a_layout
            found = layout and (self.annotated(held) or self.fragments.setdefault(held, layout))
            if layout is None or found != layout:
                # Instructions read operands from shared memory as they like, so only shuffles are worth a second fragment.
                is_moved = layout is not None and found is not None and cheapest_shuffles(found, layout, held.dtype) is not None
                tile = self.scratch.make("a_tile", op.a.dtype, held.static_shape, Scope.FRAGMENT if is_moved else Scope.SHARED, op.span)
                if is_moved and layout is not None:
                    self.fragments[tile] = layout
                before.append(_copy(held, tile, op.span))
                op = dataclasses.replace(op, a=whole(tile))
        return Seq(op.span, (*before, op, *after)) if before or after else op

    def annotated(self, buffer: Buffer) -> Layout | None:
        """The layout that the user gave a fragment, by lane and warp; None where there is none, or it is no digit layout of whole warps of the block."""
        annotation = self.annotations.get(buffer)
        if not isinstance(annotation, FragmentAnnotation) or not isinstance(annotation.fragment, Layout):
            return None
        layout = annotation.fragment
        axis = layout.in_axis(THREAD)
        digits = axis.digits
        lanes = math.prod(digits[:5])
        if axis.extent > self.num_threads or lanes != min(32, axis.extent) or any(r != 2 for r in digits[:5]):
            return None
        layout = layout.reorder(ins=[REG, THREAD])
        return layout.reshape_ins((layout.in_axis(REG), Axis(LANE, digits[:5]), Axis(WARP, digits[5:])))

    def gemm_plan(self, op: Gemm) -> GemmPlan:
        return op.plan(self.num_threads, self.context.target)

    # -- spreading
    def units(self, node: Stmt, loops: Mapping[Expr, int]) -> list[_Unit]:
        """Loops, operations and scalar statements, in program order."""
        match node:
            case ParallelFor():
                return [_Unit(node, {**loops, **unrollable_loops(node)})]
            case For():
                inner = {**loops, **unrollable_loops(Seq(node.span, (dataclasses.replace(node, body=Seq(node.span, ())),)))}
                return self.units(node.body, inner)
            case Seq() | If() | While():
                here = [] if isinstance(node, Seq) else [_Unit(_head(node), loops)]
                return here + [unit for inner in inner_statements(node) for unit in self.units(inner, loops)]
        return [_Unit(node, loops)]

    def solve(self, units: list[_Unit]) -> None:
        """Until every fragment that a loop or reduction touches has a layout: spread what is known, then start at the largest loop that is left."""
        while True:
            while any([self.spread_from(unit) for unit in units]):
                pass
            seeds = [u for u in units if isinstance(u.stmt, ParallelFor) and self.unknown(u.stmt) and static_extents(u.stmt) is not None]
            started = False
            for unit in sorted(seeds, key=lambda u: -math.prod(static_extents(u.stmt) or (1,))):  # type: ignore[arg-type]
                assert isinstance(unit.stmt, ParallelFor)
                extents = static_extents(unit.stmt)
                assert extents is not None
                if self.derive(unit.stmt, self.first_plan(unit.stmt, extents, units) or spread(unit.stmt, extents, self.num_threads)):
                    started = True
                    break
            if not started:
                for unit in units:  # tiles that scalar code alone reads
                    for buffer in self.unknown(unit.stmt):
                        if not isinstance(unit.stmt, (ParallelFor, TileOp)) and math.prod(buffer.static_shape) <= _REPLICATED_ELEMENTS:
                            self.fragments[buffer] = replicated_fragment(buffer.static_shape, self.num_threads)
                            started = True
                if not started:
                    return

    def first_plan(self, loop: ParallelFor, extents: tuple[int, ...], units: list[_Unit]) -> LoopPlan | None:
        """The plan that a reduction or scan of a tile that the loop runs over works best with."""
        touched = {b for b in self.unknown(loop) if b.rank == len(loop.variables)}
        for op in (u.stmt for u in units):
            match op:
                case Reduce() if op.axis == len(extents) - 1 and op.src.buffer in touched:
                    return spread_rows(loop, extents, self.num_threads)
                case Scan() if op.src.buffer in touched or op.dst.buffer in touched:
                    is_last = op.axis == len(extents) - 1
                    return spread_rows(loop, extents, self.num_threads) if is_last else spread_columns(loop, extents, self.num_threads, op.axis)
        return None

    def unknown(self, node: Stmt) -> list[Buffer]:
        touched = (b for stmt in _all(node) for b in buffers_of(stmt))
        return [b for b in dict.fromkeys(touched) if b.scope is Scope.FRAGMENT and b not in self.fragments]

    def spread_from(self, unit: _Unit) -> bool:
        """Whether the known layouts in a statement gave another one."""
        match unit.stmt:
            case ParallelFor() as loop:
                extents = static_extents(loop)
                if extents is None or not self.unknown(loop):
                    return False
                plan = follow(loop, extents, self.fragments)
                return plan is not None and self.derive(loop, plan)
            case Scan(src=src, dst=dst) if (src.buffer in self.fragments) != (dst.buffer in self.fragments) and src.buffer.shape == dst.buffer.shape:
                known, other = (src.buffer, dst.buffer) if src.buffer in self.fragments else (dst.buffer, src.buffer)
                if other.scope is not Scope.FRAGMENT:
                    return False
                self.fragments[other] = self.fragments[known]
                return True
            case Reduce() as op if op.src.buffer in self.fragments and op.dst.buffer.scope is Scope.FRAGMENT and op.dst.buffer not in self.fragments:
                self.fragments[op.dst.buffer] = result_layout(op, self.fragments[op.src.buffer])
                return True
        return False

    def derive(self, loop: ParallelFor, plan: LoopPlan) -> bool:
        """Layouts of the unknown fragments of a loop, from how it is spread."""
        is_any = False
        for access in accesses_of(loop.body):
            if access.buffer.scope is not Scope.FRAGMENT or access.buffer in self.fragments:
                continue
            layout = carry_into_fragment(loop, plan, access)
            if layout is not None and layout.is_onto:
                self.fragments[access.buffer] = layout.drop_redundant(REG)
                is_any = True
        return is_any

    # -- what registers cannot serve
    def stage(self, node: Stmt, loops: Mapping[Expr, int]) -> Stmt:
        match node:
            case Seq():
                body: list[Stmt] = []
                for inner in node.body:
                    made = self.stage(inner, loops)
                    # Names that a statement gives are visible in the rest of its sequence.
                    body += made.body if isinstance(made, Seq) and not isinstance(inner, Seq) else (made,)
                return dataclasses.replace(node, body=tuple(body))
            case ParallelFor():
                extents = static_extents(node)
                plan = None if extents is None else follow(node, extents, self.fragments) or spread(node, extents, self.num_threads)
                wide = None if plan is None else self.widely(node, plan, {**loops, **unrollable_loops(node)})
                return wide or self.through_shared(node, node, plan, {**loops, **unrollable_loops(node)})
            case For():
                inner_loops = {**loops, **({node.variable: int(node.extent.value)} if node.extent.is_const and 0 < node.extent.value <= 64 else {})}
                return dataclasses.replace(node, body=self.stage(node.body, inner_loops))
            case If():
                otherwise = None if node.else_body is None else self.stage(node.else_body, loops)
                head = self.scalar(_head(node), loops)
                *before, test = head.body if isinstance(head, Seq) else (head,)
                assert isinstance(test, If)
                made = dataclasses.replace(node, condition=test.condition, then_body=self.stage(node.then_body, loops), else_body=otherwise)
                return Seq(node.span, (*before, made)) if before else made
            case While():
                if self.scalar(head := _head(node), loops) is not head:
                    fail(
                        Kind.BUFFER_CONDITION,
                        f"the condition `{node.condition}` of a while loop reads an element that not every thread holds",
                        node.span,
                        because="all threads decide together whether to go on, before each turn",
                        help="keep what the condition needs in a T.alloc_var or in shared memory",
                    )
                return dataclasses.replace(node, body=self.stage(node.body, loops))
            case Reduce():
                return self.reduce(node)
            case Scan() if node.src.buffer.scope is Scope.FRAGMENT:
                return self.scan(node)
            case TileOp():
                return node
            case Print(buffer=Buffer(scope=Scope.FRAGMENT) as buffer):
                tile = self.scratch.scratch(f"{buffer.name}_tile", buffer.dtype, buffer.static_shape, node.span)
                return Seq(node.span, (_copy(buffer, tile, node.span), dataclasses.replace(node, buffer=tile)))
        return self.scalar(node, loops)

    def widely(self, loop: ParallelFor, plan: LoopPlan, loops: Mapping[Expr, int]) -> Stmt | None:
        """A loop that stores a fragment, 16 bytes at a time; None where it does something else, or that would not help."""
        found = widen_store(loop, plan)
        if found is None:
            return None
        held = plan.layout.drop_redundant(REG)
        shuffles = cheapest_shuffles(held, found.layout, found.held.dtype)
        if shuffles is None:
            return None
        self.scratch.buffers += (found.held, found.moved)
        self.fragments[found.held], self.fragments[found.moved] = held, found.layout
        self.context.remark(loop.span, f"{shuffles.num_shuffles} shuffles bring neighbours together here, to be stored 16 bytes at a time")
        convert = self.through_shared(found.convert, found.convert, plan, loops)
        return Seq(loop.span, (convert, Relayout(loop.span, whole(found.held), whole(found.moved)), found.store))

    def scalar(self, node: Stmt, loops: Mapping[Expr, int]) -> Stmt:
        """A statement outside parallel loops that holds no other."""
        if not any(b.scope is Scope.FRAGMENT for b in buffers_of(node)):
            return node
        # Fragments are held by whole warps; where the block has more threads, some run this statement and hold nothing.
        plan = every_thread(self.num_threads)
        return self.through_shared(ParallelFor(node.span, (), (), node), node, plan if plan.num_threads == self.num_threads else None, loops)

    def through_shared(self, loop: ParallelFor, node: Stmt, plan: LoopPlan | None, loops: Mapping[Expr, int]) -> Stmt:
        """The statement with the fragments that its threads do not hold read from, and written to, tiles in shared memory."""
        accesses = [a for a in accesses_of(loop.body) if a.buffer.scope is Scope.FRAGMENT]
        # Foreign code runs once for each iteration, also where several threads would need the result in registers.
        is_run_once = plan is not None and not plan.layout.is_injective and any(isinstance(s, ForeignCall) for s in statements(node))
        missed = [
            a for a in accesses if plan is None or (is_run_once and a.is_store) or match_registers(loop, plan, a, self.fragments[a.buffer], loops) is None
        ]
        if not missed:
            return node
        moves = {} if plan is None else self.between_lanes(loop, plan, missed, {a.buffer for a in accesses if a.is_store}, loops)
        result = None if node is not loop else self.result_between_lanes(loop, missed[0], loops)
        if result is not None and (
            any((a.buffer, a.indices) not in moves for a in missed)
            or result.shuffles.cost(result.buffer.dtype.bits) < sum(m.shuffles.cost(m.buffer.dtype.bits) for m in moves.values())
        ):
            made = self.moved(result, node.span, "computed")
            target = result.buffer
            return Seq(node.span, (rewrite(node, on_buffer=lambda b: made if b is target else b), Relayout(node.span, whole(made), whole(target))))
        moved = {key: self.moved(move, node.span, "read") for key, move in moves.items()}
        failing = dict.fromkeys(a.buffer for a in missed if (a.buffer, a.indices) not in moved)
        tiles = {b: self.scratch.scratch(f"{b.name}_tile", b.dtype, b.static_shape, node.span) for b in failing}
        for buffer in failing:
            self.context.remark(node.span, f"{buffer.name} is read or written by other threads than hold it: it goes through shared memory here")
        memo: dict[Expr, Expr] = {}

        def expression(root: Expr) -> Expr:
            return rewrite_expr(root, element, memo)

        def element(node: Expr) -> Expr:
            if node.op is not Op.LOAD:
                return node
            return load(moved.get((node.buffer, node.args), tiles.get(node.buffer, node.buffer)), node.args)

        written = {a.buffer for a in accesses if a.is_store}
        body = rewrite(node, on_expr=expression, on_buffer=lambda b: tiles.get(b, b))
        before: list[Stmt] = [Relayout(node.span, whole(b), whole(m)) for (b, _), m in moved.items()]
        before += [_copy(b, t, node.span) for b, t in tiles.items()]
        after = [_copy(t, b, node.span) for b, t in tiles.items() if b in written]
        return Seq(node.span, (*before, body, *after))

    def between_lanes(
        self, loop: ParallelFor, plan: LoopPlan, missed: list[Access], written: set[Buffer], loops: Mapping[Expr, int]
    ) -> dict[tuple[Buffer, tuple[Expr, ...]], _Move]:
        """How fragments come to the layout that a loop reads them in, per access; without those that it writes, or that shared memory moves as cheaply."""
        moves: dict[tuple[Buffer, tuple[Expr, ...]], _Move] = {}
        left: set[Buffer] = set(written)
        for access in missed:
            buffer = access.buffer
            wanted = None if buffer in left else carry_into_fragment(loop, plan, access)
            wanted = None if wanted is None else wanted.drop_redundant(REG)
            shuffles = None if wanted is None else cheapest_shuffles(self.fragments[buffer], wanted, buffer.dtype)
            if wanted is None or shuffles is None or match_registers(loop, plan, access, wanted, loops) is None:
                left.add(buffer)
                continue
            moves[buffer, access.indices] = _Move(buffer, wanted, shuffles)
        return {key: move for key, move in moves.items() if move.buffer not in left}

    def result_between_lanes(self, loop: ParallelFor, missed: Access, loops: Mapping[Expr, int]) -> _Move | None:
        """How a loop that makes one fragment of others can run as one that it misses lies, and its result be moved: it may be narrower, or made of several."""
        store = loop.body.body[0] if isinstance(loop.body, Seq) and len(loop.body.body) == 1 else loop.body
        extents = static_extents(loop)
        if missed.is_store or not isinstance(store, Store) or extents is None:
            return None
        target, accesses = Access(store.buffer, store.indices, True), list(accesses_of(loop.body))
        if any(a.buffer.scope is not Scope.FRAGMENT or (a.buffer is target.buffer and not a.is_store) for a in accesses):
            return None
        plan = carry_into_loop(loop, extents, missed, self.fragments[missed.buffer])
        layout = None if plan is None else carry_into_fragment(loop, plan, target)
        if layout is None or not layout.is_onto:
            return None
        layout = layout.drop_redundant(REG)
        plan = carry_into_loop(loop, extents, target, layout)
        shuffles = cheapest_shuffles(layout, self.fragments[target.buffer], target.buffer.dtype)
        known = {**self.fragments, target.buffer: layout}
        if plan is None or shuffles is None or any(match_registers(loop, plan, a, known[a.buffer], loops) is None for a in accesses):
            return None
        return _Move(target.buffer, layout, shuffles)

    def moved(self, move: _Move, span: Span, use: str) -> Buffer:
        """The fragment in the other layout; tells the user."""
        made = self.scratch.make(f"{move.buffer.name}_moved", move.buffer.dtype, move.buffer.static_shape, Scope.FRAGMENT, span)
        self.fragments[made] = move.layout
        count = move.shuffles.num_shuffles
        by = f"{count} shuffle{'s' * (count != 1)} move{'s' * (count == 1)} it here" if count else "its registers change places here"
        self.context.remark(span, f"{move.buffer.name} is {use} by other threads than hold it: {by}")
        return made

    def reduce(self, op: Reduce) -> Stmt:
        """A reduction whose result lies elsewhere than its destination goes into a tile of its own first; a source in mixed digits is brought out of them."""
        if not can_reduce_in_registers(op, self.fragments[op.src.buffer]):
            source = self.scratch.make("reduced_tile", op.src.dtype, op.src.buffer.static_shape, Scope.FRAGMENT, op.span)
            self.fragments[source] = distribute(source.static_shape, self.num_threads, max(1, 128 // source.dtype.bits)).layout
            return Seq(op.span, (self.stage(_copy(op.src.buffer, source, op.span), {}), self.reduce(dataclasses.replace(op, src=whole(source)))))
        found, wanted = result_layout(op, self.fragments[op.src.buffer]), self.fragments[op.dst.buffer]
        try:
            if found.outs == wanted.outs and plan_relayout(found, wanted).reach is Reach.REGISTERS:
                return op
        except LayoutError:
            pass
        held = self.scratch.make("reduced", op.dst.dtype, op.dst.buffer.static_shape, Scope.FRAGMENT, op.span)
        self.fragments[held] = found
        before = [] if op.clear else [self.stage(_copy(op.dst.buffer, held, op.span), {})]
        after = self.stage(_copy(held, op.dst.buffer, op.span), {})
        return Seq(op.span, (*before, dataclasses.replace(op, dst=whole(held)), after))

    def scan(self, op: Scan) -> Stmt:
        """A scan where source and destination lie alike, each digit of the axis with one kind of a thread's coordinates; else in tiles that do, or in shared
        memory where a thread would have to hold too much."""
        src, dst, shape = op.src.buffer, op.dst.buffer, op.src.buffer.static_shape
        usable = [f for f in (self.fragments[src], self.fragments[dst]) if can_scan_in_registers(f, op.axis)]
        layout = usable[0] if usable else distribute(shape, self.num_threads, max(1, 128 // op.dst.dtype.bits)).layout
        if layout.in_axis(REG).extent * max(32, op.dst.dtype.bits) > MOST_SCANNED_BITS or not can_scan_in_registers(layout, op.axis):
            self.context.remark(
                op.span, f"{src.name} is scanned by one thread for each row, in shared memory: a thread holds too much of it, or no piece of a row"
            )
            tile = self.scratch.scratch("scanned_tile", op.dst.dtype, shape, op.span)
            loops = expand_op(dataclasses.replace(op, src=whole(tile), dst=whole(tile)), self.scratch)
            return Seq(op.span, tuple(self.stage(part, {}) for part in (_copy(src, tile, op.span), loops, _copy(tile, dst, op.span))))
        operands = []
        for buffer in (src, dst):
            held = buffer
            if self.fragments[buffer] != layout:
                held = self.scratch.make(f"{buffer.name}_scanned", buffer.dtype, shape, Scope.FRAGMENT, op.span)
                self.fragments[held] = layout
            operands.append(held)
        before, after = ([] if a is b else [self.stage(_copy(a, b, op.span), {})] for a, b in ((src, operands[0]), (operands[1], dst)))
        return Seq(op.span, (*before, dataclasses.replace(op, src=whole(operands[0]), dst=whole(operands[1])), *after))


def _copy(src: Buffer, dst: Buffer, span: Span) -> Stmt:
    """All of one tile, converted, into another of the same shape."""
    shape = dst.static_shape
    variables = tuple(var(name) for name, _ in zip("ijklmnop", shape, strict=False))
    return ParallelFor(span, variables, tuple(map(const, shape)), Store(span, dst, variables, cast(load(src, variables), dst.dtype)))


def _head(node: If | While) -> Stmt:
    """The condition alone."""
    return If(node.span, node.condition, Seq(node.span, ()))


def _all(node: Stmt) -> list[Stmt]:
    return [node, *(s for inner in inner_statements(node) for s in _all(inner))]
