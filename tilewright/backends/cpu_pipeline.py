"""The passes and the code generator for the CPU (floor 8): apart from `cpu`, so that programs from the disk cache need neither."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from tilewright.codegen.llvm.program import GeneratedModule, emit_program
from tilewright.ir.only_on_gpus import refuse_foreign_code, refuse_waiting_blocks
from tilewright.ir.program import Program
from tilewright.passes import CPU_PASSES, PassContext, PassRecord, run_passes
from tilewright.target.cpu import CpuTarget


@dataclass(frozen=True, eq=False)
class Compilation:
    """What the passes and the code generator made of a program."""

    lowered: Program
    generated: GeneratedModule
    context: PassContext
    passes_ms: float
    emission_ms: float


def generate(program: Program, target: CpuTarget, records: list[PassRecord] | None = None) -> Compilation:
    """Runs the passes and generates code; `records`, where given, receives the program after each pass."""
    start = perf_counter()
    refuse_foreign_code(program, "a CPU")
    refuse_waiting_blocks(program, "a CPU")
    context = PassContext(target)
    lowered = run_passes(program, context, CPU_PASSES, records)
    middle = perf_counter()
    generated = emit_program(lowered, context.plans, target)
    return Compilation(lowered, generated, context, 1e3 * (middle - start), 1e3 * (perf_counter() - middle))
