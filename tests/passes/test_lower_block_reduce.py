"""Reductions over a block on GPUs: every kind, over all threads and over some axes, with the reference's results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.codegen.cuda.nvrtc_checks import needs_nvrtc
from tilewright.backends.lowering import lower_to_threads
from tilewright.ir.buffer import Scope
from tilewright.ir.stmt import WarpExchange
from tilewright.ir.visit import statements
from tilewright.target.nvidia import SM_80


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


def anywhere(threads: tuple[int, int, int], axes: tuple[int, ...], dtype: str, operation: Any, neutral: Any) -> Any:
    """Any reduction over axes of a block of three."""
    x, y, z = threads

    @T.prim_func
    def kernel(A: T.Tensor((z, y, x), dtype), Y: T.Tensor((z, y, x), dtype)):
        with T.Kernel(1, threads=threads):
            tx, ty, tz = T.get_thread_binding(0), T.get_thread_binding(1), T.get_thread_binding(2)
            out = T.alloc_local((1,), dtype)
            for _ in T.serial(2):
                with T.attr(T.comm_reducer(operation, [T.cast(neutral, dtype)]), "reduce_scope", T.reinterpret(T.uint64(0), dtype="handle")):
                    T.tvm_thread_allreduce(T.uint32(1), A[tz, ty, tx], True, out[0], *((tx, ty, tz)[a] for a in axes))
                Y[tz, ty, tx] = out[0]

    return kernel


def exchanges(kernel: Any) -> tuple[int, int]:
    """How many exchanges of a warp the block does, and how many values it stores to shared memory."""
    (launch,) = lower_to_threads(kernel.program, SM_80).program.launches
    shared = sum(math.prod(b.static_shape) for b in launch.buffers if b.scope is Scope.SHARED)
    return sum(isinstance(s, WarpExchange) for s in statements(launch.body)), shared


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


OPERATIONS = {
    "sum": (lambda a, b: a + b, 0),
    "max": (lambda a, b: T.max(a, b), -100),
    "xor": (lambda a, b: a ^ b, 0),
    "and": (lambda a, b: a & b, -1),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("threads", [(16, 4, 1), (8, 2, 8), (64, 2, 2), (3, 5, 2), (32, 3, 2), (96, 2, 1), (100, 1, 1), (20, 1, 1), (2, 1, 1), (24, 4, 1)])
def test_groups_of_any_shape(threads: tuple[int, int, int], axes: tuple[int, ...], operation: str) -> None:
    combined, neutral = OPERATIONS[operation]
    dtype = {"sum": "float16", "max": "float32", "xor": "int64", "and": "int32"}[operation]
    a = np.random.default_rng(sum(threads)).integers(-9, 9, threads[::-1]).astype(dtype)
    check(anywhere(threads, axes, dtype, combined, neutral), [a, np.zeros_like(a)])


@pytest.mark.parametrize(
    ("threads", "axes", "dtype", "shuffles", "stored"),
    [
        ((32, 1, 1), (0,), "float32", 1, 0),
        ((128, 1, 1), (0,), "float32", 1, 4),
        ((128, 1, 1), (0,), "float64", 5, 4),
        ((8, 16, 1), (0,), "float32", 3, 0),  # groups inside warps
        ((8, 16, 1), (1,), "float32", 2, 128),  # two bits of the lane, two of the warp
        ((64, 3, 1), (0,), "float32", 1, 6),
        ((100, 1, 1), (0,), "float32", 5, 4),
        ((20, 1, 1), (0,), "float32", 6, 0),  # the last exchange gives all lanes what lane 0 has
        ((3, 5, 1), (1,), "float32", 0, 15),
    ],
)
def test_lanes_combine_what_they_can(threads: tuple[int, int, int], axes: tuple[int, ...], dtype: str, shuffles: int, stored: int) -> None:
    assert exchanges(anywhere(threads, axes, dtype, lambda a, b: a + b, 0)) == (shuffles, stored)
