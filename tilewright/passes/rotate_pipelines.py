"""The first operands of a turn are loaded at the end of the turn before (floor 5).

A pipelined product waits, meets the other warps, loads its first operands, and only then multiplies: for the time of the load the tensor cores stand still.
Rotated, a turn begins with operands in registers, and

    wait; barrier; load the first operands of turn k + 1; multiply the last step of turn k

puts the wait and the load beside products. The first turn's operands are loaded before the loop.

The copies for later turns are dealt out to the steps before the wait, each behind the loads of its step. The assembler moves no load of shared memory across
a copy that may write there: copies at one place hold back all the loads that follow, and the products then wait for them.

Sound where the loop body is just that: a wait, a barrier, loads, copies for later turns, and steps that load one step ahead into the other half of the
registers. The load for the next turn goes where a step ahead would go, into the same registers; slots of shared memory are overwritten one turn after
their last load, with a barrier between.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tilewright.arith.simplify import simplify
from tilewright.errors import Span
from tilewright.intrin.nvidia.cp_async import CP_ASYNC_WAIT_ALL, CP_ASYNC_WAIT_GROUP
from tilewright.intrin.nvidia.ldmatrix import LdMatrix
from tilewright.intrin.nvidia.mma import Mma
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, const, load, logical, select, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assume, Barrier, BarrierScope, For, If, Let, LoopKind, Seq, Stmt, Store
from tilewright.ir.thread import InstructionCall, Registers
from tilewright.ir.visit import own_expressions, rewrite, rewrite_expr, statements, subexpressions, substitute
from tilewright.passes.context import GpuPassContext
from tilewright.passes.delay_copies import loads_operands, starts_copies


def rotate_pipelines(program: Program, context: GpuPassContext) -> Program:
    """Rotates every loop of that form."""

    def launch(node: Launch) -> Launch:
        counters: list[Buffer] = []
        body = rewrite(node.body, post=lambda stmt: _rotated(stmt, counters))
        return dataclasses.replace(node, body=body, buffers=(*node.buffers, *counters))

    return dataclasses.replace(program, launches=tuple(map(launch, program.launches)))


@dataclass(frozen=True, eq=False)
class _Turn:
    """The parts of a loop body, in order. `ahead` are the loads in step `step` for the step after it, `products` what the step multiplies."""

    wait: Stmt
    barrier: Stmt
    names: tuple[Let, ...]
    loads: tuple[Stmt, ...]
    copies: tuple[Stmt, ...]
    step: Expr
    steps: int
    ahead: Stmt
    products: tuple[Stmt, ...]


def _rotated(node: Stmt, counters: list[Buffer]) -> Stmt:
    turn = _turn(node) if isinstance(node, For) and node.kind is LoopKind.SERIAL else None
    if turn is None or not isinstance(node, For):
        return node
    span = node.span
    first: Stmt = Seq(span, tuple(substitute(s, {node.variable: const(0, node.variable.dtype)}) for s in turn.loads))
    if not (node.extent.is_const and node.extent.value > 0):
        first = If(span, binary(Op.GT, node.extent, 0), first)
    following: Stmt = Seq(span, tuple(substitute(s, {node.variable: node.variable + 1}) for s in turn.loads))
    following = If(span, binary(Op.LT, node.variable + 1, node.extent), following)

    inner: list[Stmt] = []
    # With one step before the wait, copies behind its loads let the assembler move the last products in front of the barrier, and the loads behind it are
    # then waited for (0.52 of cuBLAS instead of 0.57 on an H200, 4096 x 4096 x 4096).
    lots = _dealt(turn.copies, turn.steps - 1) if turn.steps > 2 else [()]
    inner += turn.copies if turn.steps == 2 else ()
    for number, copies in enumerate(lots):
        ahead, *products = (substitute(s, {turn.step: const(number, turn.step.dtype)}) for s in (turn.ahead, *turn.products))
        inner += (ahead, *copies, *products)
    last = tuple(substitute(s, {turn.step: const(turn.steps - 1, turn.step.dtype)}) for s in turn.products)
    ring = _Ring(span, node.variable)
    body = ring.counted(Seq(span, (*inner, turn.wait, turn.barrier, following, *last)))
    counters += ring.counters.values()
    return Seq(span, (*turn.names, turn.wait, turn.barrier, first, *ring.before, dataclasses.replace(node, body=body)))


class _Ring:
    """The slots of a turn: remainders of its number. They are counted from turn to turn, since dividing by 3 takes as many instructions as many a product.

    `counters` holds a variable for each number of slots, `before` what sets them before the first turn.
    """

    def __init__(self, span: Span, variable: Expr) -> None:
        self.span, self.variable = span, variable
        self.counters: dict[int, Buffer] = {}
        self._names: dict[tuple[int, int], Expr] = {}  # (slots, turns ahead)

    @property
    def before(self) -> tuple[Stmt, ...]:
        return tuple(Store(self.span, counter, (const(0),), const(0, self.variable.dtype)) for counter in self.counters.values())

    def counted(self, body: Stmt) -> Seq:
        """The body with its slots named at its top, and counted on at its end."""
        body = rewrite(body, on_expr=lambda e: rewrite_expr(e, self._named))
        top: list[Stmt] = []
        end: list[Stmt] = []
        for slots, counter in self.counters.items():
            slot, following = self._name(slots, 0), self._name(slots, 1)
            is_inside = logical(Op.AND, binary(Op.GE, slot, const(0)), binary(Op.LT, slot, const(slots)))
            top += [Let(self.span, slot, load(counter, (const(0),))), Assume(self.span, is_inside)]
            end.append(Store(self.span, counter, (const(0),), following))
        for (slots, ahead), name in self._names.items():
            slot = self._names[slots, 0]
            if ahead:
                wrapped = select(binary(Op.GE, slot, const(slots - ahead)), slot - (slots - ahead), slot + ahead)
                top.append(Let(self.span, name, wrapped))
        return Seq(self.span, (*top, body, *end))

    def _named(self, node: Expr) -> Expr:
        if node.op is not Op.FLOORMOD or not node.args[1].is_const:
            return node
        ahead, slots = simplify(node.args[0] - self.variable), int(node.args[1].value)
        if not ahead.is_const or slots & (slots - 1) == 0:
            return node
        self.counters.setdefault(slots, Buffer("ring", self.variable.dtype, (1,), Scope.VARIABLE, self.span))
        return self._name(slots, int(ahead.value) % slots)

    def _name(self, slots: int, ahead: int) -> Expr:
        return self._names.setdefault((slots, ahead), var("slot", self.variable.dtype))


def _turn(loop: For) -> _Turn | None:
    body = _flat(loop.body)
    if len(body) < 4 or not _is_wait(body[0]) or not _is_barrier(body[1]):
        return None
    steps = next((s for s in body[2:] if isinstance(s, For) and not loads_operands(s) and not starts_copies(s)), None)
    middle = [s for s in body[2:] if s is not steps]
    names = tuple(s for s in middle if isinstance(s, Let))
    loads = tuple(s for s in middle if not isinstance(s, Let) and loads_operands(s))
    copies = tuple(s for s in middle if starts_copies(s))
    if len(names) + len(loads) + len(copies) != len(middle) or not loads or not copies:
        return None
    if any(e is loop.variable for name in names for e in subexpressions(name.value)):
        return None
    if not isinstance(steps, For) or steps.kind is not LoopKind.UNROLLED or not steps.extent.is_const or steps.extent.value < 2:
        return None
    ahead, *products = _flat(steps.body)
    if not isinstance(ahead, If) or ahead.else_body is not None or not loads_operands(ahead.then_body):
        return None
    if ahead.condition is not binary(Op.LT, steps.variable + 1, steps.extent):
        return None
    calls = [s for p in products for s in statements(p) if not isinstance(s, (For, Seq))]
    if not all(isinstance(s, InstructionCall) and isinstance(s.instruction, Mma) for s in calls):
        return None
    count = int(steps.extent.value)
    wrapped = substitute(ahead.then_body, {steps.variable: const(count - 1, steps.variable.dtype)})
    if _targets(Seq(loop.span, loads)) != _targets(wrapped):
        return None
    return _Turn(body[0], body[1], names, loads, copies, steps.variable, count, ahead.then_body, tuple(products))


def _dealt(copies: tuple[Stmt, ...], places: int) -> list[tuple[Stmt, ...]]:
    """The copies in `places` lots of about the same number of instructions, in order."""
    lots: list[tuple[Stmt, ...]] = []
    for place in range(places):
        lot, copies = _cut_all(copies, sum(map(_instructions, copies)) // (places - place))
        lots.append(lot)
    return lots


def _instructions(node: Stmt) -> int:
    match node:
        case Seq():
            return sum(map(_instructions, node.body))
        case For():
            return int(node.extent.value) * _instructions(node.body) if node.extent.is_const else 1
        case If():
            return _instructions(node.then_body)
    return 1


def _cut_all(nodes: tuple[Stmt, ...], count: int) -> tuple[tuple[Stmt, ...], tuple[Stmt, ...]]:
    """Statements with the first `count` instructions, and those with the rest."""
    first: list[Stmt] = []
    for position, node in enumerate(nodes):
        size = _instructions(node)
        if size > count:
            before, after = _cut(node, count)
            return (*first, *before), (*after, *nodes[position + 1 :])
        first.append(node)
        count -= size
    return tuple(first), ()


def _cut(node: Stmt, count: int) -> tuple[tuple[Stmt, ...], tuple[Stmt, ...]]:
    """The same of one statement, which is not cut in the middle of a turn."""
    match node:
        case Seq():
            return _cut_all(node.body, count)
        case If():
            before, after = _cut(node.then_body, count)
            return _under(node, before), _under(node, after)
        case For() if node.extent.is_const and count >= _instructions(node.body):
            variable, turns = node.variable, count // _instructions(node.body)
            rest = int(node.extent.value) - turns
            later = substitute(node.body, {variable: (again := var(variable.name, variable.dtype)) + turns})
            first = dataclasses.replace(node, extent=const(turns, variable.dtype))
            return (first,), (dataclasses.replace(node, variable=again, extent=const(rest, variable.dtype), body=later),)
    return (), (node,)


def _under(condition: If, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    return (dataclasses.replace(condition, then_body=Seq(condition.span, body)),) if body else ()


def _flat(node: Stmt) -> list[Stmt]:
    return [inner for part in node.body for inner in _flat(part)] if isinstance(node, Seq) else [node]


def _is_wait(node: Stmt) -> bool:
    return isinstance(node, InstructionCall) and node.instruction in (CP_ASYNC_WAIT_ALL, CP_ASYNC_WAIT_GROUP)


def _is_barrier(node: Stmt) -> bool:
    return isinstance(node, Barrier) and node.scope is BarrierScope.BLOCK and node.num_threads is None


def _targets(node: Stmt) -> list[tuple[Buffer, str]] | None:
    """The registers that loads write, in order, with the loops around them numbered; None where they are not told."""
    found: list[tuple[Buffer, str]] = []

    def visit(stmt: Stmt, values: dict[Expr, Expr]) -> None:
        match stmt:
            case Seq():
                for inner in stmt.body:
                    visit(inner, values)
            case For():
                for number in range(int(stmt.extent.value)):
                    visit(stmt.body, {**values, stmt.variable: const(number, stmt.variable.dtype)})
            case InstructionCall() if isinstance(stmt.instruction, LdMatrix):
                (registers,) = (o for o in stmt.operands if isinstance(o, Registers))
                placed = substitute(dataclasses.replace(stmt, operands=(registers,)), values)
                (offset,) = own_expressions(placed)
                found.append((registers.buffer, str(simplify(offset))))

    if any(isinstance(s, For) and not s.extent.is_const for s in statements(node)):
        return None
    visit(node, {})
    return found
