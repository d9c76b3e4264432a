"""Generated CUDA compiled for this machine by a C++ compiler, thread after thread: what the text means, without a GPU.

What is inline PTX on a GPU is written out here once more, from the PTX ISA, so that everything around it is tested: the arithmetic, the widths of
indices, the bit tricks of conversions. Programs must not exchange anything between threads.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.arith.evaluate import evaluate
from tilewright.codegen.cuda.module import CudaModule
from tilewright.codegen.slots import SlotKind
from tilewright.ir.expr import Expr

HEADER = (Path(__file__).parent / "host_cuda.h").read_text()
_needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


def needs_host_compiler(function: Any) -> Any:
    return _needs_compiler(function)


def host_source(module: CudaModule) -> str:
    """The module's text with what only a GPU's compiler understands replaced."""
    text = re.sub(
        r"^(?:template <[^>]*>\n)?static __device__[^\n]*\{\n(?:[^}\n]*\n)*?[^}\n]*asm(?: volatile)?\((?:[^\n]*\n)*?\}$", "", module.text, flags=re.MULTILINE
    )
    wrappers = []
    for kernel in module.kernels:
        found = re.search(rf"{kernel.entry_name}\((.*)\) \{{$", text, re.MULTILINE)
        assert found is not None
        types = [p.rsplit(" ", 1)[0].replace("__restrict__", "") for p in found[1].split(", ") if p]
        arguments = ", ".join(f"*({t}*)args[{n}]" for n, t in enumerate(types))
        wrappers.append(
            f"""extern "C" void run_{kernel.entry_name}(void** args, const int* grid, const int* block) {{
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z) for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)
    for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y) for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x)
        {kernel.entry_name}({arguments});
}}"""
        )
    return "\n".join([HEADER, text, *wrappers])


def run_on_host(module: CudaModule, arrays: dict[str, Any], scalars: dict[str, int | float], folder: Path) -> int:
    """Runs all kernels on the arrays, in place; gives the status word. `scalars` also holds the symbols."""
    folder = Path(tempfile.mkdtemp(dir=folder))  # a library that is loaded must not be written again
    source, library = folder / "kernel.cpp", folder / "kernel.so"
    source.write_text(host_source(module))
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-w", "-ffp-contract=off", "-frounding-math", "-fno-strict-aliasing", "-fsanitize=undefined"]
    flags += ["-fno-sanitize-recover=all", "-fno-sanitize=alignment", "-march=native"]
    made = subprocess.run(["g++", *flags, str(source), "-o", str(library), "-lm"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:4000]
    loaded = ctypes.CDLL(str(library))
    status = np.zeros(1, np.int32)
    words = np.zeros(len(module.slots), np.uint64)
    values: dict[Expr, int] = {}
    for number, slot in enumerate(module.slots):
        variable = slot.symbol if slot.symbol is not None else slot.parameter.variable if slot.parameter is not None else None
        if slot.kind is SlotKind.STATUS:
            words[number] = status.ctypes.data
        elif variable is not None:
            given = scalars[variable.name]
            if variable.dtype.is_integer:
                values[variable] = int(given)
            as_float = np.float64 if variable.dtype.bits == 64 else np.float32
            word = np.zeros(1, np.uint64)
            word.view(as_float if variable.dtype.is_float else np.int64)[0] = given
            words[number] = word[0]
        else:
            buffer = slot.workspace if slot.workspace is not None else slot.parameter.buffer  # type: ignore[union-attr]
            assert buffer is not None
            words[number] = arrays[buffer.name].ctypes.data
    for kernel in module.kernels:
        pointers = (ctypes.c_void_p * max(len(kernel.parameters), 1))(*(words.ctypes.data + 8 * n for n in kernel.parameters))
        grid = np.array([int(evaluate(n, values, _no_load)) for n in kernel.grid], np.int32)
        block = np.array(kernel.block, np.int32)
        getattr(loaded, f"run_{kernel.entry_name}")(pointers, ctypes.c_void_p(grid.ctypes.data), ctypes.c_void_p(block.ctypes.data))
    return int(status[0])


def _no_load(*_: Any) -> Any:
    raise AssertionError("a grid extent loads")
