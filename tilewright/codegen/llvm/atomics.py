"""Atomic updates of one element (floor 6)."""

from __future__ import annotations

from tilewright.codegen.llvm import registers
from tilewright.codegen.llvm.emitter import Value
from tilewright.codegen.llvm.expressions import Expressions
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Scope
from tilewright.ir.expr import load
from tilewright.ir.stmt import AtomicKind, AtomicUpdate, MemoryOrder

_ORDERS = {
    MemoryOrder.RELAXED: "monotonic",
    MemoryOrder.CONSUME: "acquire",
    MemoryOrder.ACQUIRE: "acquire",
    MemoryOrder.RELEASE: "release",
    MemoryOrder.ACQ_REL: "acq_rel",
    MemoryOrder.SEQ_CST: "seq_cst",
}
# A load can only acquire, and so can the failing side of a compare and exchange.
_LOAD_ORDERS = {"release": "monotonic", "acq_rel": "acquire"}
_BITWISE = {AtomicKind.AND: "and", AtomicKind.OR: "or", AtomicKind.XOR: "xor"}


def emit_atomic_update(expressions: Expressions, node: AtomicUpdate) -> None:
    """Scalar code. Tiles belong to one thread, so that only global memory needs atomic instructions."""
    task, f, memory = expressions.task, expressions.task.f, expressions.memory
    location = memory.locate(load(node.buffer, node.indices))
    dtype = location.plan.dtype
    if location.plan.is_packed:
        raise CompilerBug(f"an atomic update of {node.buffer.name}, whose elements are half a byte")
    address = memory.lane_address(location, 0)
    type_, align = registers.memory_type(dtype), dtype.itemsize
    bits = f"i{align * 8}"
    order = _ORDERS[node.order]
    is_tile = node.buffer.scope is not Scope.GLOBAL

    def decoded(raw: Value) -> Value:
        return registers.from_memory(task, f.convert("bitcast", raw, type_), dtype)

    def encoded(value: Value) -> Value:
        return f.convert("bitcast", registers.to_memory(task, value, dtype), bits)

    if node.kind is AtomicKind.LOAD:
        raw = f.emit(bits, f"load atomic {bits}, ptr {address.text} {_LOAD_ORDERS.get(order, order)}, align {align}")
        previous = decoded(raw)
    else:
        value = expressions.scalar(node.value)
        if is_tile:
            previous = registers.from_memory(task, f.load(type_, address, align), dtype)
            f.store(registers.to_memory(task, combined(expressions, node, previous, value), dtype), address, align)
        elif node.kind is AtomicKind.EXCHANGE:
            previous = decoded(f.emit(bits, f"atomicrmw xchg ptr {address.text}, {encoded(value)} {order}, align {align}"))
        elif dtype.is_integer:
            previous = f.emit(bits, f"atomicrmw {_instruction(node)} ptr {address.text}, {value} {order}, align {align}")
        else:
            first = f.emit(bits, f"load atomic {bits}, ptr {address.text} monotonic, align {align}")
            before, again, end = f.block, f.label("atomic.again."), f.label("atomic.end.")
            f.start(again)
            name = f.fresh()
            old = Value(name, bits)
            at = f.mark()
            previous = decoded(old)
            new = encoded(combined(expressions, node, previous, value))
            pair = f.emit(f"{{ {bits}, i1 }}", f"cmpxchg ptr {address.text}, {old}, {new} {order} {_LOAD_ORDERS.get(order, order)}, align {align}")
            seen = f.emit(bits, f"extractvalue {pair}, 0")
            f.insert_line(at, f"{name} = phi {bits} [ {first.text}, %{before} ], [ {seen.text}, %{f.block} ]")
            f.branch_if(f.emit("i1", f"extractvalue {pair}, 1"), end, again)
            f.start(end)
    if node.previous is not None:
        task.remember(task.values, node.previous, previous)


def _instruction(node: AtomicUpdate) -> str:
    if node.kind in (AtomicKind.MAX, AtomicKind.MIN):
        return ("" if node.value.dtype.is_signed else "u") + node.kind.value
    return node.kind.value


def combined(expressions: Expressions, node: AtomicUpdate, old: Value, value: Value) -> Value:
    """What the element becomes."""
    task, f, dtype = expressions.task, expressions.task.f, node.buffer.dtype
    if node.kind is AtomicKind.EXCHANGE:
        return value
    if node.kind in (AtomicKind.MAX, AtomicKind.MIN):
        return expressions.extremum(node.kind is AtomicKind.MAX, old, value, dtype)
    if node.kind in _BITWISE:
        return f.binary(_BITWISE[node.kind], old, value)
    if dtype.is_float:
        return registers.rounded(task, f.binary("fadd", old, value), dtype)
    return registers.wrapped(task, f.binary("add", old, value), dtype)
