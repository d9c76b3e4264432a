"""What the CUDA back end and the simulator share: a program lowered to threads (floor 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter

from tilewright.backends.compiled import CompileOptions
from tilewright.codegen.cuda.options import configs_of
from tilewright.errors import Kind, fail
from tilewright.ir.program import Program
from tilewright.pass_configs import PassConfigKey
from tilewright.passes import GPU_PASSES, GpuPassContext, PassRecord, run_passes
from tilewright.target.nvidia import NvidiaTarget


@dataclass(frozen=True, eq=False)
class ThreadProgram:
    """What one thread runs, and what the passes noted."""

    program: Program
    context: GpuPassContext
    passes_ms: float


def allows_tf32(program: Program, options: CompileOptions | None) -> bool:
    """Whether products of float32 tiles may round their operands (PassConfigKey.TL_FLOAT32_AS_TF32)."""
    configs = configs_of(program, dict(options.pass_configs) if options is not None else None)
    return bool(configs.get(PassConfigKey.TL_FLOAT32_AS_TF32.value))


def lower_to_threads(program: Program, target: NvidiaTarget, records: list[PassRecord] | None = None, options: CompileOptions | None = None) -> ThreadProgram:
    """Runs the GPU passes; `records`, where given, receives the program after each. The pass configurations are the program's own and those of `options`.

    Raises TileError (threads) for a block of more threads than the target has, and whatever the passes refuse.
    """
    start = perf_counter()
    for launch in program.launches:
        if math.prod(launch.threads) > target.max_threads_per_block:
            fail(
                Kind.THREADS,
                f"a block has {math.prod(launch.threads)} threads",
                launch.span,
                because=f"on {target.name} it has at most {target.max_threads_per_block}",
                help="give threads=128 or 256: each of them does several elements of a tile",
            )
    context = GpuPassContext(target, is_rounding_to_tf32=allows_tf32(program, options))
    lowered = run_passes(program, context, GPU_PASSES, records)
    return ThreadProgram(lowered, context, 1e3 * (perf_counter() - start))
