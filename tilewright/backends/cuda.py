"""Programs for NVIDIA GPUs: passes, CUDA C++, NVRTC, the disk cache, and what the result can tell (floor 8). Nothing here needs a GPU but a call."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tilewright.backends.compiled import CompiledProgram, CompileOptions, StageTimes
from tilewright.backends.lowering import ThreadProgram, allows_tf32, lower_to_threads
from tilewright.backends.refused_source import explain_refusal
from tilewright.backends.resources import LaunchResources, resources_of
from tilewright.codegen.cuda.module import CudaModule
from tilewright.codegen.cuda.options import options_of
from tilewright.codegen.cuda.program import emit_program
from tilewright.codegen.llvm.launcher import emit_launcher, launcher_name
from tilewright.codegen.slots import slots_of
from tilewright.disk_cache import cache_key, compiler_hash, open_cache
from tilewright.errors import CompilerBug, Kind, fail
from tilewright.ir.fingerprint import fingerprint
from tilewright.ir.memory_use import used_parameters
from tilewright.ir.only_on_gpus import refuse_foreign_code
from tilewright.ir.program import Program
from tilewright.ir.stmt import Assert
from tilewright.ir.visit import statements
from tilewright.options import environment
from tilewright.passes import PassRecord, Remark
from tilewright.passes.round_to_tf32 import with_rounded_products
from tilewright.runtime.cuda_calls import CudaCallPlan, GpuProgram
from tilewright.runtime.cuda_driver import GpuDevice
from tilewright.runtime.cuda_modules import KernelNeeds
from tilewright.runtime.cuda_streams import refuse_while_capturing
from tilewright.runtime.disassemble import disassemble
from tilewright.runtime.llvm_jit import LoadedCode, load_object
from tilewright.runtime.nvrtc import Cubin, compile_cubin
from tilewright.runtime.object_cache import cached_object, describe_target
from tilewright.spans import span_of_caller
from tilewright.target.cpu import host_target
from tilewright.target.nvidia import NVIDIA_TARGETS, NvidiaTarget

if TYPE_CHECKING:
    from tilewright.sim import SimulationOptions, SimulationReport


@dataclass(frozen=True, eq=False)
class CudaCompilation:
    """What the passes and the printer made of a program."""

    threads: ThreadProgram
    module: CudaModule
    emission_ms: float


@dataclass(frozen=True)
class CudaBinary:
    """All that a call needs.

    image      the cubin.
    launcher   the object file of the native code that launches the kernels.
    kernels    in the order of the launches.
    """

    image: bytes
    launcher: bytes
    kernels: tuple[KernelNeeds, ...]


def generate_cuda(program: Program, target: NvidiaTarget, options: CompileOptions, records: list[PassRecord] | None = None) -> CudaCompilation:
    """Runs the passes and prints the source."""
    threads = lower_to_threads(program, target, records, options)
    start = perf_counter()
    module = emit_program(threads.program, target, options_of(threads.program, options.with_flags()))
    if len(module.slots) != len(slots_of(program)):
        raise CompilerBug(f"the kernels of {program.name} take {len(module.slots)} values, but its callers give {len(slots_of(program))}")
    return CudaCompilation(threads, module, 1e3 * (perf_counter() - start))


class CudaProgram(CompiledProgram):
    """A cubin with the native code that launches it, and everything that can be looked at."""

    target: NvidiaTarget

    def __init__(
        self,
        program: Program,
        target: NvidiaTarget,
        options: CompileOptions,
        binary: CudaBinary,
        times: StageTimes,
        is_from_cache: bool,
        compilation: CudaCompilation | None,
    ) -> None:
        self.program, self.target, self.options, self.binary = program, target, options, binary
        self.times, self.is_from_cache = times, is_from_cache
        if compilation is not None:
            self.compilation = compilation

    @cached_property
    def compilation(self) -> CudaCompilation:
        return generate_cuda(self.program, self.target, self.options)

    def for_reference(self, program: Program) -> Program:
        return with_rounded_products(program) if allows_tf32(self.program, self.options) else program

    @property
    def lowered(self) -> Program:
        return self.compilation.threads.program

    @property
    def remarks(self) -> tuple[Remark, ...]:
        return tuple(self.compilation.threads.context.remarks)

    @property
    def source(self) -> str:
        """CUDA C++."""
        return self.compilation.module.text

    @cached_property
    def cubin(self) -> Cubin:
        """What NVRTC made of the source; from the disk cache in most cases."""
        module = self.compilation.module
        return compile_module(module, self.target)

    @property
    def ptx(self) -> str:
        return self.cubin.ptx

    @cached_property
    def sass(self) -> str:
        return disassemble(self.binary.image)

    def simulate(self, arguments: tuple[Any, ...], outputs: tuple[int, ...], options: SimulationOptions | None) -> SimulationReport:
        """Runs the program that was printed as CUDA C++."""
        refuse_foreign_code(self.program, "the simulator")
        report: SimulationReport = import_module("tilewright.backends.simulated").simulate_call(self.program, self.lowered, arguments, outputs, options)
        return report

    def export(self, path: Path) -> None:
        if path.suffix == ".cubin":
            path.write_bytes(self.binary.image)
        elif path.suffix == ".ptx":
            path.write_text(self.ptx)
        else:
            self.cannot_write(path, (".cubin", ".ptx"))

    def resources(self, architecture: str | None = None) -> tuple[LaunchResources, ...]:
        """One entry per launch; for another architecture the program is compiled again.

        Raises TileError (target-feature) for an unknown architecture.
        """
        if architecture is None or architecture == self.target.name:
            return resources_of(self.compilation.module, self.cubin, self.target)
        target = NVIDIA_TARGETS.get(architecture)
        if target is None:
            fail(
                Kind.TARGET_FEATURE,
                f"the architecture {architecture!r} is not supported by this version",
                span_of_caller(),
                because=f"known are {', '.join(NVIDIA_TARGETS)}",
                help="name one of them",
            )
        module = generate_cuda(self.program, target, self.options).module
        return resources_of(module, compile_module(module, target), target)

    def image_for(self, device: GpuDevice) -> bytes:
        """The cubin for a device: our own, or the same source assembled for a later architecture.

        Raises TileError (target-feature) where the code cannot run there.
        """
        wanted, found = self.target.capability, device.capability
        is_exact = self.target.name.endswith("a")
        if found == wanted or (found[0] == wanted[0] and found > wanted and not is_exact):
            return self.binary.image
        if found < wanted or is_exact:
            fail(
                Kind.TARGET_FEATURE,
                f"{self.program.name} was compiled for {self.target.name}, but {device.name} has compute capability {'.'.join(map(str, found))}",
                span_of_caller(),
                because="its instructions exist on that architecture alone" if is_exact else "its instructions are those of a later architecture",
                help='compile it with target="cuda" on this machine',
            )
        module = self.compilation.module
        return compile_module(module, replace(self.target, name=f"sm_{found[0]}{found[1]}")).image

    def call_plan(self, outputs: tuple[int, ...]) -> CudaCallPlan:
        written, unused = used_parameters(self.program)
        asserts = self.compilation.module.asserts if _has_asserts(self.program) else ()
        gpu = GpuProgram(self.program, slots_of(self.program), self._launcher, self.image_for, self.binary.kernels, asserts)
        return CudaCallPlan(gpu, written=written, unused=unused, outputs=outputs)

    def _launcher(self, symbols: dict[str, int]) -> LoadedCode:
        return load_object(self.binary.launcher, launcher_name(self.program), symbols)


def compile_for_cuda(
    program: Program,
    target: NvidiaTarget,
    records: list[PassRecord] | None = None,
    program_name: str | None = None,
    options: CompileOptions | None = None,
) -> CudaProgram:
    """A cubin for a program: from the disk cache where it is there, else through the passes, the printer and NVRTC.

    program_name   the program's fingerprint, where it is known.
    Raises TileError for mistakes in the program, graph-capture while a CUDA graph is being captured, cuda-missing without NVRTC.
    """
    refuse_while_capturing(f"{program.name} was compiled")
    start = perf_counter()
    options = options or CompileOptions()
    # What a program asserts is reported through a table that only the passes can make.
    is_findable = environment().is_cache_enabled and records is None and not _has_asserts(program)
    key = _trace_key(program_name or fingerprint(program), target, options) if is_findable else None
    found = open_cache().load(key) if key is not None else None
    if found is not None and found.keys() == {"image", "launcher", "kernels"}:
        kernels = tuple(KernelNeeds(**kernel) for kernel in json.loads(found["kernels"]))
        times = StageTimes(0.0, 0.0, 0.0, 0.0, 1e3 * (perf_counter() - start))
        return CudaProgram(program, target, options, CudaBinary(found["image"], found["launcher"], kernels), times, True, None)
    compilation = generate_cuda(program, target, options, records)
    module = compilation.module
    before = perf_counter()
    cubin = compile_module(module, target)
    machine_code_ms = 0.0 if cubin.is_from_cache else 1e3 * (perf_counter() - before)
    before = perf_counter()
    launcher, _ = cached_object(emit_launcher(program, module, host_target()), host_target())
    end = perf_counter()
    kernels = tuple(KernelNeeds(k.entry_name, k.dynamic_shared_bytes, k.cluster[0] * k.cluster[1] * k.cluster[2]) for k in module.kernels)
    if key is not None:
        described = json.dumps([asdict(kernel) for kernel in kernels]).encode()
        open_cache().store(key, {"image": cubin.image, "launcher": launcher, "kernels": described})
    times = StageTimes(compilation.threads.passes_ms, compilation.emission_ms, machine_code_ms, 1e3 * (end - before), 1e3 * (end - start))
    made = CudaProgram(program, target, options, CudaBinary(cubin.image, launcher, kernels), times, cubin.is_from_cache, compilation)
    made.cubin = cubin
    return made


def compile_module(module: CudaModule, target: NvidiaTarget) -> Cubin:
    """Machine code. Raises TileError (extern-source, compile-flags) for what the user gave the compiler, CompilerBug where the fault is ours."""
    explain = functools.partial(explain_refusal, module) if module.sources or module.foreign else None
    return compile_cubin(module.text, target, module.flags, explain)


def _has_asserts(program: Program) -> bool:
    return any(isinstance(stmt, Assert) for launch in program.launches for stmt in statements(launch.body))


@functools.cache
def _nvrtc_release() -> str:
    """The release of the wheel, which is known without loading the library."""
    for name in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu13", "nvidia-cuda-nvrtc-cu12"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""


def _trace_key(program_name: str, target: NvidiaTarget, options: CompileOptions) -> str:
    return cache_key(
        {
            "gpu program": program_name,
            "compiler": compiler_hash(),
            "target": target.name,
            "options": options.text(),
            "nvrtc": _nvrtc_release(),
            "host": f"{host_target().name} {describe_target(host_target())}",
        }
    )
