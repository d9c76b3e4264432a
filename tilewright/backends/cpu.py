"""Programs for the CPU: passes, LLVM, the disk cache, and what the result can tell (floor 8)."""

from __future__ import annotations

from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import llvmlite

from tilewright.backends.compiled import CompiledProgram, StageTimes
from tilewright.codegen.slots import Slot, slots_of
from tilewright.disk_cache import cache_key, compiler_hash, open_cache
from tilewright.ir.fingerprint import fingerprint
from tilewright.ir.memory_use import used_parameters
from tilewright.ir.program import Program
from tilewright.ir.stmt import Assert, Print
from tilewright.ir.visit import statements
from tilewright.options import environment
from tilewright.runtime.arguments import CallPlan
from tilewright.runtime.llvm_jit import LoadedCode, compile_assembly, load_object
from tilewright.runtime.object_cache import cached_object, describe_target, load_cached, object_key
from tilewright.runtime.pool import PARALLEL_FOR_SYMBOL, shared_pool
from tilewright.runtime.printing import PRINT_SYMBOL, PrintTable
from tilewright.source_hash import note_late_import
from tilewright.target.cpu import CpuTarget

if TYPE_CHECKING:
    from tilewright.backends.cpu_pipeline import Compilation
    from tilewright.codegen.llvm.program import GeneratedModule
    from tilewright.passes import PassContext, PassRecord, Remark


shared_pool()  # linked once per process: a part of loading this back end, not of the first program


@cache
def load_pipeline() -> Any:
    """The passes and the code generator, imported by the first program that is not in the disk cache."""
    found = import_module("tilewright.backends.cpu_pipeline")
    note_late_import()
    return found


class CpuProgram(CompiledProgram):
    """Machine code in memory, and everything that can be looked at."""

    target: CpuTarget

    def __init__(
        self,
        program: Program,
        target: CpuTarget,
        code: LoadedCode,
        object_bytes: bytes,
        times: StageTimes,
        is_from_cache: bool,
        compilation: Compilation | None,
        prints: PrintTable | None,
    ) -> None:
        self.program, self.target, self.code, self.object_bytes = program, target, code, object_bytes
        self.times, self.is_from_cache, self.prints = times, is_from_cache, prints
        if compilation is not None:
            self.compilation = compilation

    @cached_property
    def compilation(self) -> Compilation:
        made: Compilation = load_pipeline().generate(self.program, self.target)
        return made

    @property
    def lowered(self) -> Program:
        return self.compilation.lowered

    @property
    def generated(self) -> GeneratedModule:
        return self.compilation.generated

    @property
    def context(self) -> PassContext:
        return self.compilation.context

    @property
    def remarks(self) -> tuple[Remark, ...]:
        return tuple(self.context.remarks)

    @property
    def source(self) -> str:
        """LLVM IR."""
        return self.generated.text

    @cached_property
    def assembly(self) -> str:
        """The machine code as text."""
        return compile_assembly(self.source, self.target)

    def export(self, path: Path) -> None:
        library = import_module("tilewright.backends.cpu_library")
        if path.suffix not in library.SUFFIXES:
            self.cannot_write(path, library.SUFFIXES)
        library.write_library(self.generated, self.target, path)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """What the native entry reads."""
        return slots_of(self.program)

    @property
    def asserts(self) -> tuple[Assert, ...]:
        """Status n of the native entry means that asserts[n - 1] failed."""
        return self.generated.asserts if _reports(self.program) else ()

    def call_plan(self, outputs: tuple[int, ...]) -> CallPlan:
        written, unused = used_parameters(self.program)
        return CallPlan(
            self.program,
            self.slots,
            self.code.entry_address,
            written=written,
            unused=unused,
            outputs=outputs,
            asserts=self.asserts,
            owner=(self.code, self.prints),
        )


def compile_for_cpu(program: Program, target: CpuTarget, records: list[PassRecord] | None = None, program_name: str | None = None) -> CpuProgram:
    """Machine code for a program: from the disk cache where it is there, else through the passes, the code generator and LLVM.

    Objects are kept under a hash of the generated source. A second kind of entry leads from the traced program to that hash, so that a program that
    was compiled before needs no pass at all.

    program_name   the program's fingerprint, where it is known.
    """
    start = perf_counter()
    # What a program prints or asserts is reported through tables that only the passes can make.
    is_findable = environment().is_cache_enabled and records is None and not _reports(program)
    trace_key = _trace_key(program_name or fingerprint(program), target) if is_findable else None
    pointer = open_cache().load(trace_key) if trace_key is not None else None
    object_bytes = load_cached(pointer["object_key"].decode()) if pointer is not None else None
    compilation: Compilation | None = None
    machine_code_ms, is_from_cache = 0.0, True
    if pointer is not None and object_bytes is not None:
        entry_name = pointer["entry"].decode()
    else:
        compilation = load_pipeline().generate(program, target, records)
        assert compilation is not None
        entry_name = compilation.generated.entry_name
        before = perf_counter()
        object_bytes, is_from_cache = cached_object(compilation.generated.text, target)
        machine_code_ms = 0.0 if is_from_cache else 1e3 * (perf_counter() - before)
        if trace_key is not None:
            open_cache().store(trace_key, {"object_key": object_key(compilation.generated.text, target).encode(), "entry": entry_name.encode()})
    before = perf_counter()
    symbols = {PARALLEL_FOR_SYMBOL: shared_pool().parallel_for_address}
    prints: PrintTable | None = None
    if compilation is not None and compilation.generated.prints:
        prints = PrintTable(compilation.generated.prints, compilation.context.plans)
        symbols[PRINT_SYMBOL] = prints.address
    code = load_object(object_bytes, entry_name, symbols)
    end = perf_counter()
    passes_ms, emission_ms = (compilation.passes_ms, compilation.emission_ms) if compilation is not None else (0.0, 0.0)
    times = StageTimes(passes_ms, emission_ms, machine_code_ms, 1e3 * (end - before), 1e3 * (end - start))
    return CpuProgram(program, target, code, object_bytes, times, is_from_cache, compilation, prints)


def _reports(program: Program) -> bool:
    return any(isinstance(stmt, (Assert, Print)) for launch in program.launches for stmt in statements(launch.body))


def _trace_key(program_name: str, target: CpuTarget) -> str:
    return cache_key(
        {"program": program_name, "compiler": compiler_hash(), "target": f"{target.name} {describe_target(target)}", "llvmlite": llvmlite.__version__}
    )
