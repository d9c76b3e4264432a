"""Programs for GPUs, executed by the simulator (floor 8)."""

from __future__ import annotations

from tilewright.backends.compiled import CompiledProgram
from tilewright.backends.lowering import lower_to_threads
from tilewright.ir.program import Program
from tilewright.passes import PassRecord
from tilewright.target.simulated import SimulatedTarget


def compile_for_simulator(program: Program, target: SimulatedTarget, records: list[PassRecord] | None = None) -> CompiledProgram:
    """The thread-level program as the simulator runs it."""
    lower_to_threads(program, target.nvidia, records)
    raise NotImplementedError
