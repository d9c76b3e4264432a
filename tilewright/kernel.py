"""A compiled kernel (floor 8): call it, look into it, time it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tilewright.backends.artifact import CompiledArtifact
from tilewright.driver import CompiledProgram, CompileOptions, Target, compile_program
from tilewright.errors import CompilerBug, Kind, Label, TileError, fail
from tilewright.ir.printer import print_program
from tilewright.ir.program import Parameter
from tilewright.language.function import PrimFunc
from tilewright.options import environment
from tilewright.profiler import Profiler, TensorSupplyType
from tilewright.runtime.host_arrays import as_array
from tilewright.spans import span_of_caller
from tilewright.target.nvidia import NvidiaTarget

if TYPE_CHECKING:
    from tilewright.passes import Remark
    from tilewright.sim import SimulationOptions, SimulationReport


class Kernel:
    """What `tilewright.compile` gives.

    Calling it takes the parameters in order, outputs left out: numpy arrays, torch tensors, cupy arrays, anything with `__dlpack__`, where the target
    is; numbers for scalars. It returns one output as a tensor of the caller's framework, several as a list, None where there is none.
    """

    def __init__(self, prim_func: PrimFunc, compiled: CompiledProgram, out_idx: tuple[int, ...]) -> None:
        self.prim_func, self.compiled, self.out_idx = prim_func, compiled, out_idx
        self._is_checked = environment().is_check_enabled  # once: reading the environment takes longer than a launch
        self.latency: float | None = None
        self.config: Any = None
        self.ref_latency: float | None = None

    def __call__(self, *args: Any, stream: Any = None) -> Any:
        """Runs the kernel; on a GPU on the current stream of torch or cupy, or on `stream`."""
        try:
            if stream is not None:
                return self._on_gpu("stream=")(*args, stream=stream)
            return check_call(self, args) if self._is_checked else self._plan(*args)
        except TileError as error:
            error.add_call(span_of_caller())
            raise

    def __deepcopy__(self, memo: Any) -> Kernel:
        """The kernel itself: nothing in it changes, and a model that holds one may be copied."""
        return self

    def bind(self, *args: Any, stream: Any = None) -> Callable[[], Any]:
        """The call of a GPU kernel with these arguments, checked and packed once: each `()` is a launch and nothing else.

        Outputs are allocated once, and returned by every call. Without `stream`, each launch is on the stream that is current then.
        """
        try:
            bound: Callable[[], Any] = self._on_gpu("bind").bind(*args, stream=stream)
        except TileError as error:
            error.add_call(span_of_caller())
            raise
        return bound

    def _on_gpu(self, what: str) -> Any:
        """The plan of a kernel for a GPU. Raises TileError (target-feature) for others; `what` is what only GPUs have."""
        if not isinstance(self.compiled.target, NvidiaTarget):
            self.compiled.has_no(what, "an NVIDIA GPU")
        return self._plan

    @cached_property
    def _plan(self) -> Callable[..., Any]:
        """Made by the first call: many kernels of a search are compiled and never called."""
        return self.compiled.call_plan(self.out_idx)

    def __repr__(self) -> str:
        return f"<kernel {self.prim_func.name} for {self.compiled.target.name}>"

    @property
    def params(self) -> tuple[Parameter, ...]:
        return self.prim_func.params

    @property
    def target(self) -> Target:
        return self.compiled.target

    @property
    def source(self) -> str:
        """The generated source: LLVM IR for CPUs, CUDA C++ for GPUs."""
        return self.compiled.source

    kernel_source = host_source = source

    @property
    def assembly(self) -> str:
        """The machine code of a CPU kernel as text."""
        return self.compiled.assembly

    @property
    def ptx(self) -> str:
        """The PTX of a GPU kernel."""
        return self.compiled.ptx

    @property
    def sass(self) -> str:
        """The machine code of a GPU kernel as text."""
        return self.compiled.sass

    def resources(self, architecture: str | None = None) -> Any:
        """Registers, spills, shared memory and occupancy of each launch of a GPU kernel, on its own or another architecture. Needs no GPU."""
        return self.compiled.resources(architecture)

    def simulate(self, *args: Any, options: SimulationOptions | None = None) -> SimulationReport:
        """Runs a kernel for a GPU, or for the target "simulate", on copies of the arguments in host memory, without a GPU: what it computes, what is
        wrong with it, how it uses memory."""
        return self.compiled.simulate(args, self.out_idx, options)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """Choices that the compiler made."""
        return self.compiled.remarks

    def ir(self, stage: str = "tile") -> str:
        """The program as text: "tile" as traced, "lowered" after all passes."""
        if stage not in ("tile", "lowered"):
            fail(
                Kind.OPTION_VALUE,
                f"there is no stage {stage!r}",
                None,
                because='known are "tile" and "lowered"',
                help="tilewright inspect shows the program after each pass",
            )
        return print_program(self.compiled.program if stage == "tile" else self.compiled.lowered)

    def get_kernel_source(self, kernel_only: bool = True) -> str:
        """The generated source."""
        return self.source

    def get_host_source(self) -> str:
        """The host side is part of the generated source: the entry function."""
        return self.source

    def show_source(self, which: str = "kernel") -> None:
        print(self.source)

    def export_sources(self, kernel_path: str | None = None, host_path: str | None = None) -> None:
        """Writes the generated source to files."""
        for path in (kernel_path, host_path):
            if path is not None:
                Path(path).write_text(self.source)

    def print_source_code(self, which: str = "kernel", file: str | None = None) -> None:
        """The older spelling of `show_source`; `file`, where given, receives the source instead."""
        warnings.warn("print_source_code is deprecated: use show_source or export_sources", DeprecationWarning, stacklevel=2)
        if file is None:
            self.show_source(which)
        else:
            self.export_sources(file)

    @cached_property
    def artifact(self) -> CompiledArtifact:
        """The parts that the program was compiled to."""
        return CompiledArtifact.of(self.compiled)

    @property
    def adapter(self) -> Callable[..., Any]:
        """The native call that stands behind this kernel: the same arguments and results, without the options of `__call__`."""
        return self._plan

    def export_library(self, path: str | Path) -> Path:
        """Writes the machine code to a file, and gives its path.

        .o, .so, .dylib   of a CPU kernel: one C function of the program's name (`tilewright.backends.cpu_library`).
        .cubin, .ptx      of a GPU kernel, for the CUDA driver: one function per launch, named as in `resources()`.
        Raises TileError (option-value) for another suffix.
        """
        self.compiled.export(Path(path))
        return Path(path)

    def update_tuner_result(self, latency: float, config: Any, ref_latency: float | None) -> Kernel:
        """Notes what a search measured: milliseconds of this kernel, its configuration, milliseconds of the reference. Gives the kernel."""
        self.latency, self.config, self.ref_latency = latency, config, ref_latency
        return self

    def get_tuner_result(self) -> dict[str, Any]:
        """`latency`, `config` and `ref_latency` of a search. Raises TileError (option-value) for a kernel that no search has measured."""
        if self.latency is None:
            fail(
                Kind.OPTION_VALUE,
                f"the kernel {self.prim_func.name} was not tuned",
                span_of_caller(),
                because="a search by @tilewright.autotune or AutoTuner measures it",
                help="ask the kernel that the search returned",
            )
        return {"latency": self.latency, "config": self.config, "ref_latency": self.ref_latency}

    @property
    def resource_usage(self) -> Any:
        """The same as `resources()`."""
        return self.resources()

    @property
    def n_regs(self) -> int:
        """Registers of a thread of a GPU kernel; the most of any launch."""
        return max(launch.registers for launch in self.resources())

    @property
    def n_spills(self) -> int:
        """Bytes of spill stores and loads of a thread of a GPU kernel; the most of any launch."""
        return max(launch.spill_store_bytes + launch.spill_load_bytes for launch in self.resources())

    def get_profiler(self, tensor_supply_type: TensorSupplyType = TensorSupplyType.Auto) -> Profiler:
        """A profiler that makes inputs for this kernel."""
        return Profiler(self, self.params, self.out_idx, tensor_supply_type)

    def run_once(self, func: Any = None) -> Any:
        """One call on made-up inputs."""
        return self.get_profiler().run_once(func)


def make_kernel(prim_func: PrimFunc, target: Target, out_idx: tuple[int, ...], options: CompileOptions | None = None) -> Kernel:
    """Compiles a traced function."""
    compiled = compile_program(prim_func.program, target, program_name=prim_func.fingerprint, options=options)
    prim_func.keep()
    return Kernel(prim_func, compiled, out_idx)


# What the reference finds in a program that must not run then: it would write to memory of something else, or wait for ever.
_UNSAFE = frozenset(
    {Kind.INDEX_RANGE, Kind.PARALLEL_RACE, Kind.THREAD_RACE, Kind.DIVERGENT_BARRIER, Kind.DIVERGENT_OPERATION, Kind.BARRIER_THREADS, Kind.WARP_MASK}
)


def check_call(kernel: Kernel, args: Sequence[Any]) -> Any:
    """TILEWRIGHT_CHECK=1: runs the reference on copies of the arguments, then the kernel, and compares everything that it wrote.

    Raises TileError (check-mismatch) naming the tensor, the first differing element and both values; what the reference finds wrong with the program,
    such as an index outside a tile (index-range), before the kernel runs.
    """
    program = kernel.compiled.for_reference(kernel.prim_func.program)
    inputs = [p for k, p in enumerate(program.parameters) if k not in kernel.out_idx]
    # Parameters named by out_idx alone are the reference's to allocate, like those made by T.empty.
    program = replace(program, parameters=tuple(replace(p, is_output=k in kernel.out_idx) for k, p in enumerate(program.parameters)))
    try:
        before = {p.name: as_array(a) for p, a in zip(inputs, args, strict=True)}
        expected = import_module("tilewright.reference").run_reference(program, {n: a.copy() if isinstance(a, np.ndarray) else a for n, a in before.items()})
    except CompilerBug:
        raise
    except Exception as error:
        if not isinstance(error, TileError) or error.diagnostic.kind not in _UNSAFE:
            kernel._plan(*args)  # a mistake in the arguments, or a failed assertion, is reported as it is without the check
        raise
    result = kernel._plan(*args)
    outputs = [] if result is None else list(result) if isinstance(result, list) else [result]
    found = {program.parameters[k].name: as_array(o) for k, o in zip(kernel.out_idx, outputs, strict=True)}
    found |= {p.name: as_array(a) for p, a in zip(inputs, args, strict=True) if p.buffer is not None and a is not None}
    for parameter in program.parameters:
        if parameter.name in found and parameter.name in expected:
            _compare(parameter, expected[parameter.name], found[parameter.name])
    return result


def _compare(parameter: Parameter, expected: Any, found: Any) -> None:
    assert parameter.buffer is not None
    dtype = parameter.buffer.dtype
    want, got = np.asarray(expected), np.asarray(found)
    if want.shape != got.shape:
        return
    if dtype.is_float:
        # The order of sums is free: allow the error of a long sum in the narrowest type on the way.
        precision = 2.0 ** -max(dtype.mantissa_bits, 1)
        a, b = want.astype(np.float64), got.astype(np.float64)
        scale = np.nanmax(np.abs(a[np.isfinite(a)]), initial=1.0)
        wrong = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= precision * 8 * np.abs(a) + max(precision, 1e-6) * 8 * scale))
    else:
        wrong = want != got
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        count = f"{int(wrong.sum())} of {wrong.size} elements differ"
        fail(
            Kind.CHECK_MISMATCH,
            f"{parameter.name}{list(first)} is {got[first]} from the compiled kernel but {want[first]} from the reference; {count}",
            (Label(parameter.span, "this tensor"),),
            because="TILEWRIGHT_CHECK=1 compares every call with the reference interpreter",
            help="if the program reads elements that it never wrote, write them first; otherwise this is a fault of the compiler: please report it",
        )
