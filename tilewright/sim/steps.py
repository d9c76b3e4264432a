"""Statements as steps of the machine, compiled once per launch (floor 7).

A step runs for all rows of a group and gives the number of the next one. A structure that holds a barrier, or leaves a loop that does, is one in which
groups part: every side, and the rows that leave a loop early, go on as groups of their own. All others run one side after the other under masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tilewright.errors import CompilerBug, Label
from tilewright.execution.memory import Array
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr
from tilewright.ir.instruction import InstructionScope
from tilewright.ir.stmt import (
    WARP_THREADS,
    Assert,
    Assume,
    AtomicUpdate,
    Barrier,
    BarrierScope,
    Break,
    Continue,
    For,
    If,
    Let,
    Print,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    WarpExchangeKind,
    While,
)
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.sim.batch import Batch
from tilewright.sim.calls import Bound, BoundAddress, BoundRegisters, BoundValue, Call, report_inactive, simulate_call, whole_warps
from tilewright.sim.exchange import exchange
from tilewright.sim.expressions import ExpressionCompiler
from tilewright.sim.findings import FindingKind
from tilewright.sim.group import Group
from tilewright.sim.machine import Machine, Step
from tilewright.sim.ports import MemoryPort
from tilewright.sim.registers import RegisterPort
from tilewright.sim.structures import (
    end_loop,
    end_parting_loop,
    enter_if,
    enter_loop,
    head_for,
    head_while,
    leave_if,
    mask_out,
    next_turn,
    part_if,
    turn_if,
)
from tilewright.sim.unset import evaluate, settled

Port = MemoryPort | RegisterPort
Action = Callable[[Group, Machine], None]


@dataclass(frozen=True)
class _Loop:
    """The loop that Break and Continue mean.

    next, exit     labels.
    is_parting     whether rows that leave go on by themselves.
    depth          frames below the loop's own one.
    """

    next: int
    exit: int
    is_parting: bool
    depth: int


class StepCompiler:
    """Turns the body of a launch into steps.

    port         what a buffer is accessed through.
    max_turns    a `while` that turns more often is reported and left.
    """

    def __init__(self, expressions: ExpressionCompiler, port: Callable[[Buffer], Port], max_turns: int) -> None:
        self._expressions, self._port, self._max_turns = expressions, port, max_turns
        self.statements: list[Stmt] = []
        self.steps: list[Step] = []
        self._labels: list[int] = []  # label: step
        self._pending: list[Action] = []
        self._parting: dict[Stmt, bool] = {}
        self._depth = 0

    def compile(self, body: Stmt) -> list[Step]:
        self._stmt(body, None, None)
        self._flush()
        self.steps.append(lambda group, machine: machine.end(group))
        return self.steps

    # -- making steps
    def _label(self) -> int:
        self._labels.append(-1)
        return len(self._labels) - 1

    def _place(self, label: int) -> None:
        self._flush()
        self._labels[label] = len(self.steps)

    def _flush(self) -> None:
        if not self._pending:
            return
        actions, after = tuple(self._pending), len(self.steps) + 1
        self._pending = []
        if len(actions) == 1:
            only = actions[0]

            def single(group: Group, machine: Machine) -> int:
                only(group, machine)
                return after

            self.steps.append(single)
            return

        def several(group: Group, machine: Machine) -> int:
            for action in actions:
                action(group, machine)
            return after

        self.steps.append(several)

    def _step(self, step: Step) -> None:
        self._flush()
        self.steps.append(step)

    def _site(self, stmt: Stmt) -> int:
        self.statements.append(stmt)
        return len(self.statements) - 1

    # -- which structures part groups
    def _parts(self, node: Stmt) -> bool:
        found = self._parting.get(node)
        if found is None:
            found = self._parting[node] = _holds_barrier(node)
        return found

    # -- statements
    def _stmt(self, node: Stmt, loop: _Loop | None, skip: int | None) -> None:
        """`skip`: the label where rows go that have left everything up to the innermost structure."""
        match node:
            case Seq():
                for inner in node.body:
                    self._stmt(inner, loop, skip)
            case If():
                self._if(node, loop)
            case For() | While():
                self._loop(node)
            case Break() | Continue():
                assert loop is not None
                self._leave(loop, skip, is_break=isinstance(node, Break))
            case Barrier():
                site, place = self._site(node), len(self.steps) + bool(self._pending) + 1
                self._step(lambda group, machine: machine.barrier(group, site, node, place))
            case Assume():
                pass
            case _:
                self._pending.append(self._action(node))

    def _if(self, node: If, loop: _Loop | None) -> None:
        is_parting = self._parts(node) or (loop is not None and loop.is_parting and _leaves_loop(node))
        site = self._site(node)
        condition = self._expressions.function(node.condition, site)
        otherwise, end = self._label(), self._label()
        labels = self._labels
        if is_parting:
            self._step(partial(part_if, condition, labels, otherwise, len(self.steps) + bool(self._pending) + 1))
            self._stmt(node.then_body, loop, end)
            self._jump(end)
            self._place(otherwise)
            if node.else_body is not None:
                self._stmt(node.else_body, loop, end)
            self._place(end)
            self._join()
            return
        self._step(partial(enter_if, condition, labels, otherwise, len(self.steps) + bool(self._pending) + 1))
        self._depth += 1
        self._stmt(node.then_body, loop, otherwise)
        self._place(otherwise)
        self._step(partial(turn_if, labels, end, len(self.steps) + bool(self._pending) + 1))
        if node.else_body is not None:
            self._stmt(node.else_body, loop, end)
        self._place(end)
        self._step(partial(leave_if, loop is not None and _leaves_loop(node), len(self.steps) + bool(self._pending) + 1))
        self._depth -= 1

    def _jump(self, label: int) -> None:
        labels = self._labels
        self._step(lambda group, machine: labels[label])

    def _join(self) -> None:
        self._flush()
        place = len(self.steps) + 1
        self._step(lambda group, machine: machine.join(group, place))

    def _loop(self, node: For | While) -> None:
        is_parting = self._parts(node)
        site = self._site(node)
        head, following, leave = self._label(), self._label(), self._label()
        loop = _Loop(following, leave, is_parting, self._depth)
        labels = self._labels
        if isinstance(node, For):
            extent = self._expressions.function(node.extent, site)
            self._step(partial(enter_loop, extent, len(self.steps) + bool(self._pending) + 1))
        else:
            extent = self._expressions.function(node.condition, site)
            self._step(partial(enter_loop, None, len(self.steps) + bool(self._pending) + 1))
        self._depth += 1
        self._place(head)
        place = len(self.steps) + 1
        if isinstance(node, For):
            slot, kind = self._expressions.slot(node.variable), node.variable.dtype.numpy.type
            self._step(partial(head_for, slot, kind, labels, leave, place, is_parting))
        else:
            self._step(partial(head_while, extent, labels, leave, place, is_parting, self._max_turns, site))
        self._stmt(node.body, loop, following)
        self._place(following)
        if is_parting and _leaves_loop(node.body):
            self._join()
        self._step(partial(next_turn, labels, head, is_parting))
        self._place(leave)
        self._depth -= 1
        if is_parting:
            self._step(partial(end_parting_loop, len(self.steps) + 1))
            self._join()
        else:
            self._step(partial(end_loop, len(self.steps) + 1))

    def _leave(self, loop: _Loop, skip: int | None, *, is_break: bool) -> None:
        labels = self._labels
        if loop.is_parting:
            target = loop.exit if is_break else loop.next
            self._step(lambda group, machine: labels[target])
            return
        assert skip is not None
        self._step(partial(mask_out, loop.depth, labels, skip, is_break))

    # -- statements without structure
    def _action(self, node: Stmt) -> Action:
        site = self._site(node)
        match node:
            case Let():
                return self._let(node, site)
            case Store():
                return self._store(node, site)
            case VectorCopy():
                return self._vector_copy(node, site)
            case InstructionCall():
                return self._instruction(node, site)
            case AtomicUpdate():
                return self._atomic(node, site)
            case WarpExchange():
                return self._exchange(node, site)
            case Print():
                return self._print(node, site)
            case Assert():
                return self._assert(node, site)
        raise CompilerBug(f"the simulator has no meaning for {type(node).__name__}")

    def _let(self, node: Let, site: int) -> Action:
        value, slot = self._expressions.function(node.value, site), self._expressions.slot(node.variable)

        def let(group: Group, machine: Machine) -> None:
            found, other, differs = evaluate(value, group)
            group.values[slot] = found.copy() if found.ndim and found.base is not None else found
            if differs is not None and group.unset is not None:
                group.others[slot] = np.array(other), group.unset
            elif group.others:
                group.others.pop(slot, None)

        return let

    def _store(self, node: Store, site: int) -> Action:
        port = self._port(node.buffer)
        is_global, size_bytes = node.buffer.scope is Scope.GLOBAL, node.buffer.dtype.itemsize
        value = self._expressions.function(node.value, site)
        indices = self._expressions.functions(node.indices, site)

        def store(group: Group, machine: Machine) -> None:
            if group.mask is not None and not len(group):
                return
            places = settled(indices, group)
            found, _, differs = evaluate(value, group)
            unset = None
            if differs is not None:
                if not is_global:
                    unset = np.repeat(differs[:, None], size_bytes, axis=1)
                elif group.unset is not None:
                    group.unset()
            port.store(site, group, places, found, unset)

        return store

    def _vector_copy(self, node: VectorCopy, site: int) -> Action:
        to, start = self._port(node.dst.buffer), self._port(node.src.buffer)
        places = [self._expressions.functions(side.indices, site) for side in (node.dst, node.src)]
        count, size_bytes = node.elements, node.size_bytes

        def load(group: Group, machine: Machine) -> None:
            assert isinstance(start, MemoryPort) and isinstance(to, RegisterPort)
            if group.mask is not None and not len(group):
                return
            rows, offsets, kept = start.place_bytes(site, group, settled(places[1], group), size_bytes)
            inside = group if kept is None else group.among(group.row_numbers[kept])
            if offsets.size:
                unset = start.note_read(site, group, rows, offsets, size_bytes)
                to.put_bytes(site, inside, places[0](group, group.mask)[0], count, start.memory.get(offsets, size_bytes), unset)

        def store(group: Group, machine: Machine) -> None:
            assert isinstance(to, MemoryPort) and isinstance(start, RegisterPort)
            if group.mask is not None and not len(group):
                return
            values, unset = start.get_bytes(site, group, places[1](group, group.mask)[0], count)
            rows, offsets, kept = to.place_bytes(site, group, settled(places[0], group), size_bytes)
            if kept is not None:
                values, unset = values[kept], None if unset is None else unset[kept]
            if offsets.size:
                after = to.note_write(site, rows, offsets, values, None if unset is None or not unset.any() else unset)
                to.memory.put(offsets, values)
                after()

        return load if isinstance(to, RegisterPort) else store

    def _instruction(self, node: InstructionCall, site: int) -> Action:
        instruction = node.instruction
        bound: dict[str, Bound] = {}
        for operand, given in zip(instruction.operands, node.operands, strict=True):
            match given:
                case Registers():
                    port = self._port(given.buffer)
                    assert isinstance(port, RegisterPort)
                    bound[operand.name] = BoundRegisters(port, self._expressions.function(given.offset, site))
                case Address():
                    memory = self._port(given.buffer)
                    assert isinstance(memory, MemoryPort)
                    bound[operand.name] = BoundAddress(memory, self._expressions.functions(given.indices, site))
                case Expr():
                    bound[operand.name] = BoundValue(self._expressions.function(given, site))
                case _:
                    bound[operand.name] = given
        is_warp = instruction.scope is InstructionScope.WARP

        def call(group: Group, machine: Machine) -> None:
            if group.mask is not None and not len(group):
                return
            batch = machine.batch
            inside = whole_warps(site, group, batch, instruction.name) if is_warp else group
            if inside is not None:
                simulate_call(Call(site, inside, batch, machine.copies, instruction, bound))

        return call

    def _atomic(self, node: AtomicUpdate, site: int) -> Action:
        port = self._port(node.buffer)
        value = self._expressions.function(node.value, site)
        indices = self._expressions.functions(node.indices, site)
        slot = None if node.previous is None else self._expressions.slot(node.previous)
        if not isinstance(port, MemoryPort):
            raise CompilerBug(f"an atomic on the {node.buffer.scope.value} buffer {node.buffer.name}")

        def update(group: Group, machine: Machine) -> None:
            if group.mask is not None and not len(group):
                return
            found = port.update(site, group, node.kind, settled(indices, group), settled(value, group))
            if slot is not None:
                group.values[slot] = found
                group.others.pop(slot, None)

        return update

    def _exchange(self, node: WarpExchange, site: int) -> Action:
        value, slot = self._expressions.function(node.value, site), self._expressions.slot(node.result)
        operand = None if node.operand is None else self._expressions.function(node.operand, site)
        named = self._expressions.function(node.mask, site)

        def give(group: Group, machine: Machine) -> None:
            batch = machine.batch
            count = batch.rows.count
            by_warp = (np.ones(count, bool) if group.mask is None else group.mask).reshape(-1, WARP_THREADS)
            if node.kind is not WarpExchangeKind.ACTIVE_MASK:
                _check_lanes(site, batch, by_warp, np.asarray(named(group, group.mask)), node.kind)
            lanes = None if operand is None else _by_warp(settled(operand, group), count)
            warps = by_warp.any(axis=1)
            given = None if lanes is None else lanes[warps].astype(np.int64)
            found, other, differs = evaluate(value, group)

            def received(values: Any) -> Array:
                result = np.zeros(by_warp.shape, node.result.dtype.numpy)
                if warps.any():
                    result[warps] = exchange(node.kind, _by_warp(values, count)[warps], given, node.width, by_warp[warps], node.value.dtype)
                return result.reshape(-1)

            group.values[slot] = received(found)
            group.others.pop(slot, None)
            if differs is not None and group.unset is not None:
                group.others[slot] = received(other), group.unset

        return give

    def _print(self, node: Print, site: int) -> Action:
        values = self._expressions.functions(node.values, site)
        port = None if node.buffer is None else self._port(node.buffer)

        def show(group: Group, machine: Machine) -> None:
            batch = machine.batch
            found = [np.broadcast_to(v, (batch.rows.count,)) for v in settled(values, group)]
            for row in group.row_numbers:
                parts = [node.message, *(str(v[row]) for v in found)]
                if port is not None:
                    parts.append(f"{port.buffer.name} = {_contents(port, int(row))}")
                batch.journal.printer(" ".join(p for p in parts if p))

        return show

    def _assert(self, node: Assert, site: int) -> Action:
        condition = self._expressions.function(node.condition, site)

        def check(group: Group, machine: Machine) -> None:
            failed = ~np.broadcast_to(settled(condition, group), (machine.batch.rows.count,))
            failed = failed if group.mask is None else failed & group.mask
            if failed.any():
                row = int(np.flatnonzero(failed)[0])

                def describe() -> Any:
                    message = node.message or f"`{node.condition}` does not hold"
                    who = machine.batch.describe_row(row)
                    return f"{message}, on {who}", (Label(node.span),), "the kernel asserts this where it runs", "correct the input, or the condition"

                machine.batch.journal.findings.add(FindingKind.ASSERTION, site, describe)

        return check


def _holds_barrier(node: Stmt) -> bool:
    if isinstance(node, Barrier):
        return node.scope is not BarrierScope.WARP
    match node:
        case Seq():
            return any(map(_holds_barrier, node.body))
        case If():
            return _holds_barrier(node.then_body) or (node.else_body is not None and _holds_barrier(node.else_body))
        case For() | While():
            return _holds_barrier(node.body)
    return False


def _leaves_loop(node: Stmt) -> bool:
    """Whether a Break or Continue in it means a loop around it."""
    match node:
        case Break() | Continue():
            return True
        case Seq():
            return any(map(_leaves_loop, node.body))
        case If():
            return _leaves_loop(node.then_body) or (node.else_body is not None and _leaves_loop(node.else_body))
    return False


def _by_warp(values: Any, count: int) -> Array:
    return np.broadcast_to(np.asarray(values), (count,)).reshape(-1, WARP_THREADS)


def _check_lanes(site: int, batch: Batch, by_warp: Array, named: Array, kind: WarpExchangeKind) -> None:
    """The lanes named by the mask are those that come, as far as there are such threads."""
    exists = np.ones_like(by_warp) if batch.rows.exists is None else batch.rows.exists.reshape(-1, WARP_THREADS)
    masks = _by_warp(named, batch.rows.count).astype(np.uint32)
    expected = ((masks[..., None] >> np.arange(WARP_THREADS, dtype=np.uint32)) & 1).astype(bool) & exists[:, None, :]
    wrong = (by_warp[..., None] & (expected != by_warp[:, None, :])).any(axis=(1, 2))
    if wrong.any():
        report_inactive(site, batch, int(np.flatnonzero(wrong)[0]), by_warp, f"an exchange ({kind.value})")


def _contents(port: Port, row: int) -> Any:
    """What a buffer holds, as the row sees it."""
    if isinstance(port, RegisterPort):
        return port.as_elements(port.file.data[row : row + 1, : -(-port.count * port.element_bits // 8)], port.dtype)[0, : port.count]
    count = int(np.prod(port.shape))
    start = (port._base if np.ndim(port._base) == 0 else int(port._base[row])) * port.element_bits // 8
    raw = port.memory.data[start : start + -(-count * port.element_bits // 8)]
    return raw.view(port.dtype.scalar.numpy).reshape(*port.shape, *((port.dtype.lanes,) if port.dtype.lanes > 1 else ())) if port.element_bits >= 8 else raw
