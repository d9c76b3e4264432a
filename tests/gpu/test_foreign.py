"""CUDA C++ and PTX of the user's on hardware."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright.language as T
from tests.gpu.device import device_targets, needs_gpu, run_on_gpu
from tests.language.test_foreign import everything
from tilewright.backends.compiled import CompileOptions
from tilewright.backends.cuda import generate_cuda
from tilewright.codegen.cuda.module import CudaModule
from tilewright.language.function import PrimFunc

pytestmark = needs_gpu

ROTATE = """
// Every thread gives its element to the one before it: between its reads and its writes the function needs a barrier of its own.
__device__ void rotate(float* row) {
    float next = row[(threadIdx.x + 1) % 128];
    __syncthreads();
    row[threadIdx.x] = next;
}
"""


@T.prim_func
def rotated(A: T.Tensor((4, 128), "float32"), B: T.Tensor((4, 128), "float32")):
    with T.Kernel(4, threads=128, prelude=ROTATE) as bx:
        row = T.alloc_shared((128,), "float32")
        tx = T.get_thread_binding()
        row[127 - tx] = A[bx, 127 - tx]
        for _ in T.serial(5):
            T.call_extern("handle", "rotate", row)
        B[bx, tx] = row[tx] + T.ptx("neg.f32 %0, %1;", row[127 - tx], dtype="float32")


@T.prim_func
def reversed_bits(A: T.Tensor((300,), "uint32"), B: T.Tensor((300,), "uint32"), counts: T.Tensor((1,), "int32")):
    with T.Kernel(T.ceildiv(300, 128), threads=128) as bx:
        tile = T.alloc_fragment((128,), "uint32")
        T.copy(A[bx * 128], tile)
        for i in T.Parallel(128):
            tile[i] = T.ptx("brev.b32 %0, %1;", tile[i], dtype="uint32")
        for i in T.Parallel(16):
            T.call_extern("int32", "atomicAdd", T.address_of(counts[0]), 1)
        T.copy(tile, B[bx * 128])


def module_of(prim_func: PrimFunc, number: int) -> CudaModule:
    return generate_cuda(prim_func.program, device_targets()[number], CompileOptions()).module


@pytest.mark.parametrize("number", [0, -1], ids=["own", "oldest"])
def test_a_function_of_the_block_between_barriers(number: int) -> None:
    a = np.random.default_rng(0).standard_normal((4, 128)).astype(np.float32)
    arrays = {"A": a, "B": np.zeros_like(a)}
    run_on_gpu(module_of(rotated, number), arrays)
    found = np.roll(a, -5, axis=1)
    np.testing.assert_array_equal(arrays["B"], found - found[:, ::-1])


def test_inline_assembly_in_a_parallel_loop_and_calls_once_for_each_iteration() -> None:
    a = np.random.default_rng(1).integers(0, 1 << 32, 300, dtype=np.uint32)
    arrays = {"A": a, "B": np.zeros_like(a), "counts": np.zeros(1, np.int32)}
    run_on_gpu(module_of(reversed_bits, 0), arrays)
    np.testing.assert_array_equal(arrays["B"], [int(f"{x:032b}"[::-1], 2) for x in a.tolist()])
    assert arrays["counts"][0] == 3 * 16


def test_values_addresses_and_results() -> None:
    a, h = np.linspace(-2, 2, 100, dtype=np.float32), np.linspace(-1, 1, 100).astype(np.float16)
    arrays = {"A": a, "H": h.copy().view(np.uint16), "N": np.arange(100, dtype=np.int32), "B": np.zeros(100, np.float32)}
    run_on_gpu(module_of(everything, 0), arrays)
    np.testing.assert_allclose(arrays["B"], 3 * a + np.arange(100, dtype=np.float32) * a, rtol=1e-6)
    np.testing.assert_array_equal(arrays["N"], 2 * np.arange(100) + 12 * 1000 + 7 * 100000)
    np.testing.assert_array_equal(arrays["H"].view(np.float16), h)
