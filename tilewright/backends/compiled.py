"""What every back end gives: a compiled program that can be called and looked at (floor 8)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tilewright.errors import Kind, fail
from tilewright.ir.program import Program
from tilewright.pass_configs import PassConfigKey
from tilewright.spans import span_of_caller
from tilewright.target.cpu import CpuTarget
from tilewright.target.nvidia import NvidiaTarget
from tilewright.target.simulated import SimulatedTarget

if TYPE_CHECKING:
    from tilewright.passes import Remark
    from tilewright.sim import SimulationOptions, SimulationReport

Target = CpuTarget | NvidiaTarget | SimulatedTarget


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one compilation; what the disk cache saved is 0. The total includes looking into the cache."""

    passes_ms: float
    emission_ms: float
    machine_code_ms: float
    link_ms: float
    total_ms: float


@dataclass(frozen=True)
class CompileOptions:
    """What a caller asks of the compiler of one program; the CPU needs none of it.

    pass_configs    keys of PassConfigKey and their values.
    compile_flags   more options for the compiler of the generated source.
    """

    pass_configs: tuple[tuple[str, object], ...] = ()
    compile_flags: tuple[str, ...] = ()

    @classmethod
    def of(cls, pass_configs: Mapping[Any, Any] | None, compile_flags: Any) -> CompileOptions:
        """The options as `tilewright.compile` is given them."""
        configs = {str(getattr(key, "value", key)): value for key, value in (pass_configs or {}).items()}
        flags = compile_flags.split() if isinstance(compile_flags, str) else map(str, compile_flags or ())
        return cls(tuple(sorted(configs.items(), key=lambda item: item[0])), tuple(flags))

    def with_flags(self) -> dict[str, object]:
        """The pass configurations, the flags among them."""
        configs, key = dict(self.pass_configs), PassConfigKey.TL_DEVICE_COMPILE_FLAGS.value
        given = configs.get(key, ())
        flags = [*(given.split() if isinstance(given, str) else given if isinstance(given, (list, tuple)) else ()), *self.compile_flags]
        return configs | {key: flags} if flags else configs

    def text(self) -> str:
        """The same for equal options, in every process."""
        return repr((self.pass_configs, self.compile_flags))


class CompiledProgram(ABC):
    """A program compiled for one target. What the code alone does not need is made when it is asked for.

    program         as traced.
    times           of this compilation.
    is_from_cache   whether the machine code came from the disk.
    """

    program: Program
    target: Target
    times: StageTimes
    is_from_cache: bool

    @property
    @abstractmethod
    def lowered(self) -> Program:
        """The program after all passes."""

    @property
    @abstractmethod
    def remarks(self) -> tuple[Remark, ...]:
        """Choices that the passes made."""

    @property
    @abstractmethod
    def source(self) -> str:
        """The generated text that machine code is made from."""

    @abstractmethod
    def call_plan(self, outputs: tuple[int, ...]) -> Callable[..., Any]:
        """The program as a function of its parameters in order, those at the positions `outputs` left out and returned."""

    def for_reference(self, program: Program) -> Program:
        """The program as the reference is to run it beside this one: with what the caller's options change in the results."""
        return program

    # -- what only some targets have
    @property
    def assembly(self) -> str:
        """The machine code as text."""
        self.has_no("assembly", "the CPU")

    @property
    def ptx(self) -> str:
        """The virtual assembly of NVIDIA GPUs."""
        self.has_no("PTX", "an NVIDIA GPU")

    @property
    def sass(self) -> str:
        """The machine code of an NVIDIA GPU as text."""
        self.has_no("SASS", "an NVIDIA GPU")

    def resources(self, architecture: str | None = None) -> Any:
        """What a block of each launch needs."""
        self.has_no("resources", "an NVIDIA GPU")

    def simulate(self, arguments: tuple[Any, ...], outputs: tuple[int, ...], options: SimulationOptions | None) -> SimulationReport:
        """Runs the thread-level program in the simulator; the arguments are the parameters in order without those at the positions `outputs`."""
        self.has_no("threads to simulate", "an NVIDIA GPU or the simulator")

    def export(self, path: Path) -> None:
        """Writes the machine code to a file whose suffix says in which form."""
        self.cannot_write(path, ())

    def cannot_write(self, path: Path, suffixes: tuple[str, ...]) -> NoReturn:
        fail(
            Kind.OPTION_VALUE,
            f"a kernel for {self.target.name} cannot be written to {path.name!r}",
            span_of_caller(),
            because=f"the suffix says what is written: {', '.join(suffixes)}" if suffixes else "it has no machine code",
            help=f'write kernel.export_library("kernel{suffixes[0]}")' if suffixes else "compile it for the CPU or a GPU",
        )

    def has_no(self, what: str, owner: str) -> NoReturn:
        fail(
            Kind.TARGET_FEATURE,
            f"a kernel for {self.target.name} has no {what}",
            span_of_caller(),
            because=f"only kernels for {owner} have it",
            help=f"compile it for {owner}",
        )
