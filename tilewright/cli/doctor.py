"""`tilewright doctor`: what was found on this machine, and the command that fixes what is missing (floor 9)."""

from __future__ import annotations

import difflib
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import click
import numpy as np

import tilewright.language as T
from tilewright.cli.cache import format_size
from tilewright.disk_cache import open_cache
from tilewright.driver import VERSION
from tilewright.jit import compile
from tilewright.options import Environment, environment
from tilewright.runtime.cuda_driver import CudaError, NoCudaError, find_driver
from tilewright.runtime.nvrtc import is_nvrtc_installed, nvrtc_version
from tilewright.runtime.pool import available_cpu_count, shared_pool
from tilewright.runtime.stub import native_stub_obstacle
from tilewright.target.cpu import host_target
from tilewright.target.nvidia import target_for_capability

_PREFIX = "TILEWRIGHT_"
# Environment variable: the field of `Environment` that it sets.
VARIABLES = {
    "TILEWRIGHT_CACHE_DIR": "cache_directory",
    "TILEWRIGHT_CACHE": "is_cache_enabled",
    "TILEWRIGHT_CACHE_MAX_MB": "cache_max_size_bytes",
    "TILEWRIGHT_CHECK": "is_check_enabled",
    "TILEWRIGHT_VERIFY": "is_verify_enabled",
    "TILEWRIGHT_THREADS": "thread_count",
    "TILEWRIGHT_DUMP": "dump_directory",
    "TILEWRIGHT_REPORT_DIR": "report_directory",
    "TILEWRIGHT_TARGET": "default_target",
}


@dataclass(frozen=True)
class Dependency:
    """A package that tilewright imports, or would use if it were there."""

    name: str
    use: str
    fix: str


CORE = tuple(
    Dependency(name, use, f"pip install --upgrade {name}")
    for name, use in (
        ("numpy", "arrays and the reference"),
        ("ml-dtypes", "bfloat16 and fp8"),
        ("llvmlite", "machine code"),
        ("click", "this command"),
        ("rich", "tables"),
        ("platformdirs", "where the cache is"),
    )
)
OPTIONAL = (
    Dependency("torch", "torch tensors as arguments", "pip install 'tilewright[torch]'"),
    Dependency("cuda-bindings", "the driver of NVIDIA GPUs", "pip install 'tilewright[cuda]'"),
    Dependency("nvidia-cuda-nvrtc", "code for NVIDIA GPUs", "pip install 'tilewright[cuda]'"),
    Dependency("nvidia-cuda-nvdisasm", "kernel.sass", "pip install nvidia-cuda-nvdisasm"),
    Dependency("nvidia-ml-py", "clocks beside timings", "pip install nvidia-ml-py"),
    Dependency("pytest", "the tests", "pip install 'tilewright[test]'"),
    Dependency("pytest-xdist", "the tests on all processors", "pip install 'tilewright[test]'"),
    Dependency("hypothesis", "the property tests", "pip install 'tilewright[test]'"),
)


@click.command("doctor")
def doctor() -> None:
    """Show what was found on this machine, and what fixes what is missing. Exit code 1 when kernels cannot be compiled or run."""
    target, pool = host_target(), shared_pool()
    _section("machine")
    _line("tilewright", VERSION)
    _line("python", f"{platform.python_version()} ({sys.executable})")
    _line("platform", platform.platform())
    _line("CPU", f"{target.llvm_cpu}, {available_cpu_count()} processors for this process")
    _line("vectors", f"{target.vector_bytes * 8} bits, {target.register_count} registers")
    _line("features", ", ".join(sorted(feature.value for feature in target.features)) or "none beyond the base")
    _section("packages")
    for dependency in CORE:
        _line(dependency.name, _installed(dependency.name) or f"MISSING ({dependency.use}): {dependency.fix}")
    for dependency in OPTIONAL:
        _line(dependency.name, _installed(dependency.name) or f"not installed ({dependency.use}): {dependency.fix}")
    _section("GPU")
    for name, text in gpu_findings():
        _line(name, text)
    _section("state")
    _line("disk cache", _cache_state())
    _line("worker pool", f"{pool.thread_count} thread{'s' * (pool.thread_count != 1)}")
    obstacle = native_stub_obstacle()
    _line("native call path", f"not used, calls are slower: {obstacle}" if obstacle else "works")
    fault = _fault_of_a_kernel()
    _line("a small kernel", fault or "compiles, runs and gives the right result")
    _section("environment")
    for name, value, origin in variable_states(environment(), os.environ.get):
        _line(name, f"{value} ({origin})")
    for remark in unknown_variables(list(os.environ)):
        click.echo(f"  {remark}")
    if fault:
        raise SystemExit(1)


def gpu_findings() -> list[tuple[str, str]]:
    """Driver, compiler and devices, or why kernels do not run on a GPU here; none of it is needed to compile for one."""
    compiler = f"NVRTC {'.'.join(map(str, nvrtc_version()))}" if is_nvrtc_installed() else "not installed: pip install 'tilewright[cuda]'"
    found = [("compiler", compiler)]
    try:
        driver = find_driver()
        found.append(("driver", f"CUDA {'.'.join(map(str, driver.version()))}"))
        for device in driver.devices():
            target = target_for_capability(device.capability)
            use = f'target="cuda" is {target.name}' if target is not None else "too old for this version"
            what = f"{device.name}, compute capability {'.'.join(map(str, device.capability))}, {format_size(device.memory_bytes)}; {use}"
            found.append((f"device {device.ordinal}", what))
    except NoCudaError as error:
        found.append(("driver", f"none, kernels do not run on a GPU here: {error}; {error.fix}"))
    except CudaError as error:
        found.append(("driver", f"FAILS: {error}"))
    return found


def _section(title: str) -> None:
    click.secho(title, bold=True)


def _line(name: str, text: str) -> None:
    click.echo(f"  {name:<24} {text}")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cache_state() -> str:
    cache = open_cache()
    if cache.directory is None:
        return "no folder is known: set TILEWRIGHT_CACHE_DIR"
    if not cache.is_enabled:
        return f"switched off by TILEWRIGHT_CACHE; the folder would be {cache.directory}"
    entries = cache.entries()
    place = next(folder for folder in (cache.directory, *cache.directory.parents) if folder.exists())
    fault = "" if os.access(place, os.W_OK) else f"; CANNOT BE WRITTEN: chmod u+w {place}"
    return f"{len(entries)} entries, {format_size(sum(entry.size_bytes for entry in entries))} in {cache.directory}{fault}"


def _fault_of_a_kernel() -> str | None:
    """What is wrong with compiling and running a kernel, None where it works."""

    @T.prim_func
    def double(A: T.Tensor((1000,), "float32"), B: T.Tensor((1000,), "float32")) -> None:
        with T.Kernel(T.ceildiv(1000, 64), threads=64) as bx:
            for i in T.Parallel(64):
                B[bx * 64 + i] = 2 * A[bx * 64 + i]

    values = np.arange(1000, dtype=np.float32)
    try:
        result = compile(double, out_idx=[-1])(values)
    except Exception as error:  # whatever stands in the way is what this command is asked for
        return f"FAILS: {error}"
    return None if np.array_equal(result, 2 * values) else "FAILS: the result is wrong; please report it with this output"


def variable_states(settings: Environment, text_of: Callable[[str], str | None]) -> list[tuple[str, str, str]]:
    """Name, value in force and origin of every variable; text that could not be read is named as ignored."""
    default = Environment()
    states = []
    for name, field in VARIABLES.items():
        value, text = getattr(settings, field), text_of(name)
        if not text:
            origin = "default"
        elif value == getattr(default, field) and not _means_default(text, value):
            origin = f"default; {text!r} cannot be read"
        else:
            origin = "environment"
        states.append((name, _describe(field, value), origin))
    return states


def _means_default(text: str, value: object) -> bool:
    """Whether text given for a variable says what its default says."""
    return not (isinstance(value, int) and not isinstance(value, bool)) or text.strip().isdecimal()


def _describe(field: str, value: object) -> str:
    if field.startswith("is_"):
        return "on" if value else "off"
    if field.endswith("_bytes") and isinstance(value, int):
        return format_size(value)
    if field == "thread_count":
        return str(value or "all")
    return "not set" if value is None else str(value)


def unknown_variables(names: list[str]) -> list[str]:
    """A remark on each TILEWRIGHT_* name that means nothing."""
    remarks = []
    known = [name.removeprefix(_PREFIX) for name in VARIABLES]  # the prefix would make all of them alike
    for name in sorted(n for n in names if n.startswith(_PREFIX) and n not in VARIABLES):
        close = difflib.get_close_matches(name.removeprefix(_PREFIX), known, 1)
        remarks.append(f"{name} is set, but is no variable of tilewright" + (f"; did you mean {_PREFIX}{close[0]}?" if close else ""))
    return remarks
