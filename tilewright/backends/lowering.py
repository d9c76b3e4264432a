"""What the CUDA back end and the simulator share: a program lowered to threads (floor 8)."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from tilewright.errors import Kind, fail
from tilewright.ir.program import Program
from tilewright.passes import GPU_PASSES, PassContext, PassRecord, run_passes
from tilewright.spans import span_of_caller
from tilewright.target.nvidia import NvidiaTarget


@dataclass(frozen=True, eq=False)
class ThreadProgram:
    """What one thread runs, and what the passes noted."""

    program: Program
    context: PassContext
    passes_ms: float


def lower_to_threads(program: Program, target: NvidiaTarget, records: list[PassRecord] | None = None) -> ThreadProgram:
    """Runs the GPU passes; `records`, where given, receives the program after each."""
    if not GPU_PASSES:
        fail(
            Kind.TARGET_FEATURE,
            f"the target {target.name!r} is not supported by this version",
            span_of_caller(),
            because="programs are compiled for the CPU of this machine",
            help='leave the target out, or write target="cpu"',
        )
    start = perf_counter()
    context = PassContext(target)
    lowered = run_passes(program, context, GPU_PASSES, records)
    return ThreadProgram(lowered, context, 1e3 * (perf_counter() - start))
