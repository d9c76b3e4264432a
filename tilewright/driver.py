"""From a traced program to something that can be called: the back end that a target belongs to (floor 8)."""

from __future__ import annotations

from tilewright.backends.compiled import CompiledProgram, StageTimes, Target
from tilewright.backends.cpu import compile_for_cpu
from tilewright.backends.cuda import compile_for_cuda
from tilewright.backends.simulated import compile_for_simulator
from tilewright.backends.targets import resolve_target
from tilewright.ir.program import Program
from tilewright.passes import PassRecord
from tilewright.target.cpu import CpuTarget
from tilewright.target.nvidia import NvidiaTarget
from tilewright.target.simulated import SimulatedTarget

VERSION = "0.1.0"  # also read by pyproject.toml


def compile_program(program: Program, target: Target, records: list[PassRecord] | None = None, program_name: str | None = None) -> CompiledProgram:
    """The program compiled for a target.

    records        receives the program after each pass, where given.
    program_name   the program's fingerprint, where it is known.
    """
    match target:
        case CpuTarget():
            return compile_for_cpu(program, target, records, program_name)
        case NvidiaTarget():
            return compile_for_cuda(program, target, records, program_name)
        case SimulatedTarget():
            return compile_for_simulator(program, target, records)


__all__ = ["VERSION", "CompiledProgram", "StageTimes", "Target", "compile_program", "resolve_target"]
