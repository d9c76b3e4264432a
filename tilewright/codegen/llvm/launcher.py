"""The host side of a GPU program as LLVM text (floor 6): grids from symbols, parameters from slots, and the driver's own launch function.

The entry `i32 NAME.launch(ptr words)` reads the slots of the program in 8-byte words, then the stream, the context, and one function per kernel.
It gives 0; n where assert n failed; -n for error n of the driver; OVERSIZED_GRID - n where the grid of kernel n (from 0) is too large. It never
returns with another current context than the thread had.
"""

from __future__ import annotations

from tilewright.codegen.cuda.module import CudaModule, KernelLaunch
from tilewright.codegen.llvm.emitter import Function, Value, constant
from tilewright.codegen.llvm.expressions import Expressions
from tilewright.codegen.llvm.program import ProgramEmitter
from tilewright.ir.program import Program
from tilewright.target.cpu import CpuTarget

OVERSIZED_GRID = -(1 << 20)
# Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability": the same for all of them.
MAX_GRID = ((1 << 31) - 1, 65535, 65535)
# Source: CUDA Driver API, cuda.h of version 12: CUlaunchConfig, CUlaunchAttribute and CUlaunchAttributeID.
_CONFIG_BYTES, _STREAM_AT, _ATTRIBUTES_AT, _ATTRIBUTE_COUNT_AT = 56, 32, 40, 48
_ATTRIBUTE_BYTES, _ATTRIBUTE_VALUE_AT, _COOPERATIVE, _CLUSTER_DIMENSION = 72, 8, 2, 4
_COUNTER_WORDS = 2
_I32_ZERO = constant(0, "i32")


def launcher_name(program: Program) -> str:
    """The symbol of the entry."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in program.name) + ".launch"


def emit_launcher(program: Program, module: CudaModule, target: CpuTarget) -> str:
    """The LLVM module that launches the kernels of `module`, made of `program`, on a host with that CPU. The driver's functions are its undefined symbols."""
    return _LauncherEmitter(program, module, target).emit()


class _LauncherEmitter:
    def __init__(self, program: Program, module: CudaModule, target: CpuTarget) -> None:
        self.emitter = ProgramEmitter(program, {}, target)
        self.emitter.slots = module.slots
        self.cuda, self.name = module, launcher_name(program)
        self.stream_word = len(module.slots)
        self.context_word, self.function_word = self.stream_word + 1, self.stream_word + 2

    def emit(self) -> str:
        self.kernels()
        self.entry()
        return self.emitter.module.text()

    def word(self, f: Function, number: int) -> Value:
        return f.at_entry("ptr", f"load ptr, ptr {self.emitter.slot_address(f, number)}, align 8")

    def entry(self) -> None:
        """The launches, with the device's context current."""
        f = self.emitter.module.function(self.name, "i32", [("ptr", "slots")], "nounwind")
        cell, slots, wanted = f.alloca("ptr", align=8), f.arguments["slots"], self.word(f, self.context_word)
        self.succeed(f, f.intrinsic("cuCtxGetCurrent", "i32", cell))
        is_current = f.compare("icmp eq", f.load("ptr", cell, 8), wanted)
        direct, switched = f.label("direct"), f.label("switched")
        f.branch_if(is_current, direct, switched)
        f.start(direct)
        f.ret(f.intrinsic(f"{self.name}.kernels", "i32", slots))
        f.start(switched)
        self.succeed(f, f.intrinsic("cuCtxPushCurrent_v2", "i32", wanted))
        status = f.intrinsic(f"{self.name}.kernels", "i32", slots)
        f.intrinsic("cuCtxPopCurrent_v2", "i32", cell)
        f.ret(status)
        del self.emitter.module.declarations[f"{self.name}.kernels"]  # it is defined here

    def kernels(self) -> None:
        f = self.emitter.module.function(f"{self.name}.kernels", "internal i32", [("ptr", "slots")], "nounwind")
        parts = self.emitter.begin(f, None)
        stream = self.word(f, self.stream_word)
        for number, kernel in enumerate(self.cuda.kernels):
            self.launch(f, parts.expressions, number, kernel, stream)
            if self.cuda.asserts:
                self.check_asserts(f, stream)
        f.ret(_I32_ZERO)

    def launch(self, f: Function, expressions: Expressions, number: int, kernel: KernelLaunch, stream: Value) -> None:
        extents = [expressions.scalar_index(extent) for extent in kernel.grid]
        going_on, fitting, skipped = f.label("filled"), f.label("launch"), f.label("skipped")
        is_filled, is_fitting = constant(True, "i1"), constant(True, "i1")
        for extent, limit in zip(extents, MAX_GRID, strict=True):
            is_filled = f.binary("and", is_filled, f.compare("icmp sgt", extent, constant(0, "i64")))
            is_fitting = f.binary("and", is_fitting, f.compare("icmp sle", extent, constant(limit, "i64")))
        f.branch_if(is_filled, going_on, skipped)
        f.start(going_on)
        oversized = f.label("oversized")
        f.branch_if(is_fitting, fitting, oversized)
        f.start(oversized)
        f.ret(constant(OVERSIZED_GRID - number, "i32"))
        f.start(fitting)
        parameters = f.alloca("ptr", max(len(kernel.parameters), 1), align=8)
        for position, slot in enumerate(kernel.parameters):
            f.store(Value(self.emitter.slot_address(f, slot), "ptr"), f.element_address(parameters, "ptr", constant(position, "i64")), 8)
        function = self.word(f, self.function_word + number)
        grid = [f.convert("trunc", extent, "i32") for extent in extents]
        block = [constant(extent, "i32") for extent in kernel.block]
        shared, null = constant(kernel.dynamic_shared_bytes, "i32"), Value("null", "ptr")
        if kernel.counter is not None:
            self.succeed(f, f.intrinsic("cuMemsetD32Async", "i32", self.word(f, kernel.counter), _I32_ZERO, constant(_COUNTER_WORDS, "i64"), stream))
        if kernel.cluster == (1, 1, 1) and kernel.counter is None:
            status = f.intrinsic("cuLaunchKernel", "i32", function, *grid, *block, shared, stream, parameters, null)
        else:
            status = f.intrinsic("cuLaunchKernelEx", "i32", self.configuration(f, [*grid, *block, shared], stream, kernel), function, parameters, null)
        self.succeed(f, status)
        f.start(skipped)

    def configuration(self, f: Function, leading: list[Value], stream: Value, kernel: KernelLaunch) -> Value:
        """A CUlaunchConfig with the attributes that a kernel needs: the size of a cluster, and that all blocks run at the same time."""
        attributes: list[tuple[int, tuple[int, ...]]] = []
        if kernel.cluster != (1, 1, 1):
            attributes.append((_CLUSTER_DIMENSION, kernel.cluster))
        if kernel.counter is not None:
            attributes.append((_COOPERATIVE, (1,)))

        def place(base: Value, offset: int) -> Value:
            return f.element_address(base, "i8", constant(offset, "i64"))

        attribute, configuration = f.alloca("i8", _ATTRIBUTE_BYTES * len(attributes), align=8), f.alloca("i8", _CONFIG_BYTES, align=8)
        for number, (key, values) in enumerate(attributes):
            start = _ATTRIBUTE_BYTES * number
            f.store(constant(key, "i32"), place(attribute, start), 4)
            for axis, part in enumerate(values):
                f.store(constant(part, "i32"), place(attribute, start + _ATTRIBUTE_VALUE_AT + 4 * axis), 4)
        for position, value in enumerate(leading):
            f.store(value, place(configuration, 4 * position), 4)
        f.store(stream, place(configuration, _STREAM_AT), 8)
        f.store(attribute, place(configuration, _ATTRIBUTES_AT), 8)
        f.store(constant(len(attributes), "i32"), place(configuration, _ATTRIBUTE_COUNT_AT), 4)
        return configuration

    def check_asserts(self, f: Function, stream: Value) -> None:
        """Waits for the kernel and ends the call where an assert failed. A captured stream cannot be waited for: the next call finds out."""
        cell, going_on, waiting = f.alloca("i32", align=4), f.label("unchecked"), f.label("waiting")
        self.succeed(f, f.intrinsic("cuStreamIsCapturing", "i32", stream, cell))
        f.branch_if(f.compare("icmp eq", f.load("i32", cell, 4), _I32_ZERO), waiting, going_on)
        f.start(waiting)
        self.succeed(f, f.intrinsic("cuStreamSynchronize", "i32", stream))
        status = f.load("i32", self.word(f, self.stream_word - 1), 4)
        failed = f.label("failed")
        f.branch_if(f.compare("icmp eq", status, _I32_ZERO), going_on, failed)
        f.start(failed)
        f.ret(status)
        f.start(going_on)

    def succeed(self, f: Function, status: Value) -> None:
        """Returns the driver's error, negated, where there is one."""
        failed, fine = f.label("refused"), f.label("accepted")
        f.branch_if(f.compare("icmp eq", status, _I32_ZERO), fine, failed)
        f.start(failed)
        f.ret(f.binary("sub", _I32_ZERO, status))
        f.start(fine)
