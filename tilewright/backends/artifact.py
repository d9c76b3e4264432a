"""A compiled program as parts that can be looked at (floor 8; language.md 13): what `tilewright.lower` gives."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.compiled import CompiledProgram
from tilewright.ir.printer import print_program
from tilewright.ir.program import Parameter, Program


@dataclass(frozen=True, eq=False)
class LoweredModule:
    """One side of a compiled program: its statements after all passes, and the generated text."""

    program: Program
    source: str

    def script(self) -> str:
        """The statements as text."""
        return print_program(self.program)

    def get_source(self) -> str:
        """The generated text."""
        return self.source


@dataclass(frozen=True, eq=False)
class CompiledArtifact:
    """What a program was compiled to, without the means to call it.

    kernel_source          LLVM IR for CPUs, CUDA C++ for GPUs.
    host_mod, device_mod   the lowered program; the code of both sides is generated as one, so that both are the same.
    params                 the parameters, in order.
    """

    kernel_source: str
    host_mod: LoweredModule
    device_mod: LoweredModule
    params: tuple[Parameter, ...]

    @classmethod
    def of(cls, compiled: CompiledProgram) -> CompiledArtifact:
        """The parts of a compiled program."""
        module = LoweredModule(compiled.lowered, compiled.source)
        return cls(module.source, module, module, compiled.program.parameters)
