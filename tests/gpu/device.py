"""Generated modules on the GPU of this machine, through nothing but the driver."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import pytest

from tilewright.arith.evaluate import evaluate
from tilewright.codegen.cuda.module import CudaModule
from tilewright.codegen.slots import SlotKind
from tilewright.ir.expr import Expr
from tilewright.runtime.cuda_driver import has_driver
from tilewright.runtime.nvrtc import compile_cubin
from tilewright.target.nvidia import NVIDIA_TARGETS, NvidiaTarget

needs_gpu = pytest.mark.skipif(not has_driver(), reason="no NVIDIA GPU")
# What the machine's GPU can run: code for its own architecture, and for older ones of the same generation.
_RUNS_ON = {(9, 0): ("sm_90", "sm_90a"), (8, 9): ("sm_89", "sm_86", "sm_80"), (8, 6): ("sm_86", "sm_80"), (8, 0): ("sm_80",)}


def _ok(result: Any) -> Any:
    status, *values = result
    assert int(status) == 0, status
    return values[0] if len(values) == 1 else values


@cache
def _context() -> Any:
    from cuda.bindings import driver

    _ok(driver.cuInit(0))
    device = _ok(driver.cuDeviceGet(0))
    _ok(driver.cuCtxSetCurrent(_ok(driver.cuDevicePrimaryCtxRetain(device))))
    return driver, device


def device_targets() -> tuple[NvidiaTarget, ...]:
    """The targets whose machine code the GPU runs; the first is its own."""
    driver, device = _context()
    attribute = driver.CUdevice_attribute
    major = _ok(driver.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device))
    minor = _ok(driver.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device))
    return tuple(NVIDIA_TARGETS[name] for name in _RUNS_ON.get((major, minor), ()))


def run_on_gpu(module: CudaModule, arrays: dict[str, Any], scalars: dict[str, int] | None = None) -> int:
    """Runs all kernels of a module on the arrays, in place; gives the status word."""
    driver, _ = _context()
    image = compile_cubin(module.text, module.target, module.flags).image
    loaded = _ok(driver.cuModuleLoadData(image))
    words = np.zeros(len(module.slots), np.uint64)
    memory: dict[str, Any] = {}
    values: dict[Expr, int] = {}
    status = _ok(driver.cuMemAlloc(8))
    _ok(driver.cuMemsetD8(status, 0, 8))
    for number, slot in enumerate(module.slots):
        variable = slot.symbol if slot.symbol is not None else slot.parameter.variable if slot.parameter is not None else None
        if slot.kind is SlotKind.STATUS:
            words[number] = int(status)
        elif variable is not None:
            values[variable] = (scalars or {})[variable.name]
            words[number] = np.int64(values[variable]).view(np.uint64)
        else:
            buffer = slot.workspace if slot.workspace is not None else slot.parameter.buffer  # type: ignore[union-attr]
            assert buffer is not None
            array = arrays[buffer.name]
            size_bytes = -(-array.nbytes // 16) * 16 + 16
            memory[buffer.name] = _ok(driver.cuMemAlloc(size_bytes))
            _ok(driver.cuMemcpyHtoD(memory[buffer.name], array.ctypes.data, array.nbytes))
            words[number] = int(memory[buffer.name])
    for kernel in module.kernels:
        function = _ok(driver.cuModuleGetFunction(loaded, kernel.entry_name.encode()))
        pointers = (ctypes.c_void_p * max(len(kernel.parameters), 1))(*(words.ctypes.data + 8 * n for n in kernel.parameters))
        grid = [int(evaluate(n, values, lambda *_: None)) for n in kernel.grid]  # type: ignore[arg-type, return-value]
        _ok(driver.cuLaunchKernel(function, *grid, *kernel.block, kernel.dynamic_shared_bytes, 0, ctypes.addressof(pointers), 0))
    _ok(driver.cuCtxSynchronize())
    for name, address in memory.items():
        _ok(driver.cuMemcpyDtoH(arrays[name].ctypes.data, address, arrays[name].nbytes))
        _ok(driver.cuMemFree(address))
    word = np.zeros(2, np.int32)
    _ok(driver.cuMemcpyDtoH(word.ctypes.data, status, 8))
    _ok(driver.cuMemFree(status))
    _ok(driver.cuModuleUnload(loaded))
    return int(word[0])
