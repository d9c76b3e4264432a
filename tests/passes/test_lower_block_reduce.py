"""Reductions over a block on GPUs: every kind, over all threads and over some axes, with the reference's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.codegen.cuda.nvrtc_checks import needs_nvrtc


def votes(threads: int) -> Any:
    @T.prim_func
    def kernel(A: T.Tensor((threads,), "int32"), Y: T.Tensor((3, threads), "int32")):
        with T.Kernel(1, threads=threads):
            tx = T.get_thread_binding(0)
            for k in T.serial(2):  # the second turn must not overwrite what the first one still reads
                Y[0, tx] = T.syncthreads_count(A[tx] > k)
                Y[1, tx] = T.syncthreads_and(A[tx] > k - 9)
                Y[2, tx] = T.syncthreads_or(A[tx] > 3 * k)

    return kernel


def allreduce(threads: tuple[int, int], axes: tuple[int, ...], dtype: str) -> Any:
    x, y = threads

    @T.prim_func
    def kernel(A: T.Tensor((y, x), dtype), Y: T.Tensor((y, x), dtype)):
        with T.Kernel(1, threads=threads):
            tx, ty = T.get_thread_binding(0), T.get_thread_binding(1)
            out = T.alloc_local((1,), dtype)
            with T.attr(
                T.comm_reducer(lambda a, b: a + b, [T.cast(0, dtype)]),
                "reduce_scope",
                T.reinterpret(T.uint64(0), dtype="handle"),
            ):
                T.tvm_thread_allreduce(T.uint32(1), A[ty, tx], True, out[0], *((tx, ty)[a] for a in axes))
            Y[ty, tx] = out[0]

    return kernel


def check(kernel: Any, arrays: list[Any]) -> None:
    names = [p.name for p in kernel.program.parameters]
    expected = tilewright.run_reference(kernel.program, {n: a.copy() for n, a in zip(names, arrays, strict=True)})
    tilewright.compile(kernel, target="simulate")(*arrays)
    for name, array in zip(names, arrays, strict=True):
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("threads", [32, 48, 128])
def test_votes_of_the_block(threads: int) -> None:
    a = np.random.default_rng(threads).integers(-9, 9, threads).astype(np.int32)
    check(votes(threads), [a, np.zeros((3, threads), np.int32)])


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("dtype", ["int32", "float16", "float64"])
def test_sums_over_axes_of_the_block(axes: tuple[int, ...], dtype: str) -> None:
    a = np.random.default_rng(0).integers(-9, 9, (4, 16)).astype(dtype)
    check(allreduce((16, 4), axes, dtype), [a, np.zeros_like(a)])


@needs_nvrtc
def test_they_compile_for_a_gpu() -> None:
    source = tilewright.compile(votes(128), target="sm_90a").get_kernel_source()
    assert "__syncthreads" in source
