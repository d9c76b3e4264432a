"""What the CUDA back end and the simulator share: a program lowered to threads (floor 8)."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from tilewright.ir.program import Program
from tilewright.passes import GPU_PASSES, GpuPassContext, PassRecord, run_passes
from tilewright.target.nvidia import NvidiaTarget


@dataclass(frozen=True, eq=False)
class ThreadProgram:
    """What one thread runs, and what the passes noted."""

    program: Program
    context: GpuPassContext
    passes_ms: float


def lower_to_threads(program: Program, target: NvidiaTarget, records: list[PassRecord] | None = None) -> ThreadProgram:
    """Runs the GPU passes; `records`, where given, receives the program after each."""
    start = perf_counter()
    context = GpuPassContext(target)
    lowered = run_passes(program, context, GPU_PASSES, records)
    return ThreadProgram(lowered, context, 1e3 * (perf_counter() - start))
