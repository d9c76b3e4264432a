"""From a traced program to something that can be called: the back end that a target belongs to (floor 8)."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tilewright.backends.compiled import CompiledProgram, CompileOptions, StageTimes, Target
from tilewright.backends.targets import resolve_target
from tilewright.ir.program import Program
from tilewright.source_hash import note_late_import
from tilewright.target.cpu import CpuTarget
from tilewright.target.nvidia import NvidiaTarget
from tilewright.target.simulated import SimulatedTarget

if TYPE_CHECKING:
    from tilewright.passes import PassRecord

VERSION = "0.1.0"  # also read by pyproject.toml

# A back end is imported when it is first used: programs import tilewright far more often than they compile, and for one family of targets only.
_BACKENDS = {
    CpuTarget: ("tilewright.backends.cpu", "compile_for_cpu"),
    NvidiaTarget: ("tilewright.backends.cuda", "compile_for_cuda"),
    SimulatedTarget: ("tilewright.backends.simulated", "compile_for_simulator"),
}


def compile_program(
    program: Program, target: Target, records: list[PassRecord] | None = None, program_name: str | None = None, options: CompileOptions | None = None
) -> CompiledProgram:
    """The program compiled for a target.

    records        receives the program after each pass, where given.
    program_name   the program's fingerprint, where it is known.
    options        what the caller asks of compilers of GPU code; the CPU's has no use for it.
    """
    compile_for = load_back_end(target)
    named: dict[str, Any] = {} if isinstance(target, SimulatedTarget) else {"program_name": program_name}
    if isinstance(target, (NvidiaTarget, SimulatedTarget)):
        named["options"] = options
    compiled: CompiledProgram = compile_for(program, target, records, **named)
    return compiled


def load_back_end(target: Target) -> Any:
    """The function that compiles for a target; the first call for a family of targets imports its back end."""
    return _back_end(*_BACKENDS[type(target)])


@cache
def _back_end(module: str, function: str) -> Any:
    found = getattr(import_module(module), function)
    note_late_import()
    return found


__all__ = ["VERSION", "CompileOptions", "CompiledProgram", "StageTimes", "Target", "compile_program", "load_back_end", "resolve_target"]
