"""ParallelFor and ReduceLoop as vector loops (floor 6).

One variable of the nest becomes the lanes, the others stay scalar loops. Where conditions on that variable protect memory accesses, the range
in which they all hold runs without them at full width; what is left runs with them known to fail, or one turn at a time with real branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from tilewright.codegen.llvm.emitter import Value, constant
from tilewright.codegen.llvm.expressions import Expressions
from tilewright.codegen.llvm.facts import conjuncts
from tilewright.codegen.llvm.hoist import enter_loop
from tilewright.codegen.llvm.memory import CACHE_LINE_BYTES, Memory
from tilewright.codegen.llvm.ranges import narrow_range
from tilewright.codegen.llvm.reduction import identity_of, reduce_lanes
from tilewright.codegen.llvm.survey import Survey, survey
from tilewright.codegen.llvm.task import Operand, Ramp, Task
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, as_expr, load
from tilewright.ir.stmt import Assume, If, Let, ParallelFor, ReduceKind, ReduceLoop, Seq, Stmt, Store
from tilewright.ir.visit import statements

MAXIMUM_LANES = 64
MINIMUM_LANES = 4


class Turn(Protocol):
    """What a vector loop does: the values carried at first, one turn, and what becomes of them at the end."""

    def initial(self, lanes: int) -> list[Value]: ...

    def run(self, carried: list[Value]) -> list[Value]: ...

    def final(self, carried: list[Value]) -> None: ...


@dataclass(frozen=True, slots=True)
class Widths:
    """Lanes to try one after the other on what is left of a range, the last one 1."""

    ladder: tuple[int, ...]

    def for_range(self, start: Value, stop: Value) -> tuple[int, ...]:
        """Those that have something to do, where that is known."""
        extent = static_extent(start, stop)
        if extent is None:
            return self.ladder
        used = []
        for lanes in self.ladder:
            if extent >= lanes:
                used.append(lanes)
                extent %= lanes
        return tuple(used)


def static_extent(start: Value, stop: Value) -> int | None:
    if start.text.startswith("%") or stop.text.startswith("%"):
        return None
    return max(int(stop.text) - int(start.text), 0)


class Vectorizer:
    """Emits the parallel nests and reductions of one task; `emit` emits a body at the task's width."""

    def __init__(self, task: Task, memory: Memory, expressions: Expressions, emit: Callable[[Stmt], None]) -> None:
        self.task, self.memory, self.expressions, self.emit = task, memory, expressions, emit

    # -- parallel nests
    def parallel_for(self, node: ParallelFor) -> None:
        if self.task.lanes > 1:
            raise CompilerBug("a parallel loop inside vector code")
        variables, extents, body = flatten(node)
        chosen, found = self._choose(variables, extents, body)
        order = [i for i, v in enumerate(variables) if v is not chosen] + [i for i, v in enumerate(variables) if v is chosen]
        with ExitStack() as stack:
            stack.enter_context(self.task.scope())
            self._nest([(variables[i], extents[i]) for i in order], body, found)
        self.task.forget(self.task.facts.written(body))

    def _nest(self, loops: Sequence[tuple[Expr, Expr]], body: Stmt, found: Survey | None) -> None:
        task, f = self.task, self.task.f
        variable, extent = loops[0]
        stop = self.expressions.scalar_index(extent)
        bound = task.facts.bound(body) | {v for v, _n in loops}
        runs = all(n.is_const and n.value > 0 for _v, n in loops)
        with task.scope():
            enter_loop(self.expressions, body, bound, runs=runs, is_serial=False)
            if len(loops) == 1 and found is not None:
                self._vector_loop(variable, stop, body, found)
                return
            with f.loop(constant(0, "i64"), stop, constant(1, "i64"), hint=label_of(variable)) as loop, task.scope():
                task.bind_index(variable, loop.index)
                if len(loops) > 1:
                    self._nest(loops[1:], body, found)
                else:
                    self.emit(body)
                    task.forget(task.facts.written(body))

    def _choose(self, variables: Sequence[Expr], extents: Sequence[Expr], body: Stmt) -> tuple[Expr, Survey | None]:
        """The variable that becomes the lanes, with what is known of the body then; no survey where the nest stays scalar."""
        best: tuple[int, Expr, Survey] | None = None
        for variable, extent in reversed(list(zip(variables, extents, strict=True))):
            if extent.is_const and extent.value < MINIMUM_LANES:
                continue
            found = survey(self.expressions, body, variable, variables)
            if found.is_possible and found.score >= 0 and (best is None or found.score > best[0]):
                best = found.score, variable, found
        return (best[1], best[2]) if best is not None else (variables[-1], None)

    def _vector_loop(self, variable: Expr, stop: Value, body: Stmt, found: Survey) -> None:
        widths = self._widths(stop, found)
        turn = _BodyTurn(self, body)

        def run() -> None:
            if not any(self.task.known.get(condition) is False and does_nothing(body, condition) for condition in found.uniform):
                self._segments(variable, stop, found, widths, turn, is_idle=lambda guard: does_nothing(body, guard))

        def run_streaming() -> None:
            streamed = self._streamed(body, variable, found)
            if not streamed:
                run()
                return
            f, is_past, is_through, end = self.task.f, *(self.task.f.label(hint) for hint in ("past.", "through.", "written."))
            f.branch_if(self._is_worth_streaming(streamed, variable), is_past, is_through)
            for label, buffers in ((is_past, frozenset(access.buffer for access in streamed)), (is_through, frozenset[Buffer]())):
                f.start(label)
                self.task.streamed = buffers
                with self.task.scope():
                    run()
                f.branch(end)
            f.start(end)

        self._versions(found.uniform, run_streaming)

    def _streamed(self, body: Stmt, variable: Expr, found: Survey) -> list[Expr]:
        """Stores side by side, from the first turn on, into tensors that nobody reads in this launch; none where a turn may leave one out."""
        task = self.task
        if not task.target.streaming_bytes or found.guards or task.mask is not None:
            return []
        written = [load(node.buffer, node.indices) for node in statements(body) if isinstance(node, Store) and node.buffer in task.only_written]
        elements = dict.fromkeys(written)
        inner = task.facts.bound(body) - task.aliases.keys()  # has no value before the loop, where the place of the first store is looked at
        single = [a for a in elements if len([b for b in elements if b.buffer is a.buffer]) == 1]
        return [a for a in single if self._is_side_by_side(a, variable) and task.facts.dependences(a).variables.isdisjoint(inner)]

    def _is_side_by_side(self, access: Expr, variable: Expr) -> bool:
        plan = self.memory.plan(access)
        moving = [t for t in plan.terms if t.atom is not None and not self.task.facts.dependences(t.atom).variables.isdisjoint({variable})]
        return not plan.is_packed and len(moving) == 1 and moving[0].atom is variable and moving[0].scale == 1 and moving[0].stride is None

    def _is_worth_streaming(self, accesses: Sequence[Expr], variable: Expr) -> Value:
        """Whether the tensors are large and the vectors of each lie at multiples of their size."""
        task, f = self.task, self.task.f
        task.has_streamed = True
        is_worth: Value | None = None
        for access in accesses:
            size_bytes = constant(access.buffer.dtype.itemsize, "i64")
            for extent in access.buffer.shape:
                size_bytes = f.binary("mul", size_bytes, self.expressions.scalar_index(as_expr(extent)))
            is_large = f.compare("icmp sge", size_bytes, constant(task.target.streaming_bytes, "i64"))
            with task.scope():
                task.bind_index(variable, constant(0, "i64"))
                address = f.convert("ptrtoint", self.memory.lane_address(self.memory.locate(access), 0), "i64")
            misplaced = f.binary("and", address, constant(CACHE_LINE_BYTES - 1, "i64"))
            is_fit = f.binary("and", is_large, f.compare("icmp eq", misplaced, constant(0, "i64")))
            is_worth = is_fit if is_worth is None else f.binary("and", is_worth, is_fit)
        assert is_worth is not None
        return is_worth

    def _versions(self, conditions: Sequence[Expr], run: Callable[[], Value | None]) -> Value | None:
        """What `run` gives; emitted once for each outcome of a condition that no turn changes, so that turns need not ask."""
        task, f = self.task, self.task.f
        condition = next((c for c in conditions if c not in task.known), None)
        outcome = self.expressions.scalar(condition) if condition is not None else None
        if condition is None or outcome is None or outcome.text in ("true", "false"):
            return run()
        holds, fails, end = f.label("holds."), f.label("fails."), f.label("either.")
        f.branch_if(outcome, holds, fails)
        results: list[tuple[Value, str]] = []
        for label, context in (
            (holds, task.assuming((part, True) for part in conjuncts(condition))),
            (fails, task.assuming([(condition, False)])),
        ):
            f.start(label)
            with context:
                result = run()
            if result is not None:
                results.append((result, f.block))
            f.branch(end)
        f.start(end)
        return f.phi(results[0][0].type, results) if results else None

    # -- ranges
    def _segments(self, variable: Expr, stop: Value, found: Survey, widths: Widths, turn: Turn, is_idle: Callable[[Expr], bool]) -> None:
        """The turns [0, stop) in up to three stretches by what is known of the guards there."""
        task = self.task
        zero = constant(0, "i64")
        guards = [g for g in found.guards if g not in task.known]
        if not guards:
            self._span(variable, zero, stop, widths.for_range(zero, stop), turn, found.private)
            return
        low, high = zero, stop
        for guard in guards:
            low, high = narrow_range(self.expressions, guard, variable, low, high)
        low, high = self._clipped(low, high, stop)
        with task.assuming((part, True) for guard in guards for part in conjuncts(guard)):
            self._span(variable, low, high, widths.for_range(low, high), turn, found.private)
        if len(guards) == 1:
            if is_idle(guards[0]):
                return
            context, ladder = task.assuming([(guards[0], False)]), widths
        else:
            context, ladder = task.scope(), Widths((1,))
        with context:
            for start, end in ((zero, low), (high, stop)):
                if start is not end:
                    self._span(variable, start, end, ladder.for_range(start, end), turn, found.private)

    def _clipped(self, low: Value, high: Value, stop: Value) -> tuple[Value, Value]:
        """0 <= low <= high <= stop."""
        f = self.task.f
        if low.text != "0":
            low = f.intrinsic("llvm.smin.i64", "i64", low, stop)
        if high is not stop or low.text != "0":
            high = f.intrinsic("llvm.smax.i64", "i64", high, low)
        return low, high

    def _span(self, variable: Expr, start: Value, stop: Value, ladder: Sequence[int], turn: Turn, private_tiles: Sequence[Buffer]) -> None:
        """The turns [start, stop), with each width as often as it fits."""
        f, task = self.task.f, self.task
        position = start
        multiple = int(start.text) if not start.text.startswith("%") else 1
        for lanes in ladder:
            carried = turn.initial(lanes)
            private = {} if lanes == 1 else {tile: self.memory.private_copy(tile, lanes) for tile in private_tiles}
            extent = static_extent(position, stop)
            if extent is not None and extent // lanes == 1:
                with task.vector(lanes, variable, private):
                    self._bind(variable, position, lanes, multiple)
                    turn_result = turn.run(carried)
                turn.final(turn_result)
                position = constant(int(position.text) + lanes, "i64")
                multiple = int(position.text)
                continue
            limit = task.add_constant(stop, 1 - lanes)
            with f.loop(position, limit, constant(lanes, "i64"), carried, hint=label_of(variable)) as loop, task.vector(lanes, variable, private):
                self._bind(variable, loop.index, lanes, multiple)
                loop.next = turn.run(loop.carried)
            turn.final(loop.results)
            if extent is None:
                position = loop.index
            else:
                position = constant(int(position.text) + extent // lanes * lanes, "i64")

    def _bind(self, variable: Expr, index: Value, lanes: int, multiple: int) -> None:
        step = math.gcd(multiple, lanes)
        value = index if lanes == 1 else Ramp(index, tuple(range(lanes)), step)
        self.task.bind_index(variable, value, multiple=1 if lanes > 1 else step)

    def _widths(self, stop: Value, found: Survey) -> Widths:
        """As wide as pays: several vectors at once hide latencies, a width that divides the extent leaves no rest."""
        vector = max(self.task.target.vector_bytes // found.element_bytes, MINIMUM_LANES)
        most = min(vector * (2 if found.is_heavy else 4), max(MAXIMUM_LANES, vector))
        extent = None if stop.text.startswith("%") else int(stop.text)
        if extent is None:
            return Widths((most, vector, 1))
        lanes = most
        while lanes > vector and extent % lanes:
            lanes //= 2
        if extent % lanes:
            lanes = most
        while lanes > max(extent, 1):
            lanes //= 2
        ladder = [lanes]
        while lanes > MINIMUM_LANES:
            lanes //= 2
            if lanes <= vector:
                ladder.append(lanes)
        return Widths((*ladder, 1) if ladder[-1] > 1 else tuple(ladder))

    # -- reductions
    def reduce(self, node: ReduceLoop) -> None:
        task = self.task
        initial = self.expressions.value(node.initial)
        turn = _ReduceTurn(self, node)
        with task.scope():
            stop = self.expressions.scalar_index(node.extent)
            runs = node.extent.is_const and node.extent.value > 0
            body = Seq(node.span, (*(() if node.body is None else (node.body,)), Let(node.span, node.result, node.value)))
            enter_loop(self.expressions, body, task.facts.bound(body) | {node.axis}, runs=runs, is_serial=False)
            found = survey(self.expressions, body, node.axis, (node.axis,)) if task.lanes == 1 else None
            is_short = node.extent.is_const and node.extent.value < 2 * MINIMUM_LANES
            if found is not None and found.is_possible and found.score >= 0 and not is_short:
                widths = self._widths(stop, found)

                def run() -> Value:
                    turn.total = None
                    self._segments(node.axis, stop, found, widths, turn, is_idle=lambda guard: False)
                    return turn.identity(1) if turn.total is None else turn.total

                turn.total = self._versions(found.uniform, run)
            else:
                self._serial_reduction(node, stop, turn)
        if node.body is not None:
            task.forget(task.facts.written(node.body))
        task.remember(task.values, node.result, turn.result(initial))

    def _serial_reduction(self, node: ReduceLoop, stop: Value, turn: _ReduceTurn) -> None:
        """One value of the axis after the other, for all lanes at once."""
        task = self.task
        carried = [turn.identity(task.lanes)]
        with task.f.loop(constant(0, "i64"), stop, constant(1, "i64"), carried, hint=label_of(node.axis)) as loop, task.scope():
            task.bind_index(node.axis, loop.index)
            loop.next = turn.run(loop.carried)
        turn.total = loop.results[0]


class _BodyTurn:
    """A statement, with nothing carried."""

    def __init__(self, vectorizer: Vectorizer, body: Stmt) -> None:
        self.vectorizer, self.body = vectorizer, body

    def initial(self, lanes: int) -> list[Value]:
        return []

    def run(self, carried: list[Value]) -> list[Value]:
        self.vectorizer.emit(self.body)
        self.vectorizer.task.forget(self.vectorizer.task.facts.written(self.body))
        return []

    def final(self, carried: list[Value]) -> None:
        pass


class _ReduceTurn:
    """A reduction over the lanes of its axis; `total` is what has been combined so far, a scalar."""

    def __init__(self, vectorizer: Vectorizer, node: ReduceLoop) -> None:
        self.vectorizer, self.task, self.node = vectorizer, vectorizer.task, node
        self.total: Value | None = None

    def identity(self, lanes: int) -> Value:
        return identity_of(self.node.kind, self.node.result.dtype, lanes)

    def initial(self, lanes: int) -> list[Value]:
        return [self.identity(lanes)]

    def run(self, carried: list[Value]) -> list[Value]:
        body = self.node.body
        if body is not None:
            self.vectorizer.emit(body)
        value = self.vectorizer.expressions.vector(self.node.value)
        if body is not None:
            self.task.forget(self.task.facts.written(body))
        return [self.accumulate(value, carried[0])]

    def final(self, carried: list[Value]) -> None:
        part = reduce_lanes(self.task.f, self.node.kind, self.node.result.dtype, carried[0])
        self.total = part if self.total is None else self.combine(part, self.total)

    def accumulate(self, value: Value, accumulator: Value) -> Value:
        """The accumulator is never NaN, so that one instruction takes a maximum."""
        kind = self.node.kind
        if kind in (ReduceKind.MAX, ReduceKind.MIN) and self.node.result.dtype.is_float:
            return self.vectorizer.expressions.float_extremum(kind is ReduceKind.MAX, value, accumulator)
        return self.combine(value, accumulator)

    def combine(self, a: Value, b: Value | None) -> Value:
        kind, dtype, f = self.node.kind, self.node.result.dtype, self.task.f
        if b is None:
            return a
        if kind in (ReduceKind.MAX, ReduceKind.MIN):
            return self.vectorizer.expressions.extremum(kind is ReduceKind.MAX, a, b, dtype)
        if kind is ReduceKind.SUM:
            return f.binary("fadd contract", a, b) if dtype.is_float else f.binary("add", a, b)
        return f.binary({ReduceKind.BIT_AND: "and", ReduceKind.BIT_OR: "or", ReduceKind.BIT_XOR: "xor"}[kind], a, b)

    def result(self, initial: Operand) -> Value:
        """The initial value combined with everything, in the dtype of the result."""
        first = self.task.widened(initial)
        return self.vectorizer.expressions.in_dtype(self.combine(first, self.total), self.node.result.dtype)


def flatten(node: ParallelFor) -> tuple[list[Expr], list[Expr], Stmt]:
    """A parallel loop that is all of another's body belongs to its nest."""
    variables, extents = list(node.variables), list(node.extents)
    body = node.body
    while True:
        while isinstance(body, Seq) and len(body.body) == 1:
            body = body.body[0]
        if not isinstance(body, ParallelFor):
            return variables, extents, body
        variables += body.variables
        extents += body.extents
        body = body.body


def does_nothing(body: Stmt, guard: Expr) -> bool:
    """Whether a body has no effect where the guard fails."""
    match body:
        case Seq():
            return all(does_nothing(part, guard) for part in body.body)
        case Let() | Assume():
            return True
        case If():
            return body.condition is guard and (body.else_body is None or does_nothing(body.else_body, guard))
    return False


def label_of(variable: Expr) -> str:
    return variable.name if variable.name.isidentifier() and variable.name.isascii() else "loop"


__all__ = ["Turn", "Vectorizer", "Widths", "flatten"]
