"""CUDA source to machine code, in process, with the NVRTC wheel; no GPU and no driver is needed (floor 7)."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilewright.disk_cache import cache_key, open_cache
from tilewright.errors import CompilerBug, Kind, fail
from tilewright.options import environment
from tilewright.spans import span_of_caller
from tilewright.target.nvidia import NvidiaTarget

INSTALL_COMMAND = "pip install 'tilewright[cuda]'"
_SOURCE_NAME = "kernel.cu"
Explain = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KernelResources:
    """What ptxas says that one kernel takes, per thread but for shared memory.

    registers           32-bit registers.
    spill_store_bytes, spill_load_bytes   code that moves registers to and from local memory.
    stack_bytes         local memory: spilled registers and arrays with unknown indices.
    static_shared_bytes shared memory that the source declares with a size.
    """

    registers: int
    spill_store_bytes: int
    spill_load_bytes: int
    stack_bytes: int
    static_shared_bytes: int


@dataclass(frozen=True)
class Cubin:
    """Machine code of a module for one architecture.

    image       an ELF file that the driver loads.
    resources   by name of the kernel.
    log         what the compilers said, "" where nothing.
    """

    image: bytes
    ptx: str
    resources: dict[str, KernelResources]
    log: str
    is_from_cache: bool = False


def load_nvrtc() -> Any:
    """The bindings of NVRTC. Raises TileError (cuda-missing) where they, or the library, are not installed."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except Exception as error:
        fail(
            Kind.CUDA_MISSING,
            "code for NVIDIA GPUs needs the compiler NVRTC, which is not installed",
            span_of_caller(),
            because=f"{type(error).__name__}: {error}".splitlines()[0],
            help=INSTALL_COMMAND,
        )
    return nvrtc


def is_nvrtc_installed() -> bool:
    """Whether `compile_cubin` can work here."""
    try:
        load_nvrtc()
    except Exception:
        return False
    return True


def nvrtc_version() -> tuple[int, int]:
    """(13, 0)."""
    _status, major, minor = load_nvrtc().nvrtcVersion()
    return int(major), int(minor)


def compile_cubin(source: str, target: NvidiaTarget, flags: tuple[str, ...] = (), explain: Explain | None = None) -> Cubin:
    """Machine code for a source that tilewright printed, from the disk cache where it is there.

    explain   is given the log where NVRTC refuses the source, and raises a TileError where that is no fault of ours.
    Raises TileError (cuda-missing, compile-flags) and CompilerBug, with a folder for the report, where NVRTC refuses the source.
    """
    major, minor = nvrtc_version()
    key = cache_key({"cuda": source, "target": target.name, "flags": "\0".join(flags), "nvrtc": f"{major}.{minor} {_build()}"})
    found = open_cache().load(key)
    if found is not None and {"cubin", "ptx", "log"} <= found.keys():
        log = found["log"].decode()
        return Cubin(found["cubin"], found["ptx"].decode(), parse_resources(log), log, True)
    made = _compile(source, target, flags, explain)
    open_cache().store(key, {"cubin": made.image, "ptx": made.ptx.encode(), "log": made.log.encode()})
    return made


def compile_options(target: NvidiaTarget, flags: tuple[str, ...]) -> list[str]:
    """What NVRTC is called with. It keeps results on disk by itself where a driver is present; ours is the only cache."""
    options = [f"--gpu-architecture={target.name}", "--std=c++17", "--ptxas-options=-v", "--no-source-include", "--disable-warnings"]
    if nvrtc_version() >= (12, 8):
        options.append("--no-cache")
    return [*options, *flags]


def _compile(source: str, target: NvidiaTarget, flags: tuple[str, ...], explain: Explain | None) -> Cubin:
    nvrtc = load_nvrtc()
    status, program = nvrtc.nvrtcCreateProgram(source.encode(), _SOURCE_NAME.encode(), 0, [], [])
    _check(nvrtc, status)
    try:
        options = [o.encode() for o in compile_options(target, flags)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
        if status == nvrtc.nvrtcResult.NVRTC_ERROR_INVALID_OPTION and flags:
            fail(
                Kind.COMPILE_FLAGS,
                f"NVRTC does not take one of the flags {' '.join(flags)}",
                span_of_caller(),
                because=log.strip().splitlines()[0] if log.strip() else "it knows the options in its manual",
                help="correct the flags given to T.annotate_compile_flags or compile_flags",
            )
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            if explain is not None:
                explain(log)
            first = next((line for line in log.splitlines() if "error" in line), log.strip() or str(status))
            raise CompilerBug(f"NVRTC refused the generated source for {target.name}: {first}", _bundle(source, target, options, log))
        ptx = _text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
        image = _bytes(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return Cubin(image, ptx, parse_resources(log), log)


def _check(nvrtc: Any, status: Any) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompilerBug(f"NVRTC gave {status}")


def _bytes(size_function: Any, get_function: Any, program: Any) -> bytes:
    _status, size = size_function(program)
    buffer = bytearray(size)
    get_function(program, buffer)
    return bytes(buffer)


def _text(size_function: Any, get_function: Any, program: Any) -> str:
    return _bytes(size_function, get_function, program).rstrip(b"\0").decode(errors="replace")


def _bundle(source: str, target: NvidiaTarget, options: list[bytes], log: str) -> str:
    """Writes what is needed to reproduce a refusal; gives the folder."""
    directory = environment().report_directory
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="tilewright-nvrtc-", dir=directory))
    (folder / _SOURCE_NAME).write_text(source)
    (folder / "log.txt").write_text(f"{target.name}\n{' '.join(o.decode() for o in options)}\nNVRTC {nvrtc_version()} {_build()}\n\n{log}")
    return str(folder)


@functools.cache
def _build() -> str:
    """The exact release of the library: the version that it tells has only two numbers."""
    try:
        from cuda import pathfinder

        path = Path(pathfinder.load_nvidia_dynamic_lib("nvrtc").abs_path or "")
        return f"{path.name} {path.stat().st_size}"
    except Exception:
        return ""


_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def parse_resources(log: str) -> dict[str, KernelResources]:
    """The resources of each kernel, from the log of `--ptxas-options=-v`."""
    found: dict[str, KernelResources] = {}
    name, stack = "", (0, 0, 0)
    for line in log.splitlines():
        if entry := _ENTRY.search(line):
            name, stack = entry[1], (0, 0, 0)
        elif frame := _STACK.search(line):
            stack = (int(frame[1]), int(frame[2]), int(frame[3]))
        elif (used := _USED.search(line)) and name:
            shared = _SHARED.search(line)
            found[name] = KernelResources(int(used[1]), stack[1], stack[2], stack[0], int(shared[1]) if shared else 0)
    return found
