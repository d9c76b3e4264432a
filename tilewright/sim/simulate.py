"""Executes thread-level programs without a GPU, and finds what is wrong with them (floor 7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.dtypes import uint8
from tilewright.errors import CompilerBug, Kind, Span, fail
from tilewright.execution.arguments import bind_arguments, integer, result_array
from tilewright.execution.memory import Array, Memory, Storage
from tilewright.ir.buffer import Buffer, Extent, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.instruction import Access, AddressOperand
from tilewright.ir.only_on_gpus import refuse_foreign_code
from tilewright.ir.program import Launch, ParameterKind, Program
from tilewright.ir.stmt import WARP_THREADS, AtomicUpdate, Barrier, BarrierScope, Print, Stmt, Store
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.sim.asynchronous import AsyncCopies
from tilewright.sim.batch import Batch, Journal
from tilewright.sim.clocks import Clocks
from tilewright.sim.expressions import ExpressionCompiler
from tilewright.sim.findings import Finding, Findings
from tilewright.sim.group import Group
from tilewright.sim.machine import Machine, Step
from tilewright.sim.memory import ByteMemory
from tilewright.sim.ports import MemoryPort
from tilewright.sim.registers import RegisterFile, RegisterPort
from tilewright.sim.rows import Rows
from tilewright.sim.shadow import BlockShadow, GridShadow
from tilewright.sim.steps import StepCompiler
from tilewright.sim.traffic import AccessCount, Traffic
from tilewright.sim.word import UNSET_BYTES

_BATCH_ROWS = 2048
_BATCH_CELLS = 1 << 22  # shadow entries of shared memory at once
_SHARED_ALIGNMENT_BYTES = 1024


@dataclass(frozen=True)
class SimulationOptions:
    """How a simulation goes.

    seed            of every choice that a GPU makes as it likes: who runs first, the order of atomics.
    is_checked      looks for races, uninitialised reads and hazards; without, only what a run stumbles over is found, faster.
    is_scattered    every warp runs by itself as far as it can, in a random order, instead of all together: slower, but shows what a missing barrier does
                    to the results. (The other checks do not need it: they look at what is ordered, not at what happened.)
    is_counting     counts bank conflicts and sectors.
    max_blocks      of a grid at most so many blocks run, spread over it; None for all. The results of the others are missing.
    max_turns       a `while` that turns more often is reported and left.
    printer         takes the lines of T.print.
    """

    seed: int = 0
    is_checked: bool = True
    is_scattered: bool = False
    is_counting: bool = True
    max_blocks: int | None = None
    max_turns: int = 100_000
    printer: Callable[[str], None] = print


@dataclass(frozen=True)
class SimulationReport:
    """outputs   every tensor parameter afterwards, by name.
    findings     what is wrong, in the order in which it was found.
    accesses     what each statement did to shared and global memory.
    blocks       how many blocks ran, of how many.
    """

    outputs: dict[str, Array]
    findings: tuple[Finding, ...]
    accesses: tuple[AccessCount, ...]
    blocks: tuple[int, int]

    @property
    def is_clean(self) -> bool:
        return not self.findings

    def accesses_by_line(self) -> tuple[AccessCount, ...]:
        """The accesses of one source line to one buffer summed up."""
        lines: dict[tuple[str, int, str, Scope], AccessCount] = {}
        for a in self.accesses:
            key = (a.span.file, a.span.line, a.buffer, a.scope)
            known = lines.get(key)
            if known is None:
                lines[key] = AccessCount(a.span, a.scope, a.buffer, a.requests, a.bytes, a.transactions, a.ideal, a.worst_ways)
                continue
            known.requests += a.requests
            known.bytes += a.bytes
            known.transactions += a.transactions
            known.ideal += a.ideal
            known.worst_ways = max(known.worst_ways, a.worst_ways)
        return tuple(lines.values())

    def render_accesses(self) -> str:
        """How each source line uses memory, one line each."""
        lines = []
        for a in self.accesses_by_line():
            what = "phases" if a.scope is Scope.SHARED else "sectors"
            worst = f"up to {a.worst_ways}-way conflicts" if a.scope is Scope.SHARED else f"up to {a.worst_ways} per request"
            counts = f"{a.requests} requests, {a.bytes} bytes, {a.transactions} {what} (at least {a.ideal}), {worst}"
            lines.append(f"{a.span}: {a.buffer} ({a.scope.value}): {counts}")
        return "\n".join(lines)

    def render(self) -> str:
        """All findings, and how memory is used."""
        ran, of = self.blocks
        summary = f"{ran} of {of} blocks ran; {len(self.findings)} finding{'s' * (len(self.findings) != 1)}"
        return "\n".join(part for part in (*(f.render() for f in self.findings), self.render_accesses(), summary) if part)


def simulate(program: Program, arguments: Mapping[str, Any], options: SimulationOptions | None = None, *, pointees: Sequence[Array] = ()) -> SimulationReport:
    """Runs a thread-level program on copies of the arguments.

    arguments   by parameter name, as for `run_reference`. Outputs may be left out.
    Raises TileError for arguments that do not fit, for failed host asserts and for foreign code; what goes wrong on the device is a finding.
    """
    refuse_foreign_code(program, "the simulator")
    with np.errstate(all="ignore"):
        return _Simulation(program, arguments, options or SimulationOptions(), pointees).run()


@dataclass(eq=False)
class _Accessed:
    """The buffers that a launch uses, and the roots that it reads and writes."""

    buffers: dict[Buffer, None] = field(default_factory=dict)
    read: set[Buffer] = field(default_factory=set)
    written: set[Buffer] = field(default_factory=set)

    def note(self, buffer: Buffer, *, reads: bool = False, writes: bool = False) -> None:
        self.buffers[buffer] = None
        if reads:
            self.read.add(buffer.storage)
        if writes:
            self.written.add(buffer.storage)


def _accessed(body: Stmt) -> _Accessed:
    found = _Accessed()
    for stmt in statements(body):
        for expression in own_expressions(stmt):
            for node in subexpressions(expression):
                if node.op is Op.LOAD:
                    found.note(node.buffer, reads=True)
        match stmt:
            case Store():
                found.note(stmt.buffer, writes=True)
            case AtomicUpdate():
                found.note(stmt.buffer, reads=True, writes=True)
            case VectorCopy():
                found.note(stmt.dst.buffer, writes=True)
                found.note(stmt.src.buffer, reads=True)
            case Print() if stmt.buffer is not None:
                found.note(stmt.buffer, reads=True)
            case InstructionCall():
                for operand, given in zip(stmt.instruction.operands, stmt.operands, strict=True):
                    if isinstance(given, (Address, Registers)):
                        access = operand.access if isinstance(operand, AddressOperand) else Access.READ_WRITE
                        found.note(given.buffer, reads=access is not Access.WRITE, writes=access is not Access.READ)
    return found


class _Simulation:
    def __init__(self, program: Program, arguments: Mapping[str, Any], options: SimulationOptions, pointees: Sequence[Array]) -> None:
        self.program, self.options = program, options
        self.bound = bind_arguments(program, arguments, pointees)
        self.values: dict[Expr, Any] = dict(self.bound.values)
        self.memory = Memory(self.integer, self.bound.pointee)
        self.findings, self.traffic = Findings(), Traffic() if options.is_counting else None
        self.accesses: list[AccessCount] = []
        self.rng = np.random.default_rng(options.seed)
        self.blocks = [0, 0]

    def integer(self, extent: Extent) -> int:
        return integer(extent, self.values)

    def run(self) -> SimulationReport:
        tensors = [(p, p.buffer) for p in self.program.parameters if p.kind is ParameterKind.TENSOR and p.buffer is not None]
        outputs = [b for p, b in tensors if p.is_output and b not in self.bound.storages]
        for buffer, storage in self.bound.storages.items():
            self.memory.bind(buffer, storage)
        self.memory.allocate([*outputs, *self.program.workspaces])
        for check in self.program.checks:
            if not integer(check.condition, self.values):
                fail(Kind.HOST_ASSERT, check.message or f"`{check.condition}` does not hold", check.span, because="the kernel asserts this when it is called")
        for launch in self.program.launches:
            self._launch(launch)
        results = {p.name: result_array(p, self.memory.array(b), self.bound) for p, b in tensors if self.memory.is_bound(b)}
        return SimulationReport(results, self.findings.all, tuple(self.accesses), (self.blocks[0], self.blocks[1]))

    def _launch(self, launch: Launch) -> None:
        grid = tuple(self.integer(n) for n in launch.grid)
        if min(grid, default=1) <= 0:
            return
        total = math.prod(grid)
        count = total if self.options.max_blocks is None else min(total, self.options.max_blocks)
        blocks = np.unique(np.linspace(0, total - 1, count).round().astype(np.int64))
        self.blocks[0] += len(blocks)
        self.blocks[1] += total
        _LaunchRun(self, launch, grid).run(blocks)
        if self.traffic is not None:
            self.accesses += self.traffic.counts.values()
            self.traffic = Traffic()

    # -- global memory
    def storage_of(self, buffer: Buffer, span: Span) -> tuple[Storage, int]:
        """The storage of a root, and where in it the root starts, in bytes."""
        if buffer.pointer is not None:
            return self.bound.pointee(self.integer(buffer.pointer), buffer)
        return self.memory.storage(buffer, span), 0


class _LaunchRun:
    """One launch: its code, and its memories."""

    def __init__(self, owner: _Simulation, launch: Launch, grid: tuple[int, ...]) -> None:
        self.owner, self.launch, self.grid = owner, launch, grid
        self.used = _accessed(launch.body)
        self.threads = math.prod(launch.threads)
        self.warps = -(-self.threads // WARP_THREADS)
        self.ports: dict[Buffer, MemoryPort | RegisterPort] = {}
        self.files: dict[Buffer, RegisterFile] = {}
        self.global_memories: dict[int, tuple[Storage, ByteMemory]] = {}
        self._place_shared()
        self._place_global()
        self.variables = [*launch.thread_variables, *launch.block_variables, *owner.values]
        self.compiler = ExpressionCompiler(self.variables, self.port)
        self.slots = [self.compiler.slot(v) for v in self.variables]
        steps = _compile_steps(self, launch)
        self.steps, self.statements = steps
        self.constants = self.compiler.finish()

    # -- places
    def _place_shared(self) -> None:
        roots = {b.storage: None for b in self.used.buffers if b.scope is Scope.SHARED}
        plan = self.launch.shared_memory
        self.shared_offsets: dict[Buffer, int] = dict(plan.offsets_bytes) if plan is not None else {}
        size = plan.size_bytes if plan is not None else 0
        for root in roots:
            if root not in self.shared_offsets:
                if plan is not None:
                    raise CompilerBug(f"the shared buffer {root.name} has no place")
                self.shared_offsets[root] = size
                size += -(-math.prod(root.static_shape) * root.dtype.storage_bits // (8 * _SHARED_ALIGNMENT_BYTES)) * _SHARED_ALIGNMENT_BYTES
        self.shared_stride_bytes = max(-(-size // _SHARED_ALIGNMENT_BYTES), 1) * _SHARED_ALIGNMENT_BYTES
        self.shared_cell_bytes = min([b.dtype.scalar.itemsize for b in self.used.buffers if b.scope is Scope.SHARED], default=4)

    def _place_global(self) -> None:
        cells: dict[int, int] = {}
        is_read: dict[int, bool] = {}
        is_written: dict[int, bool] = {}
        self.places: dict[Buffer, tuple[int, int]] = {}
        storages: dict[int, Storage] = {}
        for buffer in self.used.buffers:
            if buffer.scope is not Scope.GLOBAL:
                continue
            storage, start = self.owner.storage_of(buffer.storage, self.launch.span)
            key = id(storage)
            storages[key], self.places[buffer] = storage, (key, start)
            cells[key] = min(cells.get(key, 16), buffer.dtype.scalar.itemsize)
            is_read[key] = is_read.get(key, False) or buffer.storage in self.used.read
            is_written[key] = is_written.get(key, False) or buffer.storage in self.used.written
        for key, storage in storages.items():
            raw = storage.elements(uint8)
            memory = ByteMemory(Scope.GLOBAL, raw.size, cells[key])
            memory.data[: raw.size] = raw
            if is_written[key] and self.owner.options.is_checked:
                memory.shadow = GridShadow(memory.num_cells, is_read[key])
            self.global_memories[key] = storage, memory

    def port(self, buffer: Buffer) -> MemoryPort | RegisterPort:
        found = self.ports.get(buffer)
        if found is None:
            found = self.ports[buffer] = self._new_port(buffer)
        return found

    def _new_port(self, buffer: Buffer) -> MemoryPort | RegisterPort:
        bits = buffer.dtype.storage_bits
        match buffer.scope:
            case Scope.LOCAL | Scope.VARIABLE:
                root = buffer.storage
                if root not in self.files:
                    self.files[root] = RegisterFile(root, [root, *(b for b in self.used.buffers if b.storage is root)])
                return RegisterPort(buffer, self.files[root])
            case Scope.SHARED:
                shape = buffer.static_shape
                strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
                return MemoryPort(buffer, shape, strides, self.shared_offsets[buffer.storage] * 8 // bits)
            case Scope.GLOBAL:
                shape = tuple(self.owner.integer(n) for n in buffer.shape)
                strides = tuple(self.owner.integer(n) for n in buffer.element_strides())
                return MemoryPort(buffer, shape, strides, self.places[buffer][1] * 8 // bits)
        raise CompilerBug(f"a thread-level program accesses the {buffer.scope.value} buffer {buffer.name}")

    # -- running
    def run(self, blocks: Array) -> None:
        for some in self._batches(blocks):
            self._run_batch(some)
        for storage, memory in self.global_memories.values():
            storage.elements(uint8)[:] = memory.data[: memory.size_bytes]

    def _batches(self, blocks: Array) -> Iterator[Array]:
        nodes = list(statements(self.launch.body))
        if any(isinstance(s, Barrier) and s.scope is BarrierScope.GRID for s in nodes):
            yield blocks
            return
        cells = self.shared_stride_bytes // self.shared_cell_bytes * (self.warps + 1)
        size = max(1, min(_BATCH_ROWS // (self.warps * WARP_THREADS), _BATCH_CELLS // cells))
        if any(isinstance(s, Print) for s in nodes):
            size = 1  # lines in the order of the blocks
        for start in range(0, len(blocks), size):
            yield blocks[start : start + size]

    def _run_batch(self, blocks: Array) -> None:
        owner, options = self.owner, self.owner.options
        rows = Rows.of(blocks, self.threads)
        clocks = Clocks(rows)
        shared = ByteMemory(Scope.SHARED, self.shared_stride_bytes * len(blocks), self.shared_cell_bytes, UNSET_BYTES[0])
        if options.is_checked and any(b.scope is Scope.SHARED for b in self.used.buffers):
            shared.shadow = BlockShadow(shared.num_cells, rows, clocks)
        journal = Journal(self.statements, owner.findings, owner.traffic, options.printer)
        batch = Batch(rows, self.grid, clocks, shared, self.shared_stride_bytes, journal, owner.rng, options.is_checked)
        shadows = [m.shadow for _, m in self.global_memories.values() if isinstance(m.shadow, GridShadow)]
        for shadow in shadows:
            shadow.enter(rows, clocks)
        for file in self.files.values():
            file.bind(batch)
        for buffer, port in self.ports.items():
            if isinstance(port, RegisterPort):
                port.bind(batch)
            else:
                port.bind(batch, shared if buffer.scope is Scope.SHARED else self.global_memories[self.places[buffer][0]][1])
        values: list[Any] = [None] * self.compiler.num_slots
        for slot, variable in zip(self.slots, self.variables, strict=True):
            values[slot] = self._value(variable, rows)
        group = Group(rows.exists, values, [rows.thread])
        group.constants[1:] = self.constants(group)

        def forget() -> None:
            for shadow in shadows:
                shadow.forget()

        groups = self._warps_of(group, rows) if options.is_scattered else [group]
        Machine(batch, AsyncCopies(rows.count), self.steps, forget, options.is_scattered).run(groups)

    @staticmethod
    def _warps_of(group: Group, rows: Rows) -> list[Group]:
        """One group for each warp."""
        exists = np.ones(rows.count, bool) if rows.exists is None else rows.exists
        warps = range(rows.count // WARP_THREADS)
        return [Group(exists & (np.arange(rows.count) // WARP_THREADS == warp), list(group.values), group.constants) for warp in warps]

    def _value(self, variable: Expr, rows: Rows) -> Any:
        kind = variable.dtype.numpy
        if variable in self.owner.values:
            return np.asarray(self.owner.values[variable]).astype(kind)[()]
        x, y, _ = self.launch.threads
        places = (rows.thread % x, rows.thread // x % y, rows.thread // (x * y))
        for thread_variable, place in zip(self.launch.thread_variables, places, strict=True):
            if variable is thread_variable:
                return place.astype(kind)
        axis = next(i for i, v in enumerate(self.launch.block_variables) if v is variable)
        place = np.unravel_index(rows.grid_block, self.grid, order="F")[axis].astype(kind)
        return place if rows.num_blocks > 1 else place[0]


def _compile_steps(run: _LaunchRun, launch: Launch) -> tuple[list[Step], list[Stmt]]:
    compiler = StepCompiler(run.compiler, run.port, run.owner.options.max_turns)
    steps = compiler.compile(launch.body)
    return steps, compiler.statements
