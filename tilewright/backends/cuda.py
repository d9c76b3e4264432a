"""Programs for NVIDIA GPUs (floor 8)."""

from __future__ import annotations

from tilewright.backends.compiled import CompiledProgram
from tilewright.backends.lowering import lower_to_threads
from tilewright.ir.program import Program
from tilewright.passes import PassRecord
from tilewright.runtime.cuda_streams import refuse_while_capturing
from tilewright.target.nvidia import NvidiaTarget


def compile_for_cuda(program: Program, target: NvidiaTarget, records: list[PassRecord] | None = None, program_name: str | None = None) -> CompiledProgram:
    """A cubin for a program."""
    refuse_while_capturing(f"{program.name} was compiled")
    lower_to_threads(program, target, records)
    raise NotImplementedError
