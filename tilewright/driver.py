"""From a traced program to a kernel that can be called (floor 8): the only file that knows all floors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import llvmlite

from tilewright.codegen.llvm.program import PARALLEL_FOR_SYMBOL, GeneratedModule, emit_program
from tilewright.codegen.llvm.statements import PRINT_SYMBOL
from tilewright.errors import Kind, fail
from tilewright.ir.program import Program
from tilewright.options import environment
from tilewright.passes import PassContext, PassRecord, run_passes
from tilewright.runtime.cache import cache_key, open_cache
from tilewright.runtime.llvm_jit import LoadedCode, compile_object, load_object
from tilewright.runtime.pool import shared_pool
from tilewright.runtime.printing import PrintTable
from tilewright.spans import span_of_caller
from tilewright.target.cpu import CpuTarget, host_target

VERSION = "0.1.0"  # also read by pyproject.toml
CPU_NAMES = ("cpu", "llvm", "c")
GPU_NAMES = ("cuda", "hip", "metal", "webgpu", "cutedsl", "simulate")


def resolve_target(target: Any) -> CpuTarget:
    """The target meant by a name, a {"kind": ...} dictionary or None ("auto")."""
    name = target.get("kind") if isinstance(target, dict) else target
    if name is None or name == "auto":
        name = environment().default_target
    name = str(name)
    if name in CPU_NAMES:
        return host_target()
    if name in GPU_NAMES or name.startswith(("sm_", "gfx", "cuda")):
        fail(Kind.TARGET_FEATURE, f"the target {name!r} is not supported by this version", span_of_caller(), because="programs are compiled for the CPU of this machine",
             help='leave the target out, or write target="cpu"')
    fail(Kind.TARGET_NAME, f"there is no target {name!r}", span_of_caller(), because=f"known are auto, {', '.join(CPU_NAMES)}", help='write target="cpu"')


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one compilation; `machine_code` is 0 where it came from the disk cache."""

    passes_ms: float
    emission_ms: float
    machine_code_ms: float
    link_ms: float

    @property
    def total_ms(self) -> float:
        return self.passes_ms + self.emission_ms + self.machine_code_ms + self.link_ms


@dataclass(frozen=True, eq=False)
class CompiledProgram:
    """Machine code in memory, and everything that can be looked at."""

    program: Program
    lowered: Program
    generated: GeneratedModule
    code: LoadedCode
    target: CpuTarget
    context: PassContext
    times: StageTimes
    is_from_cache: bool
    object_bytes: bytes
    prints: PrintTable


def compile_program(program: Program, target: CpuTarget, records: list[PassRecord] | None = None) -> CompiledProgram:
    """Runs the passes, generates code and links it; machine code is taken from the disk cache where it is there."""
    start = perf_counter()
    context = PassContext(target)
    lowered = run_passes(program, context, records=records)
    lowered_at = perf_counter()
    generated = emit_program(lowered, context.plans, target)
    emitted_at = perf_counter()
    cache = open_cache()
    key = cache_key({"source": generated.text, "target": json.dumps([target.name, target.llvm_cpu, target.llvm_features, target.triple]), "versions": _versions()})
    found = cache.load(key)
    object_bytes = found["object"] if found is not None else compile_object(generated.text, target)
    if found is None:
        cache.store(key, {"object": object_bytes, "name": program.name.encode()})
    object_at = perf_counter()
    prints = PrintTable(generated.prints, context.plans)
    symbols = {PARALLEL_FOR_SYMBOL: shared_pool().parallel_for_address}
    if generated.prints:
        symbols[PRINT_SYMBOL] = prints.address
    code = load_object(object_bytes, generated.entry_name, symbols)
    end = perf_counter()
    times = StageTimes(*(1e3 * t for t in (lowered_at - start, emitted_at - lowered_at, 0.0 if found else object_at - emitted_at, end - object_at)))
    return CompiledProgram(program, lowered, generated, code, target, context, times, found is not None, object_bytes, prints)


def _versions() -> str:
    return json.dumps({"llvmlite": llvmlite.__version__, "tilewright": VERSION})

