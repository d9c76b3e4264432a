"""Programs for GPUs, executed by the simulator (floor 8)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from tilewright.backends.compiled import CompiledProgram, CompileOptions, StageTimes
from tilewright.backends.lowering import ThreadProgram, lower_to_threads
from tilewright.codegen.llvm.program import slots_of
from tilewright.errors import TileError
from tilewright.ir.memory_use import used_parameters
from tilewright.ir.only_on_gpus import refuse_foreign_code
from tilewright.ir.printer import print_program
from tilewright.ir.program import Program
from tilewright.passes import PassRecord, Remark
from tilewright.passes.round_to_tf32 import with_rounded_products
from tilewright.runtime.argument_checks import Callee
from tilewright.runtime.call_reader import CallReader
from tilewright.runtime.host_arrays import as_array
from tilewright.runtime.nibbles import pack_nibbles
from tilewright.sim import SimulationOptions, SimulationReport, simulate
from tilewright.target.simulated import SimulatedTarget

Collect = Callable[[str, SimulationReport], None]
_checking: ContextVar[tuple[SimulationOptions, Collect] | None] = ContextVar("tilewright_checking", default=None)


@contextmanager
def reports_go_to(collect: Collect, options: SimulationOptions) -> Iterator[None]:
    """Inside, calls of simulated kernels run with these options, and hand over their name and report instead of raising what was found."""
    token = _checking.set((options, collect))
    try:
        yield
    finally:
        _checking.reset(token)


class SimulatedProgram(CompiledProgram):
    """A thread-level program that the simulator runs."""

    target: SimulatedTarget

    def __init__(self, program: Program, target: SimulatedTarget, threads: ThreadProgram, times: StageTimes) -> None:
        self.program, self.target, self.threads, self.times = program, target, threads, times
        self.is_from_cache = False

    def for_reference(self, program: Program) -> Program:
        return with_rounded_products(program) if self.threads.context.is_rounding_to_tf32 else program

    @property
    def lowered(self) -> Program:
        return self.threads.program

    @property
    def remarks(self) -> tuple[Remark, ...]:
        return tuple(self.threads.context.remarks)

    @property
    def source(self) -> str:
        """The thread-level program as text."""
        return print_program(self.lowered)

    def call_plan(self, outputs: tuple[int, ...]) -> Callable[..., Any]:
        return SimulatedPlan(self.program, self.lowered, outputs)

    def simulate(self, arguments: tuple[Any, ...], outputs: tuple[int, ...], options: SimulationOptions | None) -> SimulationReport:
        return simulate_call(self.program, self.lowered, arguments, outputs, options)


def compile_for_simulator(
    program: Program, target: SimulatedTarget, records: list[PassRecord] | None = None, options: CompileOptions | None = None
) -> SimulatedProgram:
    """The thread-level program as the simulator runs it."""
    start = perf_counter()
    refuse_foreign_code(program, "the simulator")
    threads = lower_to_threads(program, target.nvidia, records, options)
    return SimulatedProgram(program, target, threads, StageTimes(threads.passes_ms, 0.0, 0.0, 0.0, 1e3 * (perf_counter() - start)))


def simulate_call(
    program: Program, lowered: Program, arguments: tuple[Any, ...], outputs: tuple[int, ...], options: SimulationOptions | None
) -> SimulationReport:
    """Runs `lowered`, which `program` became, on copies of the arguments: its parameters in order without those at the positions `outputs`."""
    inputs = [p for k, p in enumerate(program.parameters) if k not in outputs]
    named = {p.name: as_array(a) for p, a in zip(inputs, arguments, strict=True)}
    # Parameters named by out_idx alone are the simulator's to allocate, like those made by T.empty.
    made = replace(lowered, parameters=tuple(replace(p, is_output=k in outputs) for k, p in enumerate(lowered.parameters)))
    return simulate(made, named, options)


class SimulatedPlan:
    """A simulated kernel as a function of positional arguments, with the checks of a compiled one.

    Raises TileError for the first thing that the simulator finds wrong, CompilerBug where only the compiler can have caused it.
    """

    def __init__(self, program: Program, lowered: Program, outputs: tuple[int, ...]) -> None:
        self._program, self._lowered, self._positions = program, lowered, outputs
        self._outputs = tuple(program.parameters[k] for k in outputs)
        inputs = tuple(p for p in program.parameters if p not in self._outputs)
        written, unused = used_parameters(program)
        self._written = [k for k, p in enumerate(inputs) if p.name in written]
        self._inputs = inputs
        callee = Callee(program.name, program.span, program.parameters, inputs, frozenset(written), frozenset(unused))
        self._reader = CallReader(program, callee, slots_of(program), self._outputs)

    def __call__(self, *arguments: Any) -> Any:
        _, checked = self._reader.read(arguments)
        options, collect = _checking.get() or (SimulationOptions(is_counting=False), None)
        report = simulate_call(self._program, self._lowered, arguments, self._positions, options)
        if collect is not None:
            collect(self._program.name, report)
        elif report.findings:
            raise_finding(report)
        for position in self._written:
            _write(as_array(arguments[position]), report.outputs.get(self._inputs[position].name))
        like = None if checked.first_tensor is None else arguments[checked.first_tensor]
        results = []
        for parameter, shape, dtype, allocate in zip(self._outputs, checked.output_shapes, self._reader.output_dtypes, checked.allocators, strict=True):
            output, array = allocate(), report.outputs[parameter.name]
            octets = np.ascontiguousarray(pack_nibbles(array) if dtype.is_packed else array).tobytes()
            ctypes.memmove(checked.framework.address(output), octets, len(octets))
            results.append(checked.framework.finish(output, shape, dtype, like))
        return (results[0] if len(results) == 1 else results) if results else None


def _write(target: Any, values: Any) -> None:
    """Results go to where the caller's tensor lies."""
    if isinstance(target, np.ndarray) and values is not None and target.size:
        target.view(values.dtype if target.dtype.itemsize == values.dtype.itemsize else target.dtype)[...] = values


def raise_finding(report: SimulationReport) -> None:
    """Raises the first finding as an error; the others are notes."""
    first, *others = report.findings
    error = first.as_error()
    if isinstance(error, TileError):
        error.diagnostic = replace(error.diagnostic, notes=tuple(f"also {o.kind.value}: {o.diagnostic.message}" for o in others[:5]))
    raise error
