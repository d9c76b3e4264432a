"""What a launch touches (floor 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.instruction import Access, AddressOperand
from tilewright.ir.program import Launch
from tilewright.ir.stmt import AtomicUpdate, Barrier, Prefetch, Print, Stmt, Store
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.ir.visit import own_expressions, statements


@dataclass(frozen=True)
class Usage:
    """buffers                as the statements name them, views too, in order of first use.
    written                roots of global buffers that something may write while the launch runs.
    addressed              private buffers whose memory is touched other than element by element.
    has_made_pointers      global buffers over raw addresses occur.
    has_partial_barriers   some barrier waits for a fixed number of threads.
    """

    buffers: tuple[Buffer, ...]
    written: frozenset[Buffer]
    addressed: frozenset[Buffer]
    has_made_pointers: bool
    has_partial_barriers: bool


def usage_of(launch: Launch) -> Usage:
    buffers: dict[Buffer, None] = {}
    written: set[Buffer] = set()
    addressed: set[Buffer] = set()
    has_partial_barriers = False
    seen: set[Expr] = set()
    if launch.grid_barrier is not None:
        buffers[launch.grid_barrier] = None
        written.add(launch.grid_barrier)
    for node in statements(launch.body):
        for buffer in _named(node):
            buffers[buffer] = None
        for root in own_expressions(node):
            for part in _new_parts(root, seen):
                if part.op is Op.LOAD:
                    buffers[part.buffer] = None
        match node:
            case Store():
                written.add(node.buffer.storage)
            case AtomicUpdate():  # an atomic load, too, expects that others write
                written.add(node.buffer.storage)
            case VectorCopy():
                written.add(node.dst.buffer.storage)
                addressed |= {node.dst.buffer, node.src.buffer}
            case InstructionCall():
                for description, given in zip(node.instruction.operands, node.operands, strict=False):
                    if isinstance(given, (Address, Registers)):
                        addressed.add(given.buffer)
                    if isinstance(given, Address) and isinstance(description, AddressOperand) and description.access is not Access.READ:
                        written.add(given.buffer.storage)
            case ForeignCall():
                addressed |= {a.buffer for a, _ in node.addresses()}
                written |= {a.buffer.storage for a, reach in node.addresses() if reach.access is not Access.READ}
            case Barrier():
                has_partial_barriers |= node.num_threads is not None
    for buffer in list(buffers):  # addresses that are computed from memory
        if buffer.storage.pointer is not None:
            for part in _new_parts(buffer.storage.pointer, seen):
                if part.op is Op.LOAD:
                    buffers[part.buffer] = None
    has_made_pointers = any(b.storage.pointer is not None for b in buffers)
    global_ = frozenset(b for b in written if b.scope is Scope.GLOBAL)
    return Usage(tuple(buffers), global_, frozenset(addressed), has_made_pointers, has_partial_barriers)


def _named(node: Stmt) -> Iterator[Buffer]:
    match node:
        case Store() | AtomicUpdate() | Prefetch():
            yield node.buffer
        case Print() if node.buffer is not None:
            yield node.buffer
        case VectorCopy():
            yield node.dst.buffer
            yield node.src.buffer
        case ForeignCall():
            yield from (a.buffer for a, _ in node.addresses())
        case InstructionCall():
            for operand in node.operands:
                if isinstance(operand, (Address, Registers)):
                    yield operand.buffer


def _new_parts(root: Expr, seen: set[Expr]) -> Iterator[Expr]:
    """What was not seen before of an expression and everything below it."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack.extend(node.args)
