"""Whole thread-level programs as CUDA C++ (floor 6): one `extern "C" __global__` function per launch, no #include, the same text in every run."""

from __future__ import annotations

import math
import re

from tilewright.arith.value_range import UNLIMITED, ValueRange, dtype_range, value_range
from tilewright.codegen.cfamily import types
from tilewright.codegen.cfamily.expressions import Expressions
from tilewright.codegen.cfamily.memory import Memory, Place
from tilewright.codegen.cfamily.names import Names, identifier
from tilewright.codegen.cfamily.ranges import Ranges
from tilewright.codegen.cfamily.statements import Sites, Statements
from tilewright.codegen.cfamily.usage import Usage, usage_of
from tilewright.codegen.cuda.dialect import CudaDialect
from tilewright.codegen.cuda.module import MODULE_NAME, CudaModule, KernelLaunch, source_name
from tilewright.codegen.cuda.options import CudaOptions, options_of
from tilewright.codegen.slots import Slot, SlotKind, slots_of
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, const
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import HintKind, Launch, Program
from tilewright.target.nvidia import NvidiaTarget

_STATUS = "status"
_SHARED = "shared"
SHARED_ALIGNMENT_BYTES = 1024
LOCAL_ALIGNMENT_BYTES = 16
# Blocks of a grid in x, y, z (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
_GRID_LIMITS = ((1 << 31) - 1, 65535, 65535)


def emit_program(program: Program, target: NvidiaTarget, options: CudaOptions | None = None) -> CudaModule:
    """The CUDA source of a program at Level.THREAD; without `options` those that its own annotations ask for.

    Raises TileError (dtype-unsupported, target-feature) for what this printer cannot do, CompilerBug for what lowering should have removed.
    """
    options = options if options is not None else options_of(program)
    dialect = CudaDialect(target, is_fast_math=options.is_fast_math)
    slots, sites = slots_of(program), Sites()
    base = f"{identifier(program.name)}_kernel"  # `main` alone may not be a kernel
    names = [base] if len(program.launches) == 1 else [f"{base}_{n}" for n in range(len(program.launches))]
    emitters = [_KernelEmitter(program, launch, name, slots, dialect, options, sites) for launch, name in zip(program.launches, names, strict=True)]
    texts = [emitter.emit() for emitter in emitters]
    text = "\n\n".join(part for part in (f"// {program.name} for {target.name}", dialect.prelude.text()) if part)
    for number, source in enumerate(program.sources):
        text += f'\n\n#line 1 "{source_name(number)}"\n{source.text.strip(chr(10))}\n'
        text += f'#line {text.count(chr(10)) + 2} "{MODULE_NAME}"'
    text = "\n\n".join((text, *texts)) + "\n"
    foreign = tuple(call for emitter in emitters for call in emitter.foreign)
    return CudaModule(text, target, slots, tuple(e.record() for e in emitters), tuple(sites.asserts), options.flags, program.sources, foreign)


class _KernelEmitter:
    """Prints one launch."""

    def __init__(self, program: Program, launch: Launch, name: str, slots: tuple[Slot, ...], dialect: CudaDialect, options: CudaOptions, sites: Sites) -> None:
        self.program, self.launch, self.slots, self.dialect, self.options, self.sites = program, launch, slots, dialect, options, sites
        self.usage: Usage = usage_of(launch)
        self.names = Names(dialect.reserved_names)
        self.name = name
        self.expressions = Expressions(dialect, self.names, Ranges())
        self.memory = Memory(self.expressions, dialect)
        self.slot_names: dict[int, str] = {}
        self.parameters: tuple[int, ...] = ()
        self.foreign: list[ForeignCall] = []

    # -- the function
    def emit(self) -> str:
        for number, slot in enumerate(self.slots):
            self._bind_slot(number, slot)
        indices = self._bind_indices()
        self._declare_shared()
        self._declare_private()
        statements = Statements(
            self.expressions,
            self.memory,
            self.dialect,
            self.sites,
            _STATUS,
            is_trapping=self.usage.has_partial_barriers or self.launch.grid_barrier is not None,
            has_line_directives=self.options.has_line_directives,
            grid_barrier=self.launch.grid_barrier,
        )
        before = len(self.sites.asserts)
        statements.emit(self.launch.body)
        self.foreign = statements.foreign
        has_asserts = len(self.sites.asserts) > before
        self.parameters = tuple(n for n, slot in enumerate(self.slots) if self._is_used(slot, has_asserts))
        threads = math.prod(self.launch.threads)
        bounds = f"{threads}" if self.options.min_blocks_per_sm is None else f"{threads}, {self.options.min_blocks_per_sm}"
        parameters = ", ".join(self._declaration(n) for n in self.parameters)
        head = f'extern "C" __global__ void __launch_bounds__({bounds}) {self.name}({parameters}) {{'
        body = self.expressions.lines.lines
        words = set(re.findall(r"\w+", "\n".join(body)))
        used = [f"    const int {name} = {text};" for name, text in indices if name in words]
        return "\n".join([head, *used, *body, "}"])

    def record(self) -> KernelLaunch:
        x, y, z = (*self.launch.grid, const(1), const(1))[:3]
        plan = self.launch.shared_memory
        size_bytes = plan.size_bytes if plan is not None else 0
        counter = next((n for n, slot in enumerate(self.slots) if slot.workspace is not None and slot.workspace is self.launch.grid_barrier), None)
        return KernelLaunch(self.name, self.parameters, (x, y, z), self.launch.threads, size_bytes, self.launch.cluster, self.launch, counter)

    # -- what the host gives
    def _bind_slot(self, number: int, slot: Slot) -> None:
        if slot.kind is SlotKind.STATUS:
            self.slot_names[number] = _STATUS
            return
        buffer = _buffer_of(slot)
        if buffer is not None:
            name = self.slot_names[number] = self.names.fresh(buffer.name)
            self.memory.places[buffer] = Place(name)
            return
        variable = _variable_of(slot)
        name = self.slot_names[number] = self.names.fresh(variable.name)
        dtype = variable.dtype
        known: ValueRange = UNLIMITED
        if dtype.is_integer:
            known = value_range(0, int(dtype.maximum)) if slot.kind is SlotKind.SYMBOL else dtype_range(dtype)
        self.expressions.bind(variable, name, known, is_index=dtype.is_integer and dtype.is_signed)

    def _is_used(self, slot: Slot, has_asserts: bool) -> bool:
        if slot.kind is SlotKind.STATUS:
            return has_asserts
        buffer = _buffer_of(slot)
        return buffer in self.memory.used if buffer is not None else _variable_of(slot) in self.expressions.used

    def _declaration(self, number: int) -> str:
        slot, name = self.slots[number], self.slot_names[number]
        if slot.kind is SlotKind.STATUS:
            return f"int* {name}"
        buffer = _buffer_of(slot)
        if buffer is None:
            return f"{types.value_type(_variable_of(slot).dtype)} {name}"
        constant = "" if buffer in self.usage.written else "const "
        restrict = " __restrict__" if self._is_restricted(buffer) else ""
        return f"{constant}{types.storage_type(buffer.dtype)}*{restrict} {name}"

    def _is_restricted(self, buffer: Buffer) -> bool:
        """Tensors of a call do not overlap where one of them is written, unless the user says that they may; an address that was made can lie anywhere.
        Behind a barrier of the grid, other blocks have written to them."""
        if self.usage.has_made_pointers or self.launch.grid_barrier is not None:
            return False
        return not any(hint.kind is HintKind.RESTRICT and any(value is buffer for value in hint.values) for hint in self.program.hints)

    # -- what the function starts with
    def _bind_indices(self) -> list[tuple[str, str]]:
        """Block and thread variables: (name, text)."""
        launch, found = self.launch, []
        for axis, (variable, extent) in enumerate(zip(launch.block_variables, launch.grid, strict=True)):
            high = self.expressions.ranges.of(extent).high
            limit = _GRID_LIMITS[axis] if high is None else min(high, _GRID_LIMITS[axis])
            found.append((variable, self.names.fresh(variable.name), self.dialect.block_index(axis), max(limit, 1)))
        for axis, (variable, count) in enumerate(zip(launch.thread_variables, launch.threads, strict=True)):
            found.append((variable, self.names.fresh(variable.name), self.dialect.thread_index(axis), count))
        for variable, name, _, count in found:
            self.expressions.bind(variable, name, value_range(0, count - 1), is_index=True)
        return [(name, text) for _, name, text, _ in found]

    def _declare_shared(self) -> None:
        plan = self.launch.shared_memory
        offsets = dict(plan.offsets_bytes) if plan is not None else {}
        used = [b for b in self.usage.buffers if b.storage.scope in (Scope.SHARED, Scope.BARRIER)]
        lines = self.expressions.lines
        if used:
            lines.add(f"extern __shared__ __align__({SHARED_ALIGNMENT_BYTES}) unsigned char {_SHARED}[];")
        for buffer in used:
            if buffer.storage not in offsets:
                raise CompilerBug(f"the shared buffer {buffer.name} has no place in the block's shared memory")
            name, type_ = self.names.fresh(buffer.name), types.storage_type(buffer.dtype)
            self.memory.places[buffer] = Place(name)
            lines.add(f"{type_}* const {name} = ({type_}*)({_SHARED} + {offsets[buffer.storage]});")

    def _declare_private(self) -> None:
        """Variables and arrays of the thread, then the views of them."""
        used = [b for b in self.usage.buffers if b.storage.scope in (Scope.LOCAL, Scope.VARIABLE)]
        roots = list(dict.fromkeys(b.storage for b in used))
        views = [b for b in used if b.source is not None]
        addressed = {b.storage for b in (*views, *self.usage.addressed)}
        lines = self.expressions.lines
        for root in roots:
            name = self.names.fresh(root.name)
            if root.scope is Scope.VARIABLE and root not in addressed and not root.dtype.is_packed:
                types.refuse_vector_dtype(root, root.dtype, root.span)
                self.memory.places[root] = Place(name, is_variable=True)
                lines.add(f"{types.value_type(root.dtype)} {name};")
                continue
            count = math.prod(root.static_shape) * root.dtype.lanes
            count = max(-(-count // 2) if root.dtype.is_packed else count, 1)
            self.memory.places[root] = Place(name)
            lines.add(f"__align__({LOCAL_ALIGNMENT_BYTES}) {types.storage_type(root.dtype.scalar)} {name}[{count}];")
        for view in views:
            name, type_ = self.names.fresh(view.name), types.storage_type(view.dtype)
            lines.add(f"{type_}* const {name} = ({type_}*){self.memory.places[view.storage].name};")
            self.memory.places[view] = Place(name)


def _buffer_of(slot: Slot) -> Buffer | None:
    return slot.workspace if slot.workspace is not None else slot.parameter.buffer if slot.parameter is not None else None


def _variable_of(slot: Slot) -> Expr:
    variable = slot.symbol if slot.symbol is not None else slot.parameter.variable if slot.parameter is not None else None
    if variable is None:
        raise CompilerBug(f"a {slot.kind.value} without a variable")
    return variable
