"""GPU programs without a compiler for GPUs: the launcher is the real one, the kernels are bodies of the mock driver."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

import tilewright.language as T
from tilewright.codegen.cuda.module import CudaModule, KernelLaunch
from tilewright.codegen.llvm.launcher import emit_launcher, launcher_name
from tilewright.codegen.slots import slots_of
from tilewright.dtypes import as_dtype
from tilewright.ir.expr import const
from tilewright.ir.memory_use import used_parameters
from tilewright.ir.stmt import Assert
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc
from tilewright.runtime.cuda_calls import CudaCallPlan, GpuProgram
from tilewright.runtime.cuda_driver import GpuDevice
from tilewright.runtime.cuda_modules import KernelNeeds
from tilewright.runtime.llvm_jit import LoadedCode, compile_object, load_object
from tilewright.target.cpu import host_target
from tilewright.target.nvidia import SM_90

n = T.dynamic("n")


def plan_of(prim_func: PrimFunc, outputs: tuple[int, ...] = (), shared_bytes: int = 0, cluster: tuple[int, int, int] = (1, 1, 1)) -> CudaCallPlan:
    """A call plan whose kernel number n is the mock driver's `kn`; its parameters are all slots but the status, in order, and the status behind them."""
    program = prim_func.program
    slots, one = slots_of(program), const(1, as_dtype("int32"))
    asserts = tuple(stmt for launch in program.launches for stmt in statements(launch.body) if isinstance(stmt, Assert))
    kernels = tuple(
        KernelLaunch(
            f"k{n}",
            tuple(range(len(slots))),
            (*launch.grid, one, one, one)[:3],
            launch.threads,
            shared_bytes,
            cluster,
            launch,
            next((k for k, slot in enumerate(slots) if slot.workspace is not None and slot.workspace is launch.grid_barrier), None),
        )
        for n, launch in enumerate(program.launches)
    )
    text = emit_launcher(program, CudaModule("", SM_90, slots, kernels, asserts), host_target())

    def launcher(symbols: dict[str, int]) -> LoadedCode:
        return load_object(compile_object(text, host_target()), launcher_name(program), symbols)

    def image_for(device: GpuDevice) -> bytes:
        return f"{program.name} for {device.capability}".encode()

    needs = tuple(KernelNeeds(k.entry_name, k.dynamic_shared_bytes, cluster[0] * cluster[1] * cluster[2]) for k in kernels)
    written, unused = used_parameters(program)
    return CudaCallPlan(GpuProgram(program, slots, launcher, image_for, needs, asserts), written=written, unused=unused, outputs=outputs)


def array_at(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """The "device" memory at an address."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * count).from_address(address), dtype).reshape(shape)


@T.prim_func
def scale(A: T.Tensor((n, 8), "float32"), factor: T.float32, B: T.Tensor((n, 8), "float32")):
    with T.Kernel(T.ceildiv(n, 4), threads=128) as bx:
        for i, j in T.Parallel(4, 8):
            B[bx * 4 + i, j] = A[bx * 4 + i, j] * factor


@T.prim_func
def staged(A: T.Tensor((n,), "float32"), B: T.Tensor((n,), "float32")):
    W = T.alloc_global((n,), "float32")
    with T.Kernel(n, threads=32) as bx:
        W[bx] = A[bx]
    with T.Kernel(n, threads=32) as bx:
        B[bx] = W[bx]


def scaled(words: tuple[int, ...]) -> None:
    """What `scale` does, on the words of its parameters."""
    a, factor, b, rows, _ = words
    value = ctypes.c_float.from_buffer(ctypes.c_uint32(factor)).value
    array_at(b, (rows, 8), np.float32)[...] = array_at(a, (rows, 8), np.float32) * value
