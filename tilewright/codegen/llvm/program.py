"""Whole lowered programs as LLVM modules with the native ABI (floor 6).

For every launch one task `void NAME.taskN(i64 begin, i64 end, ptr slots, ptr scratch)`, which runs the blocks [begin, end) of the grid, and one
entry `i32 NAME(ptr slots)`, which starts launch after launch through `tw_parallel_for` and gives the status: 0, or the number of the failed
assert, counted from 1. A slot is 8 bytes: an address, or a value as `Slot` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.codegen.llvm.cost import blocks_per_chunk
from tilewright.codegen.llvm.emitter import Function, Module, Value, constant
from tilewright.codegen.llvm.expressions import Expressions
from tilewright.codegen.llvm.facts import Facts
from tilewright.codegen.llvm.memory import Memory
from tilewright.codegen.llvm.registers import memory_type, register_type
from tilewright.codegen.llvm.statements import Sites, Statements
from tilewright.codegen.llvm.task import Task
from tilewright.codegen.slots import Slot, SlotKind, slots_of, symbols_of
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assert, Print
from tilewright.ir.tileop import Storage, TilePlan
from tilewright.target.cpu import CpuTarget

PARALLEL_FOR_SYMBOL = "tw_parallel_for"
SCRATCH_ALIGNMENT_BYTES = 64
# Thread-private tiles up to this size live on the stack, where LLVM can keep them in registers.
STACK_TILE_BYTES = 256


@dataclass(frozen=True, eq=False)
class GeneratedModule:
    """A program as LLVM text, with what the host must know to call it.

    slots          what the argument of the entry points to, in order.
    scratch_bytes  memory that one thread needs, per launch.
    asserts        status n is the failure of asserts[n - 1].
    prints         `tw_print(i32 n, ptr values)` is called for prints[n - 1]: its values in 8 bytes each, then the address of its buffer.
    """

    text: str
    entry_name: str
    slots: tuple[Slot, ...]
    scratch_bytes: tuple[int, ...]
    asserts: tuple[Assert, ...] = ()
    prints: tuple[Print, ...] = ()


def emit_program(program: Program, plans: Mapping[Buffer, TilePlan], target: CpuTarget) -> GeneratedModule:
    """The LLVM module of a lowered program; `plans` says how tiles are stored, those without a plan as declared.

    Raises CompilerBug for statements that lowering should have removed.
    """
    return ProgramEmitter(program, plans, target).emit()


class ProgramEmitter:
    """Emits the functions of one program; `begin` starts one that reads the program's slots."""

    def __init__(self, program: Program, plans: Mapping[Buffer, TilePlan], target: CpuTarget) -> None:
        self.program, self.plans, self.target = program, plans, target
        self.module = Module(target.triple)
        self.name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in program.name)
        self.slots = slots_of(program)
        self.facts = Facts()
        self.sites = Sites()

    def emit(self) -> GeneratedModule:
        scratch = [self.task(number, launch) for number, launch in enumerate(self.program.launches)]
        self.entry(scratch)
        return GeneratedModule(self.module.text(), self.name, self.slots, tuple(scratch), tuple(self.sites.asserts), tuple(self.sites.prints))

    @property
    def attributes(self) -> str:
        if self.target.vector_bytes < 64:
            return "nounwind"
        bits = self.target.vector_bytes * 8
        return f'nounwind "min-legal-vector-width"="{bits}" "prefer-vector-width"="{bits}"'

    # -- what both kinds of functions start with
    def begin(self, function: Function, launch: Launch | None) -> _TaskParts:
        task = Task(function, self.target, self.plans, self.facts)
        addresses = _Addresses(self, task)
        memory = Memory(task, lambda _task, node: expressions.index(node), addresses.of)
        expressions = Expressions(task, memory)
        addresses.expressions = expressions
        for number, slot in enumerate(self.slots):
            if slot.kind in (SlotKind.SCALAR, SlotKind.POINTER, SlotKind.SYMBOL):
                self.bind_slot(task, number, slot)
        return _TaskParts(task, memory, expressions, addresses)

    def slot_address(self, f: Function, number: int) -> str:
        return f.at_entry("ptr", f"getelementptr inbounds i64, ptr %slots, i64 {number}").text

    def bind_slot(self, task: Task, number: int, slot: Slot) -> None:
        variable = slot.symbol if slot.symbol is not None else slot.parameter.variable if slot.parameter is not None else None
        assert variable is not None
        f, dtype = task.f, variable.dtype
        address = self.slot_address(f, number)
        if dtype.is_integer and dtype.is_signed:
            task.index_variables.add(variable)
            if slot.kind is SlotKind.SYMBOL:
                task.nonnegative.add(variable)
            task.bind_index(variable, f.at_entry("i64", f"load i64, ptr {address}, align 8"))
        elif dtype.is_float:
            type_ = register_type(dtype)
            task.remember(task.values, variable, f.at_entry(type_, f"load {type_}, ptr {address}, align 8"))
        else:
            raw = f.at_entry("i64", f"load i64, ptr {address}, align 8")
            type_ = register_type(dtype)
            task.remember(task.values, variable, raw if type_ == "i64" else f.at_entry(type_, f"trunc i64 {raw.text} to {type_}"))

    # -- tasks
    def task(self, number: int, launch: Launch) -> int:
        """Emits the task of a launch; gives its scratch bytes."""
        f = self.module.function(
            f"{self.name}.task{number}", "internal void", [("i64", "begin"), ("i64", "end"), ("ptr", "slots"), ("ptr", "scratch")], self.attributes
        )
        parts = self.begin(f, launch)
        task = parts.task
        for variable, extent in zip(launch.block_variables, launch.grid, strict=True):
            task.index_variables.add(variable)
            task.nonnegative.add(variable)
            if extent.is_const:
                task.limits[variable] = int(extent.value)
        task.declare_loops(launch.body)
        task.only_written = self.facts.only_written(launch.body)
        status = f.at_entry("ptr", f"load ptr, ptr {self.slot_address(f, len(self.slots) - 1)}, align 8")
        statements = Statements(task, parts.memory, parts.expressions, self.sites, status)
        extents = [parts.expressions.scalar_index(n) for n in launch.grid]
        with f.loop(f.arguments["begin"], f.arguments["end"], constant(1, "i64"), hint="block") as loop, task.scope():
            for variable, position in zip(launch.block_variables, self.block_position(f, loop.index, extents), strict=True):
                task.bind_index(variable, position)
            statements.emit(launch.body)
        if task.has_streamed:
            f.intrinsic("llvm.x86.sse.sfence", "void")  # such stores are not ordered before those that tell of the end of the task
        f.ret()
        return parts.addresses.scratch_bytes

    def block_position(self, f: Function, block: Value, extents: list[Value]) -> list[Value]:
        """x, y, z of a flat block number, x fastest."""
        position = []
        for extent in extents[:-1]:
            position.append(f.binary("urem", block, extent))
            block = f.binary("udiv", block, extent)
        return [*position, block]

    # -- the entry
    def entry(self, scratch: list[int]) -> None:
        f = self.module.function(self.name, "i32", [("ptr", "slots")], "nounwind")
        parts = self.begin(f, None)
        status = f.at_entry("ptr", f"load ptr, ptr {self.slot_address(f, len(self.slots) - 1)}, align 8")
        end = f.label("return")
        for number, launch in enumerate(self.program.launches):
            count = constant(1, "i64")
            for extent in launch.grid:
                size = f.intrinsic("llvm.smax.i64", "i64", parts.expressions.scalar_index(extent), constant(0, "i64"))
                count = size if count.text == "1" else f.binary("mul", count, size)
            f.intrinsic(
                PARALLEL_FOR_SYMBOL,
                "void",
                Value(f"@{self.name}.task{number}", "ptr"),
                f.arguments["slots"],
                count,
                constant(blocks_per_chunk(launch.body), "i64"),
                constant(scratch[number], "i64"),
            )
            if number + 1 < len(self.program.launches) and self.sites.asserts:
                failed = f.compare("icmp ne", f.load("i32", status, 4), constant(0, "i32"))
                going_on = f.label("launch")
                f.branch_if(failed, end, going_on)
                f.start(going_on)
        f.start(end)
        f.ret(f.load("i32", status, 4))


@dataclass
class _TaskParts:
    task: Task
    memory: Memory
    expressions: Expressions
    addresses: _Addresses


class _Addresses:
    """Where the elements 0, 0, ... of buffers lie; gives tiles their place in the scratch memory at first use."""

    expressions: Expressions

    def __init__(self, program: ProgramEmitter, task: Task) -> None:
        self.program, self.task = program, task
        self.scratch_bytes = 0
        self._known: dict[Buffer, Value] = {}
        self._slots: dict[Buffer, int] = {}
        for number, slot in enumerate(program.slots):
            buffer = slot.workspace if slot.workspace is not None else slot.parameter.buffer if slot.parameter is not None else None
            if buffer is not None:
                self._slots[buffer] = number

    def of(self, buffer: Buffer) -> Value:
        storage = buffer.storage
        if storage.pointer is not None:
            address = self.expressions.scalar(storage.pointer)
            return self.task.f.emit("ptr", f"inttoptr {address} to ptr")
        found = self._known.get(storage)
        if found is None:
            found = self._known[storage] = self._place(storage)
        return found

    def _place(self, storage: Buffer) -> Value:
        f = self.task.f
        if storage in self._slots:
            address = self.program.slot_address(f, self._slots[storage])
            return f.at_entry("ptr", f"load ptr, ptr {address}, align 8")
        if storage.scope is Scope.GLOBAL:
            raise CompilerBug(f"the global buffer {storage.name} is no parameter and no workspace")
        size_bytes = self.size_bytes(storage)
        if storage.scope in (Scope.VARIABLE, Scope.LOCAL) and size_bytes <= STACK_TILE_BYTES:
            plan = self.program.plans.get(storage)
            dtype = plan.dtype if plan is not None else storage.dtype
            return f.alloca(memory_type(dtype), max(size_bytes // dtype.itemsize, 1))
        offset = self.scratch_bytes
        self.scratch_bytes += -(-size_bytes // SCRATCH_ALIGNMENT_BYTES) * SCRATCH_ALIGNMENT_BYTES
        return f.at_entry("ptr", f"getelementptr inbounds i8, ptr %scratch, i64 {offset}")

    def size_bytes(self, storage: Buffer) -> int:
        shape = storage.static_shape
        plan = self.program.plans.get(storage)
        if plan is None:
            return math.prod(shape) * storage.dtype.itemsize
        if plan.storage is Storage.PANELS:
            columns = shape[-2] if plan.is_transposed else shape[-1]
            return math.prod(shape[:-2]) * -(-columns // plan.panel_columns) * plan.panel_stride * plan.dtype.itemsize
        if not shape:
            return plan.dtype.itemsize
        return math.prod(shape[:-1]) * (plan.row_pitch if len(shape) > 1 else shape[-1]) * plan.dtype.itemsize


__all__ = ["PARALLEL_FOR_SYMBOL", "GeneratedModule", "ProgramEmitter", "Slot", "SlotKind", "emit_program", "slots_of", "symbols_of"]
