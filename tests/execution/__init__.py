"""Runs a program compiled and by the reference, and insists that both agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest

import tilewright
from tilewright.backends.compiled import StageTimes
from tilewright.backends.cpu import CpuProgram
from tilewright.backends.cpu_pipeline import Compilation
from tilewright.codegen.llvm.program import PARALLEL_FOR_SYMBOL, emit_program
from tilewright.errors import Kind, TileError
from tilewright.ir.program import Program
from tilewright.kernel import Kernel
from tilewright.language.function import PrimFunc
from tilewright.passes import CPU_PASSES, CpuPass, PassContext, run_passes
from tilewright.runtime.llvm_jit import compile_object, load_object
from tilewright.runtime.pool import shared_pool
from tilewright.target.cpu import host_target

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


def assert_same(found: Array, wanted: Array, tolerance: float = 0.0, what: str = "") -> None:
    """Equal values, NaN with NaN; within `tolerance`, relative to the greatest finite element, where it is not 0."""
    assert found.shape == wanted.shape, f"{what}: {found.shape} is not {wanted.shape}"
    if found.dtype.kind in "biu" and not tolerance:
        wrong = found != wanted
    else:
        a, b = found.astype(np.float64), wanted.astype(np.float64)
        scale = float(np.max(np.abs(b[np.isfinite(b)]), initial=1.0))
        with np.errstate(invalid="ignore"):
            wrong = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= tolerance * scale))
    first = tuple(np.argwhere(wrong)[0]) if wrong.any() else ()
    assert not wrong.any(), f"{what}: {wrong.sum()} of {wrong.size} elements differ; {list(map(int, first))} is {found[first]}, expected {wanted[first]}"


def copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same arguments in memory of their own, with the same strides."""
    return {name: _copied(value) if isinstance(value, np.ndarray) else value for name, value in arguments.items()}


def _copied(array: Array) -> Array:
    if array.flags.c_contiguous:
        return array.copy()
    span = 1 + sum((n - 1) * s // array.itemsize for n, s in zip(array.shape, array.strides, strict=True))
    made = np.lib.stride_tricks.as_strided(np.zeros(span, array.dtype), array.shape, array.strides)
    made[...] = array
    return made


def compile_with(prim_func: PrimFunc, passes: tuple[CpuPass, ...] = CPU_PASSES) -> Kernel:
    """The kernel that the given passes make of a program; with machine code of its own, not from the cache."""
    target = host_target()
    context = PassContext(target)
    lowered = run_passes(prim_func.program, context, passes)
    generated = emit_program(lowered, context.plans, target)
    binary = compile_object(generated.text, target)
    symbols = {PARALLEL_FOR_SYMBOL: shared_pool().parallel_for_address} if PARALLEL_FOR_SYMBOL in generated.text else {}
    code = load_object(binary, generated.entry_name, symbols)
    times = StageTimes(passes_ms=0.0, emission_ms=0.0, machine_code_ms=0.0, link_ms=0.0, total_ms=0.0)
    compiled = CpuProgram(prim_func.program, target, code, binary, times, False, Compilation(lowered, generated, context, 0.0, 0.0), None)
    return Kernel(prim_func, compiled, tuple(k for k, p in enumerate(prim_func.params) if p.is_output))


def call(kernel: Kernel, program: Program, arguments: Mapping[str, Any]) -> Arrays:
    """Calls a kernel on copies of named arguments; every tensor afterwards, by name."""
    own = copied(arguments)
    returned = kernel(*(own[p.name] for k, p in enumerate(program.parameters) if k not in kernel.out_idx))
    outputs = returned if isinstance(returned, list) else [] if returned is None else [returned]
    own |= {program.parameters[k].name: output for k, output in zip(kernel.out_idx, outputs, strict=True)}
    return {name: value for name, value in own.items() if isinstance(value, np.ndarray)}


def run(prim_func: PrimFunc, tolerance: float = 0.0, **arguments: Any) -> Arrays:
    """Every tensor after a compiled run, once it agrees with the reference."""
    found = call(tilewright.compile(prim_func), prim_func.program, arguments)
    expected = tilewright.run_reference(prim_func.program, copied(arguments))
    for name, wanted in expected.items():
        assert_same(found[name], wanted, tolerance, f"{name}, compiled against the reference")
    if SIMULATES.get():
        _simulate_too(prim_func, tolerance, arguments, found)
    return found


# Set by the conftest.py of folders whose programs are run as GPU code as well.
SIMULATES = ContextVar("SIMULATES", default=False)


def _simulate_too(prim_func: PrimFunc, tolerance: float, arguments: Mapping[str, Any], expected: Arrays) -> None:
    """The program as GPU code in the simulator, which finds nothing wrong and agrees; products may be summed in another order."""
    kernel = tilewright.compile(prim_func, target="simulate")
    own = copied(arguments)
    report = kernel.simulate(*(own[p.name] for k, p in enumerate(prim_func.params) if k not in kernel.out_idx))
    assert not report.findings, report.render()
    for name, array in report.outputs.items():
        allowed = tolerance if array.dtype.kind in "biu" else max(tolerance, 1e-5)
        assert_same(array, expected[name], allowed, f"{name}, simulated against compiled")


def refused(kind: Kind, *parts: str) -> Any:
    """A context in which a diagnostic of this kind must be raised; `parts` must stand in its text."""
    return _refused(kind, parts)


@contextmanager
def _refused(kind: Kind, parts: tuple[str, ...]) -> Iterator[None]:
    with pytest.raises(TileError) as caught:
        yield
    assert caught.value.diagnostic.kind is kind, str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def integers(shape: int | tuple[int, ...], dtype: Any = np.float32, low: int = -4, high: int = 5, seed: int = 0) -> Array:
    """Small random integers of any dtype: sums and products of a few of them are exact."""
    made = np.random.default_rng(seed).integers(low, high, shape)
    return made.astype(np.float32).astype(dtype) if np.dtype(dtype).kind not in "iu" else made.astype(dtype)
